"""Make the patches anew from ``dkms/``, and hold the kept ones against that and real trees."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import paths
from tarpit_builder.errors import CheckFailedError, InfrastructureError, SourceError, UserError
from tarpit_builder.patching import committed, generate, rules
from tarpit_builder.patching.committed import Committed, ReleaseVersion
from tarpit_builder.patching.demand import touched
from tarpit_builder.patching.diff import ENCODING, FilePatch, MismatchError, Patch, count
from tarpit_builder.patching.rules import Range, Rules
from tarpit_builder.patching.tree import MemoryTree, Tree, in_git
from tarpit_builder.versions import IptablesVersion, KernelVersion, VersionRange

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.sources.catalogue import Catalogue


@dataclass(frozen=True, slots=True)
class ReleaseTrees:
    """Where real trees come from: git repositories, asked in turn, then verified tarballs.

    ``TARPIT_KERNEL_GIT`` and ``TARPIT_IPTABLES_GIT`` name repositories, with blanks between
    several.  Tarballs come from the cache, and with *fetch* from upstream.
    """

    catalogue: Catalogue
    kernel: tuple[str, ...] = ()
    iptables: tuple[str, ...] = ()
    cache: Path | None = None
    fetch: bool = False

    @classmethod
    def choose(cls, kernel: str = "", iptables: str = "", *, fetch: bool = False) -> ReleaseTrees:
        """From what the user gave, else the environment."""
        from tarpit_builder.sources.catalogue import Catalogue

        return cls(
            Catalogue.load(),
            tuple((kernel or os.environ.get("TARPIT_KERNEL_GIT", "")).split()),
            tuple((iptables or os.environ.get("TARPIT_IPTABLES_GIT", "")).split()),
            paths.cache_dir(),
            fetch,
        )

    def releases(self, entry: Range) -> tuple[ReleaseVersion, ...]:
        """The releases of *entry* that the catalogue knows, oldest first; no candidates.

        If it knows none, that from whose tree the patch was made.
        """
        if entry.tree:
            return (entry.tree,)
        known: Iterable[ReleaseVersion] = (
            self.catalogue.kernels if entry.kind == "linux" else self.catalogue.iptables
        )
        return tuple(
            sorted(version for version in known if not version.rc and version in entry.releases)
        )

    def find(self, version: ReleaseVersion) -> Tree | None:
        """The tree of *version*, or ``None`` if it is not to be had.

        :raises UserError: if what was named is no repository.
        :raises SourceError: if what there is is not what was released.
        :raises NetworkError: if it has to be fetched and cannot be.
        """
        if isinstance(version, KernelVersion):
            places, release = self.kernel, self.catalogue.kernel(version)
            tree = _first(places, lambda place: in_git(place, release))
        else:
            places, other = self.iptables, self.catalogue.iptables_release(version)
            tree = _first(places, lambda place: in_git(place, other))
        return tree or self._tarball(version)

    def _tarball(self, version: ReleaseVersion) -> Tree | None:
        """The files of a release tarball that patches touch, checked as a whole."""
        from tarpit_builder.console import Console
        from tarpit_builder.sources import Tarball, fetch_iptables, fetch_kernel
        from tarpit_builder.sources.store import Store

        if self.cache is None:
            return None
        wanted = self.fetch and version.is_series
        store, console = Store(self.cache, offline=not wanted), Console(quiet=True)
        try:
            if isinstance(version, KernelVersion):
                fetched = fetch_kernel(Tarball(version), store, console)
            else:
                fetched = fetch_iptables(Tarball(version), store, console)
        except SourceError:
            if wanted:
                raise
            return None
        return touched(fetched)


def _first(places: Iterable[str], find: Callable[[str], Tree | None]) -> Tree | None:
    return next((tree for place in places if (tree := find(place)) is not None), None)


NO_TREE = (
    "name a clone that is not shallow with --kernel-git or TARPIT_KERNEL_GIT, or `invoke fetch` "
    "the release"
)

# -- regenerating ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Break:
    """Where a range ends: the first *release* that needs another patch, and *why*."""

    release: ReleaseVersion
    why: str


@dataclass(frozen=True, slots=True)
class Regenerated:
    """What the sources and the rules make of a range.

    *checked* and *absent* are the releases whose trees were looked at and were not to be had;
    *groups* are the runs of releases that share a patch, one if the range is right.
    """

    entry: Range
    patch: Patch
    checked: tuple[ReleaseVersion, ...]
    absent: tuple[ReleaseVersion, ...]
    groups: tuple[tuple[ReleaseVersion, ...], ...]
    breaks: tuple[Break, ...]

    @property
    def text(self) -> str:
        """The file as it has to be."""
        return str(self.patch)

    @property
    def difference(self) -> str:
        """What is committed against what should be, as a diff; ``""`` if they are the same."""
        path = committed.FOLDER / self.entry.path
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


class NoTreeError(SourceError):
    """A tree is needed, and none of the range is to be had."""


def regenerate(entry: Range, trees: ReleaseTrees) -> Regenerated:
    """Make the patch of *entry* anew, and look where it applies.

    :raises NoTreeError: if a tree is needed and none of the range is to be had.
    :raises SourceError: if a tree has no place for it.
    :raises UserError: if a source in ``dkms/`` does not balance.
    :raises InfrastructureError: if ``dkms/`` and the rules do not fit.
    """
    table = rules.load()
    releases = trees.releases(entry)
    found: list[tuple[ReleaseVersion, Tree]] = [
        (release, tree) for release in releases if (tree := trees.find(release))
    ]
    checked = [release for release, _ in found]
    if not found:
        if entry.tree and (kept := _in_place(entry)):
            return kept
        if entry.kind == "linux":
            raise NoTreeError(f"no tree of Linux {entry.name} is to be had", hint=NO_TREE)
        found = [(entry.releases.bounds[0][1], MemoryTree("no tree", {}))]
    files: dict[ReleaseVersion, tuple[FilePatch, ...]] = {}
    groups: list[list[ReleaseVersion]] = []
    breaks: list[Break] = []
    leads: list[Patch] = []
    for release, tree in found:
        if isinstance(release, KernelVersion):
            _demand_stated(entry, release, tree, table)
        if release.series not in files:
            files[release.series] = generate.new_files(release, entry, table)
        patch = generate.patch(release, entry, table, tree, files[release.series])
        lead = leads[-1] if leads else patch
        why = _refused(lead, tree)
        if not why and patch.body != lead.body:
            why = "the module reads otherwise there"
        if why:
            breaks.append(Break(release, why))
        if why or not leads:
            groups.append([])
            leads.append(patch)
        groups[-1].append(release)
    return Regenerated(
        entry,
        leads[0],
        tuple(checked),
        tuple(release for release in releases if release not in checked),
        tuple(map(tuple, groups)),
        tuple(breaks),
    )


def _demand_stated(entry: Range, release: KernelVersion, tree: Tree, table: Rules) -> None:
    """Compare what *tree* has beside what *release* says with what *entry* states.

    :raises SourceError: if one knows more than the other.
    """
    there = {name for name, has in generate.surprises(release, tree, table).items() if has}
    if different := sorted(there ^ entry.backported):
        name = different[0].removeprefix("TARPIT_HAVE_").lower()
        raise SourceError(
            f"the tree of Linux {release} {'has' if different[0] in there else 'lacks'} {name}, "
            f"and {rules.FILE.name} says otherwise",
            hint=f'correct `backported` of the row releases = "{entry.name}"',
        )


def _in_place(entry: Range) -> Regenerated | None:
    """The patch of *entry* with what it adds made anew, and its pieces left where they are.

    Nothing if there is none yet, or the pieces have changed.
    """
    table = rules.load()
    assert entry.tree
    try:
        there = committed.read(entry).patch
    except InfrastructureError:
        return None
    pieces = tuple(file for file in there.files if not file.adds)
    wanted = {
        edit.path: edit.for_release(entry.tree) for edit in generate.edits(entry.tree, entry, table)
    }
    if {file.path: _added(file) for file in pieces} != wanted:
        return None
    files = (*pieces, *generate.new_files(entry.tree, entry, table))
    made = Patch(tuple(sorted(files, key=lambda file: file.path)), generate.describe(entry))
    return Regenerated(entry, made, (), (entry.tree,), ((entry.tree,),), ())


def _added(file: FilePatch) -> str:
    """The lines that *file* adds."""
    return "".join(f"{line[1:]}\n" for hunk in file.hunks for line in hunk.lines if line[0] == "+")


def regenerate_all(
    ranges: Sequence[Range], trees: ReleaseTrees, console: Console
) -> list[Regenerated]:
    """:func:`regenerate` for each of *ranges* that there is a tree for.

    :raises NoTreeError: if there is one for none of them.
    """
    found: list[Regenerated] = []
    missing: list[NoTreeError] = []
    for entry in ranges:
        with console.stage(f"{entry.kind} {entry.name}") as stage:
            try:
                found.append(regenerate(entry, trees))
            except NoTreeError as error:
                missing.append(error)
                stage.done("no tree")
                continue
            stage.done(count(len(found[-1].checked), "tree"))
    if missing and not found:
        raise missing[0]
    return found


def demand_whole(made: Sequence[Regenerated]) -> None:
    """Insist that every range is right.

    :raises CheckFailedError: if one has to be split.
    """
    broken = [one for one in made if one.breaks]
    if broken:
        names = ", ".join(one.entry.name for one in broken)
        raise CheckFailedError(
            f"{count(len(broken), 'range')} cannot have one patch: {names}",
            hint=f"split as proposed in tarpit_builder/rules/{rules.FILE.name}",
        )


def export(made: Sequence[Regenerated], folder: Path, style: str) -> None:
    """Write the patches into *folder*, in another format; with a series file for quilt.

    :raises UserError: if there is no such format.
    :raises InfrastructureError: if *folder* cannot be written.
    """
    for one in made:
        text = committed.formatted(one.patch, style, one.groups[0][0])
        place = paths.make_dir(folder / one.entry.path.parent)
        name = one.entry.path.with_suffix(".mbox" if style == "mbox" else ".patch").name
        committed.emit(text, str(place / name))
        if style == "quilt":
            committed.emit(f"{name}\n", str(place / "series"))


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


def write(made: Regenerated, *, force: bool = False) -> bool:
    """Put the patch into ``patches/``, and say whether that changed it.

    :param force: also where the file there has changes that are not committed.
    :raises CheckFailedError: if it does not hold for the whole of its range.
    :raises UserError: if changes would be lost.
    :raises InfrastructureError: if the file cannot be written.
    """
    if made.breaks:
        first = made.breaks[0]
        raise CheckFailedError(
            f"the patch of {made.entry.name} does not hold for {first.release}: {first.why}",
            hint=f"split the range in {rules.FILE.name}: {made.proposal or 'it fits nowhere'}",
        )
    if not made.difference:
        return False
    path = committed.FOLDER / made.entry.path
    if not force and _is_dirty(path):
        raise UserError(
            f"patches/{made.entry.path} has changes that are not committed",
            hint="changes belong into dkms/ or the rules; commit them, or lose them with --force",
        )
    with paths.replacing(path) as stage:
        stage.write_bytes(made.text.encode(ENCODING))
    return True


def _is_dirty(path: Path) -> bool:
    """Whether git knows *path* with other content; a copy without git has nothing to lose."""
    import git

    try:
        repository = git.Repo(paths.PROJECT)
        return bool(repository.git.status("--porcelain", "--untracked-files=no", "--", str(path)))
    except git.GitError:
        return False


def joinable(made: Sequence[Regenerated]) -> list[tuple[Range, Range]]:
    """Neighbours that have the same patch, and could be one range."""
    return [
        (one.entry, other.entry)
        for one, other in itertools.pairwise(made)
        if one.entry.kind == other.entry.kind and one.patch.body == other.patch.body
    ]


def _span(releases: Sequence[ReleaseVersion]) -> str:
    first, last = releases[0], releases[-1]
    return str(first) if first == last else f"{first}-{last}"


@dataclass(frozen=True, slots=True)
class RangeVerdict:
    """What is *wrong* with the patch of a range; *checked* and *absent* are releases."""

    entry: Range
    wrong: tuple[str, ...]
    checked: tuple[ReleaseVersion, ...] = ()
    absent: tuple[ReleaseVersion, ...] = ()


def check(entry: Range, trees: ReleaseTrees) -> RangeVerdict:
    """Hold the committed patch of *entry* against ``dkms/``, and against the trees there are.

    What a patch adds is compared whether there are trees or not.
    """
    try:
        there = committed.read(entry)
    except InfrastructureError as error:
        return RangeVerdict(entry, (error.message,))
    wrong = _content(there)
    try:
        made = regenerate(entry, trees)
    except SourceError as error:
        if any(trees.find(release) for release in trees.releases(entry)):
            wrong.append(error.message)
        return RangeVerdict(entry, tuple(wrong), absent=trees.releases(entry))
    wrong += [f"breaks at {stop.release}: {stop.why}" for stop in made.breaks]
    if not wrong and made.difference:
        wrong.append("it is not what `invoke regen` makes")
    return RangeVerdict(entry, tuple(wrong), made.checked, made.absent)


def _content(there: Committed) -> list[str]:
    """What is wrong in the parts of a patch that depend on no tree."""
    table = rules.load()
    version = there.entry.tree or there.entry.releases.bounds[0][1]
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
        if file.mode != mode:
            wrong.append(f"{path} has the mode {file.mode or 'of a changed file'}")
        if _added(file) != text:
            wrong.append(f"{path} is not what dkms/ makes of it")
    return wrong


def check_all(ranges: Sequence[Range], trees: ReleaseTrees, console: Console) -> list[RangeVerdict]:
    """:func:`check` for each of *ranges*."""
    found = []
    for entry in ranges:
        with console.stage(f"{entry.kind} {entry.name}") as stage:
            found.append(check(entry, trees))
            stage.done("wrong" if found[-1].wrong else "good")
    return found


def demand_good(found: Sequence[RangeVerdict], strays: Sequence[str]) -> None:
    """Insist that every patch is right and accounted for.

    :raises CheckFailedError: if not.
    """
    wrong = [str(one.entry.path) for one in found if one.wrong] + list(strays)
    if wrong:
        raise CheckFailedError(
            f"{count(len(wrong), 'patch', 'patches')} not right: {', '.join(wrong)}",
            hint="`invoke regen --write` makes them from dkms/ and the rules",
        )


def strays() -> list[str]:
    """Files in ``patches/linux`` and ``patches/iptables`` that no range accounts for."""
    expected = {committed.FOLDER / entry.path for entry in rules.load().ranges}
    return [
        str(path.relative_to(committed.FOLDER))
        for kind in ("linux", "iptables")
        for path in sorted((committed.FOLDER / kind).rglob("*"))
        if path.is_file() and path not in expected
    ]
