"""Macros and one-line functions, expanded in source that a person is to read afterwards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tarpit_builder.patching.ctokens import (
    Token,
    TopLevel,
    arguments,
    join,
    matching,
    skip_blank,
    tokenize,
)

_EXPRESSION_STARTS = frozenset({"(", ",", "=", "{", ";", "[", "return", "}"})
_NOTHING = re.compile(r"\s*(do\s*\{\s*\}\s*while\s*\(\s*0\s*\)|\(\(void\)\s*0\)|\(void\)\s*0)?\s*")


@dataclass(frozen=True, slots=True)
class Macro:
    """What *name* is replaced by; *parameters* is ``None`` where it takes no parentheses.

    *once* marks a function in disguise: its arguments are evaluated once, so one that does
    something may appear only once in the result.
    """

    name: str
    parameters: tuple[str, ...] | None
    body: tuple[Token, ...]
    once: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether it stands for nothing, or for a value that depends on nothing."""
        return join(self.body) in {"", "0", "true", "false"}

    @classmethod
    def from_define(cls, directive: str) -> Macro | None:
        """The macro of a ``#define``; nothing if it has several statements.

        Those are kept as they are: nobody would have written out what they say.
        """
        text = re.sub(r"\\\n", " ", directive).strip()
        match = re.fullmatch(r"#\s*define\s+(\w+)(\(([^)]*)\))?(.*)", text, re.DOTALL)
        if not match:
            return None
        body = re.sub(r"/\*.*?\*/", "", match[4]).strip()
        if _NOTHING.fullmatch(body):
            body = ""
        if ";" in body or "{" in body:
            return None
        parameters = None
        if match[2] is not None:
            parts = match[3].replace("...", "__VA_ARGS__").split(",")
            parameters = tuple(part.strip() for part in parts if part.strip())
        elif re.fullmatch(r"\(?(0x[\da-f]+|\d+)\)?", body, re.IGNORECASE):
            return None  # a number with a name reads better than a number
        return cls(match[1], parameters, tuple(tokenize(re.sub(r"\s+", " ", body))))

    @classmethod
    def from_typedef(cls, item: TopLevel) -> Macro | None:
        """The macro that says what a ``typedef`` of another type's name does."""
        match = re.search(r"(?:^|\n)typedef ((?:\w+ )+)(\w+);\s*\Z", item.text)
        if not match or item.kind != "declaration" or match[2] != item.name:
            return None
        return cls(item.name, None, tokenize(match[1].strip()))

    @classmethod
    def from_function(cls, item: TopLevel) -> Macro | None:
        """The macro that says what a one-line function does; nothing if it is longer."""
        match = re.fullmatch(
            rf".*?\b{item.name}\s*\((?P<parameters>[^()]*)\)\s*"
            r"\{(?P<body>[^;{}]*;|\s*)\s*\}\s*",
            item.text,
            re.DOTALL,
        )
        if not match or item.kind != "function" or "__init" in item.text.split("(")[0]:
            return None
        body = match["body"].strip().removesuffix(";")
        words = [] if match["parameters"].strip() == "void" else match["parameters"].split(",")
        parameters = tuple(re.findall(r"\w+", word)[-1] for word in words)
        is_value = body.startswith("return")
        body = re.sub(r"\s+", " ", body.removeprefix("return").strip())
        if not is_value and body and not re.fullmatch(r"[\w>.-]+\s*(\(.*\)|=.*)", body, re.DOTALL):
            return None  # a declaration, or something else that is no expression
        return cls(item.name, parameters, tuple(tokenize(body)), once=True)


def expand(text: str, macros: Mapping[str, Macro]) -> str:
    """*text* with all of *macros* expanded, and what that leaves superfluous removed."""
    tokens = _expand(tokenize(text), macros, frozenset())
    return _tidy(tokens) if join(tokens) != text else text


