"""What ``invoke check`` found, for people and for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.attest.check import Checked
from tarpit_builder.console import format_table
from tarpit_builder.errors import TarpitError


@dataclass(slots=True)
class AttestationReport:
    """What was found at *where*: package sets that are as attested, and what is wrong.

    *metapackages* hold nothing but a dependency, and *until* is the day that a repository is
    valid, by its own signature; *seconds* is how long it took.
    """

    where: str
    sets: list[Checked] = field(default_factory=list)
    wrong: list[TarpitError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metapackages: int = 0
    until: str = ""
    seconds: float = 0.0

    @property
    def files(self) -> int:
        """How many files were found as they were attested."""
        return sum(len(one.files) for one in self.sets)

    def table(self) -> str:
        """What was verified, and by which key."""
        rows = [
            (
                "✓",
                one.name,
                one.version,
                str(len(one.files)),
                f"{one.passed} checks on {one.booted}" if one.booted else "not proven",
                ", ".join(one.keys),
            )
            for one in self.sets
        ]
        rows += [("✗", error.message, "", "", "", "") for error in self.wrong[1:]]
        header = ("", "package set", "version", "files", "proof", "signed by")
        lines = [format_table(rows, header=header), ""] if rows else []
        lines += self.notes
        builders = dict.fromkeys(one.builder for one in self.sets)
        lines += [f"built by  {one}" for one in builders]
        if not self.wrong:
            extra = f", {self.metapackages} metapackages of no content" if self.metapackages else ""
            until = f"; valid until {self.until}" if self.until else ""
            lines.append(
                f"good: {self.files} files of {len(self.sets)} package sets are as they were "
                f"attested{extra}{until} ({self.seconds:.2f} s)"
            )
        return "\n".join(lines)

    def write_json(self, path: Path) -> None:
        """The same as data."""
        document = {
            "good": not self.wrong,
            "where": self.where,
            "seconds": round(self.seconds, 3),
            "valid-until": self.until,
            "metapackages": self.metapackages,
            "sets": [asdict(one) for one in self.sets],
            "wrong": [{"message": e.message, "exit_code": e.exit_code} for e in self.wrong],
        }
        with paths.replacing(path) as stage:
            stage.write_text(json.dumps(document, indent=2) + "\n")
