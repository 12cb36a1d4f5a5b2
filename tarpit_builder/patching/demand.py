"""The patch for whatever release and tree: the kept one where it fits, else one made for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder.console import Console
from tarpit_builder.errors import UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.patching import committed, generate, rules
from tarpit_builder.patching.committed import ReleaseVersion
from tarpit_builder.patching.diff import Patch
from tarpit_builder.patching.rules import Range
from tarpit_builder.patching.tree import FolderTree, MemoryTree, Tree
from tarpit_builder.versions import KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.sources import FetchedTree

Fetch = Callable[[KernelVersion, Console], "FetchedTree"]
"""What gets the tree of a release, verified."""


def serving(release: ReleaseVersion, tree: Tree) -> tuple[Range, Patch]:
    """The patch for *tree*, which is of *release*, and the range that it is for.

    A release of the catalogue gets the kept patch as it is: if that does not fit, the tree is not
    pristine.  Of others nobody knew where their lines are when the patch was made.

    :raises UserError: if *release* is before the first that gets a patch.
    :raises SourceError: if *tree* has no place for a piece.
    """
    if not isinstance(release, KernelVersion):
        there = committed.committed(release)
        return there.entry, there.patch
    kept = _kept(release)
    table = rules.load()
    known = kept and not kept.entry.tree and _is_known(release)
    fits = kept and (known or _fits(kept.patch, tree))
    if kept and fits and not generate.surprises(release, tree, table):
        return kept.entry, kept.patch
    return generate.range_of(release, table), generate.on_demand(release, tree, table)


def find(release: ReleaseVersion, fetch: Fetch | None, *, named: bool = False) -> Patch:
    """The patch for *release*: the kept one, else one made from the tree that *fetch* gets.

    :param named: the user said which tree is meant, so it is looked at in any case.
    :raises TarpitError: if it gets none, or there is no such tree.
    """
    if not isinstance(release, KernelVersion):
        return committed.committed(release).patch
    kept = _kept(release)
    if kept and not named:
        return kept.patch
    generate.range_of(release, rules.load())  # refuses what gets none, before anything is fetched
    if fetch is None:
        return committed.committed(release).patch
    return serving(release, touched(fetch(release, Console())))[1]


def touched(fetched: FetchedTree) -> MemoryTree:
    """The files of *fetched* that patches touch; the tree is checked as a whole."""
    table = rules.load()
    edited = {edit.path for form in table.forms.values() for edit in form.edits}
    names = sorted(edited | {each.path for each in table.seen})
    with scratch("tree") as folder:
        there = FolderTree(folder / fetched.name)
        fetched.unpack(there.folder, names)
        texts = {name: there.read(name) for name in names}
    return MemoryTree(fetched.origin, {name: text for name, text in texts.items() if text})


def write_out(
    release: ReleaseVersion | None,
    style: str,
    output: str,
    *,
    folder: Path | None = None,
    fetch: Fetch | None = None,
    named: bool = False,
) -> None:
    """Write the patch for *release* to *output*, in a format; see :func:`.committed.emit`.

    :param folder: the tree that it is for, patched or not, in place of what *fetch* gets.
    :raises UserError: if it is not said which release, or where to.
    """
    if release is not None and (not output or not isinstance(release, KernelVersion)):
        find(release, None)  # that there is none is more to the point than that nowhere is named
    if release is None or not output:
        raise UserError(
            "there is nothing to do: no tree to patch, and no file to write",
            hint="add --tree DIR, or --kernel RELEASE and --output FILE",
        )
    made = serving(release, FolderTree(folder))[1] if folder else find(release, fetch, named=named)
    committed.emit(committed.formatted(made, style, release), output)


def _kept(release: KernelVersion) -> committed.Committed | None:
    try:
        entry = rules.load().choose(release)
    except UserError:
        return None
    return committed.read(entry)


def _is_known(release: KernelVersion) -> bool:
    from tarpit_builder.sources.catalogue import Catalogue

    return release in Catalogue.load().kernels


def _fits(patch: Patch, tree: Tree) -> bool:
    """Whether *patch* goes into *tree* at its lines, or is in it."""
    fates = {file.fate(tree.read(file.path)) for file in patch.files}
    return fates in ({"clean"}, {"applied"})
