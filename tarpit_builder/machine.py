"""What this machine has to give."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20


def cores() -> int:
    """Processes at once: ``$TARPIT_JOBS``, else as many as there are processors to run on."""
    said = os.environ.get("TARPIT_JOBS", "")
    return int(said) if said.isdigit() and int(said) else len(os.sched_getaffinity(0))


def memory() -> int:
    """What the machine has, in MiB."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB


def free_memory() -> int:
    """What programs may still take of it, in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return memory()
