"""Findings are read from what analyzers print, and judged by the table of known ones."""

from __future__ import annotations

import re

import pytest

from tarpit_builder import analysis, paths
from tarpit_builder.analysis.findings import Diagnostic, Known, judge, known, parse
from tarpit_builder.errors import CheckFailedError, UserError

CAST = Diagnostic("dkms/xt_TARPIT.c", 9, "warning: restricted __be32 degrades to integer", "sparse")
ROW = Known("sparse", "dkms/*.c", "restricted __be32", "because")


@pytest.mark.parametrize(
    "said",
    [
        "dkms/xt_TARPIT.c:9:16: warning: restricted __be32 degrades to integer",
        "dkms/xt_TARPIT.c:9:16-20: warning: restricted __be32 degrades to integer",
        "dkms/xt_TARPIT.c:9: warning: restricted __be32 degrades to integer",
    ],
)
def test_a_finding_is_read_in_each_form(said: str) -> None:
    lines = f"  CHECK   dkms/xt_TARPIT.c\n{said}\ndkms/xt_TARPIT.c:3:1: note: declared here\n"
    assert list(parse("sparse", lines)) == [CAST]


def test_what_is_not_named_is_new_and_closes_the_gate() -> None:
    verdict = judge([CAST], {"sparse"}, [])
    assert verdict.new == (CAST,)
    assert verdict.count("sparse") == (0, 1)
    with pytest.raises(CheckFailedError, match="1 findings of static analysis are not named"):
        analysis.AnalysisReport(("sparse",), verdict, {}).demand_clean()


def test_what_is_named_is_known_wherever_its_line_moves() -> None:
    moved = Diagnostic(CAST.file, 700, CAST.text, CAST.analyzer)
    verdict = judge([moved], {"sparse"}, [ROW])
    assert verdict.known == (moved,)
    analysis.AnalysisReport(("sparse",), verdict, {}).demand_clean()


@pytest.mark.parametrize("other", ["gcc", "sparse"])
def test_a_row_is_for_one_analyzer_and_one_place(other: str) -> None:
    elsewhere = Diagnostic("tests/x.c", 9, CAST.text, other)
    assert judge([elsewhere], {other}, [ROW]).new == (elsewhere,)


def test_a_row_that_covers_nothing_closes_the_gate_if_its_analyzer_has_looked() -> None:
    stale = judge([], {"sparse"}, [ROW])
    assert stale.stale == (ROW,)
    outcome = analysis.AnalysisReport(("sparse",), stale, {})
    assert "named, but not found any more: dkms/*.c: restricted __be32 [sparse]" in outcome.table()
    with pytest.raises(CheckFailedError, match="1 rows"):
        outcome.demand_clean()
    assert judge([], {"gcc"}, [ROW]).stale == ()


def test_every_row_has_its_reason_and_an_analyzer_that_is_there() -> None:
    rows = known()
    assert rows
    names = {one.name for one in analysis.ANALYZERS}
    for row in rows:
        assert row.analyzer in names
        assert len(row.reason.split()) >= 3, row
        re.compile(row.finding)
        assert list(paths.PROJECT.glob(row.file if "*" not in row.file else "*"))


def test_a_misspelt_analyzer_brings_the_near_one() -> None:
    with pytest.raises(UserError, match="did you mean sparse"):
        analysis.choose(["sprase"])
    assert [one.name for one in analysis.choose(["gcc", "sparse"])] == ["sparse", "gcc"]
    assert "pip-audit" not in {one.name for one in analysis.choose((), offline=True)}
