"""The recipes of the documents, followed in a guest as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

from tarpit_builder import paths
from tests.guest.booted import Guest

INTEGRATIONS = paths.PROJECT / "docs" / "integrations.md"
DEVICE = paths.PROJECT / "docs" / "device.md"
BLOCK = re.compile(r"^```(?P<language>\w+) (?P<place>\S+)\n(?P<text>.*?)^```$", re.M | re.S)
EXAMPLE = re.compile(r"^\.EX\n(?P<text>.*?)^\.EE$", re.M | re.S)


def section(heading: str, page: Path = INTEGRATIONS) -> str:
    """The part of a page below *heading*, or before the first one if that is empty."""
    first, *parts = re.split(r"^## (.*)$", page.read_text(), flags=re.M)
    return {"": first, **dict(zip(parts[::2], parts[1::2], strict=True))}[heading]


def blocks(heading: str, page: Path = INTEGRATIONS) -> list[tuple[str, str]]:
    """What is to be done, in order: the path of a file, or a word for commands, and the text."""
    return [(found["place"], found["text"]) for found in BLOCK.finditer(section(heading, page))]


def commands(heading: str, word: str, page: Path = INTEGRATIONS) -> str:
    """The commands of the blocks that are marked with *word*."""
    return "".join(text for place, text in blocks(heading, page) if place == word)


def examples(manual: Path, heading: str) -> list[str]:
    """The examples of a section of a manual page, as a reader sees them."""
    _, _, rest = manual.read_text().partition(f"\n.SH {heading}\n")
    part, _, _ = rest.partition("\n.SH ")
    return [
        found["text"].replace("\\-", "-").replace("\\e", "\\") for found in EXAMPLE.finditer(part)
    ]


def follow(guest: Guest, heading: str, *, page: Path = INTEGRATIONS, word: str = "target") -> None:
    """Write the files and run the commands of a section, those marked with *word*, in order.

    :raises GuestError: if a command fails.
    """
    for place, text in blocks(heading, page):
        if place.startswith("/"):
            guest.copy_in({place: text})
        elif place == word:
            guest.ok(f"set -e\n{text}", seconds=180)
