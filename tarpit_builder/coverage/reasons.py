"""Why a line is not reached: ``rules/coverage.toml``, whose rows name lines by what is in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tarpit_builder.coverage.counts import Key
from tarpit_builder.kernels import rules


@dataclass(frozen=True, slots=True)
class Reason:
    """Why lines of *file* are not reached: those of *function*, or that fit the expression *line*.

    With both, those of the function that fit.
    """

    file: str
    reason: str
    function: str = ""
    line: str = ""

    def covers(self, file: str, text: str, functions: Iterable[str]) -> bool:
        """Whether a line of *file*, which is in *functions* and reads *text*, is one of them."""
        return (
            file == self.file
            and (not self.function or self.function in functions)
            and re.search(self.line, text) is not None
        )

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(filter(None, (self.function, self.line)))}"


@dataclass(frozen=True, slots=True)
class Unreached:
    """A line that was not executed on the kernels *where*; *reason* is empty if none is known."""

    file: str
    number: int
    text: str
    where: tuple[str, ...]
    reason: str


def table() -> tuple[Reason, ...]:
    """The rows."""
    return tuple(Reason(**row) for row in rules.table("coverage.toml")["unreached"])


def explain(
    lines: Mapping[Key, tuple[tuple[str, ...], tuple[str, ...]]],
    sources: Mapping[str, str],
    known: Iterable[Reason],
) -> tuple[list[Unreached], list[Reason]]:
    """Every one of *lines* with its reason, and the rows of *known* that fit none of them.

    :param lines: the kernels that each was not reached on, and the functions that it lies in.
    :param sources: the text of each file.
    """
    known = tuple(known)
    texts = {file: text.splitlines() for file, text in sources.items()}
    used: set[Reason] = set()
    out = []
    for (file, number), (where, functions) in sorted(lines.items()):
        text = texts[file][number - 1].strip()
        row = next((row for row in known if row.covers(file, text, functions)), None)
        if row:
            used.add(row)
        out.append(Unreached(file, number, text, where, row.reason if row else ""))
    return out, [row for row in known if row not in used]
