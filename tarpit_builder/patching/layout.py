"""Lines of at most 80 columns, continued as in the kernel: below the open parenthesis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tarpit_builder.patching.ctokens import Token, join, tokenize

WIDTH = 80
TAB = 8

_BREAK_AFTER = frozenset({",", "&&", "||", "?", ":", "=", "+", "|", "&", "-"})
_COSTS = {",": 0, "&&": 0, "||": 0, "?": 1, ":": 1, "=": 6, "+": 3, "|": 2, "&": 3, "-": 3}


def relaid(text: str, originals: Iterable[str], *, split: bool = True) -> str:
    """*text* with the statements laid out anew that are in none of *originals*, or too wide.

    :param split: whether a string may go on in the next line.
    """
    known = {_squeezed(statement) for original in originals for statement in _statements(original)}
    return "".join(
        statement
        if _squeezed(statement) in known and not (split and _too_wide(statement))
        else _laid_out(statement, split=split)
        for statement in _statements(text)
    )


def _squeezed(statement: str) -> str:
    return re.sub(r"\s+", " ", statement).strip()


def _statements(text: str) -> list[str]:
    """*text* cut after lines that end a statement, a heading, a comment or a directive."""
    found: list[str] = []
    pending: list[Token] = []
    depth = 0
    for token in tokenize(text):
        if token.kind == "space" and "\n" in token.text:
            end = _ends(pending, depth)
            head, _, tail = token.text.partition("\n")
            pending.append(Token("space", head + "\n"))
            if end:
                found.append(join(pending))
                pending = []
            if tail:
                pending.append(Token("space", tail))
            continue
        if token.kind == "punct":
            depth += (token.text in "([") - (token.text in ")]")
        pending.append(token)
    if pending:
        found.append(join(pending))
    return found


def _ends(pending: list[Token], depth: int) -> bool:
    words = [token for token in pending if token.kind != "space"]
    if not words:
        return True
    if depth:
        return False
    last = words[-1]
    return (
        last.kind in {"comment", "directive"}
        or last.text in {";", "{", "}", ":", ")", "else"}
        or (last.text == "," and depth == 0)
    )


def _laid_out(statement: str, *, split: bool) -> str:
    body = statement.lstrip("\n")
    lead = statement[: len(statement) - len(body)]
    tokens = tokenize(body)
    if any(token.kind in {"comment", "directive"} for token in tokens) or "= {" in body:
        return statement
    # What is one line stays so, and so does a text in lines of its own.
    if not _too_wide(body) and ("\n" not in body.rstrip("\n") or re.search(r'"\n\s*"', body)):
        return statement
    indent = re.match(r"\t*", body)[0]  # type: ignore[index]
    words = _collapsed(tokens)
    single = indent + join(words)
    if _columns(single) <= WIDTH:
        return f"{lead}{single}\n"
    if not indent and (parts := re.match(r"((?:\w+ )+(?:\* ?)?)(\w+\(.*)", join(words))):
        # A function that does not fit: its type on a line of its own, if that helps.
        whole = _wrapped(tokenize(join(words)), "")
        if _too_wide(whole) or whole.count("\n") > 3:
            rest = _wrapped(tokenize(parts[2]), "")
            return f"{lead}{parts[1].rstrip()}\n{rest}\n"
        return f"{lead}{whole}\n"
    whole = _wrapped(words, indent, split=split)
    if _too_wide(whole) and (parts := re.match(r"(\t*[\w>.-]+ =) (.*)", single)):
        rest = _wrapped(tokenize(parts[2]), indent + "\t")
        whole = whole if _too_wide(rest) else f"{parts[1]}\n{rest}"
    return f"{lead}{whole}\n"


def _too_wide(text: str) -> bool:
    return any(_columns(line) > WIDTH for line in text.split("\n"))


def _collapsed(tokens: Sequence[Token]) -> tuple[Token, ...]:
    text = "".join(" " if token.kind == "space" else token.text for token in tokens).strip()
    text = re.sub(r"\( (?=\S)", "(", text)
    return tokenize(re.sub(r"(?<=[(\[]) | (?=[)\]])", "", text))


def _wrapped(tokens: Sequence[Token], indent: str, *, split: bool = False) -> str:
    """One statement over several lines, each as full as the cheapest place to break allows."""
    lines: list[str] = []
    margin = indent
    while tokens:
        end = _fitting(tokens, margin)
        if split and _columns(margin + join(tokens[:end]).rstrip()) > WIDTH:
            tokens, end = _split(tokens, end, margin)
        line = margin + join(tokens[:end]).rstrip()
        lines.append(line)
        tokens = tokens[end:]
        while tokens and tokens[0].kind == "space":
            tokens = tokens[1:]
        if tokens:
            margin = _margin(lines, indent)
    return "\n".join(lines)


def _fitting(tokens: Sequence[Token], margin: str) -> int:
    """How many of *tokens* go on one line."""
    column = _columns(margin)
    depth = 0
    places: list[tuple[int, int]] = []
    for at, token in enumerate(tokens):
        column += len(token.text)
        if column > WIDTH and places:
            cheapest = min(cost for cost, _ in places)
            return max(place for cost, place in places if cost == cheapest)
        if token.kind == "punct":
            depth += (token.text in "([") - (token.text in ")]")
            spaced = at + 1 < len(tokens) and tokens[at + 1].kind == "space"
            if token.text in _BREAK_AFTER and spaced:
                if column > WIDTH:
                    return at + 1
                places.append((4 * max(depth, 0) + _COSTS[token.text], at + 1))
    return len(tokens)


def _split(tokens: Sequence[Token], end: int, margin: str) -> tuple[Sequence[Token], int]:
    """*tokens* with the string in two that leads over the edge, and how many go on the line.

    What is quoted within the string stays in one piece.
    """
    strings = [at for at in range(end) if tokens[at].kind == "string"]
    for at in strings:
        text = tokens[at].text
        column = _columns(margin + join(tokens[:at]))
        if column + len(text) > WIDTH or at == strings[-1]:
            blanks = [
                cut + 1 for cut in range(min(WIDTH - column, len(text)) - 1) if text[cut] == " "
            ]
            for cut in reversed([cut for cut in blanks if text.count('\\"', 0, cut) % 2 == 0]):
                halves = (text[:cut] + '"', '"' + text[cut:])
                strings_ = [Token("string", half) for half in halves]
                return [*tokens[:at], *strings_, *tokens[at + 1 :]], at + 1
    return tokens, end


def _margin(lines: list[str], indent: str) -> str:
    """Where the next line begins: behind the innermost parenthesis that is open."""
    open_at: list[int] = []
    for line in lines:
        column = 0
        for token in tokenize(line):
            if token.kind == "punct" and token.text in "([":
                open_at.append(column + 1)
            elif token.kind == "punct" and token.text in ")]":
                open_at.pop()
            column = _columns(token.text, column)
    if open_at:
        column = open_at[-1]
        return "\t" * (column // TAB) + " " * (column % TAB)
    if re.match(r"\s*return\b", lines[0]):
        column = _columns(indent) + len("return ")
        return "\t" * (column // TAB) + " " * (column % TAB)
    return indent + "\t"


def _columns(text: str, start: int = 0) -> int:
    column = start
    for character in text:
        column += TAB - column % TAB if character == "\t" else 1
    return column
