"""The contract as a table: every check, what it promises, and how it ended on each kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tarpit_builder.page.cells import PageCell, PageCheck
from tarpit_builder.page.ladder import Drawing, draw
from tarpit_builder.proof import registry
from tarpit_builder.proof.report import Verdict

WORST = (Verdict.FAIL, Verdict.ERROR, Verdict.PASS, Verdict.SKIP)
LETTERS = {Verdict.PASS: "p", Verdict.FAIL: "f", Verdict.SKIP: "s", Verdict.ERROR: "e"}
UNTRIED = "."


@dataclass(slots=True)
class ContractRow:
    """A check, for all families and backends together; *counts* are of kernels."""

    title: str
    section: str
    number: int
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class PageGroup:
    """The checks of one group."""

    name: str
    title: str
    rows: list[ContractRow] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many of its checks failed on a kernel."""
        return sum(bool(row.counts[Verdict.FAIL]) for row in self.rows)

    @property
    def judged(self) -> int:
        """How many were judged on any."""
        return sum(bool(row.counts) for row in self.rows)


@dataclass(slots=True)
class PageFailure:
    """The same failure on one kernel or several; *cells* are their places in the list."""

    title: str
    detail: str
    state: str
    cells: list[int]
    drawing: Drawing | None = None


class Contract:
    """All checks that this version has, and others that are on record.

    A cell's results are a letter for each *instance*: a row, a backend and a family.
    """

    def __init__(self, cells: Sequence[PageCell]) -> None:
        self.groups: list[PageGroup] = []
        self.instances: list[tuple[int, str, int]] = []
        self.results: list[str] = []
        self._rows: dict[tuple[str, str], ContractRow] = {}
        self._numbers: dict[tuple[int, str, int], int] = {}
        for group in registry.groups():
            for check in group.checks:
                self._row(group.name, check.title, check.section, group.title)
        found = [self._of(cell) for cell in cells]
        for letters in found:
            self.results.append(
                "".join(letters.get(n, UNTRIED) for n in range(max(letters, default=-1) + 1))
            )

    def _row(self, group: str, title: str, section: str, name: str = "") -> ContractRow:
        key = group, title
        if key not in self._rows:
            self._rows[key] = row = ContractRow(title, section, len(self._rows))
            home = next((one for one in self.groups if one.name == group), None)
            if home is None:
                home = PageGroup(group, name or "not in this version")
                self.groups.append(home)
            home.rows.append(row)
        return self._rows[key]

    def instance(self, check: PageCheck) -> int:
        """The place of *check* among the results of a cell."""
        row = self._row(check.group, check.title, check.section)
        key = row.number, check.backend, check.family
        if key not in self._numbers:
            self._numbers[key] = len(self.instances)
            self.instances.append(key)
        return self._numbers[key]

    def _of(self, cell: PageCell) -> dict[int, str]:
        checks = cell.proof.checks if cell.proof else ()
        letters: dict[int, str] = {}
        worst: dict[int, Verdict] = {}
        for check in checks:
            verdict = Verdict(check.outcome)
            number = self.instance(check)
            letters[number] = LETTERS[verdict]
            row = self.instances[number][0]
            worst[row] = min((verdict, worst.get(row, verdict)), key=WORST.index)
        rows = list(self._rows.values())
        for number, verdict in worst.items():
            rows[number].counts[verdict] += 1
        return letters


def failures(cells: Sequence[PageCell]) -> list[PageFailure]:
    """What is wrong, the same on several kernels once: checks, builds, then damaged records."""
    found: dict[tuple[str, str, str], PageFailure] = {}

    def add(number: int, title: str, detail: str, state: str, lines: Sequence[str] = ()) -> None:
        key = title, detail if lines == () else detail.partition("\n")[0], state
        failure = found.setdefault(key, PageFailure(title, detail, state, []))
        if number not in failure.cells:
            failure.cells.append(number)
        failure.drawing = failure.drawing or draw(lines)

    for number, cell in enumerate(cells):
        checks = cell.proof.checks if cell.proof else ()
        for check in checks:
            if check.outcome in {Verdict.FAIL, Verdict.ERROR}:
                title = f"{check.group}: {check.title}"
                state = "failed" if check.outcome == Verdict.FAIL else "not tried"
                add(number, title, check.detail, state, check.ladder)
        if cell.untried:
            add(number, "could not be tried by the last run", cell.untried, "not tried")
        bad = any(check.outcome == Verdict.FAIL for check in checks)
        if cell.state in {"failed", "not tried", "damaged"} and not bad:
            titles = {
                "failed": "does not build" if not cell.proof else "verification",
                "not tried": "could not be tried by the last run",
                "damaged": "records or packages are damaged",
            }
            add(number, titles[cell.state], cell.detail, str(cell.state))
        for problem in cell.problems:
            if cell.state != "damaged":
                add(number, "a record cannot be used", problem, "damaged")
    order = {"failed": 0, "damaged": 1, "not tried": 2}
    return sorted(found.values(), key=lambda one: (order[one.state], -len(one.cells)))
