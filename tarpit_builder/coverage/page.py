"""The coverage page: figures by file and kernel, and every line not reached with its reason."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tarpit_builder.console import format_table
from tarpit_builder.coverage import reasons
from tarpit_builder.coverage.counts import Counts, Key
from tarpit_builder.coverage.reasons import Reason, Unreached
from tarpit_builder.errors import CheckFailedError

if TYPE_CHECKING:
    from tarpit_builder.coverage import CoverageRun

ALL = "all"
INTRODUCTION = """\
# Coverage

Which lines and branches of the module's own files are executed by every check of the proof
(`invoke verify --all`) and by the fuzzer (`invoke fuzz`), and why the others are not. The page is
written by

    invoke coverage --kernel KERNEL ... --output docs/coverage.md

which builds the module with gcov's counters into a kernel that has them, runs both, and adds up
what every guest has counted. A branch is a way out of a condition, as the compiler sees it after
optimisation; of what a guest counted that died, nothing is known. Kernels before 5.10 are not among
them, as their gcov does not take the compilers that build them here. Checks of what a packet costs
are not judged there, as counting costs more.
"""


@dataclass(frozen=True, slots=True)
class Reached:
    """How much was reached of how much."""

    reached: int
    of: int

    def __str__(self) -> str:
        share = 100 * self.reached / self.of if self.of else 100.0
        # Rounded down: all is only said of all.
        return f"{self.reached} of {self.of} ({int(share * 10) / 10:.1f} %)"


@dataclass(frozen=True, slots=True)
class FileFigures:
    """The figures of one file on one kernel by one way, or by all."""

    file: str
    kernel: str
    way: str
    lines: Reached
    branches: Reached


@dataclass(frozen=True, slots=True)
class Page:
    """What was *done* on each kernel, the *rows*, the lines not reached, and *stale* reasons."""

    done: tuple[tuple[str, str], ...]
    rows: tuple[FileFigures, ...]
    unreached: tuple[Unreached, ...]
    stale: tuple[Reason, ...]

    @property
    def unexplained(self) -> tuple[Unreached, ...]:
        """Lines that nobody has given a reason for."""
        return tuple(line for line in self.unreached if not line.reason)

    def table(self) -> str:
        """For the terminal."""
        rows = [
            (row.file, row.kernel, str(row.lines), str(row.branches))
            for row in self.rows
            if row.way == ALL
        ]
        lines = [format_table(rows, header=("file", "kernel", "lines", "branches"))]
        lines += [
            f"{line.file}:{line.number}: not reached on {', '.join(line.where)}: {line.text}"
            for line in self.unexplained
        ]
        lines += [f"a reason without a line: {row}" for row in self.stale]
        return "\n".join(lines)

    def markdown(self) -> str:
        """For the documentation."""
        parts = [INTRODUCTION]
        parts += [_fill(f"- {kernel}: {done}.") for kernel, done in self.done]
        parts += ["\n## Figures\n", "Counted by `invoke coverage`, of each kernel.\n"]
        parts += ["| file | kernel | by | lines | branches |", "|---|---|---|---:|---:|"]
        parts += [
            f"| `{row.file}` | {row.kernel} | {row.way} | {row.lines} | {row.branches} |"
            for row in self.rows
        ]
        parts += ["\n## Not reached\n"]
        parts += ["| line | source | not on | reason |", "|---|---|---|---|"]
        parts += [
            f"| `{line.file}:{line.number}` | {_code(line.text)} | {', '.join(line.where)} "
            f"| {_cell(line.reason) or '**nobody knows**'} |"
            for line in self.unreached
        ]
        return "\n".join(parts) + "\n"

    def demand_reasons(self) -> None:
        """Every line is reached or has a reason, and every reason has a line.

        :raises CheckFailedError: with how many there are of either.
        """
        if self.unexplained:
            raise CheckFailedError(
                f"{len(self.unexplained)} lines of the module are not reached, and have no reason",
                hint="write a check that reaches them, take them out, or give each its reason in "
                "tarpit_builder/rules/coverage.toml",
            )
        if self.stale:
            raise CheckFailedError(
                f"{len(self.stale)} rows of rules/coverage.toml give a reason for no line",
                hint="take them out",
            )


def make(
    runs: Sequence[CoverageRun], sources: Mapping[str, str], known: Sequence[Reason] | None = None
) -> Page:
    """The page of *runs*; *sources* is the text of each file, *known* the reasons."""
    rows = [
        FileFigures(file, run.kernel, way, *_figures(counted, file))
        for file in sources
        for run in runs
        for way, counted in (*run.ways.items(), (ALL, run.counts))
        if any(key[0] == file for key in counted)
    ]
    missing: dict[Key, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for run in runs:
        for key, line in run.counts.items():
            if not line.count:
                where, functions = missing.get(key, ((), ()))
                both = tuple(dict.fromkeys((*functions, *line.functions)))
                missing[key] = (*where, run.kernel), both
    known = reasons.table() if known is None else known
    unreached, stale = reasons.explain(missing, sources, known)
    return Page(
        done=tuple(
            (f"Linux {run.kernel}, {run.date}", "; ".join(run.done.values())) for run in runs
        ),
        rows=tuple(rows),
        unreached=tuple(unreached),
        stale=tuple(stale),
    )


def _figures(counted: Counts, file: str) -> tuple[Reached, Reached]:
    lines = [line for (name, _), line in counted.items() if name == file]
    branches = [taken for line in lines for taken in line.branches]
    return (
        Reached(sum(line.count > 0 for line in lines), len(lines)),
        Reached(sum(taken > 0 for taken in branches), len(branches)),
    )


def _fill(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False)


def _code(text: str) -> str:
    return f"`` {_cell(text)} ``"


def _cell(text: str) -> str:
    """*text* for a cell of a table, which a bar would end."""
    return text.replace("|", r"\|")
