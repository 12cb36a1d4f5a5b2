"""The gates that every change passes: format, lint, types, analysis, tests.

Each has an exit code of its own, so that a CI log tells at its end which one closed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder.errors import CheckFailedError, ToolMissingError
from tarpit_builder.paths import PROJECT

if TYPE_CHECKING:
    from tarpit_builder.sources.debian import Archive

PYTHON = Path(sys.executable).parent


def lint(*, fix: bool) -> None:
    """Format, lint, types, and the analyzers that need nothing but this machine.

    :raises CheckFailedError: naming the gate that closed.
    """
    if fix:
        _gate("format", "ruff", "format", ".")
        _gate("lint", "ruff", "check", "--fix", ".")
    else:
        _gate("format", "ruff", "format", "--check", ".")
        _gate("lint", "ruff", "check", ".")
    _gate("types", "mypy")
    analyze(local=True)


def analyze(*, local: bool, archive: Archive | None = None) -> None:
    """The analyzers that are quick: those that need nothing but this machine, or the others.

    :raises CheckFailedError: if one finds what is not named as no fault.
    """
    from tarpit_builder import analysis
    from tarpit_builder.console import Console

    chosen = [one for one in analysis.ANALYZERS if one.quick and one.local == local]
    print(f"── analysis: {', '.join(one.name for one in chosen)}", file=sys.stderr, flush=True)
    outcome = analysis.run(chosen, archive, Console())
    if outcome.verdict.new or outcome.verdict.stale:
        print(outcome.table())
    outcome.demand_clean()


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
