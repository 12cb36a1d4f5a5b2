"""The table of a run on terminals of many sizes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.terminal import python, watch

RUN = """
from pathlib import Path
from tarpit_builder.matrix import Cell, CellOutcome
from tarpit_builder.matrix.outcome import Result
from tarpit_builder.matrix.view import Running, View
from tarpit_builder.request import Request

names = ["debian-trixie-amd64", "debian-trixie-cloud-amd64", "debian-bookworm-backports-amd64"]
view = View(4)
log = Path({log!r})
running = [Running(name, "build", time.monotonic(), log) for name in names]
for item in running:
    view.started(item)
def go_on(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        view.tick(running, 1)
        time.sleep(0.05)
go_on(0.5)
failed = Cell(Request("debian:trixie"), minutes=10)
view.finished(Result(failed, CellOutcome.FAILED, 61.2, 5, "the compiler said no " * 5))
del running[0]
go_on(1)
view.close()
print("the summary")
"""


@pytest.mark.parametrize(("columns", "lines"), [(100, 24), (40, 24), (60, 3), (12, 2)])
def test_table_fits_into_the_terminal(columns: int, lines: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("gcc " * 40 + "\n")
    seen = watch(python(RUN.format(log=str(log))), columns=columns, lines=lines)
    assert seen.ever("0 of 4 done, 3 running, 1 waiting"[: columns - 3])
    assert seen.ever("debian-trixie-cloud-amd64") == (columns == 100)
    # What ended stays, and of the table nothing does.
    whole = "".join(line.ljust(columns) for line in seen.left)
    assert re.search(r"✗ \[1/4\] debian-trixie-amd64 +failed +61.2 s  the compiler said no", whole)
    assert "running" not in whole
    assert whole.rstrip().endswith("the summary")
    assert seen.cursor


def test_log_gets_a_line_for_each_event() -> None:
    seen = watch(python(RUN.format(log="/nowhere")), environment={"CI": "true"}, columns=200)
    assert "\033" not in seen.raw
    assert seen.left[:3] == [f"  {name}: build …" for name in (
        "debian-trixie-amd64", "debian-trixie-cloud-amd64", "debian-bookworm-backports-amd64"
    )]  # fmt: skip
    assert "✗ [1/4] debian-trixie-amd64" in seen.left[3]
    assert seen.left[4:] == ["the summary"]
