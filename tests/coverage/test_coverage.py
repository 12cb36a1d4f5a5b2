"""What the counters of the guests add up to, and which lines of the module need a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tarpit_builder import coverage, records
from tarpit_builder.coverage import CoverageRun, counts, page, reasons
from tarpit_builder.coverage.counts import Line
from tarpit_builder.coverage.page import Reached
from tarpit_builder.coverage.reasons import Reason
from tarpit_builder.errors import CheckFailedError, InfrastructureError, UserError

SOURCE = {"a.c": "int f(int x)\n{\n\tif (x)\n\t\treturn 1;\n\treturn a | b;\n}\n"}


def document(*lines: tuple[int, int, list[int]], file: str = "/build/module/a.c") -> str:
    """What gcov prints of *lines*: number, count, counts of branches."""
    return json.dumps(
        {
            "files": [
                {
                    "file": file,
                    "lines": [
                        {
                            "line_number": number,
                            "count": count,
                            "function_name": "f",
                            "branches": [{"count": taken} for taken in branches],
                        }
                        for number, count, branches in lines
                    ],
                }
            ]
        }
    )


def test_guests_and_modules_add_up_and_the_kernels_headers_do_not_count(tmp_path: Path) -> None:
    for guest, module, said in (
        ("one", "xt", document((3, 2, [2, 0]), (4, 0, []))),
        ("two", "xt", document((3, 1, [0, 1]), (4, 1, []))),
        ("two", "other", document((1, 7, []), file="include/linux/skbuff.h")),
    ):
        (tmp_path / guest).mkdir(exist_ok=True)
        (tmp_path / guest / f"{module}.json").write_text(said)
    found = counts.read(tmp_path, SOURCE)
    assert found == {("a.c", 3): Line(3, (2, 1), ("f",)), ("a.c", 4): Line(1, (), ("f",))}
    assert counts.load(json.loads(json.dumps(counts.dump(found)))) == found


def test_branches_of_two_compilations_do_not_get_lost() -> None:
    assert Line(1, (1, 0, 4)) + Line(2, (0, 2)) == Line(3, (1, 2, 4))
    assert counts.together() == {}


def test_what_gcov_did_not_print_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "xt.json").write_text('{"files": [{"lines": []}]}')
    with pytest.raises(InfrastructureError, match="gcov printed what cannot be read: .*xt.json"):
        counts.read(tmp_path, SOURCE)


def run(kernel: str, verify: dict[int, int], fuzz: dict[int, int]) -> CoverageRun:
    """One, of the counts of lines."""
    ways = {
        way: {("a.c", number): Line(count, (), ("f",)) for number, count in lines.items()}
        for way, lines in (("verify", verify), ("fuzz", fuzz))
    }
    return CoverageRun(kernel, "2026-11-30", {way: f"{way} done" for way in ways}, ways)


OLD = run("5.10", {3: 1, 4: 0, 5: 0}, {3: 5, 4: 2, 5: 0})
NEW = run("7.2", {3: 1, 4: 0, 5: 1}, {3: 5, 4: 0, 5: 0})


def test_a_line_is_reached_by_either_way_and_on_every_kernel() -> None:
    made = page.make([OLD, NEW], SOURCE, [])
    assert [(line.number, line.where) for line in made.unreached] == [(4, ("7.2",)), (5, ("5.10",))]
    figures = {(row.kernel, row.way): str(row.lines) for row in made.rows}
    assert figures["5.10", "verify"] == "1 of 3 (33.3 %)"
    assert figures["5.10", "all"] == figures["7.2", "all"] == "2 of 3 (66.6 %)"
    with pytest.raises(CheckFailedError, match="2 lines of the module are not reached"):
        made.demand_reasons()
    assert "a.c:4: not reached on 7.2: return 1;" in made.table()
    assert "**nobody knows**" in made.markdown()


def test_reasons_are_found_by_function_and_text_and_none_is_left_over() -> None:
    known = [Reason("a.c", "no x", function="f", line="^return 1"), Reason("a.c", "a|b", line="a ")]
    made = page.make([OLD, NEW], SOURCE, known)
    assert [line.reason for line in made.unreached] == ["no x", "a|b"]
    made.demand_reasons()
    assert r"| `a.c:5` | `` return a \| b; `` | 5.10 | a\|b |" in made.markdown()
    stale = page.make([OLD, NEW], SOURCE, [*known, Reason("a.c", "gone", function="g")])
    with pytest.raises(CheckFailedError, match="1 rows of rules/coverage.toml"):
        stale.demand_reasons()
    assert "a reason without a line: a.c: g" in stale.table()


def test_all_is_only_said_of_all() -> None:
    assert str(Reached(9999, 10000)) == "9999 of 10000 (99.9 %)"
    assert str(Reached(3, 3)) == "3 of 3 (100.0 %)"
    assert str(Reached(0, 0)) == "0 of 0 (100.0 %)"


def test_what_is_kept_is_of_the_module_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coverage._keep(NEW, tmp_path)
    coverage._keep(OLD, tmp_path)
    assert coverage.kept(tmp_path) == [OLD, NEW]
    monkeypatch.setattr(records, "module_digest", lambda: "another")
    assert coverage.kept(tmp_path) == []
    with pytest.raises(UserError, match="nothing was counted of this module yet"):
        coverage.report(tmp_path)


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    coverage._keep(NEW, tmp_path)
    file = tmp_path / "coverage/7.2.json"
    file.write_text(file.read_text().replace('"ways"', '"way"'))
    with pytest.raises(InfrastructureError, match="7.2.json in .* is damaged"):
        coverage.kept(tmp_path)


def test_the_modules_own_files_are_its_sources() -> None:
    own = coverage.own_files()
    assert {"xt_TARPIT.c", "tarpit.c", "tarpit_core.h", "compat/compat.h"} <= own.keys()
    assert not any("probes" in name or "include" in name for name in own)
    for row in reasons.table():
        assert row.file in own
        assert row.reason
