"""What this machine has to give."""

from __future__ import annotations

import os


def cores() -> int:
    """Processes at once: ``$TARPIT_JOBS``, else as many as there are processors to run on."""
    said = os.environ.get("TARPIT_JOBS", "")
    return int(said) if said.isdigit() and int(said) else len(os.sched_getaffinity(0))
