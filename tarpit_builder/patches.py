"""Patches for kernel and iptables trees: choose, apply, regenerate, check.

``patches/`` holds one patch for each range of releases in ``rules/patches.toml``; all of them are
made from ``dkms/`` and none is edited by hand::

    patches.committed(KernelVersion.parse("2.6.24")).path      # the file that serves it
    patches.apply(Path("linux-2.6.24"), None)                  # what `invoke patch` does
    patches.regenerate(patches.select("", ""), trees)          # what `invoke regen` does
"""

from __future__ import annotations

import difflib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tarpit_builder import paths
from tarpit_builder.errors import CheckFailedError, InfrastructureError, SourceError, UserError
from tarpit_builder.patching import diff, generate, rules
from tarpit_builder.patching.diff import ENCODING, FilePatch, MismatchError, Patch
from tarpit_builder.patching.rules import Range
from tarpit_builder.patching.tree import FolderTree, Tree, in_git
from tarpit_builder.versions import IptablesVersion, KernelVersion, VersionRange

if TYPE_CHECKING:
    from tarpit_builder.sources.catalogue import Catalogue

FOLDER = paths.PROJECT / "patches"
AUTHOR = "tarpit-builder <tarpit-builder@localhost>"
Release = KernelVersion | IptablesVersion
Format = Literal["git", "quilt", "mbox"]


# -- what is there ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Committed:
    """A patch of ``patches/``, the file *path*, for the range *entry*."""

    entry: Range
    path: Path
    patch: Patch


def committed(version: Release) -> Committed:
    """The patch that serves *version*.

    :raises UserError: if it gets none; the message says why.
    :raises InfrastructureError: if the file is not there, or is no patch.
    """
    return _read(rules.load().choose(version))


def _read(entry: Range) -> Committed:
    path = FOLDER / entry.path
    try:
        return Committed(entry, path, diff.parse(path.read_bytes().decode(ENCODING)))
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"patches/{entry.path} is not there", hint="make it: `invoke regen --write`"
        ) from error
    except diff.PatchSyntaxError as error:
        raise InfrastructureError(
            f"patches/{entry.path} is damaged: {error}",
            hint="`git checkout` it, or make it anew: `invoke regen --write`",
        ) from error


def formatted(patch: Patch, style: str, version: Release) -> str:
    """*patch* as text.

    :param style: ``git``, ``quilt`` or ``mbox``.
    :raises UserError: if it is none of these.
    """
    match style:
        case "git":
            return str(patch)
        case "quilt":
            return diff.quilt(patch, version.stem)
        case "mbox":
            return diff.mbox(patch, AUTHOR, _mail_date())
    raise UserError(f"there is no patch format {style!r}", hint="choose git, quilt or mbox")


def _mail_date() -> str:
    """The date of a mail: ``SOURCE_DATE_EPOCH``, or none, so that the bytes do not change."""
    from email.utils import formatdate

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return formatdate(int(epoch)) if epoch.isdigit() else ""


# -- a user's tree ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Applied:
    """What :func:`apply` did: the *release* of the tree, and what happened to which file."""

    release: Release
    entry: Range
    files: tuple[tuple[str, str], ...]
    reverse: bool
    option: str = ""


def apply(
    folder: Path,
    version: Release | None,
    *,
    reverse: bool = False,
    dry_run: bool = False,
    patch: Patch | None = None,
) -> Applied:
    """Put the patch into the tree *folder*, or take it out again.

    Every file is judged before any is written.

    :param version: the release that the tree is said to be; ``None`` to believe its Makefile.
    :param patch: instead of the committed one of that release.
    :raises UserError: if the tree is not that release, not pristine, or half patched.
    :raises InfrastructureError: if it cannot be written; it is then as it was.
    """
    release = identify(folder, "iptables" if isinstance(version, IptablesVersion) else "")
    if version is not None and not _is(release, version):
        raise UserError(
            f"{folder} is {release.what} {release}, not {version}",
            hint=f"name the right release, or give the tree of {version}",
        )
    entry = rules.load().choose(release)
    patch = patch or _read(entry).patch
    tree = FolderTree(folder)
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


def identify(folder: Path, kind: str = "") -> Release:
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


def _is(release: Release, wanted: Release) -> bool:
    """Whether *release* is what was asked for: 2.6.22 also stands for its point releases."""
    if type(release) is not type(wanted):
        return False
    return release == wanted or (wanted.is_series and release.series == wanted)


def _judge(
    folder: Path, patch: Patch, texts: dict[str, str | None], *, reverse: bool
) -> None:
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
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    stage = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        stage.chmod(mode)
        stage.replace(path)
    finally:
        stage.unlink(missing_ok=True)


