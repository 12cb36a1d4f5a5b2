"""Trees from a git repository: a path or URL, bare or not, with or without tags.

The repository is not trusted either.  The release's commit is the one that the catalogue pins, or
what a signed tag or the user names, and the content is hashed again when it is read: the id of a
commit says which tree it has, and the id of a tree what must be in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tarpit_builder import paths
from tarpit_builder.errors import NetworkError, SourceError, ToolMissingError, UserError
from tarpit_builder.sources import archive
from tarpit_builder.sources.catalogue import Release
from tarpit_builder.sources.context import Context, near
from tarpit_builder.sources.download import public_url
from tarpit_builder.sources.releases import makefile_version
from tarpit_builder.sources.signatures import Keys, UnknownSignerError
from tarpit_builder.sources.tree import Entries, FetchedTree
from tarpit_builder.versions import IptablesVersion, KernelVersion, Version

if TYPE_CHECKING:
    import git

COMMIT = re.compile(r"[0-9a-f]{40}")
REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+~^-]*")
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
GIB = 1 << 30
MOST_RELEASE, MOST_HISTORY = 2 * GIB, 32 * GIB
"""Bytes that a server may send for one release, and for all: the first has been up to 0.25 GB, the
other 3 GB and growing."""
SPEECH = 1 << 20  # bytes that it may say besides
SLOWEST, PATIENCE = 1000, 60  # bytes per second; seconds that it may be slower
FETCH = (
    *("-c", "core.fsmonitor=false"),
    *("-c", f"http.lowSpeedLimit={SLOWEST}", "-c", f"http.lowSpeedTime={PATIENCE}"),
    *("-c", "fetch.unpackLimit=1"),  # one file, whose size can be limited
    *("fetch", "--quiet"),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to take from a repository: *ref* if given, else the release of *version*."""

    location: str
    version: KernelVersion | IptablesVersion | None
    ref: str
    release: Release[KernelVersion] | Release[IptablesVersion] | None
    known: Sequence[Version]
    role: str
    limits: archive.TreeLimits


def fetch(wanted: Wanted, context: Context) -> FetchedTree:
    """The tree that *wanted* describes.

    :raises UserError: if there is no such repository or ref.
    :raises SourceError: if the tree cannot be verified, or its content is not what its id says.
    :raises NetworkError: if the repository is remote and cannot be reached.
    """
    if wanted.ref and not REF.fullmatch(wanted.ref):
        raise UserError(f"{wanted.ref!r} is no git ref", hint="name a tag, a branch or a commit")
    place = public_url(wanted.location)
    with git_errors(wanted.location):
        repository = _open(wanted, context)
        found = _find(GitReader(repository, place, context.keys, wanted.role), wanted)
        origin = f"{place}#{found.ref}"
        opener = _opener(repository, found.commit, origin, wanted.limits)
        inside = _checked(found.tree, origin, opener, context)
        _identity(wanted, inside, origin)
        vouchers = context.judge.vouchers(
            _trusted_as(wanted) or origin,
            found.tree,
            expected=wanted.release.tree if wanted.release else "",
            vouchers=found.vouchers,
            origin=origin,
        )
        version = wanted.version or inside
        return FetchedTree(
            name=version.stem if version else f"git-{found.commit[:12]}",
            version=version,
            tree=found.tree,
            origin=origin,
            digests={"git-commit": found.commit},
            vouchers=vouchers,
            opener=opener,
            cached=True,
        )


def _identity(wanted: Wanted, inside: KernelVersion | None, origin: str) -> None:
    """Without a tree id to go by, the Makefile must at least say what was asked for."""
    if not isinstance(wanted.version, KernelVersion) or (wanted.release and wanted.release.tree):
        return
    if inside != wanted.version:
        raise SourceError(
            f"{origin} holds {f'Linux {inside}' if inside else 'no kernel'}, not {wanted.version}",
            hint="name what it is with --kernel, or another commit with --ref",
        )


def _trusted_as(wanted: Wanted) -> str:
    """What the lock file calls a release: of iptables, a tarball has another tree than git."""
    if wanted.version is None:
        return ""
    return wanted.version.stem + (".git" if wanted.role == "iptables" else "")


