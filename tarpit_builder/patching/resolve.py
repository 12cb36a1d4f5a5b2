"""The compatibility layer, melted into the source for one release.

Out of the tree, the module is written for the newest kernel and a layer below ``compat/`` makes
every kernel look like it.  In a tree only one kernel is meant, so the layer can go: conditions
are decided, wrappers are written out where they are used, and what is left of the layer, if it is
used at all, becomes part of the file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tarpit_builder.patching import conditions
from tarpit_builder.patching.conditions import Symbols
from tarpit_builder.patching.ctokens import TopLevel, names, tokenize, top_level
from tarpit_builder.patching.macros import Macro, expand

_INCLUDE = re.compile(r'[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]')
_CONDITIONAL = re.compile(r"\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b")

_OFTEN = 4  # a function that is named more often, its definition included, is worth having


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
    carried: list[TopLevel] = []
    wanted: list[str] = []
    uses = Counter(token.text for token in tokenize(source + text) if token.kind == "name")
    for item in map(_without_orphans, top_level(text)):
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
                carried.append(item)
        elif macro := Macro.from_typedef(item):
            macros[item.name] = macro
        else:
            macro = Macro.from_function(item) if uses[item.name] <= _OFTEN else None
            if macro:
                macros[item.name] = macro
            carried.append(item)

    source = expand(source, macros)
    carried = _reachable([_expanded(item, macros) for item in carried], names(source))
    return tidy(_merge(source, carried, wanted, layer))


def with_core(source: str, name: str, core: str) -> str:
    """*source* with the text of its header *core*, called *name*, in place of the line for it."""
    body = _without_guard(core, keep=False)
    for line in re.findall(r"^#include <([^>]+)>\n", body, re.MULTILINE):
        source = with_include(source, line)
    body = re.sub(r"^#include <[^>]+>\n", "", body, flags=re.MULTILINE).strip("\n")
    return source.replace(f'#include "{name}"\n', f"{body}\n")


def _without_orphans(item: TopLevel) -> TopLevel:
    """*item* without comments above it that stand apart: what they were about is gone."""
    lead = re.match(r"(?:\s|/\*.*?\*/|//[^\n]*\n)*", item.text, re.DOTALL)
    apart = lead[0].rfind("\n\n") + 1 if lead else 0
    return TopLevel(item.kind, item.name, item.text[apart:])


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


def _written(parts: Sequence[TopLevel]) -> str:
    """*parts* of the layer, as a source file has them."""
    text = ""
    for before, item in zip([None, *parts], parts, strict=False):
        close = before is None or item.kind == before.kind == "directive"
        if item.kind == "directive" and re.search(r"#\s*(else|endif)\b", item.text):
            close = True
        if before is not None and re.search(r"#\s*(if|else)", before.text.rsplit("\n", 1)[-1]):
            close = True
        body = re.sub(r"\A(/\* [\d.]+\b.*?\*/\s*)+", "", item.text.strip("\n"), flags=re.DOTALL)
        text += ("" if close else "\n") + body + "\n"
    return re.sub(r"\bstatic (__always_)?inline\b", "static", text).strip("\n")


def _merge(
    source: str, carried: Sequence[TopLevel], wanted: Sequence[str], layer: CompatLayer
) -> str:
    """Put what is *carried* over into its places, constants before functions; mend the includes."""
    constants, functions = _sorted(carried)
    lines: list[str] = []
    last = 0
    for line in _with_functions(source, functions).splitlines(keepends=True):
        match = _INCLUDE.match(line)
        if match and (match[2] in layer.includes or layer.lacks(match[2])):
            continue
        lines.append(line)
        if match:
            last = len(lines)
    middle = [f"\n{_written(constants)}\n"] if constants else []
    text = "".join(lines[:last] + middle + lines[last:])
    for name in wanted:
        if name not in layer.includes and not layer.lacks(name):
            text = with_include(text, name)
    return text


def _sorted(parts: Sequence[TopLevel]) -> tuple[list[TopLevel], list[TopLevel]]:
    """Macros and types of *parts* that depend on no condition, and all the rest."""
    constants: list[TopLevel] = []
    functions: list[TopLevel] = []
    depth = 0
    for item in parts:
        is_constant = item.kind == "directive" or (
            item.kind == "declaration" and not item.is_static
        )
        depth += _depth(item)
        (constants if is_constant and item.name and not depth else functions).append(item)
    return constants, functions


def _with_functions(source: str, functions: Sequence[TopLevel]) -> str:
    """*source* with *functions* above its first; behind the includes if it has none."""
    if not functions:
        return source
    before = outside = behind = ""
    depth = 0
    for item in top_level(source):
        outside = outside if depth else before
        depth += _depth(item)
        if item.kind == "function":
            break
        before += item.text
        behind = before if item.kind == "directive" and _INCLUDE.search(item.text) else behind
    else:
        outside = behind
    return f"{outside}\n\n{_written(functions)}\n{source[len(outside) :]}"


def _depth(item: TopLevel) -> int:
    """By how much conditionals are deeper after *item* than before."""
    match = _CONDITIONAL.search(item.text) if item.kind == "directive" and not item.name else None
    return (match[1].startswith("if") - (match[1] == "endif")) if match else 0


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
    folder = name.rpartition("/")[0]
    beside = {at: other for at, other in places.items() if other.rpartition("/")[0] == folder}
    if not beside:
        above = folder.split("/")[0]
        beside = {at: other for at, other in places.items() if other.split("/")[0] == above}
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
