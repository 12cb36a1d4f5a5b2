"""A terminal is redrawn, everything else gets plain lines."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.console import Console, format_table
from tests.terminal import python, watch

COMPILE = """
with console.stage("compile") as stage:
    stage.note("CC xt_TARPIT.o")
    time.sleep(1.2)
    stage.done("3 packages")
"""
OVERLAPPING = """
begun = threading.Barrier(5)
def work(number):
    with console.stage(f"stage {number}") as stage:
        stage.note("busy")
        begun.wait()
        time.sleep(0.3 * number)
threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
DOWNLOAD = """
with console.stage("headers of a kernel with a long name") as stage:
    for done in range(90_000_000, 92_000_000, 50_000):
        stage.progress(done, 92_000_000)
        time.sleep(0.05)
    stage.progress(92_000_000, 92_000_000)
    stage.note("unpacking a folder with a name that is longer than most terminals are wide")
    time.sleep(1.2)
"""
CLOSING = re.compile(r"^  compile +\d+\.\d s  3 packages$")


def test_log_gets_plain_lines() -> None:
    out = io.StringIO()
    with Console(stream=out).stage("compile") as stage:
        stage.note("not shown")
        stage.progress(1, 2)
        stage.done("3 packages")
    first, last = out.getvalue().splitlines()
    assert first == "  compile …"
    assert CLOSING.match(last)


@pytest.mark.parametrize(
    "setting",
    [
        {"CI": "true"},
        {"TERM": "dumb"},
        {"TERM": ""},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_terminal_that_is_not_to_be_redrawn_gets_plain_lines(setting: dict[str, str]) -> None:
    seen = watch(python(COMPILE), environment=setting)
    assert "\033" not in seen.raw
    assert len(seen.left) == 2
    assert CLOSING.match(seen.left[-1])


def test_terminal_sees_time_pass_while_nothing_is_said() -> None:
    seen = watch(python(COMPILE))
    assert seen.ever("compile 0:00:00 CC xt_TARPIT.o")
    assert seen.ever("compile 0:00:01 CC xt_TARPIT.o")
    assert len(seen.left) == 1
    assert CLOSING.match(seen.left[0])
    assert seen.cursor


def test_without_colours_it_is_redrawn_all_the_same() -> None:
    colour = re.compile(r"\033\[[0-9;]*3\d[0-9;]*m")
    assert colour.search(watch(python(COMPILE)).raw)
    seen = watch(python(COMPILE), environment={"NO_COLOR": "1"})
    assert seen.ever("CC xt_TARPIT.o")
    assert not colour.search(seen.raw)


@pytest.mark.parametrize("lines", [24, 4])
def test_stages_of_several_threads_overlap(lines: int) -> None:
    seen = watch(python(OVERLAPPING), lines=lines)
    assert seen.ever("0:00:00 busy\n", "0:00:00 busy")
    every = [f"stage {number} 0:00:00 busy" for number in range(1, 6)]
    assert seen.ever(*every) == (lines == 24)
    ended = [re.sub(r" +\d\.\d s$", "", line) for line in seen.left]
    assert ended == [f"  stage {number}" for number in range(1, 6)]


@pytest.mark.parametrize("columns", [30, 60, 200])
def test_a_stage_is_one_line_however_narrow_the_terminal(columns: int) -> None:
    seen = watch(python(DOWNLOAD), columns=columns)
    assert seen.ever("unpack")
    assert all(sum(map(bool, frame)) <= 1 for frame in seen.frames if "0:0" in "".join(frame))


def test_what_a_download_resumes_is_no_speed() -> None:
    seen = watch(python(DOWNLOAD), columns=120)
    speeds = re.findall(r"9\d\.\d/92\.0 MB  ([\d.]+) (kB|MB)/s  0:00:0\d", str(seen.frames))
    assert speeds
    # 1 MB/s was asked for, a busy machine may be slower, and 90 MB had come before.
    assert max(float(number) / (1000 if unit == "kB" else 1) for number, unit in speeds) < 1.1


def test_the_end_of_a_download_is_not_that_of_its_stage() -> None:
    assert watch(python(DOWNLOAD), columns=120).ever("0:00:03 unpacking")


def test_no_line_is_lost_while_many_stages_come_and_go() -> None:
    many = """
def work(number):
    for turn in range(12):
        with console.stage(f"stage {number}.{turn}") as stage:
            stage.note("busy")
            time.sleep(0.02 + 0.013 * number)
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    seen = watch(python(many))
    assert {line.split()[1] for line in seen.left} == {
        f"{n}.{t}" for n in range(8) for t in range(12)
    }
    assert len(seen.left) == 96
    assert seen.ever("busy\n", "busy")


def test_lines_of_others_stand_above_what_is_redrawn() -> None:
    others = """
with console.stage("compile") as stage:
    time.sleep(0.3)
    console.say("  said")
    Console().warn("by another console")
    print("printed", file=sys.stderr)
    print("result")
    time.sleep(0.3)
"""
    *lines, last = watch(python(others)).left
    assert lines[:3] == ["  said", "warning: by another console", "printed"]
    assert last.startswith("  compile ")


def test_interruption_gives_the_terminal_back() -> None:
    seen = watch(python(COMPILE), interrupt=lambda frame: "CC xt" in "".join(frame))
    assert any(re.match(r"  compile +\d\.\d s  failed$", line) for line in seen.left)
    assert seen.left[-1] == "KeyboardInterrupt"
    assert seen.cursor


def test_failed_stage_says_so() -> None:
    out = io.StringIO()

    def fail() -> None:
        with Console(stream=out).stage("compile"):
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert out.getvalue().splitlines()[-1].endswith("failed")


def test_quiet_says_nothing_but_warnings() -> None:
    out = io.StringIO()
    console = Console(quiet=True, stream=out)
    with console.stage("compile") as stage:
        stage.note("CC xt_TARPIT.o")
        console.warn("old")
    assert out.getvalue() == "warning: old\n"


def test_table_is_aligned() -> None:
    text = format_table([("a", "bbb"), ("cc", "[d] :cat:")], header=("x", "y"))
    assert text.splitlines() == ["x   y", "─" * 13, "a   bbb", "cc  [d] :cat:"]
    assert format_table([("ok", "QEMU"), ("", "")]).splitlines() == ["ok  QEMU"]
    assert format_table([]) == ""


def test_table_has_whole_lines_however_narrow_the_terminal() -> None:
    digest, path = "0123456789abcdef" * 4, "/a path/" + "of many folders/" * 20
    program = f"""
from tarpit_builder.console import format_table
print(format_table([({digest!r}, {path!r})] * 3, header=("sha256", "path")))
"""
    for width in ("40", ""):
        run = subprocess.run(
            python(program),
            env={**os.environ, "COLUMNS": width}, cwd=paths.PROJECT,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert run.stdout.splitlines()[2:] == [f"{digest}  {path}"] * 3
    seen = watch(python(program), columns=40)
    assert seen.raw.count(f"{digest}  {path}") == 3


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_results_can_be_printed_in_every_locale(encoding: str) -> None:
    run = subprocess.run(
        [Path(sys.executable).parent / "invoke", "verify", "--only", "list"],
        env={**os.environ, "PYTHONIOENCODING": encoding}, cwd=paths.PROJECT,
        capture_output=True, check=True,
    )  # fmt: skip
    lines = run.stdout.decode(encoding).splitlines()
    assert set(lines[1]) == {"─" if encoding == "utf-8" else "-"}
    assert lines[2].startswith("smoke")
