"""C as a sequence of tokens that joins to the same bytes, and as top-level items."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Kind = Literal["comment", "string", "directive", "name", "painted", "number", "space", "punct"]
"""``painted`` is a name that macro expansion has to leave alone from now on."""

_TOKEN = re.compile(
    r"""
      (?P<comment>/\*.*?\*/|//[^\n]*)
    | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    | (?P<directive>^[ \t]*\#(?:\\\n|/\*.*?\*/|[^\n])*)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
    | (?P<space>\s+)
    | (?P<punct>->|\+\+|--|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||\.\.\.|[-+*/%&|^]=|\#\#|.)
    """,
    re.DOTALL | re.MULTILINE | re.VERBOSE,
)

_OPEN = {"(": ")", "[": "]", "{": "}"}
_CLOSE = frozenset(_OPEN.values())


@dataclass(frozen=True, slots=True)
class Token:
    """One token; *text* is exactly what the source has."""

    kind: Kind
    text: str

    @property
    def is_blank(self) -> bool:
        """Whether the compiler does not see it."""
        return self.kind in {"space", "comment"}


@lru_cache(maxsize=4096)
def tokenize(text: str) -> tuple[Token, ...]:
    """The tokens of *text*; their texts join to it again."""
    return tuple(Token(match.lastgroup, match[0]) for match in _TOKEN.finditer(text))  # type: ignore[arg-type]


def join(tokens: Iterable[Token]) -> str:
    """The source that *tokens* came from."""
    return "".join(token.text for token in tokens)


@lru_cache(maxsize=1024)
def names(text: str) -> frozenset[str]:
    """All identifiers in *text*, those in directives, too, but not in comments and strings."""
    found: set[str] = set()
    for token in tokenize(text):
        if token.kind == "name":
            found.add(token.text)
        elif token.kind == "directive" and not re.match(r"\s*#\s*include", token.text):
            found.update(re.findall(r"[A-Za-z_]\w*", token.text))
    return frozenset(found)


def skip_blank(tokens: Sequence[Token], at: int) -> int:
    """The index of the first token from *at* on that the compiler sees."""
    while at < len(tokens) and tokens[at].is_blank:
        at += 1
    return at


def matching(tokens: Sequence[Token], at: int) -> int:
    """The index of the bracket that closes the one at *at*.

    :raises ValueError: if there is none.
    """
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index].kind == "punct":
            depth += (tokens[index].text in _OPEN) - (tokens[index].text in _CLOSE)
            if depth == 0:
                return index
    raise ValueError(f"{tokens[at].text!r} is never closed")


def imbalance(text: str) -> tuple[int, str] | None:
    """The line (1-based) of the file *text* where something opens or closes alone, and what.

    A brace at the beginning of a line belongs to no function around it, so that one that is
    missing is looked for in the function that lacks it.
    """
    balance = _Balance()
    try:
        for token in tokenize(text):
            balance.take(token)
        balance.end()
    except _ImbalanceError as found:
        return found.line, str(found)
    return None


class _ImbalanceError(Exception):
    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


class _Balance:
    """What is open: brackets and conditionals, each with its line, and what either branch found."""

    def __init__(self) -> None:
        self.line = 1
        self.begins = True  # a line, with the next token
        self.brackets: list[tuple[str, int]] = []
        self.conditionals: list[tuple[int, list[tuple[str, int]]]] = []

    def take(self, token: Token) -> None:
        if token.text in {'"', "'"} or (token.kind == "comment" and "/*" in token.text[2:]):
            raise _ImbalanceError(
                self.line, f"a {token.kind.replace('punct', 'string')} has no end"
            )
        if token.kind == "directive":
            self.direct(re.findall(r"\w+", token.text)[0])
        elif token.kind == "punct" and token.text in _OPEN:
            if token.text == "{" and self.begins:
                self.end_of_brackets()
            self.brackets.append((token.text, self.line))
        elif token.kind == "punct" and token.text in _CLOSE:
            if not self.brackets:
                raise _ImbalanceError(self.line, f"{token.text!r} closes nothing")
            if self.begins:
                self.end_of_brackets(1)
            if _OPEN[self.brackets[-1][0]] != token.text:
                self.end_of_brackets()
            self.brackets.pop()
        self.line += token.text.count("\n")
        self.begins = token.text.endswith("\n")

    def direct(self, word: str) -> None:
        """Each branch begins with what was open before the first, and the last one counts."""
        if word in {"if", "ifdef", "ifndef"}:
            self.conditionals.append((self.line, list(self.brackets)))
        elif word in {"else", "elif", "endif"} and not self.conditionals:
            raise _ImbalanceError(self.line, f"#{word} without #if")
        elif word == "endif":
            self.conditionals.pop()
        elif word in {"else", "elif"}:
            self.brackets = list(self.conditionals[-1][1])

    def end(self) -> None:
        if self.conditionals:
            raise _ImbalanceError(self.conditionals[-1][0], "#if without #endif")
        self.end_of_brackets()

    def end_of_brackets(self, depth: int = 0) -> None:
        if len(self.brackets) > depth:
            bracket, line = self.brackets[-1]
            raise _ImbalanceError(line, f"{bracket!r} is never closed")


def arguments(tokens: Sequence[Token], at: int) -> tuple[list[list[Token]], int]:
    """The arguments between the parenthesis at *at* and its end, and the index after it."""
    end = matching(tokens, at)
    found: list[list[Token]] = [[]]
    depth = 0
    for token in tokens[at + 1 : end]:
        if token.kind == "punct":
            depth += (token.text in _OPEN) - (token.text in _CLOSE)
            if token.text == "," and depth == 0:
                found.append([])
                continue
        found[-1].append(token)
    stripped = [_strip(argument) for argument in found]
    return ([] if stripped == [[]] else stripped), end + 1


def _strip(tokens: list[Token]) -> list[Token]:
    first, last = 0, len(tokens)
    while first < last and tokens[first].kind == "space":
        first += 1
    while last > first and tokens[last - 1].kind == "space":
        last -= 1
    return tokens[first:last]


@dataclass(frozen=True, slots=True)
class TopLevel:
    """A function, declaration or directive of a file, with the comment and space before it.

    *name* is what a function, variable, structure or macro is called; ``""`` for anything else.
    """

    kind: Literal["function", "declaration", "directive", "rest"]
    name: str
    text: str

    @property
    def is_static(self) -> bool:
        """Whether nothing outside the file can refer to it."""
        words = [token.text for token in tokenize(self.text) if token.kind == "name"]
        return self.kind in {"function", "declaration"} and words[:1] == ["static"]


@lru_cache(maxsize=256)
def top_level(text: str) -> tuple[TopLevel, ...]:
    """The top-level items of *text*; their texts join to it again."""
    found: list[TopLevel] = []
    pending: list[Token] = []
    tokens = tokenize(text)
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "directive" and not any(not token.is_blank for token in pending):
            text = join(pending) + token.text
            found.append(TopLevel("directive", _defined(token.text), text))
            pending = []
            at += 1
        elif token.text in {"{", "("}:
            end = matching(tokens, at)
            is_body = token.text == "{" and _last(pending) == ")"
            pending += tokens[at : end + 1]
            at = end + 1
            if is_body:
                found.append(TopLevel("function", _function_name(pending), join(pending)))
                pending = []
        elif token.text == ";":
            pending.append(token)
            found.append(TopLevel("declaration", _declared(pending), join(pending)))
            pending = []
            at += 1
        else:
            pending.append(token)
            at += 1
    if pending:
        found.append(TopLevel("rest", "", join(pending)))
    return tuple(found)


def _last(tokens: Sequence[Token]) -> str:
    return next((token.text for token in reversed(tokens) if not token.is_blank), "")


def _defined(directive: str) -> str:
    match = re.match(r"\s*#\s*define\s+(\w+)", directive)
    return match[1] if match else ""


def _function_name(tokens: Sequence[Token]) -> str:
    name = ""
    for token in tokens:
        if token.text == "(" and name not in {"__attribute__", "__aligned"}:
            break
        if token.kind == "name":
            name = token.text
    return name


def _declared(tokens: Sequence[Token]) -> str:
    words = [token for token in tokens if not token.is_blank]
    texts = [token.text for token in words]
    if texts[:1] == ["struct"] and "{" in texts[:3]:
        return texts[1] if texts[1] != "{" else ""
    if "(" in texts and "=" not in texts and "{" not in texts:
        return _function_name(words)
    name = ""
    for token in words:
        if token.text in {"=", "[", ";", "{"}:
            break
        if token.kind == "name" and not token.text.startswith("__"):
            name = token.text
    return name
