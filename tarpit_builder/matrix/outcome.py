"""What came of the cells: records that outlive a run, and the judgement of the whole."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tarpit_builder import __version__, paths
from tarpit_builder.console import format_table
from tarpit_builder.errors import UserError
from tarpit_builder.matrix.definition import Cell

FOLDER = "matrix"  # below dist/: records, logs and reports
INFRASTRUCTURE = 3  # exit code, see errors
HISTORY = "history"  # below that: one small file for each run
RUNS = 200  # that are remembered


class CellOutcome(StrEnum):
    """How a cell ended."""

    BUILT = "built"
    PRESENT = "present"
    """The same result was there already."""
    FAILED = "failed"
    TIMEOUT = "timeout"
    """It was stopped at its limit."""
    ERROR = "error"
    """This machine could not do it: nothing is known of the cell itself."""
    NOT_RUN = "not run"


GOOD = frozenset({CellOutcome.BUILT, CellOutcome.PRESENT})
MARKS = {
    CellOutcome.BUILT: "✓",
    CellOutcome.PRESENT: "✓",
    CellOutcome.FAILED: "✗",
    CellOutcome.TIMEOUT: "✗",
    CellOutcome.ERROR: "?",
    CellOutcome.NOT_RUN: "–",
}
EXIT_CODES = (1, 5, 4, 2, 3)
"""What is wrong with the product comes before what is wrong with the machine."""


@dataclass(frozen=True, slots=True)
class CellProof:
    """A proof that was carried out: *key* is everything that went into it, *status* as of
    ``invoke verify``, *summary* its last line."""

    key: str
    status: int
    summary: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """One cell: *status* is the exit code of what failed, *detail* its error.

    *folder*, *key* and *packages* are those of the build, *stages* its steps with the seconds that
    each took, *log* the file with all output, *when* it ended (UTC, ISO 8601).
    """

    cell: Cell
    outcome: CellOutcome
    seconds: float = 0.0
    status: int = 0
    detail: str = ""
    folder: str = ""
    key: str = ""
    packages: tuple[str, ...] = ()
    stages: tuple[tuple[str, float], ...] = ()
    proof: CellProof | None = None
    log: str = ""
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def good(self) -> bool:
        """Whether it is as it should be."""
        return self.outcome in GOOD

    @property
    def counts(self) -> bool:
        """Whether it makes the whole fail."""
        return not self.good and not self.cell.allowed

    @property
    def remark(self) -> str:
        """What the table says beside the outcome."""
        if self.good:
            return self.proof.summary if self.proof else f"{len(self.packages)} packages"
        return (
            f"{self.detail} (may fail: {self.cell.allowed})" if self.cell.allowed else self.detail
        )

    def row(self) -> tuple[str, ...]:
        """Its line of the table."""
        return (
            MARKS[self.outcome],
            self.cell.name,
            self.outcome,
            f"{self.seconds:.1f} s",
            self.remark,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run; *seconds* of wall time with *jobs* cells at once."""

    results: tuple[Result, ...]
    seconds: float
    jobs: int
    halted: str = ""
    """Why no more cells were started, if so."""

    @property
    def counts(self) -> Counter[CellOutcome]:
        """How many cells ended how."""
        return Counter(result.outcome for result in self.results)

    @property
    def exit_code(self) -> int:
        """0 if all that must be good is, else the code of what most needs a look."""
        codes = {result.status or 3 for result in self.results if result.counts}
        return next((code for code in EXIT_CODES if code in codes), 3 if codes else 0)

    def table(self) -> str:
        """Every cell, then the counts, then where to look for what failed."""
        lines = [
            format_table(
                [result.row() for result in self.results],
                header=("", "cell", "outcome", "time", ""),
            ),
            "",
            self.line(),
        ]
        lines += [
            f"log       {result.log}" for result in self.results if result.counts and result.log
        ]
        if self.halted:
            lines.append(
                f"stopped   {self.halted}; the same command goes on where this one stopped"
            )
        return "\n".join(lines)

    def line(self) -> str:
        """One line."""
        counts = ", ".join(f"{self.counts[o]} {o}" for o in CellOutcome if self.counts[o])
        allowed = sum(not r.good and bool(r.cell.allowed) for r in self.results)
        verdict = "FAILED" if self.exit_code else "passed"
        remark = f", {allowed} of these allowed to fail" if allowed else ""
        return f"{len(self.results)} cells: {verdict} ({counts}{remark}) in {self.seconds:.0f} s"

    def data(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            "version": __version__,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "jobs": self.jobs,
            "halted": self.halted,
            "counts": dict(self.counts),
            "cells": [
                {"name": r.cell.name, "allowed": r.cell.allowed, **plain(r)} for r in self.results
            ],
        }

    def write_json(self, path: Path) -> None:
        """The whole as JSON.

        :raises InfrastructureError: if it cannot be written.
        """
        with paths.replacing(path) as stage:
            stage.write_text(json.dumps(self.data(), indent=2, ensure_ascii=False) + "\n")

    def write_junit(self, path: Path) -> None:
        """The whole as JUnit XML: what may fail and did is a skipped test with its reason.

        :raises InfrastructureError: if it cannot be written.
        """
        tags = [_tag(result) for result in self.results]
        suite = ET.Element("testsuite", name="matrix", time=f"{self.seconds:.3f}")
        suite.set("tests", str(len(self.results)))
        for attribute, tag in (
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped", "skipped"),
        ):
            suite.set(attribute, str(tags.count(tag)))
        for result, tag in zip(self.results, tags, strict=True):
            case = ET.SubElement(
                suite,
                "testcase",
                classname="matrix",
                name=result.cell.name,
                time=f"{result.seconds:.3f}",
            )
            if tag:
                element = ET.SubElement(case, tag, message=result.remark or result.outcome)
                element.text = "\n".join(filter(None, (result.remark, result.log)))
        with paths.replacing(path) as stage:
            stage.write_bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def merge(files: Sequence[Path], cells: Sequence[Cell], folder: Path) -> Summary:
    """What the summaries *files* of shards say together of *cells*, also as files in *folder*.

    A cell that several of them name counts as the one of the last.

    :raises UserError: if one is no such summary, or names a cell that is none of *cells*.
    :raises InfrastructureError: if it cannot be written.
    """
    by_name = {cell.name: cell for cell in cells}
    results: dict[str, Result] = {}
    seconds, jobs, halted = 0.0, 0, []
    for file in files:
        try:
            data = json.loads(file.read_text())
            for record in data["cells"]:
                name = record["name"]
                if name not in by_name:
                    raise UserError(
                        f"{file} is of another matrix: there is no cell {name!r}",
                        hint="name its matrix with --file",
                    )
                results[name] = of_record(by_name[name], record)
            seconds += float(data["seconds"])
            jobs = max(jobs, int(data["jobs"]))
            halted += [data["halted"]] if data["halted"] else []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} is no summary of a matrix: {error}",
                hint="name files that `invoke matrix --run --json FILE` wrote",
            ) from error
    ordered = tuple(results[cell.name] for cell in cells if cell.name in results)
    joined = Summary(ordered, seconds, jobs, "; ".join(halted))
    joined.write_json(folder / "summary.json")
    joined.write_junit(folder / "junit.xml")
    return joined


