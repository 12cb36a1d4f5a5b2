"""What this machine has to give, and what it does for a process that starts others."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

from tarpit_builder.errors import UserError

MIB = 1 << 20
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def cores() -> int:
    """Processes at once: ``$TARPIT_JOBS``, else as many as there are processors to run on.

    :raises UserError: if ``$TARPIT_JOBS`` is no number from 1 on.
    """
    said = os.environ.get("TARPIT_JOBS", "").strip()
    if not said:
        return len(os.sched_getaffinity(0))
    if not (said.isascii() and said.isdecimal() and int(said)):
        raise UserError(
            f"TARPIT_JOBS={said}: not a number of processes",
            hint="set it to 1 or more, or unset it to use every processor",
        )
    return int(said)


def memory() -> int:
    """What the machine has, in MiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB


def free_memory() -> int:
    """What programs may still take of it, in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return memory()


def end_with_parent() -> None:
    """Have this process killed when its parent ends, whatever ends that."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
