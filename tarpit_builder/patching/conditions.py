"""``#if`` with some symbols known: what is decided goes, what is not stays, simplified.

The same job as unifdef(1), in a form that also tells under which of the remaining conditions a
macro was defined, so that ``#ifdef FEATURE`` can become the condition that FEATURE stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

_WORD = re.compile(r"\s*(&&|\|\||[=!]=|[<>]=?|!|\(|\)|\w+|.)")
_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*(\w+)[ \t]*(.*)", re.DOTALL)
_DEFINE = re.compile(r"(\w+)(\([^)]*\))?\s*(.*)", re.DOTALL)

Known = bool | str
"""A condition: decided, or the text that is left of it."""


@dataclass(frozen=True, slots=True)
class Symbols:
    """What is known of preprocessor symbols.

    *values* are those that are defined, ``owns`` says of which names all is known: one that is
    owned and not in *values* is not defined.  *conditions* stand for symbols that are defined
    exactly where another condition holds.
    """

    values: Mapping[str, str]
    owns: Callable[[str], bool]
    conditions: Mapping[str, Known] = field(default_factory=dict)

    def defined(self, name: str) -> Known:
        """Whether *name* is defined, or the condition to ask instead."""
        if name in self.conditions:
            return self.conditions[name]
        if name in self.values:
            return True
        return False if self.owns(name) else f"defined({name})"

    def value(self, name: str) -> Known:
        """What *name* means in an ``#if``."""
        if name in self.values:
            text = self.values[name].strip() or "0"
            return bool(int(text, 0)) if re.fullmatch(r"\w+", text) and text[0].isdigit() else text
        return False if self.owns(name) else name


def evaluate(text: str, symbols: Symbols) -> Known:
    """The condition *text*, decided as far as *symbols* allow."""
    words = _WORD.findall(re.sub(r"/\*.*?\*/", " ", text.replace("\\\n", " ")))
    result = _Parser([word for word in words if word.strip()], symbols)
    return result.disjunction()


class _Parser:
    def __init__(self, words: list[str], symbols: Symbols) -> None:
        self.words = words
        self.at = 0
        self.symbols = symbols

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def take(self) -> str:
        word = self.peek()
        self.at += 1
        return word

    def disjunction(self) -> Known:
        parts = [self.conjunction()]
        while self.peek() == "||":
            self.take()
            parts.append(self.conjunction())
        return either(*parts)

    def conjunction(self) -> Known:
        parts = [self.comparison()]
        while self.peek() == "&&":
            self.take()
            parts.append(self.comparison())
        return both(*parts)

    def comparison(self) -> Known:
        left = self.unary()
        if self.peek() not in {"==", "!=", "<", ">", "<=", ">="}:
            return left
        operator, right = self.take(), self.unary()
        return f"{_number(left)} {operator} {_number(right)}"

    def unary(self) -> Known:
        word = self.take()
        if word == "!":
            return negation(self.unary())
        if word == "(":
            inner = self.disjunction()
            self.take()
            return inner
        if word == "defined":
            name = self.take()
            if name == "(":
                name = self.take()
                self.take()
            return self.symbols.defined(name)
        if word.isdigit():
            return bool(int(word))
        if self.peek() == "(":
            return self.call(word)
        return self.symbols.value(word)

    def call(self, name: str) -> Known:
        depth, text = 0, name
        while True:
            word = self.take()
            depth += (word == "(") - (word == ")")
            text += word + (" " if word == "," else "")
            if depth == 0 or not word:
                return text


def _number(value: Known) -> str:
    return value if isinstance(value, str) else str(int(value))


def negation(condition: Known) -> Known:
    """Where *condition* does not hold."""
    if isinstance(condition, bool):
        return not condition
    if re.fullmatch(r"!(defined\(\w+\)|\w+\([^()]*\)|\w+)", condition):
        return condition[1:]
    return f"!{condition}" if _is_atom(condition) else f"!({condition})"


def both(*conditions: Known) -> Known:
    """Where all of *conditions* hold."""
    if False in conditions:
        return False
    return _joined(conditions, "&&", "||") or True


