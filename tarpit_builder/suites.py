"""Debian suites, from ``rules/suites.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RULES = Path(__file__).parent / "rules"
ALIASES = ("stable", "oldstable", "oldoldstable", "testing", "unstable")
"""Names that the archive itself resolves to a codename."""

FORMER = ("buster", "stretch", "jessie", "wheezy", "squeeze", "lenny", "etch")
"""Suites that have left Debian's mirrors before this project had a table of suites."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite; the meaning of each field is written in ``rules/suites.toml``."""

    name: str
    number: str
    base: str
    pockets: tuple[str, ...]
    module_dir: str
    abi: str


@cache
def known() -> dict[str, Suite]:
    """All suites by name, oldest first."""
    table = tomllib.loads((RULES / "suites.toml").read_text())
    return {
        name: Suite(
            name=name,
            number=row["number"],
            base=row.get("base", name),
            pockets=tuple(row["pockets"]),
            module_dir=row["module_dir"],
            abi=row["abi"],
        )
        for name, row in table.items()
    }