def _checked(
    tree: str, origin: str, opener: Callable[[], AbstractContextManager[Entries]], context: Context
) -> KernelVersion | None:
    """Read the tree once and say which kernel it is; later reads check again, so once will do.

    :raises SourceError: if its content is not what *tree* says.
    """
    seen = f"git-{tree}-{hashlib.sha256(origin.encode()).hexdigest()[:12]}"
    record = context.store.record(seen)
    if record is None:
        with context.console.stage(f"check git tree {tree[:12]}") as stage, opener() as entries:
            content = archive.examine(entries, origin)
            if content.tree != tree:
                raise SourceError(
                    f"the content of {origin} does not have the git tree id that its commit names "
                    f"({content.tree[:12]}…, not {tree[:12]}…)",
                    hint="`git fsck` tells whether the repository is damaged; or export-ignore "
                    "and export-subst in .gitattributes change what is read",
                )
            stage.done(f"{content.count} files")
        version = makefile_version(content.heads.get("Makefile", b""))
        record = {"origin": origin, "tree": tree, "version": str(version or "")}
        context.store.write_record(seen, record)
    name = str(record.get("version", ""))
    return KernelVersion.parse(name) if name else None


# -- which commit ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    ref: str
    commit: str
    tree: str
    vouchers: tuple[str, ...]


def _find(reader: GitReader, wanted: Wanted) -> _Found:
    """The commit that is asked for, from the most to the least certain way to name it."""
    if wanted.ref:
        commit = reader.resolve(wanted.ref)
        vouchers = (
            (f"commit {commit} was named in the request",)
            if COMMIT.fullmatch(wanted.ref)
            else reader.signers(wanted.ref, commit)
        )
        return _Found(wanted.ref, commit, reader.tree(commit), vouchers)
    assert wanted.version is not None
    pinned = wanted.release.commit if wanted.release else ""
    if pinned and reader.has(pinned):
        return _Found(pinned, pinned, reader.tree(pinned), ())
    tag = wanted.version.tag
    if reader.has(f"refs/tags/{tag}"):
        commit = reader.resolve(f"refs/tags/{tag}")
        return _Found(tag, commit, reader.tree(commit), reader.signers(tag, commit))
    raise UserError(
        f"{reader.place} has neither the tag {tag} nor the commit of {wanted.version}",
        hint=f"{near(wanted.version, wanted.known)} or name a commit with --ref",
    )


@dataclass(frozen=True, slots=True)
class GitReader:
    """Reads commits and tags of a repository that is not trusted.

    *place* is what messages call it; *keys* made the tags that count for *role*.
    """

    repository: git.Git
    place: str
    keys: Keys
    role: str

    def has(self, name: str) -> bool:
        """Whether *name* is a commit here."""
        return bool(self._commit(name))

    def resolve(self, name: str) -> str:
        """The id of the commit that *name* means.

        :raises UserError: if there is none.
        """
        commit = self._commit(name)
        if not COMMIT.fullmatch(commit):
            raise UserError(
                f"{self.place} has no {name!r}",
                hint="`git branch -a` and `git tag` there list what can be named with --ref",
            )
        return commit

    def _commit(self, name: str) -> str:
        found = self.repository.rev_parse(
            "--verify", "--quiet", f"{name}^{{commit}}", with_exceptions=False
        )
        return str(found).strip()

    def tags(self) -> list[str]:
        """The names of all tags that look like releases."""
        found = self.repository.for_each_ref("--format=%(refname:strip=2)", "refs/tags/v*")
        return str(found).split()

    def tree(self, commit: str) -> str:
        """The id of the tree that *commit* names, once its own content fits its id.

        :raises SourceError: if it does not.
        """
        match = re.match(rb"tree ([0-9a-f]{40})\n", self._object(commit, "commit"))
        if match is None:
            raise self._damaged("commit", commit)
        return match[1].decode()

    def date(self, commit: str) -> str:
        """The day of *commit*, in UTC."""
        found = re.search(rb"^committer .* (\d+) [+-]\d{4}$", self._object(commit, "commit"), re.M)
        return f"{datetime.fromtimestamp(int(found[1]), UTC):%Y-%m-%d}" if found else ""

    def signers(self, tag: str, commit: str) -> tuple[str, ...]:
        """Who signed *tag*, if it is a signed tag of that very name for that very *commit*.

        :raises SourceError: if its signature is bad, or its content does not fit its id.
        """
        name = tag.removeprefix("refs/tags/")
        kind = self.repository.cat_file("-t", f"refs/tags/{name}", with_exceptions=False)
        if kind != "tag":
            return ()
        identifier = str(self.repository.rev_parse(f"refs/tags/{name}"))
        payload, mark, rest = self._object(identifier, "tag").partition(_SIGNATURE)
        header = payload.partition(b"\n\n")[0].split(b"\n")
        wanted = [f"object {commit}", "type commit", f"tag {name}"]
        if not mark or header[:3] != [line.encode() for line in wanted]:
            return ()
        try:
            verdict = self.keys.verify(payload, mark + rest, f"the tag {name}", self.role)
        except (NetworkError, UnknownSignerError):  # the key cannot be had, or does not count
            return ()
        return (f"tag {name} {verdict}",)

    def _object(self, identifier: str, kind: str) -> bytes:
        process = self.repository.cat_file(kind, identifier, as_process=True)
        raw: bytes = process.stdout.read()
        process.wait()
        digest = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(raw)) + raw, usedforsecurity=False)
        if digest.hexdigest() != identifier:
            raise self._damaged(kind, identifier)
        return raw

    def _damaged(self, kind: str, identifier: str) -> SourceError:
        return SourceError(
            f"{kind} {identifier[:12]}… of {self.place} does not have that id",
            hint="the repository is damaged or forged: `git fsck` tells more; use another",
        )


