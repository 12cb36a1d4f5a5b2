"""A terminal of a chosen size, and what a person at it sees from moment to moment."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyte

from tarpit_builder import paths

LIMIT = 120.0  # seconds


@dataclass
class Seen:
    """What a program showed: *raw*, the *frames* that were seen, and what is left at the end."""

    raw: str = ""
    frames: list[list[str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """All lines, those that have scrolled away included."""
    cursor: bool = True
    """Whether the cursor can be seen at the end."""
    status: int = 0

    def ever(self, *texts: str) -> bool:
        """Whether there was a moment at which all *texts* could be seen."""
        return any(all(text in "\n".join(frame) for text in texts) for frame in self.frames)


def watch(
    argv: Sequence[str],
    *,
    columns: int = 80,
    lines: int = 24,
    interrupt: Callable[[list[str]], bool] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Seen:
    """Run *argv* on a terminal until it ends; Ctrl-C is typed once *interrupt* likes the screen."""
    names = {
        name: value for name, value in os.environ.items() if name not in {"CI", "COLUMNS", "LINES"}
    }
    names |= {"TERM": "xterm", "LC_ALL": "C.UTF-8", **(environment or {})}
    child, master = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(paths.PROJECT)
        os.execvpe(argv[0], list(argv), names)  # noqa: S606
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    screen = pyte.HistoryScreen(columns, lines, history=1000)
    stream = pyte.ByteStream(screen)
    seen, deadline = Seen(), time.monotonic() + LIMIT
    while select.select([master], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            data = os.read(master, 65536)
        except OSError:  # the last program of the terminal has gone
            break
        seen.raw += data.decode(errors="replace")
        stream.feed(data)
        seen.frames.append([line.rstrip() for line in screen.display])
        if interrupt and interrupt(seen.frames[-1]):
            os.write(master, b"\x03")
            interrupt = None
    else:
        os.kill(child, signal.SIGKILL)
    os.close(master)
    seen.status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    gone = ["".join(row[column].data for column in range(columns)) for row in screen.history.top]
    seen.left = [line.rstrip() for line in [*gone, *screen.display] if line.strip()]
    seen.cursor = not screen.cursor.hidden
    return seen


def python(program: str) -> list[str]:
    """The command that runs *program*, which has the project's modules and a console at hand."""
    head = "import sys, threading, time\nfrom tarpit_builder.console import Console\n"
    return [sys.executable, "-c", f"{head}console = Console()\n{program}"]
