"""The gates that every change passes: format, lint, types, shell, tests.

Each has an exit code of its own, so that a CI log tells at its end which one closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tarpit_builder.errors import CheckFailedError, ToolMissingError
from tarpit_builder.paths import PROJECT

PYTHON = Path(sys.executable).parent


def lint(*, fix: bool) -> None:
    """Format, lint, types, shell scripts.

    :raises CheckFailedError: naming the gate that closed.
    """
    if fix:
        _gate("format", "ruff", "format", ".")
        _gate("lint", "ruff", "check", "--fix", ".")
    else:
        _gate("format", "ruff", "format", "--check", ".")
        _gate("lint", "ruff", "check", ".")
    _gate("types", "mypy")
    _gate("shell", "shellcheck", *shell_scripts())


def tests(*, quick: bool, slow: bool, only: str) -> None:
    """The test suite; two at a time, as most of them wait for a container or a guest.

    :raises CheckFailedError: if a test fails.
    """
    marks = []
    if quick:
        marks.append("not docker and not boot")
    if not slow:
        marks.append("not slow")
    arguments = ["-n", str(min(os.cpu_count() or 1, 4)), "--dist", "worksteal"]
    arguments += ["--durations", "25", "--durations-min", "10"]
    if marks:
        arguments += ["-m", " and ".join(marks)]
    if only:
        arguments += ["-k", only]
    _gate("tests", "pytest", *arguments)


def shell_scripts() -> tuple[str, ...]:
    """Every tracked or new file whose first line names sh, by its path from the top.

    Templates are left out: they become shell only when rendered, and are checked by tests then.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return tuple(name for name in listed if not name.endswith(".j2") and _is_shell(PROJECT / name))


def _is_shell(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = file.readline(80)
    except OSError:
        return False
    return first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash", b"/sh -eu"))


def _gate(name: str, tool: str, *arguments: str) -> None:
    print(f"── {name}: {tool} {' '.join(arguments)[:100]}", file=sys.stderr, flush=True)
    command: Sequence[str | Path] = [PYTHON / tool, *arguments]
    try:
        status = subprocess.run(command, cwd=PROJECT, check=False).returncode
    except FileNotFoundError as error:
        raise ToolMissingError(
            f"{tool} is not installed in this environment", hint="run ./bootstrap invoke test"
        ) from error
    if status != 0:
        raise CheckFailedError(
            f"the {name} gate is closed ({tool} ended with {status})",
            hint="fix what it reports above"
            + ("" if name == "tests" else "; try invoke lint --fix"),
        )
