"""The matrix as CI systems take it.

Only what differs between cells is printed.  What is the same in all — the machine, the cache, the
command — is in ``.github/workflows/matrix.yml`` and ``.gitlab/cell.yml``, for people to adapt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tarpit_builder.errors import UserError
from tarpit_builder.matrix.definition import Cell

SETUP_MINUTES = 20
"""What a fresh machine needs before the cell itself starts: packages, Docker, images."""

GITHUB_JOBS = 256
"""The most jobs that GitHub makes of one matrix.

https://docs.github.com/actions/reference/limits
"""


def render(cells: Sequence[Cell], kind: str) -> str:
    """The matrix in the form *kind*: ``github``, ``gitlab`` or ``json``.

    :raises UserError: if there is no such form, or it cannot hold that many cells.
    """
    forms: Mapping[str, Callable[[Sequence[Cell]], str]] = {
        "github": github,
        "gitlab": gitlab,
        "json": as_json,
    }
    if kind not in forms:
        raise UserError(f"there is no format {kind!r}", hint=f"there are {', '.join(forms)}")
    return forms[kind](cells)


def github(cells: Sequence[Cell]) -> str:
    """A value for ``strategy.matrix``, on one line for ``$GITHUB_OUTPUT``.

    :raises UserError: if there are more cells than GitHub makes jobs of.
    """
    if len(cells) > GITHUB_JOBS:
        parts = -(-len(cells) // GITHUB_JOBS)
        raise UserError(
            f"{len(cells)} cells are more than the {GITHUB_JOBS} jobs of a matrix on GitHub",
            hint=f"print it in parts: --shard 1/{parts} and so on",
        )
    rows = [
        {
            "cell": cell.name,
            "minutes": math.ceil(cell.minutes) + SETUP_MINUTES,
            "allowed": bool(cell.allowed),
        }
        for cell in cells
    ]
    return json.dumps({"include": rows}, separators=(",", ":"))


def gitlab(cells: Sequence[Cell]) -> str:
    """A child pipeline; in JSON, which GitLab reads as the YAML that it is."""
    jobs: dict[str, Any] = {"include": [{"local": "/.gitlab/cell.yml"}]}
    for cell in cells:
        jobs[cell.name] = {
            "extends": ".cell",
            "variables": {"CELL": cell.name},
            "timeout": f"{math.ceil(cell.minutes) + SETUP_MINUTES} minutes",
            "allow_failure": bool(cell.allowed),
        }
    return json.dumps(jobs, indent=2)


def as_json(cells: Sequence[Cell]) -> str:
    """Everything that is known of each cell, with its command."""
    rows = [
        {
            "cell": cell.name,
            **asdict(cell),
            "command": " ".join(["invoke build", *cell.arguments]),
        }
        for cell in cells
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)