# -- real trees ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trees:
    """Where real trees come from: git repositories, asked in turn.

    ``TARPIT_KERNEL_GIT`` and ``TARPIT_IPTABLES_GIT`` name them, with blanks between several.
    """

    catalogue: Catalogue
    kernel: tuple[str, ...] = ()
    iptables: tuple[str, ...] = ()

    @classmethod
    def choose(cls, kernel: str = "", iptables: str = "") -> Trees:
        """From what the user gave, else the environment."""
        from tarpit_builder.sources.catalogue import Catalogue

        return cls(
            Catalogue.load(),
            tuple((kernel or os.environ.get("TARPIT_KERNEL_GIT", "")).split()),
            tuple((iptables or os.environ.get("TARPIT_IPTABLES_GIT", "")).split()),
        )

    def releases(self, entry: Range) -> tuple[Release, ...]:
        """The releases of *entry* that the catalogue knows, oldest first; no candidates."""
        known: Iterable[Release] = (
            self.catalogue.kernels if entry.kind == "linux" else self.catalogue.iptables
        )
        return tuple(
            sorted(version for version in known if not version.rc and version in entry.releases)
        )

    def find(self, version: Release) -> Tree | None:
        """The tree of *version*, or ``None`` if no repository has it.

        :raises UserError: if what was named is no repository.
        :raises SourceError: if what it has is not what was released.
        """
        if isinstance(version, KernelVersion):
            places, release = self.kernel, self.catalogue.kernel(version)
            return _first(places, lambda place: in_git(place, release))
        places, other = self.iptables, self.catalogue.iptables_release(version)
        return _first(places, lambda place: in_git(place, other))


def _first(places: Iterable[str], find: Callable[[str], Tree | None]) -> Tree | None:
    return next((tree for place in places if (tree := find(place)) is not None), None)


# -- regenerating ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Break:
    """Where a range ends: the first *release* that needs another patch, and *why*."""

    release: Release
    why: str


@dataclass(frozen=True, slots=True)
class Regenerated:
    """What the sources and the rules make of a range.

    *checked* and *absent* are the releases whose trees were looked at and were not to be had;
    *groups* are the runs of releases that share a patch, one if the range is right.
    """

    entry: Range
    patch: Patch
    checked: tuple[Release, ...]
    absent: tuple[Release, ...]
    groups: tuple[tuple[Release, ...], ...]
    breaks: tuple[Break, ...]

    @property
    def text(self) -> str:
        """The file as it has to be."""
        return str(self.patch)

    @property
    def difference(self) -> str:
        """What is committed against what should be, as a diff; ``""`` if they are the same."""
        path = FOLDER / self.entry.path
        old = path.read_bytes().decode(ENCODING) if path.is_file() else ""
        lines = difflib.unified_diff(
            old.splitlines(keepends=True),
            self.text.splitlines(keepends=True),
            f"a/patches/{self.entry.path}" if old else "/dev/null",
            f"b/patches/{self.entry.path}",
        )
        return "".join(lines)

    @property
    def proposal(self) -> str:
        """How the range should be cut; ``""`` if it is right."""
        if len(self.groups) < 2:
            return ""
        return " and ".join(_span(group) for group in self.groups)


def select(kernel: str, iptables: str) -> tuple[Range, ...]:
    """The ranges that have releases in the given ones; all of them if none is given.

    :raises UserError: if a range cannot be read, or nothing is in it.
    """
    table = rules.load()
    found: list[Range] = []
    if kernel or not iptables:
        found += _overlapping(table.of_kind("linux"), kernel, KernelVersion)
    if iptables or not kernel:
        found += _overlapping(table.of_kind("iptables"), iptables, IptablesVersion)
    return tuple(found)


def _overlapping(
    ranges: Sequence[Range], wanted: str, kind: type[KernelVersion] | type[IptablesVersion]
) -> list[Range]:
    if not wanted:
        return list(ranges)
    span = VersionRange.parse(wanted, kind)
    ends = [version for _, version in span.bounds]
    found = [
        entry
        for entry in ranges
        if any(version in entry.releases for version in ends)
        or any(version in span for _, version in entry.releases.bounds)
    ]
    if not found:
        known = ", ".join(entry.name for entry in ranges)
        raise UserError(f"there is no patch for {wanted}", hint=f"there are patches for {known}")
    return found


