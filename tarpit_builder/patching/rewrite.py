"""Idioms of one age said in the idiom of another: small semantic patches.

Inlining can say what a wrapper says, but it cannot change what a function looks like from
outside, or drop what an older kernel has no word for.  A rule does: *find* is C in which
``$name`` stands for any balanced run of tokens, and white space does not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tarpit_builder.patching.ctokens import Token, join, tokenize, top_level

_OPEN = frozenset("([{")
_CLOSE = frozenset(")]}")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Replace *find* by *replace*, in the functions named in *within* if there are any.

    A *raw* one is a regular expression about the text itself, comments included.  A rule has to
    find something, or it has outlived what it was written for.
    """

    find: str
    replace: str
    reason: str
    within: tuple[str, ...] = ()
    raw: bool = False

    def apply(self, text: str) -> str:
        """*text* with all places rewritten.

        :raises LookupError: if there is none.
        """
        pattern = [] if self.raw else _words(tokenize(self.find))
        parts = (
            [(item.name, item.text) for item in top_level(text)] if self.within else [("", text)]
        )
        places = 0
        output = []
        for name, part in parts:
            said, found = part, 0
            if self.raw:
                said, found = re.subn(self.find, self.replace, part)
            elif not self.within or name in self.within:
                said, found = _replace(part, pattern, self.replace)
            output.append(said)
            places += found
        if not places:
            raise LookupError(f"nothing looks like {' '.join(self.find.split())!r}")
        return "".join(output)


def _words(tokens: Sequence[Token]) -> list[str]:
    words: list[str] = []
    for token in tokens:
        if token.is_blank:
            continue
        if words and words[-1] == "$":
            words[-1] += token.text
        else:
            words.append(token.text.strip())
    return words


def _replace(text: str, pattern: Sequence[str], replacement: str) -> tuple[str, int]:
    tokens = tokenize(text)
    output: list[str] = []
    at = count = 0
    while at < len(tokens):
        begins = pattern[0].startswith("$") or tokens[at].text.strip() == pattern[0]
        found = _match(tokens, at, pattern) if begins and not tokens[at].is_blank else None
        if found is None:
            output.append(tokens[at].text)
            at += 1
            continue
        bound, at = found
        count += 1
        said = re.sub(r"\$(\w+)", lambda match, bound=bound: bound[match[1]], replacement)  # type: ignore[misc]
        if said:
            output.append(said)
        else:
            at = _close_gap(output, tokens, at)
    return "".join(output), count


def _close_gap(output: list[str], tokens: Sequence[Token], at: int) -> int:
    """Where a whole line went, let its end go, too."""
    before = "".join(output[-1:])
    after = tokens[at].text if at < len(tokens) else ""
    if re.search(r"\n[ \t]*\Z", before) and re.match(r"[ \t]*\n", after):
        output[-1] = re.sub(r"\n[ \t]*\Z", "", before)
    elif before.endswith(" ") and after.startswith(" "):
        output[-1] = before[:-1]
    return at


def _match(
    tokens: Sequence[Token], at: int, pattern: Sequence[str]
) -> tuple[dict[str, str], int] | None:
    bound: dict[str, str] = {}
    for number, word in enumerate(pattern):
        while at < len(tokens) and tokens[at].is_blank:
            at += 1
        if at == len(tokens):
            return None
        if not word.startswith("$"):
            if tokens[at].text.strip() != word:
                return None
            at += 1
            continue
        until = pattern[number + 1] if number + 1 < len(pattern) else None
        end = _run(tokens, at, until)
        value = join(tokens[at:end]).strip() if end is not None else ""
        if end is None or bound.setdefault(word[1:], value) != value:
            return None
        at = end
    return bound, at


def _run(tokens: Sequence[Token], at: int, until: str | None) -> int | None:
    """The end of a balanced run from *at* up to the word *until*, or of one token."""
    if until is None:
        return at + 1
    depth = 0
    for index in range(at, len(tokens)):
        text = tokens[index].text
        if depth == 0 and text.strip() == until:
            return index
        if tokens[index].kind == "punct":
            depth += (text in _OPEN) - (text in _CLOSE)
        if depth < 0 or (depth == 0 and text == ";" and until != "}"):
            return None
    return None