def of_record(cell: Cell, record: Mapping[str, Any]) -> Result:
    """The result of *cell* that *record* tells of, as :meth:`Summary.data` has it.

    :raises (KeyError, TypeError, ValueError): if it is none.
    """
    names = {each.name for each in fields(Result)} - {"cell"}
    values = {name: value for name, value in record.items() if name in names}
    return Result(
        cell,
        **{
            **values,
            "outcome": CellOutcome(values["outcome"]),
            "packages": tuple(values["packages"]),
            "stages": tuple((title, seconds) for title, seconds in values["stages"]),
            "proof": CellProof(**values["proof"]) if values["proof"] else None,
        },
    )


def save(result: Result, folder: Path) -> None:
    """Keep *result* for the next run.

    :raises InfrastructureError: if it cannot be written.
    """
    with paths.replacing(folder / f"{result.cell.name}.json") as stage:
        stage.write_text(json.dumps(plain(result), indent=2, ensure_ascii=False) + "\n")


def remember(summary: Summary, folder: Path) -> None:
    """Keep how the cells of a run ended and how long they took, beside earlier runs of *folder*.

    Each run has a file of its own, so that those of several machines can be put together.

    :raises InfrastructureError: if it cannot be written.
    """
    now = datetime.now(UTC)
    run = {
        "when": now.isoformat(timespec="seconds"),
        "seconds": round(summary.seconds, 3),
        "jobs": summary.jobs,
        "cells": {
            result.cell.name: {
                "outcome": result.outcome,
                "seconds": round(result.seconds, 3),
                "proof": result.proof.status if result.proof else None,
            }
            for result in summary.results
            if result.outcome is not CellOutcome.NOT_RUN
        },
    }
    runs = folder / HISTORY
    with paths.replacing(runs / f"{now:%Y%m%dT%H%M%S.%f}-{os.getpid()}.json") as stage:
        stage.write_text(json.dumps(run, ensure_ascii=False) + "\n")
    for old in sorted(runs.glob("*.json"))[:-RUNS]:
        old.unlink(missing_ok=True)


def recall(cell: Cell, folder: Path) -> dict[str, Any]:
    """What was kept of *cell*; empty if nothing, or nothing that can be read."""
    return read(folder / f"{cell.name}.json")


def read(path: Path) -> dict[str, Any]:
    """The JSON object in *path*; empty if there is none."""
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def recall_proof(cell: Cell, folder: Path, key: str) -> CellProof | None:
    """The proof of *cell* with exactly this *key*, if it was passed."""
    try:
        proof = CellProof(**recall(cell, folder)["proof"])
    except (KeyError, TypeError):
        return None
    return proof if proof.key == key and proof.status == 0 else None


def plain(result: Result) -> dict[str, Any]:
    """The record of *result*; what cell it is of is not in it."""
    data = asdict(result)
    cell = data.pop("cell")
    asked = cell["request"]
    data["request"] = {name: asked[name] for name in ("kernel", "arch", "flavour", "iptables")}
    if cell["in_tree"]:
        data["in_tree"] = cell["in_tree"]
    return data


def _tag(result: Result) -> str:
    if result.good:
        return ""
    if result.cell.allowed or result.outcome is CellOutcome.NOT_RUN:
        return "skipped"
    return "error" if result.outcome is CellOutcome.ERROR else "failure"
