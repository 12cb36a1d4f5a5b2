"""What README tells a user to type on the target host."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tarpit_builder import paths


@dataclass(frozen=True, slots=True)
class Block:
    """A block of commands, and the heading that it stands under."""

    heading: str
    script: str

    @property
    def removes(self) -> bool:
        """Whether it is about getting rid of the packages."""
        return re.search(r"^apt(-get)? (purge|remove)\b", self.script, re.MULTILINE) is not None


def target_blocks(text: str = "") -> list[Block]:
    """The ``sh target`` blocks of README (or of *text*), in their order."""
    text = text or (paths.PROJECT / "README.md").read_text()
    heading, found = "", []
    for match in re.finditer(r"^#+ ([^\n]+)$|^```sh target\n(.*?)^```$", text, re.M | re.S):
        if match.group(1):
            heading = match.group(1)
        else:
            found.append(Block(heading, match.group(2)))
    return found


def first_hour() -> tuple[list[Block], list[Block]]:
    """README's blocks up to the one that removes everything, and from there on."""
    blocks = target_blocks()
    first = next(number for number, block in enumerate(blocks) if block.removes)
    return blocks[:first], blocks[first:]
