"""What a person sees while it runs: the stage, its elapsed time, then a short table.

On a terminal one live line per running stage; elsewhere, and with ``CI=true``, plain lines that
a log can keep.  Everything goes to standard error but for results, so that ``--json`` and the
like can be piped.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

TICK = 0.1  # seconds between two redraws of a live line


def is_live(stream: IO[str]) -> bool:
    """Whether *stream* may be redrawn: a terminal, and nobody said CI or NO_COLOR/dumb."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        return False
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb"}


class Stage:
    """One running step: :meth:`note` says what it is busy with."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self.title = title
        self.started = time.monotonic()
        self.detail = ""
        self.summary = ""
        self._from: tuple[float, int] | None = None

    def note(self, detail: str) -> None:
        """Show *detail* behind the stage while it runs (live terminals only)."""
        self.detail = detail

    def progress(self, done: int, total: int | None) -> None:
        """Show *done* of *total* bytes, with speed and time left.

        What was there at the first call, such as the part that a download resumes, is no speed.
        """
        now = time.monotonic()
        if self._from is None or done < self._from[1]:
            self._from = now, done
        began, already = self._from
        text = f"{_size(done)}" + (f" of {_size(total)}" if total else "")
        if now > began:
            speed = (done - already) / (now - began)
            text += f", {_size(int(speed))}/s"
            if total and done < total and speed > 0:
                text += f", {(total - done) / speed:.0f} s left"
        self.note(text)

    def done(self, summary: str) -> None:
        """What the stage's closing line says (``cached``, ``3 packages``)."""
        self.summary = summary


class Console:
    """Progress and results; one for each run of a task."""

    def __init__(self, *, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = is_live(self._stream) and not quiet
        self._quiet = quiet
        self.stages: list[tuple[str, float]] = []
        """Every stage that has ended: its title and the seconds it took."""
        self._running: list[Stage] = []
        self._stop: threading.Event | None = None
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Run a step under *title*; its line ends with the time it took, or ``failed``."""
        stage = Stage(self, title)
        if not self._live:
            self.say(f"  {title} …")
        self._begin(stage)
        summary = "failed"
        try:
            yield stage
            summary = stage.summary
        finally:
            self._end(stage)
            elapsed = time.monotonic() - stage.started
            self.stages.append((stage.title, elapsed))
            tail = f"  {summary}" if summary else ""
            self.say(f"  {stage.title:<44} {elapsed:6.1f} s{tail}")

    def _begin(self, stage: Stage) -> None:
        with self._lock:
            self._running.append(stage)
            if self._live and self._stop is None:
                self._stop = threading.Event()
                threading.Thread(target=self._tick, args=(self._stop,), daemon=True).start()

    def _end(self, stage: Stage) -> None:
        with self._lock:
            self._running.remove(stage)
            if not self._running and self._stop is not None:
                self._stop.set()
                self._stop = None

    def _tick(self, stop: threading.Event) -> None:
        """Redraw the newest running stage until *stop*: stages may overlap, in threads."""
        while not stop.wait(TICK):
            with self._lock:
                if self._running and not stop.is_set():
                    self._draw(self._running[-1])

    def say(self, text: str) -> None:
        """A line of its own, above whatever is being redrawn."""
        if not self._quiet:
            self._line(text)

    def warn(self, text: str) -> None:
        """A line that the user should act on, also when quiet."""
        self._line(f"warning: {text}")

    def _line(self, text: str) -> None:
        with self._lock:
            self._stream.write(("\r\033[K" if self._live else "") + text + "\n")
            self._stream.flush()

    def _draw(self, stage: Stage) -> None:
        elapsed = time.monotonic() - stage.started
        text = f"  {stage.title}  {elapsed:5.1f} s  {stage.detail}"
        self._stream.write("\r\033[K" + text[: _columns() - 1])
        self._stream.flush()


def format_table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = ()) -> str:
    """*rows* as left-aligned columns two spaces apart, under an optional *header*."""
    everything = [list(header), *map(list, rows)] if header else [list(row) for row in rows]
    if not everything:
        return ""
    columns = max(map(len, everything))
    widths = [max(len(row[i]) if i < len(row) else 0 for row in everything) for i in range(columns)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in everything
    ]
    if header:
        lines.insert(1, "  ".join("─" * width for width in widths))
    return "\n".join(lines)


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return 80


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
