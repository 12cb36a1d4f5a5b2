"""What nothing needs any more, out: functions, parameters, variables, dead branches.

Deciding for one release leaves a network namespace that nobody asks, a mark that is always zero,
a branch never taken.  An author writing for that release would not have put them there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tarpit_builder.patching.ctokens import (
    Token,
    TopLevel,
    arguments,
    join,
    matching,
    names,
    skip_blank,
    tokenize,
    top_level,
)

# Looking at something changes nothing, so nothing is lost with an unused result of these.
_PURE = frozenset({"ip_hdr", "ipv6_hdr", "tcp_hdr", "eth_hdr", "sizeof", "dev_net", "htons"})
_TYPE = r"(?:const\s+|unsigned\s+|struct\s+|enum\s+)*\w+"
_DECLARATION = re.compile(
    rf"^\t(?P<type>{_TYPE})[ \t]+(?P<pointer>\**)(?P<name>\w+)(?P<value>\s*=[^;{{}}]*)?;\n",
    re.MULTILINE,
)


def prune(text: str) -> str:
    """*text* without what is static and unused."""
    before = ""
    while before != text:
        before = text
        text = _dead_branches(text)
        text = _unused_items(text)
        text = _unused_parameters(text)
        text = "".join(
            _unused_locals(item.text) if item.kind == "function" else item.text
            for item in top_level(text)
        )
    return "".join(
        _documented(item) if item.kind == "function" else item.text for item in top_level(text)
    )


# -- items -----------------------------------------------------------------------------------


def _unused_items(text: str) -> str:
    parts = top_level(text)
    used = set[str]().union(*(names(item.text) - {item.name} for item in parts))
    return "".join(item.text for item in parts if item.name in used or not _may_go(item))


def _may_go(item: TopLevel) -> bool:
    """Whether *item* is of no use unless something refers to it."""
    if item.is_static or item.kind == "directive":
        return bool(item.name) and item.name != "pr_fmt"
    return re.search(r"\bstruct \w+;\s*\Z", item.text) is not None


# -- parameters ------------------------------------------------------------------------------


def _unused_parameters(text: str) -> str:
    found = Counter(item.name for item in top_level(text) if item.kind == "function")
    for item in top_level(text):
        # What has two bodies, one for each outcome of an #if, keeps what either of them needs.
        if item.kind != "function" or not item.is_static or found[item.name] > 1:
            continue
        tokens = tokenize(item.text)
        start = _parameters(tokens, item.name)
        given, after = arguments(tokens, start)
        body = names(join(tokens[after:]))
        unused = [
            number
            for number, parameter in enumerate(given)
            if (name := _last_name(parameter)) and name != "void" and name not in body
        ]
        if unused and _only_called(text, item.name):
            text = _drop_arguments(text, item.name, unused[0])
    return text


def _parameters(tokens: Sequence[Token], name: str) -> int:
    for at, token in enumerate(tokens):
        if token.text == name:
            after = skip_blank(tokens, at + 1)
            if after < len(tokens) and tokens[after].text == "(":
                return after
    raise ValueError(f"{name} is no function")


def _last_name(tokens: Sequence[Token]) -> str:
    found = [token.text for token in tokens if token.kind == "name"]
    return found[-1] if found else ""


def _only_called(text: str, name: str) -> bool:
    tokens = tokenize(text)
    for at, token in enumerate(tokens):
        if token.kind == "directive" and re.search(rf"\b{name}\b", token.text):
            return False
        if token.kind == "name" and token.text == name:
            after = skip_blank(tokens, at + 1)
            if after == len(tokens) or tokens[after].text != "(":
                return False
    return True


def _drop_arguments(text: str, name: str, number: int) -> str:
    """*text* without the argument *number* (from 0) of *name*, where it is defined and called."""
    tokens = tokenize(text)
    output: list[Token] = []
    at = 0
    while at < len(tokens):
        output.append(tokens[at])
        at += 1
        if output[-1].kind != "name" or output[-1].text != name:
            continue
        start = skip_blank(tokens, at)
        if start == len(tokens) or tokens[start].text != "(":
            continue
        given, after = arguments(tokens, start)
        inside = ", ".join(join(part) for place, part in enumerate(given) if place != number)
        is_definition = tokens[skip_blank(tokens, after)].text == "{"
        output += tokenize(f"({inside or ('void' if is_definition else '')})")
        at = after
    return join(output)


def _documented(item: TopLevel) -> str:
    """The function without what its comment says of parameters that are gone."""
    tokens = tokenize(item.text)
    given, _ = arguments(tokens, _parameters(tokens, item.name))
    there = {_last_name(parameter) for parameter in given}

    def judged(match: re.Match[str]) -> str:
        return match[0] if match[1] in there else ""

    return "".join(
        re.sub(r"^ \* @(\w+):.*\n(?: \* {2,}.*\n)*", judged, token.text, flags=re.MULTILINE)
        if token.text.startswith("/**\n")
        else token.text
        for token in tokens
    )


# -- variables -------------------------------------------------------------------------------


def _unused_locals(text: str) -> str:
    for match in _DECLARATION.finditer(text):
        name = match["name"]
        if not _is_pure(match["value"] or ""):
            continue
        rest = text[: match.start()] + text[match.end() :]
        if match["type"] in {"return", "goto"}:
            continue
        stores = re.compile(rf"^\t+{name} = ([^;]*);\n", re.MULTILINE)
        cleared = stores.sub(lambda store: "" if _is_pure(store[1]) else store[0], rest)
        if name not in names(cleared):
            return _unused_locals(cleared)
    return text


def _is_pure(expression: str) -> bool:
    tokens = tokenize(expression)
    for at, token in enumerate(tokens):
        if token.text in {"++", "--"}:
            return False
        if token.kind == "name" and token.text not in _PURE:
            after = skip_blank(tokens, at + 1)
            if after < len(tokens) and tokens[after].text == "(":
                return False
    return True


# -- branches --------------------------------------------------------------------------------


def _dead_branches(text: str) -> str:
    """Resolve ``if (true)`` and ``if (false)``."""
    while match := re.search(r"^(\t+)if \((true|false)\)", text, re.MULTILINE):
        tokens = tokenize(text[match.end() :])
        then, after = _statement(tokens, 0)
        otherwise = ""
        following = skip_blank(tokens, after)
        if following < len(tokens) and tokens[following].text == "else":
            otherwise, after = _statement(tokens, following + 1)
        chosen = then if match[2] == "true" else otherwise
        rest = join(tokens[after:]).removeprefix("\n")
        text = text[: match.start()] + _dedented(chosen, len(match[1])) + rest
    return text


def _statement(tokens: Sequence[Token], at: int) -> tuple[str, int]:
    """The statement from *at* on, without its braces, and where it ends."""
    start = skip_blank(tokens, at)
    if tokens[start].text == "{":
        end = matching(tokens, start)
        return join(tokens[start + 1 : end]), end + 1
    end = start
    while tokens[end].text != ";":
        end = matching(tokens, end) + 1 if tokens[end].text == "(" else end + 1
    return join(tokens[start : end + 1]), end + 1


def _dedented(block: str, depth: int) -> str:
    """*block*, the first line of which may have lost its indentation, at *depth* tabs."""
    first, *rest = [line for line in block.strip().split("\n") if line.strip()] or [""]
    surplus = min((len(line) - len(line.lstrip("\t")) for line in rest), default=depth) - depth
    lines = [line.removeprefix("\t" * surplus) for line in rest]
    return "".join(f"{line}\n" for line in (["\t" * depth + first] if first else []) + lines)