# -- opening and reading ---------------------------------------------------------------------


def _open(wanted: Wanted, context: Context) -> git.Git:
    return check_place(wanted.location) or _mirror(wanted, context)


def check_place(location: str) -> git.Git | None:
    """The repository at *location* if that is on this machine; None for a URL.

    :raises UserError: if there is none.
    """
    path = Path(location).expanduser()
    if path.exists():
        return open_local(path)
    if "://" not in location:
        raise UserError(
            f"there is no git repository {location}",
            hint="name a folder that is one, or a URL such as "
            "https://git.kernel.org/pub/scm/linux/kernel/git/stable/linux.git",
        )
    return None


def open_local(path: Path) -> git.Git:
    """The repository at *path*, bare or not.

    :raises UserError: if it is none.
    """
    import git

    try:
        with git.Repo(path) as found:
            return _commands(Path(found.git_dir))
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise UserError(
            f"{path} is not a git repository",
            hint="name a repository, bare or not, or use --kernel-tree for a plain folder",
        ) from error


def _commands(folder: Path) -> git.Git:
    """git, at work in the git directory *folder*.

    It finds the repository by itself, so that it checks who owns it (safe.directory): settings of
    a stranger's repository can run commands.  The user's own must not change a byte of content.
    """
    import git

    commands = git.Git(folder)
    commands.set_persistent_git_options(
        c=["core.autocrlf=false", "core.eol=lf", "core.fsmonitor=false", "tar.umask=0022"]
    )
    commands.update_environment(
        GIT_ALLOW_PROTOCOL="file:git:http:https:ssh",
        GIT_NO_LAZY_FETCH="1",
        GIT_TERMINAL_PROMPT="0",
        LC_ALL="C",
    )
    commands.rev_parse("--git-dir")
    return commands


def _mirror(wanted: Wanted, context: Context) -> git.Git:
    """A bare mirror in the cache that has what *wanted* needs, and of the rest no more than that.

    One release is a shallow fetch of 70 to 250 MB, where the whole history has gigabytes.
    """
    import git

    public = public_url(wanted.location)
    digest = hashlib.sha256(public.encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", public.rpartition("://")[2]).strip("_")[-60:]
    path = context.store.root / "git" / f"{name}-{digest}"
    with context.store.lock(path.name):
        if not path.is_dir():
            if context.store.offline:
                raise context.absent(f"a mirror of {public}")
            with paths.staged_dir(path) as stage:
                git.Repo.init(stage, bare=True).close()
        repository = _commands(path)
        targets = _targets(wanted)
        if any(_holds(repository, target) for target, _ in targets):
            return repository
        if context.store.offline:
            raise context.absent(f"{targets[0][0]} of {public}")
        with context.console.stage(f"fetch {targets[0][0][:20]} of {public}") as progress:
            for target, refspec in targets:
                progress.note(target)
                with suppress(git.GitCommandError):
                    shallow = (refspec, "--depth=1", "--no-tags")
                    _receive(repository, path, MOST_RELEASE, wanted.location, *shallow)
                    return repository
            # No such tag, and not every server gives out commits by their id: take all there is.
            progress.note("the whole history")
            whole = ["+refs/heads/*:refs/heads/*", "--tags"]
            if (path / "shallow").exists():
                whole.append("--unshallow")
            _receive(repository, path, MOST_HISTORY, wanted.location, *whole)
        return repository


def _receive(repository: git.Git, path: Path, most: int, location: str, *arguments: str) -> None:
    """``git fetch`` from *location* into the repository at *path*, no more than *most* bytes.

    :raises GitCommandError: as git does.
    :raises SourceError: if the server sends more, or does not cease to talk.
    """
    import git

    _sweep(path)
    command = [repository.GIT_PYTHON_GIT_EXECUTABLE, *FETCH, location, *arguments]
    process = repository.execute(
        command,
        as_process=True,
        with_stdout=False,
        start_new_session=True,
        # Before git is there: a child that it had started by then would have no limit.
        preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most)),
    )
    program = process.proc
    assert program and program.stderr
    try:
        told = program.stderr.read(SPEECH)
        talks = len(told) == SPEECH
        status = None if talks else program.wait()
    finally:
        if program.poll() is None:  # it has children, which do as they like
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        program.stderr.close()
        largest = _sweep(path)
    if talks or largest >= most:
        what = f"more than {SPEECH >> 20} MiB of messages" if talks else f"more than {most:,} bytes"
        raise SourceError(
            f"{public_url(location)} sent {what}", hint="do not trust it, and name another"
        )
    if status:
        raise git.GitCommandError(["git", "fetch"], status, told)


