"""``#if`` with some symbols known: what is decided goes, what is not stays, simplified.

The same job as unifdef(1), in a form that also tells under which of the remaining conditions a
macro was defined, so that ``#ifdef FEATURE`` can become the condition that FEATURE stands for.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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
            return self.values[name] not in {"", "0"}
        return False if self.owns(name) else name


def evaluate(text: str, symbols: Symbols) -> Known:
    """The condition *text*, decided as far as *symbols* allow.

    Python reads it, which binds ``not``, ``and`` and ``or`` as C does ``!``, ``&&`` and ``||``.

    :raises ValueError: if there is more in it than these, names, numbers and ``defined``.
    """
    said = re.sub(r"/\*.*?\*/", " ", text.replace("\\\n", " "))
    said = re.sub(r"\bdefined\s+(\w+)", r"defined(\1)", said)
    said = re.sub(r"!(?!=)", " not ", said.replace("&&", " and ").replace("||", " or "))
    try:
        return _decided(ast.parse(said.strip(), mode="eval").body, symbols)
    except SyntaxError as error:
        raise ValueError(f"the condition {text.strip()!r} is not understood") from error


def _decided(node: ast.expr, symbols: Symbols) -> Known:
    match node:
        case ast.BoolOp(ast.And(), parts):
            return both(*(_decided(part, symbols) for part in parts))
        case ast.BoolOp(ast.Or(), parts):
            return either(*(_decided(part, symbols) for part in parts))
        case ast.UnaryOp(ast.Not(), inner):
            return negation(_decided(inner, symbols))
        case ast.Call(ast.Name("defined"), [ast.Name(name)]):
            return symbols.defined(name)
        case ast.Name(name):
            return symbols.value(name)
        case ast.Constant(int(number)):
            return bool(number)
    raise ValueError(f"the condition {ast.unparse(node)!r} is not understood")


def negation(condition: Known) -> Known:
    """Where *condition* does not hold."""
    if isinstance(condition, bool):
        return not condition
    if re.fullmatch(r"!(defined\(\w+\)|\w+)", condition):
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
    return re.fullmatch(r"!?(defined\(\w+\)|\w+)", condition) is not None


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
