"""Put a patch into a user's tree, or take it out: all of it or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import UserError
from tarpit_builder.patching import demand, rules
from tarpit_builder.patching.committed import ReleaseVersion
from tarpit_builder.patching.diff import ENCODING, FilePatch, MismatchError, Patch
from tarpit_builder.patching.rules import Range
from tarpit_builder.patching.tree import FolderTree
from tarpit_builder.versions import IptablesVersion


@dataclass(frozen=True, slots=True)
class Applied:
    """What :func:`apply` did: the *release* of the tree, and what happened to which file."""

    release: ReleaseVersion
    entry: Range
    files: tuple[tuple[str, str], ...]
    reverse: bool
    option: str = ""


def apply(
    folder: Path,
    version: ReleaseVersion | None,
    *,
    reverse: bool = False,
    dry_run: bool = False,
    patch: Patch | None = None,
) -> Applied:
    """Put the patch into the tree *folder*, or take it out again.

    Every file is judged before any is written.

    :param version: the release that the tree is said to be; ``None`` to believe its Makefile.
    :param patch: instead of the one that serves such a tree.
    :raises UserError: if the tree is not that release, not pristine, or half patched.
    :raises InfrastructureError: if it cannot be written; it is then as it was.
    """
    release = identify(folder, "iptables" if isinstance(version, IptablesVersion) else "")
    if version is not None and not _is(release, version):
        raise UserError(
            f"{folder} is {release.what} {release}, not {version}",
            hint=f"name the right release, or give the tree of {version}",
        )
    tree = FolderTree(folder)
    entry, served = demand.serving(release, tree)
    patch = patch or served
    texts = {file.path: tree.read(file.path) for file in patch.files}
    _judge(folder, patch, texts, reverse=reverse)
    if not reverse:
        _refuse_dirty(folder, patch)
    after: dict[str, str | None] = {}
    for file in patch.files:
        text = texts[file.path]
        after[file.path] = file.reverse(text) if reverse else file.apply(text)
    if not dry_run:
        _write(folder, patch, after)
    verb = {True: ("removed", "restored"), False: ("added", "changed")}[reverse]
    done = tuple((verb[0 if file.adds else 1], file.path) for file in patch.files)
    option = rules.load().forms[entry.form].option if entry.kind == "linux" else ""
    return Applied(release, entry, done, reverse, option)


def identify(folder: Path, kind: str = "") -> ReleaseVersion:
    """The release whose tree *folder* is.

    :param kind: ``linux`` or ``iptables`` if it has to be that.
    :raises UserError: if it is neither.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder", hint="give the unpacked tree with --tree")
    makefile = folder / "Makefile"
    text = makefile.read_bytes()[:65536] if makefile.is_file() else b""
    if match := re.search(rb"^IPTABLES_VERSION:?=(\S+)", text, re.MULTILINE):
        return IptablesVersion.parse(match[1].decode("ascii", "replace"))
    from tarpit_builder.sources.releases import makefile_version

    release = makefile_version(text.replace(b"\r\n", b"\n"))
    if kind == "iptables" or release is None or not (folder / "net").is_dir():
        what = "an iptables tree" if kind == "iptables" else "a kernel tree"
        raise UserError(
            f"{folder} is not {what}: its Makefile does not say so",
            hint="give the folder that the release's tarball unpacks to, such as linux-2.6.22",
        )
    return release


def _is(release: ReleaseVersion, wanted: ReleaseVersion) -> bool:
    """Whether *release* is what was asked for: 2.6.22 also stands for its point releases."""
    if type(release) is not type(wanted):
        return False
    return release == wanted or (wanted.is_series and release.series == wanted)