def _expand(
    tokens: Sequence[Token], macros: Mapping[str, Macro], hidden: frozenset[str]
) -> list[Token]:
    output: list[Token] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        macro = macros.get(token.text) if token.kind == "name" else None
        if token.kind == "directive" and re.match(r"\s*#\s*(el)?if", token.text):
            output.append(token)
            continue
        if macro is None or macro.name in hidden:
            output.append(Token("painted", token.text) if macro else token)
            continue
        given: list[list[Token]] = []
        if macro.parameters is not None:
            start = skip_blank(tokens, at)
            if start == len(tokens) or tokens[start].text != "(":
                output.append(token)
                continue
            given, after = arguments(tokens, start)
            given = _variadic(macro, given)
            if len(given) != len(macro.parameters) or not _may_inline(macro, given):
                output.append(token)
                continue
            at = after
        given = [_expand(argument, macros, hidden) for argument in given]
        body = _substitute(macro, given)
        body = _expand(body, macros, hidden | {macro.name})
        follows = skip_blank(tokens, at)
        after_text = tokens[follows].text if follows < len(tokens) else ";"
        body = _without_parentheses(body)
        if not _fits_between(output, body, after_text):
            body = [Token("punct", "("), *body, Token("punct", ")")]
        output += _joined_strings(body) or [_HOLE]
    return output


def _joined_strings(tokens: Sequence[Token]) -> list[Token]:
    """*tokens* with string literals in a row as one."""
    output: list[Token] = []
    for token in tokens:
        last = output[-2] if len(output) > 1 and output[-1].kind == "space" else None
        both = last is not None and last.text[0] == token.text[0] == '"'
        if both and last is not None:
            output[-2:] = [Token("string", last.text[:-1] + token.text[1:])]
        else:
            output.append(token)
    return output


_HOLE = Token("comment", "\0")


def _may_inline(macro: Macro, given: Sequence[Sequence[Token]]) -> bool:
    if not macro.once:
        return True
    uses = [token.text for token in macro.body if token.kind == "name"]
    for parameter, argument in zip(macro.parameters or (), given, strict=True):
        acts = any(token.text in {"(", "++", "--", "="} for token in argument)
        if acts and uses.count(parameter) != 1:
            return False
    return True


def _substitute(macro: Macro, given: Sequence[list[Token]]) -> list[Token]:
    values = dict(zip(macro.parameters or (), given, strict=True))
    output: list[Token] = []
    body = list(macro.body)
    at = 0
    while at < len(body):
        token = body[at]
        if token.text == "##":
            while output and output[-1].kind == "space":
                output.pop()
            at = skip_blank(body, at + 1)
            joined = join(values.get(body[at].text, [body[at]]))
            if output[-1].text == "," and body[at].text == "__VA_ARGS__":
                output[-1:] = tokenize(f", {joined}") if joined else []
            else:
                output[-1:] = tokenize(output[-1].text + joined)
        elif token.text == "#" and at + 1 < len(body) and body[at + 1].text in values:
            at += 1
            output.append(Token("string", '"' + join(values[body[at].text]) + '"'))
        elif token.kind == "name" and token.text in values:
            value = values[token.text]
            after, beyond = (*(token.text for token in body[at + 1 : at + 3]), "", "")[:2]
            if _wrapped(output, after) and _is_tight(value, beyond):
                output.pop()
                at += 1
                output += value
            elif macro.once and not _fits_between(output, value, after or ";"):
                output += [Token("punct", "("), *value, Token("punct", ")")]
            else:
                output += value
        else:
            output.append(token)
        at += 1
    return output


def _wrapped(output: Sequence[Token], after: str) -> bool:
    """Whether a parameter is in parentheses of its own that are no call's."""
    if not output or output[-1].text != "(" or after != ")":
        return False
    before = next((token for token in reversed(output[:-1]) if not token.is_blank), None)
    if before is None:
        return True
    if before.kind in {"name", "painted"}:
        return before.text in {"return", "case"}
    return before.text != "]" and (before.text != ")" or _ends_cast(output[:-1]))


def _ends_cast(tokens: Sequence[Token]) -> bool:
    """Whether the parenthesis that closes last is that of a cast to a pointer."""
    words = [token.text for token in tokens if not token.is_blank]
    return words[-2:] == ["*", ")"]


