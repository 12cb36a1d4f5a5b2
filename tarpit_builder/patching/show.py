"""What the tasks ``patch``, ``regen`` and ``check-patches`` print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tarpit_builder.console import format_table
from tarpit_builder.patching.apply import Applied
from tarpit_builder.patching.committed import ReleaseVersion
from tarpit_builder.patching.regen import NO_TREE, RangeVerdict, Regenerated, joinable
from tarpit_builder.patching.rules import Range

_SHOWN = 6


def applied(done: Applied, *, dry_run: bool) -> str:
    """What happened, or with *dry_run* would happen, to a user's tree, and what comes next."""
    lines = [f"  {verb:<9} {path}" for verb, path in done.files]
    head = f"{done.release.what} {done.release}: {done.entry.reason}"
    if dry_run:
        return "\n".join(["it applies at exactly its lines; nothing was changed", *lines])
    if done.reverse:
        return "\n".join(["the patch is out again", *lines])
    if done.option:
        following = f"next: make oldconfig && make   ({done.option} =m or =y)"
    else:
        make = "make KERNEL_DIR=/path/to/linux"
        following = f"next: {make} && {make} install   (the source tree of the kernel)"
    return "\n".join([head, *lines, following])


def regenerated(
    made: Sequence[Regenerated], written: Iterable[Regenerated], selected: Sequence[Range] = ()
) -> str:
    """The state of each range, breaks and what to do about them.

    :param selected: the ranges that were to be made; those without a tree are named.
    """
    wrote = {id(one) for one in written}
    rows = []
    notes = []
    for one in made:
        state = "breaks" if one.breaks else "as committed"
        if id(one) in wrote:
            state = "written"
        elif one.difference and not one.breaks:
            state = "differs"
        rows.append((one.entry.kind, one.entry.name, state, _trees(one.checked, one.absent)))
        notes += [f"{one.entry.name} breaks at {stop.release}: {stop.why}" for stop in one.breaks]
        if one.proposal:
            notes.append(f"{one.entry.name} should be split into {one.proposal}")
    there = {one.entry for one in made}
    without = [entry for entry in selected if entry not in there]
    rows += [(entry.kind, entry.name, "not made", "none") for entry in without]
    if without:
        names = ", ".join(entry.name for entry in without)
        notes.append(f"no tree of Linux {names}, so these were left as they are: {NO_TREE}")
    notes += [
        f"{one.name} and {other.name} have the same patch, and could be one range"
        for one, other in joinable(made)
    ]
    return "\n".join([format_table(rows, header=("for", "range", "patch", "trees")), *notes])


def verdicts(found: Sequence[RangeVerdict], strays: Sequence[str]) -> str:
    """The state of each patch, and what is wrong with it."""
    rows = [
        (
            one.entry.kind,
            one.entry.name,
            "wrong" if one.wrong else "good",
            _trees(one.checked, one.absent),
        )
        for one in found
    ]
    lines = [format_table(rows, header=("for", "range", "patch", "trees"))]
    lines += [f"{one.entry.path}: {wrong}" for one in found for wrong in one.wrong]
    lines += [f"{path}: no range has this patch" for path in strays]
    absent = [release for one in found for release in one.absent if one.entry.kind == "linux"]
    if absent:
        lines.append(f"not held against a tree: {_named(absent)}")
    return "\n".join(lines)


def _trees(checked: Sequence[ReleaseVersion], absent: Sequence[ReleaseVersion]) -> str:
    text = f"{len(checked)} of {len(checked) + len(absent)}"
    return f"{text}, not {_named(absent)}" if checked and absent else text


def _named(releases: Sequence[ReleaseVersion]) -> str:
    names = [str(release) for release in releases[:_SHOWN]]
    more = len(releases) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