def either(*conditions: Known) -> Known:
    """Where any of *conditions* holds."""
    if True in conditions:
        return True
    return _joined(conditions, "||", "&&") or False


def _joined(conditions: Iterable[Known], operator: str, other: str) -> str:
    left = list(dict.fromkeys(part for part in conditions if isinstance(part, str)))
    if len(left) > 1:
        left = [f"({part})" if other in _outside(part) else part for part in left]
    return f" {operator} ".join(left)


def _is_atom(condition: str) -> bool:
    return re.fullmatch(r"!?(defined\(\w+\)|\w+\([^()]*\)|\w+)", condition) is not None


def _outside(condition: str) -> str:
    """What of *condition* is in no parentheses."""
    before = ""
    while before != condition:
        before, condition = condition, re.sub(r"\([^()]*\)", "", condition)
    return condition


@dataclass(slots=True)
class _Branch:
    """An ``#if`` that is open: its conditions so far, and whether it is still written out."""

    enclosing: Known
    taken: Known
    condition: Known
    written: bool


def resolve(text: str, symbols: Symbols) -> tuple[str, dict[str, Known]]:
    """*text* without the conditionals that *symbols* decide.

    Also says of each macro that *text* itself defines, and *symbols* own, under which condition
    that is: definitions count for the lines below them, as they do for the compiler.

    :raises ValueError: if conditionals are not balanced.
    """
    features: dict[str, Known] = dict(symbols.conditions)
    known = Symbols(symbols.values, symbols.owns, features)
    open_: list[_Branch] = []
    output: list[str] = []

    def now() -> Known:
        return both(open_[-1].enclosing, open_[-1].condition) if open_ else True

    for line in _logical_lines(text):
        match = _DIRECTIVE.match(line)
        keyword = match[1] if match else ""
        rest = match[2].rstrip("\n") if match else ""
        if keyword in {"if", "ifdef", "ifndef"}:
            condition = _condition(keyword, rest, known)
            written = isinstance(condition, str) and now() is not False
            open_.append(_Branch(now(), condition, condition, written))
            if written:
                output.append(_if(condition))
        elif keyword in {"elif", "else"}:
            if not open_:
                raise ValueError(f"#{keyword} without #if")
            branch = open_[-1]
            own = evaluate(rest, known) if keyword == "elif" else True
            branch.condition = both(negation(branch.taken), own)
            _turn(branch, own, output)
            branch.taken = either(branch.taken, own)
        elif keyword == "endif":
            if not open_:
                raise ValueError("#endif without #if")
            if open_.pop().written:
                output.append("#endif\n")
        elif now() is not False:
            if keyword == "define" and (made := _DEFINE.match(rest)) and known.owns(made[1]):
                features[made[1]] = either(features.get(made[1], False), now())
            output.append(line)
    if open_:
        raise ValueError("#if without #endif")
    return "".join(output), features


def _condition(keyword: str, rest: str, symbols: Symbols) -> Known:
    if keyword == "if":
        return evaluate(rest, symbols)
    defined = symbols.defined(re.match(r"\w*", rest)[0])  # type: ignore[index]
    return defined if keyword == "ifdef" else negation(defined)


def _turn(branch: _Branch, own: Known, output: list[str]) -> None:
    """Write the ``#elif`` or ``#else`` that is left between two parts of a conditional."""
    if branch.enclosing is False or branch.taken is True:
        if branch.written and branch.taken is True:
            branch.condition = False
        return
    if branch.written:
        if own is True:
            output.append("#else\n")
        elif own is not False:
            output.append(f"#elif {own}\n")
    elif isinstance(own, str):
        branch.written = True
        output.append(_if(own))


def _if(condition: Known) -> str:
    if match := re.fullmatch(r"(!?)defined\((\w+)\)", str(condition)):
        return f"#{'ifndef' if match[1] else 'ifdef'} {match[2]}\n"
    return f"#if {condition}\n"


def _logical_lines(text: str) -> list[str]:
    """Lines, with directives that go on behind a backslash in one piece."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if lines and lines[-1].endswith("\\\n") and lines[-1].lstrip().startswith("#"):
            lines[-1] += line
        else:
            lines.append(line)
    return lines
