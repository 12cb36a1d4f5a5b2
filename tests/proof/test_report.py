"""What a report says, and what its exit code is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tarpit_builder.proof.report import CheckResult, Verdict, VerifyReport


def report(*outcomes: Verdict) -> VerifyReport:
    """A report whose checks ended as *outcomes* say."""
    results = tuple(
        CheckResult("wire", "nft", f"check {n}", "1", 4, outcome, 0.5, "because", ("a > b S",))
        for n, outcome in enumerate(outcomes)
    )
    return VerifyReport("6.1", ("x.deb",), "tcg", 1, 3.0, results)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([Verdict.PASS], 0),
        ([Verdict.PASS, Verdict.SKIP], 0),
        ([Verdict.PASS, Verdict.FAIL], 1),
        ([Verdict.ERROR, Verdict.FAIL], 1),
        ([Verdict.PASS, Verdict.ERROR], 3),
        ([Verdict.SKIP], 3),
        ([], 3),
    ],
)
def test_exit_code_never_says_pass_without_a_pass(outcomes: list[Verdict], code: int) -> None:
    assert report(*outcomes).exit_code == code


def test_table_shows_what_did_not_pass_and_why() -> None:
    table = report(Verdict.PASS, Verdict.FAIL, Verdict.SKIP).table()
    assert "check 0" not in table
    for text in ("wire/nft", "IPv4: check 1", "because", "a > b S", "FAILED"):
        assert text in table


def test_json_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report(Verdict.PASS, Verdict.FAIL).write_json(path)
    document = json.loads(path.read_text())
    assert document["exit_code"] == 1
    assert [result["outcome"] for result in document["results"]] == ["pass", "fail"]


def test_junit_counts_what_ci_counts(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    report(Verdict.PASS, Verdict.FAIL, Verdict.SKIP, Verdict.ERROR).write_junit(path)
    suite = ET.parse(path).getroot()  # noqa: S314  (our own file)
    counts = {name: suite.get(name) for name in ("tests", "failures", "skipped", "errors")}
    assert counts == {"tests": "4", "failures": "1", "skipped": "1", "errors": "1"}
    assert [case[0].tag for case in suite if len(case)] == ["failure", "skipped", "error"]


def test_somebody_elses_packages_differ_and_do_not_fail() -> None:
    theirs = replace(report(Verdict.PASS, Verdict.FAIL), given=True)
    assert "differs from the contract (1 fail, 1 pass)" in theirs.summary()
    assert "FAILED" not in theirs.table()
    assert theirs.exit_code == 1
