"""What an analyzer says of a line, and which of it is named as no fault."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

RULES = Path(__file__).resolve().parent.parent / "rules" / "analysis.toml"
LINE = re.compile(r"^(?P<file>[^:\s]+):(?P<line>\d+):(?:[\d-]+:)? (?P<text>.+)$")
NO_FINDING = re.compile(r"(note|event \d+):")


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """What *analyzer* says of *line* of *file*, which is named from the top of the project."""

    file: str
    line: int
    text: str
    analyzer: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text} [{self.analyzer}]"


@dataclass(frozen=True, slots=True)
class Known:
    """Findings that are no faults: of *analyzer*, in files that fit the pattern *file*.

    *finding* is a regular expression for what it says.  *reason* tells why it is no fault.
    """

    analyzer: str
    file: str
    finding: str
    reason: str

    def covers(self, finding: Diagnostic) -> bool:
        """Whether *finding* is one of them."""
        return (
            self.analyzer == finding.analyzer
            and fnmatchcase(finding.file, self.file)
            and re.search(self.finding, finding.text) is not None
        )

    def __str__(self) -> str:
        return f"{self.file}: {self.finding} [{self.analyzer}]"


def known(rules: Path = RULES) -> tuple[Known, ...]:
    """The table of ``rules/analysis.toml``."""
    return tuple(Known(**row) for row in tomllib.loads(rules.read_text())["known"])


def parse(analyzer: str, said: str, *, notes: bool = False) -> Iterator[Diagnostic]:
    """The findings in what *analyzer* said, in the form of compilers: ``FILE:LINE: TEXT``.

    :param notes: whether a note is a finding of its own, and not the way to the one before it.
    """
    for line in said.splitlines():
        if (match := LINE.match(line)) and (notes or not NO_FINDING.match(match["text"])):
            yield Diagnostic(match["file"], int(match["line"]), match["text"], analyzer)


@dataclass(frozen=True, slots=True)
class Comparison:
    """*new* findings, which close the gate, the number of *known* ones, and *stale* rows."""

    new: tuple[Diagnostic, ...]
    known: tuple[Diagnostic, ...]
    stale: tuple[Known, ...]

    def count(self, analyzer: str) -> tuple[int, int]:
        """How many findings of *analyzer* are known, and how many new."""
        known, new = (
            sum(finding.analyzer == analyzer for finding in part) for part in (self.known, self.new)
        )
        return known, new


def judge(
    found: Iterable[Diagnostic], looked: Collection[str], table: Iterable[Known] = ()
) -> Comparison:
    """Compare what was *found* with the *table* of known findings.

    A row of an analyzer that *looked* is stale when it covers nothing any more.
    """
    table = tuple(table)
    findings = sorted(set(found))
    used = {row for finding in findings for row in table if row.covers(finding)}
    covered = tuple(one for one in findings if any(row.covers(one) for row in used))
    return Comparison(
        new=tuple(one for one in findings if one not in covered),
        known=covered,
        stale=tuple(row for row in table if row.analyzer in looked and row not in used),
    )
