"""What a person sees while it runs: the stage, its elapsed time, then a short table.

On a terminal one live line per running stage; elsewhere, and with ``CI=true``, plain lines that
a log can keep.  Everything goes to standard error but for results, so that ``--json`` and the
like can be piped.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO


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

    def note(self, detail: str) -> None:
        """Show *detail* behind the stage while it runs (live terminals only)."""
        self.detail = detail
        self._console._refresh(self)

    def progress(self, done: int, total: int | None) -> None:
        """Show *done* of *total* bytes, with speed and time left."""
        elapsed = max(time.monotonic() - self.started, 1e-3)
        speed = done / elapsed
        text = f"{_size(done)}" + (f" of {_size(total)}" if total else "")
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
        self._last = 0.0

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Run a step under *title*; its line ends with the time it took, or ``failed``."""
        stage = Stage(self, title)
        if not self._live:
            self._line(f"  {title} …")
        else:
            self._draw(stage)
        try:
            yield stage
        except BaseException:
            self._finish(stage, "failed")
            raise
        self._finish(stage, stage.summary)

    def say(self, text: str) -> None:
        """A line of its own, above whatever is being redrawn."""
        if self._live:
            self._stream.write("\r\033[K")
        self._line(text)

    def warn(self, text: str) -> None:
        """A line that the user should act on, also when quiet."""
        if self._live:
            self._stream.write("\r\033[K")
        self._stream.write(f"warning: {text}\n")
        self._stream.flush()

    def table(self, rows: Sequence[Sequence[str]], *, header: Sequence[str] = ()) -> None:
        """Print *rows* to standard output in aligned columns."""
        print(format_table(rows, header=header))

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _refresh(self, stage: Stage) -> None:
        now = time.monotonic()
        if self._live and now - self._last > 0.1:
            self._last = now
            self._draw(stage)

    def _draw(self, stage: Stage) -> None:
        elapsed = time.monotonic() - stage.started
        width = _columns()
        text = f"  {stage.title}  {elapsed:5.1f} s  {stage.detail}"
        self._stream.write("\r\033[K" + text[: width - 1])
        self._stream.flush()

    def _finish(self, stage: Stage, summary: str) -> None:
        elapsed = time.monotonic() - stage.started
        tail = f"  {summary}" if summary else ""
        if self._live:
            self._stream.write("\r\033[K")
        self._line(f"  {stage.title:<44} {elapsed:6.1f} s{tail}")


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
