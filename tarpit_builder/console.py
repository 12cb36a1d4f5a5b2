"""What a person sees while it runs: the stages under way, then a short table.

On a terminal rich redraws a line for each running stage; elsewhere, and with ``CI=true``, there are
plain lines that a log can keep.  Everything goes to standard error but for results, so that
``--json`` and the like can be piped.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import rich.console
from rich.box import SIMPLE_HEAD
from rich.progress import (
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

TICK = 0.1  # seconds between two redraws
UNBOUND = 1_000_000  # columns: wide enough that no table is wrapped or cut


def is_live(stream: IO[str]) -> bool:
    """Whether *stream* may be redrawn: a terminal that can, with Unicode, and nobody said CI."""
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        return False
    if not (getattr(stream, "encoding", "") or "utf-8").lower().startswith("utf"):
        return False  # the sign that a line is cut would take more columns than rich counts
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}


class Title(ProgressColumn):
    """The name of a stage."""

    def render(self, task: Task) -> Text:
        """One line, cut where the terminal ends."""
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class Detail(ProgressColumn):
    """What a stage is busy with: its note, or the bytes that have come, their speed, time left."""

    def __init__(self) -> None:
        super().__init__()
        self._parts = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())

    def render(self, task: Task) -> Text:
        """One line, cut where the terminal ends."""
        text = Text(task.fields["note"], no_wrap=True, overflow="ellipsis")
        if not text and task.completed:
            text.append_text(Text("  ").join(part.render(task) for part in self._parts))
        return text


class Screen:
    """A stream, and what is redrawn at its end.

    There is one for each stream, as two that redraw would overwrite each other.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.live = is_live(stream)
        self.rich = rich.console.Console(
            file=stream, force_terminal=self.live, markup=False, highlight=False, emoji=False
        )
        # rich's own thread may redraw between the two halves of a line that another one prints.
        self._turn = threading.Lock()
        self._progress: Progress | None = None

    @classmethod
    def of(cls, stream: IO[str] | None) -> Screen:
        """The one of *stream*, or of standard error."""
        stream = stream or sys.stderr
        # While rich redraws, it stands in for standard error.
        return _screen(getattr(stream, "rich_proxied_file", stream))

    def print(self, text: str, style: str | None = None) -> None:
        """A whole line, above whatever is being redrawn."""
        with self._turn:
            self.rich.print(text, style=style, soft_wrap=True)

    @contextmanager
    def task(self, title: str) -> Iterator[tuple[Progress, Task]]:
        """Redraw a line under *title*, until the end of the block."""
        with self._turn:
            progress = self._progress or self._begin()
            progress.add_task(title, total=None, note="")
            task = progress.tasks[-1]
        try:
            yield progress, task
        finally:
            with self._turn:
                progress.remove_task(task.id)
                if not progress.tasks:
                    progress.stop()
                    self._progress = None

    def _begin(self) -> Progress:
        self._progress = progress = Progress(
            SpinnerColumn("line", finished_text="-"),  # no more than ASCII
            Title(),
            TimeElapsedColumn(),
            Detail(),
            console=self.rich,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
        )
        progress.start()
        threading.Thread(target=self._redraw, args=(progress,), daemon=True).start()
        return progress

    def _redraw(self, progress: Progress) -> None:
        while self._progress is progress:
            time.sleep(TICK)
            with self._turn:
                if self._progress is progress:
                    progress.refresh()


_screen = functools.lru_cache(maxsize=4)(Screen)


class Stage:
    """One running step: :meth:`note` says what it is busy with."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self.summary = ""
        self.shown: tuple[Progress, Task] | None = None
        """Where it is redrawn, if it is."""

    def note(self, detail: str) -> None:
        """Show *detail* behind the stage while it runs (live terminals only)."""
        if self.shown:
            task = self.shown[1]
            # All bytes have come, perhaps, but that does not end the stage.
            task.total = task.finished_time = None
            task.fields["note"] = detail

    def progress(self, done: int, total: int | None) -> None:
        """Show *done* of *total* bytes, with speed and time left.

        What was there at the first call, such as the part that a download resumes, is no speed.
        """
        if self.shown:
            progress, task = self.shown
            progress.update(task.id, completed=done, total=total, note="")

    def done(self, summary: str) -> None:
        """What the stage's closing line says (``cached``, ``3 packages``)."""
        self.summary = summary


class Console:
    """Progress and results; one for each run of a task."""

    def __init__(self, *, quiet: bool = False, stream: IO[str] | None = None) -> None:
        self._screen = Screen.of(stream)
        self._quiet = quiet
        self.stages: list[tuple[str, float]] = []
        """Every stage that has ended: its title and the seconds it took."""

    @contextmanager
    def stage(self, title: str) -> Iterator[Stage]:
        """Run a step under *title*; its line ends with the time it took, or ``failed``."""
        stage = Stage(title)
        failed = True
        try:
            if self._screen.live and not self._quiet:
                with self._screen.task(title) as stage.shown:
                    yield stage
            else:
                self.say(f"  {title} …")
                yield stage
            failed = False
        finally:
            elapsed = time.monotonic() - stage.started
            self.stages.append((title, elapsed))
            line = f"  {title:<44} {elapsed:6.1f} s  {'failed' if failed else stage.summary}"
            self.say(line.rstrip(), "red" if failed else None)

    def say(self, text: str, style: str | None = None) -> None:
        """A line of its own, above whatever is being redrawn."""
        if not self._quiet:
            self._screen.print(text, style)

    def warn(self, text: str) -> None:
        """A line that the user should act on, also when quiet."""
        self._screen.print(f"warning: {text}", "yellow")


def format_table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = ()) -> str:
    """*rows* as left-aligned columns, under an optional *header*.

    A row is one line, however narrow the terminal is: what is cut or wrapped in a digest or a path
    can be neither copied nor searched for.
    """
    table = Table(*header, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.pad_edge, table.show_header = False, bool(header)
    for row in rows:
        table.add_row(*map(Text, row))
    with io.StringIO() as out:
        rich.console.Console(file=out, width=UNBOUND, force_terminal=False).print(table)
        return "\n".join(line.rstrip() for line in out.getvalue().split("\n")).strip("\n")
