"""What is kept of a run of the matrix for those who look at it later."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from tarpit_builder.matrix import Cell, CellOutcome, outcome
from tarpit_builder.matrix.outcome import CellProof, Result, Summary
from tarpit_builder.page import cells
from tarpit_builder.request import Request

NEW = Cell(Request("debian:trixie", flavour="cloud"))
OLD = Cell(Request("2.6.24", iptables="1.4.0"))


def summary(how: CellOutcome) -> Summary:
    proof = CellProof("key", 0, "passed", 9.0)
    results = (Result(NEW, how, 61.5, proof=proof), Result(OLD, CellOutcome.NOT_RUN))
    return Summary(results, 70.0, 2)


def test_each_run_is_remembered_and_the_report_can_read_it(tmp_path: Path) -> None:
    for how in (CellOutcome.BUILT, CellOutcome.FAILED):
        outcome.remember(summary(how), tmp_path / outcome.FOLDER)
    runs, problems = cells.runs(tmp_path)
    assert not problems
    assert [run.cells for run in runs] == [
        {NEW.name: ("built", 61.5, 0)},
        {NEW.name: ("failed", 61.5, 0)},
    ]


def test_the_oldest_runs_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "RUNS", 3)
    kept = tmp_path / outcome.FOLDER / outcome.HISTORY
    seen = []
    for _ in range(5):
        outcome.remember(summary(CellOutcome.BUILT), tmp_path / outcome.FOLDER)
        seen.append(max(path.name for path in kept.iterdir()))
    assert sorted(path.name for path in kept.iterdir()) == seen[-3:]


def test_the_record_of_a_cell_says_what_was_asked_for_and_when(tmp_path: Path) -> None:
    outcome.save(Result(OLD, CellOutcome.FAILED, detail="does not compile"), tmp_path)
    record = json.loads((tmp_path / f"{OLD.name}.json").read_text())
    assert record["request"] == {
        "kernel": "2.6.24", "arch": "amd64", "flavour": "", "iptables": "1.4.0",
    }  # fmt: skip
    assert datetime.fromisoformat(record["when"]).tzinfo is not None
    assert outcome.recall(OLD, tmp_path) == record
