"""What came out of a proof: for people a table and a ladder, for machines JSON and JUnit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tarpit_builder import paths


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    SKIP = "skip"
    """This kernel lacks what the check needs."""
    ERROR = "error"
    """The check could not be carried out: nothing is known."""


MARKS = {Verdict.PASS: "✓", Verdict.FAIL: "✗", Verdict.SKIP: "–", Verdict.ERROR: "?"}
BAD = {Verdict.FAIL, Verdict.ERROR}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of one group: *seconds* it took, *detail* why it did not pass."""

    group: str
    backend: str
    title: str
    section: str
    family: int | None
    outcome: Verdict
    seconds: float
    detail: str = ""
    ladder: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Group, backend and family, then the title."""
        family = {4: " IPv4", 6: " IPv6"}.get(self.family or 0, "")
        return f"{self.where}{family}: {self.title}"

    @property
    def where(self) -> str:
        """Group and backend."""
        return f"{self.group}/{self.backend}" if self.backend else self.group


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that was measured: *value* in *unit* of *subject*, for one *series* of several.

    ======  ========================  =================================  ============
    what    subject                   series                             unit
    ======  ========================  =================================  ============
    held    what a client does        mode of the target, such as stall  s
    cost    a kind of packet          what it meets: DROP, REJECT …      instructions
    scan    a command                 before or after there is a rule    s, ports
    ======  ========================  =================================  ============

    *limit* is when nobody looked any more, 0 if that plays no part; *backend* that of iptables.
    """

    what: str
    subject: str
    series: str
    value: float
    unit: str
    limit: float = 0.0
    family: int | None = None
    backend: str = ""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Everything that a proof found out about one kernel."""

    kernel: str
    packages: tuple[str, ...]
    """Names of the packages under proof; *given* says that they came from somewhere else."""
    accel: str
    cpus: int
    seconds: float
    results: tuple[CheckResult, ...]
    ladder: tuple[str, ...] = ()
    """The classic handshake, as seed and man page show it."""
    notes: tuple[str, ...] = field(default=())
    """Measurements, such as the cost table."""
    given: bool = False
    held: tuple[str, ...] = ()
    """A client that has data to send, and what it gets, as :attr:`ladder`."""
    figures: tuple[Figure, ...] = ()
    proven: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of each of the packages, as it was put into the guest."""
    booted: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of the image that was booted, and of the packages that it is from."""

    @property
    def counts(self) -> Counter[Verdict]:
        """How many checks ended how."""
        return Counter(result.outcome for result in self.results)

    @property
    def exit_code(self) -> int:
        """0: everything that could be judged is right; 1: something is wrong; 3: nothing known."""
        if self.counts[Verdict.FAIL]:
            return 1
        if self.counts[Verdict.ERROR] or not self.counts[Verdict.PASS]:
            return 3
        return 0

    def table(self) -> str:
        """Groups with their counts, then what did not pass, then handshake and measurements."""
        from tarpit_builder.console import format_table

        rows = []
        for where in dict.fromkeys(result.where for result in self.results):
            part = [result for result in self.results if result.where == where]
            counts = Counter(result.outcome for result in part)
            rows.append(
                [
                    MARKS[worst(counts)],
                    where,
                    ", ".join(f"{counts[o]} {o}" for o in Verdict if counts[o]),
                    f"{sum(result.seconds for result in part):.1f} s",
                ]
            )
        lines = [format_table(rows, header=("", "group", "checks", "time"))]
        for result in self.results:
            if result.outcome in BAD:
                of = f" (contract {result.section})" if result.section else ""
                lines += ["", f"{MARKS[result.outcome]} {result.name}{of}"]
                lines += [f"    {line}" for line in result.detail.splitlines()]
                lines += [f"    {line}" for line in result.ladder]
        lines += self._skipped()
        for title, text in (("The handshake:", self.ladder), ("Measured:", self.notes)):
            if text:
                lines += ["", title, *(f"    {line}" for line in text)]
        lines += ["", self.summary()]
        return "\n".join(lines)

    def _skipped(self) -> list[str]:
        """What was not judged, with the reason; both families of a check in one line."""
        lines = (
            f"{MARKS[Verdict.SKIP]} {result.where}: {result.title}: {result.detail}"
            for result in self.results
            if result.outcome is Verdict.SKIP
        )
        unique = list(dict.fromkeys(lines))
        return ["", "Not judged:", *(f"    {line}" for line in unique)] if unique else []

    def summary(self) -> str:
        """One line."""
        counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self.counts.items()))
        # Nobody else promised to keep our contract.
        bad = "differs from the contract" if self.given else "FAILED"
        verdict = {0: "passed", 1: bad, 3: "could not be judged"}[self.exit_code]
        return f"Linux {self.kernel}: {verdict} ({counts}) in {self.seconds:.0f} s"

    def write_json(self, path: Path) -> None:
        """The whole report as JSON."""
        with paths.replacing(path) as stage:
            stage.write_text(json.dumps(self.data(), indent=2, ensure_ascii=False) + "\n")

    def data(self) -> dict[str, Any]:
        """The whole report as plain data."""
        return asdict(self) | {"exit_code": self.exit_code, "counts": dict(self.counts)}

    def write_junit(self, path: Path) -> None:
        """The results in the JUnit format that CI systems read."""
        suite = ET.Element("testsuite", name=f"verify {self.kernel}", time=f"{self.seconds:.3f}")
        suite.set("tests", str(len(self.results)))
        suite.set("failures", str(self.counts[Verdict.FAIL]))
        suite.set("errors", str(self.counts[Verdict.ERROR]))
        suite.set("skipped", str(self.counts[Verdict.SKIP]))
        tags = {Verdict.FAIL: "failure", Verdict.ERROR: "error", Verdict.SKIP: "skipped"}
        for result in self.results:
            case = ET.SubElement(
                suite,
                "testcase",
                classname=result.where,
                name=result.name.split(": ", 1)[1]
                + {4: " (IPv4)", 6: " (IPv6)"}.get(result.family or 0, ""),
                time=f"{result.seconds:.3f}",
            )
            if result.outcome in tags:
                text = "\n".join([result.detail, *result.ladder])
                element = ET.SubElement(case, tags[result.outcome], message=result.detail[:200])
                element.text = text
        with paths.replacing(path) as stage:
            stage.write_bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def worst(counts: Counter[Verdict]) -> Verdict:
    """The outcome that stands for several."""
    for outcome in (Verdict.FAIL, Verdict.ERROR, Verdict.PASS):
        if counts[outcome]:
            return outcome
    return Verdict.SKIP
