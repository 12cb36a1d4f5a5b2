"""A run of the matrix as it happens: what ended scrolls up, what runs is redrawn below it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tarpit_builder.console import Screen
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

    def __init__(self, total: int, stream: IO[str] | None = None) -> None:
        self._screen = Screen.of(stream)
        self._total = total
        self._done: list[Result] = []
        self._running: Sequence[Running] = ()
        self._waiting = total
        self._drawn = 0.0
        self._began = time.monotonic()
        self._table = Live(
            get_renderable=self._draw,
            console=self._screen.rich,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )

    def started(self, running: Running) -> None:
        """Say that a cell has begun a step."""
        if not self._screen.live:
            self._screen.print(f"  {running.name}: {running.step} …")

    def finished(self, result: Result) -> None:
        """Say how a cell ended."""
        self._done.append(result)
        mark, name, outcome, seconds, remark = result.row()
        count = f"[{len(self._done):>{len(str(self._total))}}/{self._total}]"
        line = f"  {mark} {count} {name:<40} {outcome:<8} {seconds:>8}  {remark}"
        self._screen.print(line.rstrip(), "red" if result.counts else None)

    def say(self, text: str) -> None:
        """Say what is of no one cell."""
        self._screen.print(f"  {text}")

    def tick(self, running: Sequence[Running], waiting: int) -> None:
        """Show what is under way."""
        self._running, self._waiting = running, waiting
        now = time.monotonic()
        if self._screen.live and now - self._drawn >= REDRAW:
            self._drawn = now
            self._table.start()
            self._table.refresh()

    def close(self) -> None:
        """Take away what was being redrawn."""
        self._running = ()  # rich draws once more, in whatever height that takes
        self._table.stop()

    def _draw(self) -> Group:
        """The totals, which a short terminal shows first, then the cells that run."""
        now = time.monotonic()
        table = Table.grid(padding=(0, 2, 0, 0))
        for item in self._running:
            seconds = f"{now - item.began:.0f} s"
            row = (f"    {item.name}", item.step, seconds, last_line(item.log))
            table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
        return Group(Text(f"  {self._totals()}", no_wrap=True, overflow="ellipsis"), table)

    def _totals(self) -> str:
        bad = sum(result.counts for result in self._done)
        text = f"{len(self._done)} of {self._total} done"
        text += f", {bad} bad" if bad else ""
        text += f", {len(self._running)} running, {self._waiting} waiting"
        if self._done and self._waiting:
            pace = (time.monotonic() - self._began) / len(self._done)
            text += f", about {pace * (self._waiting + len(self._running)) / 60:.0f} min left"
        return text


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
