"""A terminal gets one live line, everything else plain ones."""

from __future__ import annotations

import io
import threading
import time

import pytest

from tarpit_builder.console import Console, format_table


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def test_log_gets_plain_lines() -> None:
    out = io.StringIO()
    with Console(stream=out).stage("compile") as stage:
        stage.note("not shown")
        stage.done("3 packages")
    first, last = out.getvalue().splitlines()
    assert first == "  compile …"
    assert last.startswith("  compile  ")
    assert last.endswith("s  3 packages")
    assert "\033" not in out.getvalue()


def test_ci_counts_as_a_log(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with Console(stream=terminal).stage("compile"):
        pass
    assert "\033" not in terminal.getvalue()


def test_terminal_sees_time_pass_while_nothing_is_said(terminal: Terminal) -> None:
    with Console(stream=terminal).stage("compile") as stage:
        stage.note("CC xt_TARPIT.o")
        deadline = time.monotonic() + 10
        while terminal.getvalue().count("CC xt_TARPIT.o") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert terminal.getvalue().count("CC xt_TARPIT.o") >= 3


def test_nothing_is_drawn_once_the_last_stage_ended(terminal: Terminal) -> None:
    with Console(stream=terminal).stage("compile"):
        time.sleep(0.15)
    seen = terminal.getvalue()
    time.sleep(0.3)
    assert terminal.getvalue() == seen
    assert seen.endswith("s\n")


def test_stages_of_several_threads_may_overlap(terminal: Terminal) -> None:
    console = Console(stream=terminal)
    begun = threading.Barrier(2)

    def work(title: str, seconds: float) -> None:
        with console.stage(title):
            begun.wait(5)
            time.sleep(seconds)

    threads = [threading.Thread(target=work, args=args) for args in (("long", 0.4), ("short", 0.1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    # Not splitlines(): it takes the carriage returns of a redrawn line for ends of lines.
    lines = [line.rpartition("\033[K")[2] for line in terminal.getvalue().split("\n")]
    assert [line.split()[0] for line in lines if line.strip()] == ["short", "long"]


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
    with console.stage("compile"):
        console.warn("old")
    assert out.getvalue() == "warning: old\n"


def test_what_a_download_resumes_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0, 10, 12))
    with Console(quiet=True).stage("download") as stage:
        monkeypatch.setattr(time, "monotonic", lambda: next(clock))
        stage.progress(90_000_000, 100_000_000)
        stage.progress(92_000_000, 100_000_000)
        assert stage.detail == "92.0 MB of 100.0 MB, 200.0 kB/s, 40 s left"
        stage.progress(94_000_000, 100_000_000)
        assert stage.detail.endswith("333.3 kB/s, 18 s left")
        monkeypatch.undo()


def test_table_is_aligned() -> None:
    text = format_table([("a", "bbb"), ("cc", "d")], header=("x", "y"))
    assert text.splitlines() == ["x   y", "──  ───", "a   bbb", "cc  d"]
