"""From ``matrix.toml`` to cells; no I/O beyond that file and the catalogue."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from tarpit_builder import architectures, kernels, paths
from tarpit_builder.console import format_table
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules
from tarpit_builder.kernels.apt import FLAVOURS
from tarpit_builder.kernels.kernel import IN_TREE, Origin
from tarpit_builder.request import Request
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.versions import IptablesVersion, KernelVersion, suggest

FILE = paths.PROJECT / "matrix.toml"
SHARD = re.compile(r"(\d{1,4})/(\d{1,4})", re.ASCII)
TAKES = ("first", "last", "all")
PARTICULAR = {"iptables": "iptables", "in-tree": "iptables", "flavours": "flavour"}
"""Keys that not every origin knows, and the field of a request that tells."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination: what to build, and its limits.

    *minutes* until it is stopped, *memory* in MiB; *allowed* why it may fail, ``""`` if it may not.
    With *in_tree*, ``m`` or ``y``, what is booted has TARPIT in its own tree, by the patch.
    """

    request: Request
    minutes: float = 30
    memory: int = 2048
    allowed: str = ""
    in_tree: str = ""

    @property
    def name(self) -> str:
        """What it is called everywhere; fit for a file and a CI job."""
        request = self.request
        parts = [request.kernel.replace(":", "-").replace("/", "-")]
        if not architectures.of_kernel(request.kernel):
            parts += [request.flavour, request.arch]
        if request.iptables:
            parts.append(f"iptables-{request.iptables}")
        if self.in_tree:
            parts.append(f"in-tree-{self.in_tree}")
        return "-".join(filter(None, parts))

    @property
    def origin(self) -> Origin:
        """Whose kernel it is."""
        return kernels.origin(self.request.kernel)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows ``invoke build`` and ``invoke verify``."""
        return self.request.words()

    @property
    def checks(self) -> tuple[str, ...]:
        """What follows those of ``invoke verify``."""
        return ("--in-tree", self.in_tree) if self.in_tree else ()


def read(file: Path | None = None, catalogue: Catalogue | None = None) -> tuple[Cell, ...]:
    """The cells of *file*, in its order, each once.

    :raises UserError: naming the block that is wrong, or that nothing is named at all.
    """
    file = file or FILE
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"{file} cannot be read: {error}", hint="compare it with the matrix.toml of the project"
        ) from error
    try:
        return expand(data, catalogue or Catalogue.load())
    except UserError as error:
        raise UserError(f"{file.name}: {error.message}", hint=error.hint) from error


def expand(data: Mapping[str, Any], catalogue: Catalogue) -> tuple[Cell, ...]:
    """The cells of a matrix *data*.

    :raises UserError: as :func:`read`.
    """
    _known_keys("the file", data, ("limits", "build", "allow"))
    limits = _table(data, "limits")
    _known_keys("[limits]", limits, ("minutes", "memory"))
    cells: dict[str, Cell] = {}
    for number, block in enumerate(_blocks(data, "build"), 1):
        for cell in _block(f"[[build]] number {number}", {**limits, **block}, catalogue):
            cells.setdefault(cell.name, cell)
    if not cells:
        raise UserError("the matrix names nothing to build", hint="add a [[build]] with `kernels`")
    for block in _blocks(data, "allow"):
        _known_keys("[[allow]]", block, ("cells", "reason"))
        pattern, reason = _text(block, "cells"), _text(block, "reason")
        chosen = fnmatch.filter(cells, pattern)
        if not chosen:
            raise UserError(
                f"[[allow]] {pattern!r} fits no cell",
                hint="remove it, or see the names with `invoke matrix`",
            )
        for name in chosen:
            cells[name] = replace(cells[name], allowed=reason)
    return tuple(cells.values())


def select(cells: Sequence[Cell], only: Iterable[str], shard: str) -> tuple[Cell, ...]:
    """Those of *cells* that fit a pattern of *only* (all without one), then the part *shard*.

    Cells are dealt out in turn, so that shards are of equal length and mixed kinds.

    :raises UserError: if a pattern fits nothing, or *shard* is not of the form 3/10, or is empty.
    """
    patterns = tuple(only)
    for pattern in patterns:
        if not fnmatch.filter([cell.name for cell in cells], pattern):
            near = suggest(pattern, [cell.name for cell in cells])
            raise UserError(
                f"no cell of the matrix is called {pattern!r}",
                hint=f"did you mean {' or '.join(near)}?"
                if near
                else "`invoke matrix` lists them; patterns such as '*-i386-*' do",
            )
    chosen = [
        cell
        for cell in cells
        if not patterns or any(fnmatch.fnmatchcase(cell.name, pattern) for pattern in patterns)
    ]
    if not shard:
        return tuple(chosen)
    match = SHARD.fullmatch(shard)
    part, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= part <= parts:
        raise UserError(f"--shard {shard!r} is no part of anything", hint="write it like 3/10")
    if part > len(chosen):
        raise UserError(
            f"--shard {shard} is empty: there are only {len(chosen)} cells",
            hint=f"make at most {len(chosen)} shards",
        )
    return deal(chosen, part, parts)


def deal(cells: Sequence[Cell], part: int, parts: int) -> tuple[Cell, ...]:
    """The part number *part* (from 1) of *cells*, dealt out in turn."""
    return tuple(cells[part - 1 :: parts])


