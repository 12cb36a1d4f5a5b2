"""Processes that a test starts in order to interrupt them."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping, Sequence

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
