"""The releases of this project, from ``CHANGELOG.md``: what they are called, and since when."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache

from tarpit_builder import __version__, paths
from tarpit_builder.errors import UserError

CHANGELOG = paths.PROJECT / "CHANGELOG.md"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
HEADING = re.compile(r"^## (?P<version>\S+) — (?P<date>\d{4}-\d{2}-\d{2})$")
UNRELEASED = "## Unreleased"


@dataclass(frozen=True, slots=True)
class ChangelogSection:
    """One section of ``CHANGELOG.md``; each change is one paragraph without line breaks."""

    version: str
    date: date
    changes: tuple[str, ...]

    @property
    def epoch(self) -> int:
        """The start of the day of the release, in seconds since 1970, UTC."""
        return int(datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC).timestamp())

    @property
    def stamp(self) -> str:
        """The same moment as deb-changelog(5) wants it."""
        # Not strftime, whose names depend on the locale.
        day = WEEKDAYS[self.date.weekday()]
        month = MONTHS[self.date.month - 1]
        return f"{day}, {self.date.day:02} {month} {self.date.year} 00:00:00 +0000"


def version() -> str:
    """The version of the packages, without what a suite adds to it."""
    return releases()[0].version


def source_date_epoch() -> int:
    """The time stamp of everything that is built, in seconds since 1970: the release's date."""
    return releases()[0].epoch


@cache
def releases() -> tuple[ChangelogSection, ...]:
    """The sections of ``CHANGELOG.md``, newest first.

    :raises UserError: if it cannot be understood or its first version is not the project's.
    """
    parsed = parse_changelog(CHANGELOG.read_text(encoding="utf-8"))
    if not parsed or parsed[0].version != __version__:
        found = parsed[0].version if parsed else "no release"
        raise UserError(
            f"CHANGELOG.md starts with {found}, but tarpit_builder.__version__ is {__version__}",
            hint=f"add a section `## {__version__} — YYYY-MM-DD` at its top",
        )
    return parsed


def parse_changelog(text: str) -> tuple[ChangelogSection, ...]:
    """The releases of *text*: ``## VERSION — YYYY-MM-DD`` headings over ``-`` lists.

    What is still ``## Unreleased`` belongs to no release; ``invoke release`` gives it to the next.

    :raises UserError: if a heading of the second level is not of that form, or names a day that
        does not exist.
    """
    found: list[ChangelogSection] = []
    for block in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        heading, _, body = block.partition("\n")
        if heading == UNRELEASED:
            continue
        match = HEADING.match(heading)
        try:
            day = date.fromisoformat(match["date"]) if match else None
        except ValueError:
            day = None
        if match is None or day is None:
            raise UserError(
                f"CHANGELOG.md has a heading that is no release: {heading!r}",
                hint="write it as `## 1.2.3 — 2026-11-22`",
            )
        items = re.split(r"^- ", body, flags=re.MULTILINE)[1:]
        found.append(
            ChangelogSection(match["version"], day, tuple(" ".join(i.split()) for i in items))
        )
    return tuple(found)
