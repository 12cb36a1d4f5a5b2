"""Processes that a test starts in order to interrupt them, and the machines that they start."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import AnyStr

from tarpit_builder import paths


def start(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, stderr: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """*command* in the project's folder, heeding SIGINT even where the tests run in background."""
    return subprocess.Popen(
        command,
        cwd=paths.PROJECT,
        env=env,
        stderr=stderr,
        text=True,
        preexec_fn=_heed_interrupts,  # noqa: PLW1509  (no threads are about)
    )


def _heed_interrupts() -> None:
    """Undo what a background job inherits: shells let it ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def await_machines(pid: int, count: int) -> list[int]:
    """The QEMU processes among the descendants of *pid*, once there are *count* of them."""
    deadline = time.monotonic() + 60
    while len(machines := _machines_below(pid)) < count:
        assert time.monotonic() < deadline, f"there are {len(machines)} machines, not {count}"
        time.sleep(0.05)
    return machines


def await_end(pids: Iterable[int]) -> None:
    """Return once none of *pids* is there any more."""
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """The processes that *pid* started, and those that they did; some may end meanwhile."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def kill_tree(process: subprocess.Popen[AnyStr]) -> None:
    """End *process* and all that it started, this very moment."""
    for pid in [process.pid, *descendants(process.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _machines_below(pid: int) -> list[int]:
    return [
        child
        for child in descendants(pid)
        if Path(f"/proc/{child}/comm").read_text().startswith("qemu")
    ]