def _judge(folder: Path, patch: Patch, texts: dict[str, str | None], *, reverse: bool) -> None:
    fates = {file.path: file.fate(texts[file.path]) for file in patch.files}
    wanted = "applied" if reverse else "clean"
    other = "clean" if reverse else "applied"
    kinds = set(fates.values())
    if kinds == {wanted}:
        return
    having = [path for path, fate in fates.items() if fate == "applied"]
    lacking = [path for path, fate in fates.items() if fate == "clean"]
    odd = {path: fate for path, fate in fates.items() if fate not in {"applied", "clean"}}
    if kinds == {other}:
        if reverse:
            raise UserError(f"{folder} is not patched", hint="there is nothing to take out")
        raise UserError(f"{folder} is patched already", hint="--reverse takes the patch out")
    if "crlf" in kinds:
        path = next(path for path, fate in odd.items() if fate == "crlf")
        raise UserError(
            f"{path} in {folder} has CRLF line ends",
            hint="unpack or check out the tree with LF line ends (git: core.autocrlf=false)",
        )
    if not odd or having:
        rest = [*odd, *lacking]
        raise UserError(
            f"{folder} is half patched: {having[0]} has it, {rest[0]} has not",
            hint="unpack a fresh tree; where git keeps it, `git checkout -- . && git clean -n`",
        )
    path, fate = next(iter(odd.items()))
    file = next(file for file in patch.files if file.path == path)
    raise UserError(
        f"{folder} is not pristine: {_oddity(file, fate, texts[path], reverse=reverse)}",
        hint="unpack a fresh tree; or write the patch with --output and let patch(1) find its "
        "places, at your own risk",
    )


def _oddity(file: FilePatch, fate: str, text: str | None, *, reverse: bool) -> str:
    match fate:
        case "missing":
            return f"{file.path} is missing"
        case "exists":
            return f"{file.path} is there already, with other content"
        case "shifted":
            return f"the lines that the patch needs in {file.path} have moved"
    try:
        _ = file.reverse(text) if reverse else file.apply(text)
    except MismatchError as error:
        return f"{error.path}:{error.line} has {error.found}"
    return f"{file.path} is not as released"


def _refuse_dirty(folder: Path, patch: Patch) -> None:
    for file in patch.files:
        for suffix in (".rej", ".orig"):
            if (left := folder / (file.path + suffix)).exists():
                raise UserError(
                    f"{left} is left over from an earlier patch",
                    hint="unpack a fresh tree, or remove it if you know that the tree is right",
                )
    if not (folder / ".git").exists():
        return
    import git

    try:
        repository = git.Repo(folder)
        changed = str(repository.git.status("--porcelain", "--untracked-files=no")).split("\n")
    except (git.InvalidGitRepositoryError, git.GitCommandError) as error:
        raise UserError(
            f"git cannot tell the state of {folder}: {error}".split("\n")[0],
            hint="`git status` there says more",
        ) from error
    if changed != [""]:
        raise UserError(
            f"{folder} has uncommitted changes: {changed[0].strip()}"
            + (f" and {len(changed) - 1} more" if len(changed) > 1 else ""),
            hint="commit them or set them aside (`git stash`), then run this again",
        )


def _write(folder: Path, patch: Patch, after: dict[str, str | None]) -> None:
    """Replace all files, or none of them."""
    modes = {file.path: file.mode for file in patch.files}
    undo: list[Callable[[], object]] = []
    path = folder
    try:
        for name, text in after.items():
            path = folder / name
            before = path.read_bytes() if path.exists() else None
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
            if modes[name]:
                mode = int(modes[name], 8) & 0o777
            undo.append(_undoing(path, before, mode))
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                _replace(path, text.encode(ENCODING), mode)
    except BaseException as error:
        for step in reversed(undo):
            step()
        if isinstance(error, OSError):
            raise paths.explain_os_error(error, path) from error
        raise


def _undoing(path: Path, before: bytes | None, mode: int) -> Callable[[], object]:
    if before is None:
        return lambda: path.unlink(missing_ok=True)
    return lambda: _replace(path, before, mode)


def _replace(path: Path, content: bytes, mode: int) -> None:
    with paths.replacing(path, mode=mode) as stage:
        stage.write_bytes(content)
