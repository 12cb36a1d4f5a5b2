"""From packages to a repository that clients may read at any moment.

::

    pool/SUITE/…                        packages; added, never changed
    .states/NUMBER/SUITE/InRelease      one whole state of all indexes, by-hash ones included
    dists -> .states/NUMBER             the state that is valid: replacing this link is the update
    tarpit-builder.asc, SUITE.sources   what a user puts below /etc/apt

A client that began with the state before still finds all of it: its indexes by hash, its packages
in the pool.  What neither that state nor the new one names is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path

from tarpit_builder import paths, suites
from tarpit_builder.console import Console, format_table
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe, locked
from tarpit_builder.errors import BuildError, CheckFailedError, UserError
from tarpit_builder.publish import incoming, metapackages
from tarpit_builder.publish.audit import DISTS, KEY, audit, checksums, entries, sha256
from tarpit_builder.publish.incoming import File, digest
from tarpit_builder.publish.keys import Key
from tarpit_builder.sources.debian import Mirrors

SCRIPTS = paths.PROJECT / "containers" / "repo"
IMAGE_SUITE = "trixie"
ORIGIN = "tarpit-builder"
STATES = ".states"
BY_HASH = "by-hash/SHA256"


@dataclass(frozen=True, slots=True)
class Options:
    """How to publish.

    *keep* versions of each package stay (0: all); *wanted* limits the suites that are added to;
    *new_key* lets the repository change its key; *url* is where users will find it.
    """

    keep: int = 3
    wanted: Sequence[str] = ()
    new_key: bool = False
    url: str = ""


@dataclass(frozen=True, slots=True)
class Published:
    """A repository at *top*: its *suites* with their architectures, and what this run changed."""

    top: Path
    suites: Mapping[str, tuple[str, ...]]
    files: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    fresh: bool

    def table(self) -> str:
        """What is there now, what changed, and how to use it."""
        lines = [
            format_table(
                [(suite, " ".join(archs)) for suite, archs in self.suites.items()],
                header=("suite", "architectures"),
            ),
            "",
            f"{self.files} files in {self.top}: "
            + (
                f"{len(self.added)} added, {len(self.removed)} removed"
                if self.fresh
                else "as before"
            ),
            f"users     put {KEY} into /etc/apt/keyrings/ and SUITE.sources into "
            "/etc/apt/sources.list.d/,",
            "          then: apt update && apt install xt-tarpit-dkms",
        ]
        return "\n".join(lines)


def publish(
    dist: Path, top: Path, key: Key, console: Console, *, options: Options | None = None
) -> Published:
    """Add what is in *dist* to the repository at *top*, which need not exist.

    :raises UserError: if there is nothing, or the repository has another key.
    :raises CheckFailedError: if a package is not what was built or published.
    :raises TarpitError: as the container engine and the file system do; the repository is then
        as it was.
    """
    options = options or Options()
    if options.keep < 0:
        raise UserError("--keep is a number of versions", hint="0 keeps all")
    fresh = incoming.collect(dist, options.wanted)
    paths.make_dir(top)
    with locked(f"repo-{sha256(str(top.resolve()).encode())[:16]}"):
        _sweep(top)
        old: dict[str, File] = {}
        if (top / DISTS).exists():
            old = audit(top, None if options.new_key else key, expired=options.new_key)
        with (
            tempfile.TemporaryDirectory(prefix=".new-", dir=top) as name,
            console.stage("indexes") as stage,
        ):
            made = Path(name)
            packages = {**old, **_compatible(fresh, old)}
            wanted = _with_metapackages(_pruned(packages, options.keep), old, made / "pool")
            for package in metapackages.undated(wanted):
                console.warn(
                    f"no metapackage can follow {package}, which does not say what kernel version "
                    "it is for: it was built by an older tarpit-builder — publish a newer version"
                )
            _index(wanted, made, console)
            _cross_check(wanted, made / DISTS, top)
            if _unchanged(made / DISTS, top, key):
                stage.done("nothing to do")
                return Published(top, _suites(wanted), len(wanted), (), (), fresh=False)
            _sign(made / DISTS, key)
            _fill_pool(wanted, top)
            state = _store_state(made / DISTS, top)
            _write_helpers(top, key, wanted, options.url)
            _switch(top, state)
        removed = _prune(top)
    added = tuple(pool for pool in wanted if pool not in old)
    return Published(top, _suites(wanted), len(wanted), added, removed, fresh=True)


def recipe(mirrors: Mirrors) -> Recipe:
    """The image with apt-ftparchive."""
    suite = suites.known()[IMAGE_SUITE]
    return Recipe("repo", IMAGE_SUITE, "amd64", mirrors.apt_sources(suite), mirrors.main)


def _compatible(fresh: Mapping[str, File], old: Mapping[str, File]) -> Mapping[str, File]:
    """*fresh*, if no file of it is there with another content: apt takes names for identities."""
    for pool, file in fresh.items():
        if pool in old and old[pool].sha256 != file.sha256:
            raise CheckFailedError(
                f"{file.name} is published already, with another content",
                hint="give it a new version: invoke release --version X, then build and publish",
            )
    return fresh


def _pruned(files: Mapping[str, File], keep: int) -> dict[str, File]:
    """*files* without the versions of a package that *keep* newer ones make superfluous."""
    from debian.debian_support import version_compare

    versions: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files.values():
        versions[file.suite, file.package].add(file.version)
    kept = {
        which: set(sorted(found, key=cmp_to_key(version_compare))[-keep:])
        for which, found in versions.items()
    }
    return {
        pool: files[pool]
        for pool in sorted(files)
        if files[pool].version in kept[files[pool].suite, files[pool].package]
    }


def _with_metapackages(
    files: Mapping[str, File], old: Mapping[str, File], folder: Path
) -> dict[str, File]:
    """*files* with the metapackages that belong to them; what is published of these stays."""
    own = {pool: file for pool, file in files.items() if not metapackages.is_metapackage(file)}
    made = metapackages.make(own, folder)
    return dict(sorted({**own, **made, **{p: old[p] for p in made if p in old}}.items()))


def _index(files: Mapping[str, File], output: Path, console: Console) -> None:
    """Let apt-ftparchive describe *files*, into *output*."""
    mirrors = Mirrors.choose(None)
    engine = Engine.connect()
    lines = [f"{suite} {' '.join(archs)}\n" for suite, archs in _suites(files).items()]
    members: dict[str, Path | bytes] = {pool: file.path for pool, file in files.items()}
    members["suites"] = "".join(lines).encode()
    scripts = Files({path.name: path for path in sorted(SCRIPTS.glob("*.sh"))})
    result = engine.run(
        engine.ensure_image(recipe(mirrors), console),
        ["sh", "/scripts/index.sh"],
        inputs=[Input("/archive", [Files(members)]), Input("/scripts", [scripts])],
        output=output,
        environment={"ORIGIN": ORIGIN},
        limits=Limits(memory=1024, seconds=600),
    )
    if result.status != 0:
        raise BuildError(
            f"apt-ftparchive failed (status {result.status})",
            hint="a package may be damaged: build it again with --force",
            tail=result.lines[-15:],
        )


def _cross_check(files: Mapping[str, File], dists: Path, top: Path) -> None:
    """See that the indexes name exactly *files*: what was checked is what gets signed."""
    found = {
        file.pool: file.sha256 for suite in sorted(dists.iterdir()) for file in entries(top, suite)
    }
    expected = {pool: file.sha256 for pool, file in files.items()}
    if found != expected:
        names = sorted(pool for pool, _ in found.items() ^ expected.items())
        raise CheckFailedError(
            f"the indexes do not describe {', '.join(names[:3])} as they were checked",
            hint="were packages changed while this ran?  Run it again",
        )


def _unchanged(dists: Path, top: Path, key: Key) -> bool:
    """Whether the valid state has the same indexes, signed by *key*."""
    current = top / DISTS
    if not current.exists() or not (top / KEY).is_file():
        return False
    if (top / KEY).read_bytes() != key.public():
        return False
    names = {path.name for path in dists.iterdir()}
    return names == {path.name for path in current.iterdir()} and all(
        checksums((dists / name / "Release").read_bytes())
        == checksums((current / name / "Release").read_bytes())
        for name in names
    )


def _sign(dists: Path, key: Key) -> None:
    for suite in sorted(dists.iterdir()):
        text = (suite / "Release").read_bytes()
        (suite / "Release.gpg").write_bytes(key.detach_sign(text))
        (suite / "InRelease").write_bytes(key.clearsign(text))


def _fill_pool(files: Mapping[str, File], top: Path) -> None:
    for pool, file in files.items():
        target = top / pool
        if digest(target) == file.sha256:
            continue
        with paths.replacing(target) as stage:
            shutil.copyfile(file.path, stage)


def _store_state(dists: Path, top: Path) -> Path:
    """Put *dists* beside the valid state, with the indexes of both by hash."""
    numbers = [int(path.name) for path in (top / STATES).glob("*") if path.name.isdigit()]
    state = paths.make_dir(top / STATES) / str(max(numbers, default=0) + 1)
    with paths.staged_dir(state) as stage:
        shutil.copytree(dists, stage, dirs_exist_ok=True)
        for suite in stage.iterdir():
            for name, value in checksums((suite / "Release").read_bytes()).items():
                index = suite / name
                _link(index, index.parent / BY_HASH / value)
            before = top / DISTS / suite.name
            for name, value in _named(before).items():
                if (before / name).is_file():
                    _link(before / name, (suite / name).parent / BY_HASH / value)
    return state


def _named(suite: Path) -> dict[str, str]:
    try:
        return checksums((suite / "Release").read_bytes())
    except FileNotFoundError:
        return {}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_helpers(top: Path, key: Key, files: Mapping[str, File], url: str) -> None:
    with paths.replacing(top / KEY) as stage:
        stage.write_bytes(key.public())
    for suite, architectures in _suites(files).items():
        with paths.replacing(top / f"{suite}.sources") as stage:
            stage.write_text(
                "Types: deb deb-src\n"
                f"URIs: {url or top.resolve().as_uri()}\n"
                f"Suites: {suite}\n"
                "Components: main\n"
                f"Architectures: {' '.join(architectures)}\n"
                f"Signed-By: /etc/apt/keyrings/{KEY}\n"
            )


def _switch(top: Path, state: Path) -> None:
    """Make *state* the valid one."""
    link = top / f".{DISTS}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(state.relative_to(top))
    link.replace(top / DISTS)


def _prune(top: Path) -> tuple[str, ...]:
    """Remove the states before the last two, and packages that no state names."""
    states = sorted((top / STATES).iterdir(), key=lambda path: int(path.name))
    for state in states[:-2]:
        shutil.rmtree(state)
    named = {
        file.pool
        for state in states[-2:]
        for suite in state.iterdir()
        for file in entries(top, suite)
    }
    removed = []
    for path in sorted((top / "pool").glob("*/*")):
        name = str(path.relative_to(top))
        if name not in named:
            path.unlink()
            removed.append(name)
    return tuple(removed)


def _sweep(top: Path) -> None:
    """Remove what a killed run left: everything unfinished, and a state that never became valid."""
    for path in top.glob(".new-*"):
        shutil.rmtree(path, ignore_errors=True)
    valid = (top / DISTS).resolve().name if (top / DISTS).exists() else ""
    for path in (top / STATES).glob("*") if (top / STATES).is_dir() else ():
        unfinished = not path.name.isdigit()
        if unfinished or not valid or int(path.name) > int(valid):
            shutil.rmtree(path, ignore_errors=True)
    with suppress(FileNotFoundError):
        (top / f".{DISTS}.new").unlink()


def _suites(files: Mapping[str, File]) -> dict[str, tuple[str, ...]]:
    """The suites of *files*, each with its architectures."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in files.values():
        found[file.suite] |= {file.architecture} - {"", "all"}
    return {suite: tuple(sorted(found[suite])) or ("amd64",) for suite in sorted(found)}
