"""What must pass before a release is written down, and what of it has passed already."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import paths
from tarpit_builder.errors import CheckFailedError, UserError

if TYPE_CHECKING:
    from tarpit_builder.release.drafting import Draft

CHECKS = {
    "test": ("test",),
    "patches": ("check-patches",),
    "matrix": ("matrix", "--run", "--verify"),
}
"""What must pass, each a task; ``--skip`` leaves one out."""


def command(name: str) -> str:
    """The check *name* as it is typed."""
    return f"invoke {' '.join(CHECKS[name])}"


def run_checks(made: Draft) -> None:
    """Run the checks of *made*, one after the other.

    :raises UserError: if all are left out: nothing would tell whether the release works.
    :raises CheckFailedError: naming the first that fails.
    """
    if not made.checks:
        raise UserError(
            f"every check of {made.version} is left out, and nothing is released unchecked",
            hint="name fewer with --skip: `--skip matrix` leaves out the one that takes longest",
        )
    for name in made.checks:
        run_check(name, made.root, made.version)


def run_check(
    name: str, root: Path, version: str, environment: Mapping[str, str] | None = None
) -> None:
    """Run the check *name* in the checkout at *root*.

    :raises CheckFailedError: if it fails.
    """
    if invoke(CHECKS[name], root, environment) != 0:
        raise CheckFailedError(
            f"{version} is not ready: {command(name)} fails",
            hint="fix what it reports above; nothing was changed",
        )


def invoke(words: Sequence[str], root: Path, environment: Mapping[str, str] | None = None) -> int:
    """Run a task in the checkout at *root*, which ends with this process; its exit code."""
    from tarpit_builder.matrix.local import tied

    line = [*tied(), sys.executable, "-m", "invoke", *words]
    return subprocess.run(line, cwd=root, env=environment, check=False).returncode


def passed(file: Path, commit: str) -> frozenset[str]:
    """The checks that *commit* has passed, as *file* remembers them."""
    try:
        data = json.loads(file.read_text())
        return frozenset(map(str, data["passed"])) if data["commit"] == commit else frozenset()
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()


def remember(file: Path, commit: str, name: str) -> None:
    """Remember in *file* that *commit* has passed the check *name*.

    :raises InfrastructureError: if it cannot be written.
    """
    names = sorted(passed(file, commit) | {name})
    with paths.replacing(file) as stage:
        stage.write_text(json.dumps({"commit": commit, "passed": names}) + "\n")
