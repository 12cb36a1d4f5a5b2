"""What built: this program, from which commit, with which packages of Python.

The bytes of packages do not depend on it; whoever judges them may want to know.
"""

from __future__ import annotations

import platform
import subprocess
from typing import Any

from tarpit_builder import __version__, digests, paths

LOCK = paths.PROJECT / "requirements.lock"


def facts() -> dict[str, Any]:
    """This program as a manifest has it.

    *commit* is ``""`` where the checkout has no history, and *changed* says whether files differ
    from it; *lock* is the SHA-256 of ``requirements.lock``.
    """
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "version": __version__,
        "commit": (_git("rev-parse", "HEAD") or "").strip(),
        "changed": bool(changes),
        "lock": digests.file(LOCK) if LOCK.is_file() else "",
        "python": platform.python_version(),
    }


def _git(*arguments: str) -> str | None:
    """What git says of this checkout; None if it says nothing."""
    if not (paths.PROJECT / ".git").exists():
        return None  # not that of a repository that happens to be around this folder
    try:
        found = subprocess.run(
            ["git", "-C", str(paths.PROJECT), *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        return None
    return found.stdout if found.returncode == 0 else None