def _is_tight(tokens: Sequence[Token], after: str) -> bool:
    """Whether an expression is a name, a call or a member, or the address of one.

    The latter only if *after* does not reach into what the address is of.
    """
    words = [token for token in tokens if not token.is_blank]
    if words and words[0].text == "&" and after not in {"->", ".", "[", "("}:
        words = words[1:]
    at = 0
    while at < len(words):
        text = words[at].text
        if text in {"(", "["}:
            at = matching(words, at)
        elif words[at].kind not in {"name", "painted", "number", "string"} and text not in {
            "->",
            ".",
        }:
            return False
        at += 1
    return bool(words) or not tokens


def _without_parentheses(tokens: list[Token]) -> list[Token]:
    while tokens and tokens[0].text == "(" and matching(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


# How tightly operators bind, loosest first (C90, 6.3); unary ones and casts bind tighter.
_BINDING = [
    {","},
    {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="},
    {"?", ":"},
    {"||"},
    {"&&"},
    {"|"},
    {"^"},
    {"&"},
    {"==", "!="},
    {"<", ">", "<=", ">="},
    {"<<", ">>"},
    {"+", "-"},
    {"*", "/", "%"},
]
_UNARY = len(_BINDING)
_STRENGTH = {text: strength for strength, texts in enumerate(_BINDING) for text in texts}


def _strength(tokens: Sequence[Token]) -> int:
    """How tightly the loosest operator of an expression binds."""
    words = [token for token in tokens if not token.is_blank]
    loosest = _UNARY + 1
    operand = False
    at = 0
    while at < len(words):
        text = words[at].text
        if text in {"(", "["}:
            end = matching(words, at)
            is_cast = not operand and end + 1 < len(words) and _ends_cast(words[: end + 1])
            loosest = min(loosest, _UNARY) if is_cast else loosest
            operand = not is_cast
            at = end
        elif words[at].kind == "punct" and text not in {"->", "."}:
            loosest = min(loosest, _STRENGTH.get(text, _UNARY) if operand else _UNARY)
            operand = text in {"++", "--"} and operand
        else:
            operand = True
        at += 1
    return loosest


def _fits_between(before: Sequence[Token], body: Sequence[Token], after: str) -> bool:
    """Whether *body* means the same there without parentheses of its own."""
    own = _strength(body)
    if own > _UNARY:
        return True
    follows = after in {":", ";"} or own > _STRENGTH.get(after, -1)
    return _fits_behind(before, own) and follows and after not in {"->", ".", "[", "("}


def _fits_behind(before: Sequence[Token], own: int) -> bool:
    words = [token for token in before if not token.is_blank]
    left = words[-1].text if words else ";"
    if left in {",", "="}:
        return own > _STRENGTH[left]
    if left in _STRENGTH:
        binary = len(words) > 1 and (words[-2].kind != "punct" or words[-2].text in {")", "]"})
        return own > (_STRENGTH[left] if binary else _UNARY)
    return left in _EXPRESSION_STARTS or (bool(words) and words[-1].kind == "name")


def _variadic(macro: Macro, given: list[list[Token]]) -> list[list[Token]]:
    """*given* with what belongs to ``...`` as one argument."""
    if not macro.parameters or macro.parameters[-1] != "__VA_ARGS__":
        return given
    fixed = len(macro.parameters) - 1
    rest: list[Token] = []
    for argument in given[fixed:]:
        rest += [*([Token("punct", ","), Token("space", " ")] if rest else []), *argument]
    return [*given[:fixed], rest]


_ALWAYS = [
    (re.compile(r"\btrue\s*&&\s*|\s*&&\s*\btrue\b"), ""),
    (re.compile(r"\bfalse\s*\|\|\s*|\s*\|\|\s*\bfalse\b"), ""),
    (re.compile(r"!\s*true\b"), "false"),
    (re.compile(r"!\s*false\b"), "true"),
    (re.compile(r"^[ \t]*\0[ \t]*;[ \t]*\n", re.MULTILINE), ""),
    (re.compile(r"^[ \t]*\0[ \t]*\n", re.MULTILINE), ""),
    (re.compile(r" ?\0"), ""),
    (re.compile(r"\*&(?=\w)"), ""),
    (re.compile(r"!\((\w+) == (\w+(?:\(\w+\))?)\)"), r"\1 != \2"),
]


def _tidy(tokens: Sequence[Token]) -> str:
    text = join(tokens)
    for pattern, replacement in _ALWAYS:
        text = pattern.sub(replacement, text)
    return text
