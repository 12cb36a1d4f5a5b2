"""The compatibility layer, melted into the source for one release.

Out of the tree, the module is written for the newest kernel and a layer below ``compat/`` makes
every kernel look like it.  In a tree only one kernel is meant, so the layer can go: conditions
are decided, wrappers are written out where they are used, and what is left of the layer, if it is
used at all, becomes part of the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tarpit_builder.patching import conditions
from tarpit_builder.patching.conditions import Symbols
from tarpit_builder.patching.ctokens import TopLevel, names, top_level
from tarpit_builder.patching.macros import Macro, expand

_INCLUDE = re.compile(r'[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]')
_CONDITIONAL = re.compile(r"\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b")


@dataclass(frozen=True, slots=True)
class CompatLayer:
    """What stands between the source and one release.

    *header* is the text of the layer, *includes* the names by which the source includes it;
    *lacks* says which of the system's headers the release does not have, and *substitutes* are
    the texts of those that stand in for them.
    """

    symbols: Symbols
    header: str
    includes: frozenset[str]
    lacks: Callable[[str], bool] = lambda _: False
    substitutes: Sequence[str] = ()


def melt(source: str, layer: CompatLayer) -> str:
    """*source* without *layer*.

    :raises ValueError: if conditionals or brackets of a file are not balanced.
    """
    text, known = _decide(layer)
    symbols = Symbols(layer.symbols.values, layer.symbols.owns, known)
    source, _ = conditions.resolve(source, symbols)

    macros: dict[str, Macro] = {}
    kept: list[TopLevel] = []
    wanted: list[str] = []
    for item in top_level(text):
        directive = item.text.lstrip() if item.kind == "directive" else ""
        if match := _INCLUDE.search(item.text if item.kind == "directive" else ""):
            wanted.append(match[2])
        elif re.search(r"#\s*(undef|include_next|pragma\s+once)\b", directive):
            continue
        elif item.kind == "directive" and item.name:
            define = item.text[item.text.index("#") :]
            if macro := Macro.from_define(define):
                macros[item.name] = macro
            elif define.split(None, 2)[2:]:
                kept.append(item)
        elif macro := Macro.from_typedef(item):
            macros[item.name] = macro
        else:
            if macro := Macro.from_function(item):
                macros[item.name] = macro
            kept.append(item)

    source = expand(source, macros)
    kept = [_expanded(item, macros) for item in kept]
    kept = _reachable(kept, names(source))
    return tidy(_merge(source, _carried(kept), wanted, layer))


def _decide(layer: CompatLayer) -> tuple[str, dict[str, conditions.Known]]:
    """The layer's text with its conditions decided, and the features that it defines."""
    known: dict[str, conditions.Known] = dict(layer.symbols.conditions)
    texts = []
    bodies = [_without_guard(header, keep=True) for header in layer.substitutes]
    for body in [*bodies, _without_guard(layer.header, keep=False)]:
        symbols = Symbols(layer.symbols.values, layer.symbols.owns, known)
        text, found = conditions.resolve(body, symbols)
        known.update(found)
        texts.append(text)
    return "".join(texts), known


def _without_guard(header: str, *, keep: bool) -> str:
    """*header* without its guard; what it says of itself is kept above its first definition."""
    match = re.search(r"^#ifndef (\w+)\n#define \1\b[^\n]*\n", header, re.MULTILINE)
    if not match:
        return header
    comment = re.sub(r"/\* SPDX[^\n]*\n", "", header[: match.start()]) if keep else ""
    body = re.sub(r"#endif[^\n]*\n\s*\Z", "", header[match.end() :])
    includes = re.match(r"(\s*#include[^\n]*\n)*\s*", body)
    end = includes.end() if includes else 0
    return body[:end] + comment + body[end:]


def _expanded(item: TopLevel, macros: dict[str, Macro]) -> TopLevel:
    others = {name: macro for name, macro in macros.items() if name != item.name}
    return TopLevel(item.kind, item.name, expand(item.text, others))


def _reachable(parts: Sequence[TopLevel], used: frozenset[str]) -> list[TopLevel]:
    """Those of *parts* that are used, by the source or by one another, and the conditions."""
    found: set[int] = set()
    grows = True
    while grows:
        grows = False
        for number, item in enumerate(parts):
            if number not in found and item.name in used:
                found.add(number)
                used = used | names(item.text)
                grows = True
    return [
        item
        for number, item in enumerate(parts)
        if number in found
        or (item.kind == "directive" and not item.name and _CONDITIONAL.search(item.text))
    ]


def _carried(kept: Sequence[TopLevel]) -> str:
    """What is left of the layer, as a source file has it."""
    text = ""
    for before, item in zip([None, *kept], kept, strict=False):
        close = before is None or item.kind == before.kind == "directive"
        if item.kind == "directive" and re.search(r"#\s*(else|endif)\b", item.text):
            close = True
        if before is not None and re.search(r"#\s*(if|else)", before.text.rsplit("\n", 1)[-1]):
            close = True
        body = re.sub(r"\A(/\* [\d.]+\b.*?\*/\s*)+", "", item.text.strip("\n"), flags=re.DOTALL)
        text += ("" if close else "\n") + body + "\n"
    return re.sub(r"\bstatic (__always_)?inline\b", "static", text).strip("\n")


def _merge(source: str, carried: str, wanted: Sequence[str], layer: CompatLayer) -> str:
    """Put *carried* behind the includes, and mend those."""
    lines: list[str] = []
    last = 0
    for line in source.splitlines(keepends=True):
        match = _INCLUDE.match(line)
        if match and (match[2] in layer.includes or layer.lacks(match[2])):
            continue
        lines.append(line)
        if match:
            last = len(lines)
    middle = [f"\n{carried}\n"] if carried else []
    text = "".join(lines[:last] + middle + lines[last:])
    for name in wanted:
        if name not in layer.includes and not layer.lacks(name):
            text = with_include(text, name)
    return text


def with_include(text: str, name: str) -> str:
    """*text* that includes *name* of the system, among its neighbours in the alphabet."""
    lines = text.splitlines(keepends=True)
    places = {
        at: match[2]
        for at, line in enumerate(lines)
        if (match := _INCLUDE.match(line)) and match[1] == "<"
    }
    if name in places.values():
        return text
    folder = name.split("/", maxsplit=1)[0]
    beside = {at: other for at, other in places.items() if other.split("/")[0] == folder}
    before = [at for at, other in beside.items() if _order(other) < _order(name)]
    end = max(places, default=-1) + 1
    place = max(before) + 1 if before else min(beside, default=end)
    lines.insert(place, f"#include <{name}>\n")
    return "".join(lines)


def _order(name: str) -> str:
    """As kernel sources sort headers: a folder after the file that it is named like."""
    return name.replace("/", "~").replace(".h", "")


def tidy(text: str) -> str:
    """Close the gaps: empty conditionals, blank lines in a row or beside a brace."""
    before = ""
    while before != text:
        before = text
        text = re.sub(
            r"^#if[^\n]*\n\s*(#else[^\n]*\n\s*)?#endif[^\n]*\n", "", text, flags=re.MULTILINE
        )
        text = re.sub(
            r"^(#if[^\n]*\n(?:(?!#)[^\n]*\n)*?)\s*#else[^\n]*\n\s*(?=#endif)",
            r"\1",
            text,
            flags=re.MULTILINE,
        )
        text = re.sub(r"\n{3,}", "\n\n", text)
        text = re.sub(r"\{\n\n+", "{\n", text)
        text = re.sub(r"\n\n+(\t*\})", r"\n\1", text)
    return text.strip("\n") + "\n"
