"""A run of the matrix as it happens: what ended scrolls up, what runs is redrawn below it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tarpit_builder.console import format_table, is_live
from tarpit_builder.matrix.outcome import Result

REDRAW = 0.2  # seconds
TAIL = 2000  # bytes of a log in which its last line is looked for


@dataclass(frozen=True, slots=True)
class Running:
    """A cell under way: its *name*, the *step*, when it *began* (monotonic) and its *log*."""

    name: str
    step: str
    began: float
    log: Path


class View:
    """Progress on *stream*: a table on a terminal, else a line when a cell starts and ends."""

    def __init__(self, total: int, jobs: int, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = is_live(self._stream)
        self._total, self._jobs = total, jobs
        self._done: list[Result] = []
        self._drawn = 0
        self._last = 0.0
        self._began = time.monotonic()

    def started(self, running: Running) -> None:
        """Say that a cell has begun a step."""
        if not self._live:
            self._write(f"  {running.name}: {running.step} …\n")

    def finished(self, result: Result) -> None:
        """Say how a cell ended."""
        self._done.append(result)
        mark, name, outcome, seconds, remark = result.row()
        count = f"[{len(self._done):>{len(str(self._total))}}/{self._total}]"
        self._clear()
        self._write(
            self._fitted(f"  {mark} {count} {name:<40} {outcome:<8} {seconds:>8}  {remark}")
        )
        self._last = 0.0

    def tick(self, running: Sequence[Running], waiting: int) -> None:
        """Redraw what is under way."""
        now = time.monotonic()
        if not self._live or now - self._last < REDRAW:
            return
        self._last = now
        rows = [
            ("   ", item.name, item.step, f"{now - item.began:.0f} s", last_line(item.log))
            for item in running
        ]
        lines = [*format_table(rows).splitlines(), f"  {self._totals(len(running), waiting)}"]
        self._clear()
        for line in lines:
            self._write(self._fitted(line))
        self._drawn = len(lines)

    def close(self) -> None:
        """Take away what was being redrawn."""
        self._clear()

    def _totals(self, running: int, waiting: int) -> str:
        bad = sum(result.counts for result in self._done)
        text = f"{len(self._done)} of {self._total} done"
        text += f", {bad} bad" if bad else ""
        text += f", {running} running, {waiting} waiting"
        if self._done and waiting:
            pace = (time.monotonic() - self._began) / len(self._done)
            text += f", about {pace * (waiting + running) / 60:.0f} min left"
        return text

    def _fitted(self, line: str) -> str:
        if not self._live:
            return line.rstrip() + "\n"
        return line[: shutil.get_terminal_size().columns - 1] + "\n"

    def _clear(self) -> None:
        if self._drawn:
            self._write(f"\033[{self._drawn}F\033[J")
            self._drawn = 0

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def last_line(log: Path) -> str:
    """The last line of *log* that says anything."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines[-1].split()) if lines else ""