def regenerate(entry: Range, trees: Trees) -> Regenerated:
    """Make the patch of *entry* anew, and look where it applies.

    :raises SourceError: if no tree of the range can be had, or a tree has no place for it.
    :raises InfrastructureError: if ``dkms/`` and the rules do not fit.
    """
    releases = trees.releases(entry)
    found = [(release, tree) for release in releases if (tree := trees.find(release))]
    if not found:
        what, variable = ("iptables", "TARPIT_IPTABLES_GIT")
        if entry.kind == "linux":
            what, variable = ("Linux", "TARPIT_KERNEL_GIT")
        raise SourceError(
            f"no tree of {what} {entry.name} is to be had",
            hint=f"name a clone with --{entry.kind.replace('linux', 'kernel')}-git or {variable}",
        )
    made = [(release, _made(entry, release, tree), tree) for release, tree in found]
    groups: list[list[Release]] = []
    breaks: list[Break] = []
    lead: Patch | None = None
    for release, patch, tree in made:
        if lead is not None and patch.body == lead.body:
            why = _refused(lead, tree)
        elif lead is not None:
            why = _refused(lead, tree) or "the module reads otherwise there"
        else:
            why = _refused(patch, tree)
        if lead is None or why:
            if why:
                breaks.append(Break(release, why))
            groups.append([])
            lead = patch
        groups[-1].append(release)
    checked = {release for release, _ in found}
    return Regenerated(
        entry,
        made[0][1],
        tuple(release for release, _ in found),
        tuple(release for release in releases if release not in checked),
        tuple(map(tuple, groups)),
        tuple(breaks),
    )


def _made(entry: Range, release: Release, tree: Tree) -> Patch:
    table = rules.load()
    if isinstance(release, KernelVersion):
        return generate.linux(release, entry, table, tree)
    return generate.iptables(release, entry, table)


def _refused(patch: Patch, tree: Tree) -> str:
    """Why *patch* does not go in and out of *tree* at exactly its lines, or ``""``."""
    for file in patch.files:
        before = tree.read(file.path)
        try:
            if file.reverse(file.apply(before)) != before:
                return f"{file.path} is not the same after taking the patch out again"
        except MismatchError as error:
            return f"{error.path}:{error.line} has {error.found}"
    return ""


def write(made: Regenerated) -> Path:
    """Put the patch into ``patches/``.

    :raises CheckFailedError: if it does not hold for the whole of its range.
    :raises InfrastructureError: if the file cannot be written.
    """
    if made.breaks:
        first = made.breaks[0]
        raise CheckFailedError(
            f"the patch of {made.entry.name} does not hold for {first.release}: {first.why}",
            hint=f"split the range in {rules.FILE.name}: {made.proposal or 'see above'}",
        )
    path = FOLDER / made.entry.path
    with paths.replacing(path) as stage:
        stage.write_bytes(made.text.encode(ENCODING))
    return path


def _span(releases: Sequence[Release]) -> str:
    first, last = releases[0], releases[-1]
    return str(first) if first == last else f"{first}-{last}"


# -- checking --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is *wrong* with the patch of a range; *checked* and *absent* are releases."""

    entry: Range
    wrong: tuple[str, ...]
    checked: tuple[Release, ...] = ()
    absent: tuple[Release, ...] = ()


def check(entry: Range, trees: Trees) -> Verdict:
    """Hold the committed patch of *entry* against ``dkms/``, and against the trees there are.

    What a patch adds is compared whether there are trees or not.
    """
    try:
        there = _read(entry)
    except InfrastructureError as error:
        return Verdict(entry, (error.message,))
    wrong = _content(there)
    try:
        made = regenerate(entry, trees)
    except SourceError as error:
        if any(trees.find(release) for release in trees.releases(entry)):
            wrong.append(error.message)
        return Verdict(entry, tuple(wrong), absent=trees.releases(entry))
    wrong += [f"breaks at {stop.release}: {stop.why}" for stop in made.breaks]
    if not wrong and made.difference:
        wrong.append("it is not what `invoke regen` makes")
    return Verdict(entry, tuple(wrong), made.checked, made.absent)


def _content(there: Committed) -> list[str]:
    """What is wrong in the parts of a patch that depend on no tree."""
    table = rules.load()
    version = there.entry.releases.bounds[0][1]
    wanted = generate.contributions(version, there.entry, table)
    wrong = []
    if there.patch.description != generate.describe(there.entry):
        wrong.append("its description is not the one of the rules")
    files = {file.path: file for file in there.patch.files}
    for path in sorted({*files} ^ {*wanted}):
        wrong.append(f"{path} {'should not be' if path in files else 'is not'} in it")
    for path in sorted({*files} & {*wanted}):
        mode, text = wanted[path]
        file = files[path]
        added = "".join(
            f"{line[1:]}\n" for hunk in file.hunks for line in hunk.lines if line[0] == "+"
        )
        if file.mode != mode:
            wrong.append(f"{path} has the mode {file.mode or 'of a changed file'}")
        if added != text:
            wrong.append(f"{path} is not what dkms/ makes of it")
    return wrong


def strays() -> list[str]:
    """Files in ``patches/linux`` and ``patches/iptables`` that no range accounts for."""
    expected = {FOLDER / entry.path for entry in rules.load().ranges}
    return [
        str(path.relative_to(FOLDER))
        for kind in ("linux", "iptables")
        for path in sorted((FOLDER / kind).rglob("*"))
        if path.is_file() and path not in expected
    ]
