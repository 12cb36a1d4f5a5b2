"""The matrix as CI systems take it.

Only what differs between cells is printed.  What is the same in all — the machine, the cache, the
command — is in ``.github/workflows/matrix.yml`` and ``.gitlab/cell.yml``, for people to adapt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tarpit_builder.errors import UserError
from tarpit_builder.matrix.definition import Cell, deal

SETUP_MINUTES = 20
"""What a fresh machine needs before the cell itself starts: packages, Docker, images."""

GITHUB_JOBS = 256
"""The most jobs that GitHub makes of one matrix.

https://docs.github.com/actions/reference/limits
"""


GITHUB_MINUTES = 360
"""How long a job may run on a machine of GitHub's; see there."""


def render(cells: Sequence[Cell], kind: str) -> str:
    """The matrix in the form *kind*: ``github``, ``gitlab`` or ``json``.

    :raises UserError: if there is no such form.
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

    Each cell is a job of its own, unless there are more than GitHub makes jobs of: then each job
    gets several, dealt out as shards are.
    """
    parts = min(len(cells), GITHUB_JOBS)
    jobs = [deal(cells, part, parts) for part in range(1, parts + 1)]
    rows = [
        {
            "cell": f"{job[0].name}{f'-and-{len(job) - 1}-more' if job[1:] else ''}",
            "arguments": " ".join(f"--only {cell.name}" for cell in job),
            "minutes": min(
                math.ceil(sum(cell.minutes for cell in job)) + SETUP_MINUTES, GITHUB_MINUTES
            ),
            "allowed": all(cell.allowed for cell in job),
            "shared": any(cell.origin.shares_image for cell in job),
        }
        for job in jobs
    ]
    return json.dumps({"include": rows}, separators=(",", ":"))


def gitlab(cells: Sequence[Cell]) -> str:
    """A child pipeline; in JSON, which GitLab reads as the YAML that it is."""
    jobs: dict[str, Any] = {"include": [{"local": "/.gitlab/cell.yml"}]}
    for cell in cells:
        jobs[cell.name] = {
            "extends": ".shared" if cell.origin.shares_image else ".cell",
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
            "kernel": cell.request.kernel,
            "arch": cell.request.arch,
            "flavour": cell.request.flavour,
            "iptables": cell.request.iptables,
            "minutes": cell.minutes,
            "memory": cell.memory,
            "allowed": cell.allowed,
            "in_tree": cell.in_tree,
            "command": " ".join(["invoke build", *cell.arguments]),
        }
        for cell in cells
    ]
    return json.dumps(rows, indent=2, ensure_ascii=False)
