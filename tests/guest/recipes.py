"""The recipes of ``docs/integrations.md``, followed in a guest as a reader would."""

from __future__ import annotations

import re

from tarpit_builder import paths
from tests.guest.booted import Guest

PAGE = paths.PROJECT / "docs" / "integrations.md"
BLOCK = re.compile(r"^```(?P<language>\w+) (?P<place>\S+)\n(?P<text>.*?)^```$", re.M | re.S)


def section(heading: str) -> str:
    """The part of the page below *heading*."""
    parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))[heading]


def blocks(heading: str) -> list[tuple[str, str]]:
    """What is to be done, in order: the path of a file, or a word for commands, and the text."""
    return [(found["place"], found["text"]) for found in BLOCK.finditer(section(heading))]


def commands(heading: str, word: str) -> str:
    """The commands of the blocks that are marked with *word*."""
    return "".join(text for place, text in blocks(heading) if place == word)


def follow(guest: Guest, heading: str) -> None:
    """Write the files and run the commands of a section, those for a ``target``, in order.

    :raises GuestError: if a command fails.
    """
    for place, text in blocks(heading):
        if place.startswith("/"):
            guest.copy_in({place: text})
        elif place == "target":
            guest.ok(f"set -e\n{text}", seconds=180)