def overview(cells: Sequence[Cell]) -> str:
    """The cells for people."""
    rows = [
        (
            cell.name,
            " ".join(["invoke build", *cell.arguments]),
            f"{cell.minutes:g} min",
            f"may fail: {cell.allowed}" if cell.allowed else "",
        )
        for cell in cells
    ]
    table = format_table(rows, header=("cell", "command", "limit", ""))
    return f"{table}\n\n{len(cells)} cells; --run builds them"


def _block(where: str, block: Mapping[str, Any], catalogue: Catalogue) -> Iterable[Cell]:
    keys = ("kernels", "take", "arch", "flavours", "iptables", "in-tree", "minutes", "memory")
    _known_keys(where, block, keys)
    take = block.get("take", "first")
    if take not in TAKES:
        raise UserError(f"{where}: take = {take!r} is not known", hint=f"there are {_list(TAKES)}")
    minutes, memory = (_number(where, block, key) for key in ("minutes", "memory"))
    for name in _texts(where, block, "kernels"):
        origin, found = _kernels(name, take, catalogue)
        for key, field in PARTICULAR.items():
            if key in block and field not in origin.takes:
                raise UserError(
                    f"{where}: there is no choice of `{key}` for {name}",
                    hint=f"leave `{key}` out, or give other kernels a block of their own",
                )
        combinations = product(
            found,
            _architectures(where, block, origin),
            _flavours(where, block),
            _iptables(where, block, catalogue),
            _in_tree(where, block, found),
        )
        for kernel, arch, flavour, iptables, in_tree in combinations:
            request = Request(kernel, arch, flavour, iptables)
            yield Cell(request, minutes=minutes, memory=memory, in_tree=in_tree)


def _in_tree(where: str, block: Mapping[str, Any], kernels: Iterable[str]) -> tuple[str, ...]:
    if "in-tree" not in block:
        return ("",)
    wanted = _texts(where, block, "in-tree")
    if unknown := set(wanted) - set(IN_TREE):
        raise UserError(
            f"{where}: in-tree = {min(unknown)!r} is not known",
            hint=f"there are {_list(tuple(IN_TREE))}",
        )
    for kernel in kernels:
        if rules.patch(KernelVersion.parse(kernel)) is None:
            raise UserError(
                f"{where}: no patch is kept for the tree of Linux {kernel}",
                hint="`invoke kernels --all` shows which releases have one",
            )
    return wanted


def _kernels(name: str, take: str, catalogue: Catalogue) -> tuple[Origin, tuple[str, ...]]:
    """What *name* stands for, and whose that is."""
    *others, last = reversed(kernels.origins())
    for origin in others:
        if found := origin.expand(name, take, catalogue):
            return origin, found
    return last, last.expand(name, take, catalogue)


def _architectures(where: str, block: Mapping[str, Any], origin: Origin) -> tuple[str, ...]:
    known = origin.architectures
    wanted = _texts(where, block, "arch", (known[0],))
    for arch in wanted:
        if arch not in known:
            raise UserError(
                f"{where}: architecture {arch!r} is not supported for these kernels",
                hint=f"supported: {_list(known)}",
            )
    return wanted


def _flavours(where: str, block: Mapping[str, Any]) -> tuple[str, ...]:
    wanted = _texts(where, block, "flavours", ("default",))
    for flavour in wanted:
        if not flavour or not FLAVOURS.fullmatch(flavour):
            raise UserError(
                f"{where}: {flavour!r} is no kernel flavour", hint="there are default, cloud, rt"
            )
    return tuple("" if flavour == "default" else flavour for flavour in wanted)


def _iptables(where: str, block: Mapping[str, Any], catalogue: Catalogue) -> tuple[str, ...]:
    wanted = _texts(where, block, "iptables", ("",))
    for name in wanted:
        if name in {"", "none"}:
            continue
        version = IptablesVersion.parse(name, map(str, catalogue.iptables))
        rules.iptables(version)
        if version not in catalogue.iptables:
            near = suggest(name, map(str, catalogue.iptables))
            raise UserError(
                f"{where}: there is no iptables {version} in the catalogue",
                hint=f"did you mean {' or '.join(near)}?" if near else "write it like 1.4.0",
            )
    return wanted


def _known_keys(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            near = suggest(key, known)
            raise UserError(
                f"{where} has an unknown key {key!r}",
                hint=f"did you mean {near[0]}?" if near else f"there are {_list(known)}",
            )


def _table(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, Mapping):
        raise UserError(f"{key!r} is no table", hint=f"write it as [{key}]")
    return value


def _blocks(data: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    value = data.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise UserError(f"{key!r} is no list of tables", hint=f"write it as [[{key}]]")
    return value


def _text(block: Mapping[str, Any], key: str) -> str:
    value = block.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"[[allow]] needs a text for {key!r}", hint="see the head of matrix.toml")
    return value


def _texts(
    where: str, block: Mapping[str, Any], key: str, default: tuple[str, ...] = ()
) -> tuple[str, ...]:
    value = block.get(key, list(default))
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items) or not items:
        raise UserError(
            f"{where}: {key!r} names nothing", hint=f'write it as {key} = "…" or {key} = ["…", "…"]'
        )
    return tuple(dict.fromkeys(items))


def _number(where: str, block: Mapping[str, Any], key: str) -> int:
    value = block.get(key, Cell.__dataclass_fields__[key].default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(
            f"{where}: {key} = {value!r} is no positive number", hint="write it in digits"
        )
    return value


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