def _sweep(path: Path) -> int:
    """Remove what a fetch that was killed has left; the size of the largest, in bytes."""
    largest = 0
    for left in (path / "objects" / "pack").glob("tmp_*"):
        largest = max(largest, left.stat().st_size)
        left.unlink()
    return largest


def _targets(wanted: Wanted) -> list[tuple[str, str]]:
    """Names to look for, each with the refspec that fetches it, the likeliest first."""
    if wanted.ref:
        if COMMIT.fullmatch(wanted.ref):
            return [(wanted.ref, wanted.ref)]
        return [
            (f"refs/{kind}/{wanted.ref}", f"+refs/{kind}/{wanted.ref}:refs/{kind}/{wanted.ref}")
            for kind in ("tags", "heads")
        ]
    assert wanted.version is not None
    tag = f"refs/tags/{wanted.version.tag}"
    commit = wanted.release.commit if wanted.release else ""
    return [(tag, f"+{tag}:{tag}"), *([(commit, commit)] if commit else [])]


def _holds(repository: git.Git, name: str) -> bool:
    return bool(
        repository.rev_parse("--verify", "--quiet", f"{name}^{{tree}}", with_exceptions=False)
    )


def _opener(
    repository: git.Git, commit: str, origin: str, limits: archive.TreeLimits
) -> Callable[[], AbstractContextManager[Entries]]:
    @contextmanager
    def opened() -> Iterator[Entries]:
        with git_errors(origin.partition("#")[0]):
            process = repository.archive(commit, format="tar", prefix="tree/", as_process=True)
            pipe = _Pipe(process.stdout)
            try:
                yield archive.entries(archive.decompressed(pipe, origin), origin, limits)
            finally:
                if pipe.ended:
                    process.wait()  # git's own reason tells more than an archive that ends early
                else:
                    process.proc.kill()
                    process.proc.wait()

    return opened


class _Pipe:
    """What a program prints, and whether it has *ended*."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self.ended = False

    def read(self, size: int, /) -> bytes:
        data = self._pipe.read(size)
        self.ended = not data
        return data


@contextmanager
def git_errors(location: str) -> Iterator[None]:
    """Say in one line what git says in many."""
    try:
        import git
    except ImportError as error:
        raise ToolMissingError(
            "git is not installed", hint="apt-get install git, or run ./bootstrap"
        ) from error
    try:
        yield
    except git.GitCommandNotFound as error:
        raise ToolMissingError(
            "git is not installed", hint="apt-get install git, or run ./bootstrap"
        ) from error
    except git.UnsafeProtocolError as error:
        raise UserError(
            f"{public_url(location)} uses a protocol that can run commands",
            hint="use https://, ssh:// or a path",
        ) from error
    except git.GitCommandError as error:
        text = str(error.stderr)
        if "dubious ownership" in text:
            raise UserError(
                f"{location} belongs to another user, whose settings git will not run",
                hint=f"if you trust it: git config --global --add safe.directory {location}",
            ) from error
        reason = next(
            (line.strip() for line in text.splitlines() if re.search("fatal|error", line)), text
        )
        reason = re.sub(r"^.*?(?:fatal|error): ", "", reason).strip(" '")
        if "://" in location:
            raise NetworkError(
                f"git cannot fetch from {public_url(location)}: {reason}",
                hint="check the address and the network; a path to a mirror works, too",
            ) from error
        raise SourceError(
            f"git fails on {location}: {reason}", hint="`git fsck` tells whether it is damaged"
        ) from error
