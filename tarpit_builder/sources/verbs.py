"""What the tasks ``fetch``, ``kernels``, ``catalog-update`` and ``cache`` do, and their texts."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tarpit_builder.console import Console, format_table
from tarpit_builder.errors import UserError
from tarpit_builder.sources import (
    GitRepository,
    IptablesSource,
    KernelSource,
    SourceOptions,
    Tarball,
    fetch_iptables,
    fetch_kernel,
    releases,
    update,
)
from tarpit_builder.sources.catalogue import Catalogue, write
from tarpit_builder.sources.context import Context
from tarpit_builder.sources.store import Kept, Store
from tarpit_builder.sources.tree import FetchedTree
from tarpit_builder.versions import IptablesVersion

_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SPANS = {"h": 3600, "d": 86400, "w": 7 * 86400}


def iptables_source(version: str, *, git: str = "") -> IptablesSource:
    """What ``--iptables`` and ``--iptables-git`` mean together.

    :raises UserError: if *version* is none.
    """
    known = map(str, Catalogue.load().iptables)
    parsed = IptablesVersion.parse(version, known)
    return GitRepository(git, parsed) if git else Tarball(parsed)


def fetch(
    kernel: KernelSource | None,
    iptables: IptablesSource | None,
    store: Store,
    console: Console,
    options: SourceOptions,
) -> str:
    """Warm the cache; a table of what is there now and who vouches for it.

    :raises UserError: if nothing is asked for.
    """
    trees: list[FetchedTree] = []
    if kernel is not None:
        trees.append(fetch_kernel(kernel, store, console, options=options))
    if iptables is not None:
        trees.append(fetch_iptables(iptables, store, console, options=options))
    if not trees:
        raise UserError("nothing to fetch is named", hint="add --kernel 2.6.24 or --iptables 1.4.0")
    for tree in trees:
        with console.stage(f"keep {tree.name}") as stage:
            stage.done("packed into the cache" if releases.keep(tree, store) else "there already")
    rows = [
        (tree.name, tree.tree[:12], tree.origin, voucher if not index else "")
        for tree in trees
        for index, voucher in enumerate(tree.vouchers[:1])
    ]
    return format_table(rows, header=("source", "git tree", "from", "verified by"))


def catalog_update(
    store: Store,
    console: Console,
    options: SourceOptions,
    *,
    kernel_git: str = "",
    iptables_git: str = "",
    network: bool = True,
) -> str:
    """Extend the catalogue from kernel.org and from the tags of repositories; what was learnt.

    :raises NetworkError: if kernel.org cannot be reached.
    :raises SourceError: if something signed contradicts the catalogue; nothing is written then.
    """
    context = Context.of(store, console, options)
    lines = []
    if network and not store.offline:
        catalogue, learnt = update.from_kernel_org(context)
        context = replace(context, catalogue=catalogue)
        lines.append(f"kernel.org: {learnt}")
    for location, iptables in ((kernel_git, False), (iptables_git, True)):
        if location:
            catalogue, learnt = update.from_git(Path(location), context, iptables=iptables)
            context = replace(context, catalogue=catalogue)
            lines.append(f"{location}: {learnt}")
    if not lines:
        raise UserError(
            "there is nothing to learn from offline", hint="add --kernel-git PATH, or go online"
        )
    write(context.catalogue)
    return "\n".join(lines)


def cache_list(store: Store) -> str:
    """What the cache holds, the most recently used first, and how much room it takes."""
    items = store.items()
    rows = [(item.name, item.kind, _size(item.size), _ago(item.used)) for item in items]
    total = sum(item.size for item in items)
    table = format_table(rows, header=("what", "kind", "size", "last used")) if rows else ""
    return f"{table}\n\n{len(items)} items, {_size(total)} in {store.root}".lstrip()


def cache_verify(store: Store, console: Console) -> tuple[str, Sequence[Kept]]:
    """Read everything again; a text, and what was damaged and has been removed."""
    with console.stage("verify the cache") as stage:
        damaged = store.verify(stage)
        stage.done(f"{len(damaged)} damaged" if damaged else "intact")
    names = ", ".join(item.name for item in damaged)
    return (f"removed because damaged: {names}" if damaged else "the cache is intact"), damaged


def cache_prune(store: Store, *, older_than: str = "", keep: str = "") -> str:
    """Remove what was not used for *older_than* (``30d``), or until *keep* (``5GB``) is left.

    :raises UserError: if neither is given, or one cannot be read.
    """
    if not (older_than or keep):
        raise UserError("prune needs a limit", hint="add --older-than 30d or --keep 5GB")
    removed = store.prune(
        older_than=parse_span(older_than) if older_than else None,
        keep=parse_size(keep) if keep else None,
    )
    return f"removed {len(removed)} items, {_size(sum(item.size for item in removed))}"


def parse_size(text: str) -> int:
    """``5GB`` or ``500M`` in bytes.  The unit has to be there: few mean bytes.

    :raises UserError: if *text* is none of these, or nothing.
    """
    return int(_amount(text, r"([kmgt])(?:i?b)?", _UNITS, "a size", "500MB or 5GB"))


def parse_span(text: str) -> float:
    """``12h``, ``30d`` or ``2w`` in seconds.

    :raises UserError: if *text* is none of these, or nothing.
    """
    return _amount(text, r"([hdw])", _SPANS, "a time", "12h, 30d or 2w")


def _amount(text: str, unit: str, units: Mapping[str, int], what: str, examples: str) -> float:
    number = r"(\d+(?:\.\d+)?)"
    said = text.strip().lower()
    match = re.fullmatch(rf"{number}\s*{unit}", said, re.ASCII)
    if match is None:
        bare = re.fullmatch(number, said, re.ASCII)
        problem = "has no unit" if bare else f"is not {what}"
        raise UserError(f"{text!r} {problem}", hint=f"write it like {examples}")
    if not float(match[1]):
        raise UserError(
            f"{text!r} would remove everything", hint="`invoke clean` does, and says so"
        )
    return float(match[1]) * units[match[2]]


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _ago(moment: float) -> str:
    hours = max(0.0, time.time() - moment) / 3600
    if hours < 1:
        return "just now"
    return f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"
