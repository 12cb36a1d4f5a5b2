"""A case that was dealt with wrongly: made as small as it gets, and kept with its packets."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.fuzzing.corpus import EMPTY

LINK_ETHERNET = 1  # pcap's LINKTYPE_ETHERNET
NAME = re.compile(r"[^a-z0-9]+")
CHANGING = re.compile(r"\b(0x)?[0-9a-f]*\d[0-9a-f]*\b", re.IGNORECASE)
"""What a kernel says differently each time: addresses, processors, processes, offsets."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What went *wrong*; in a case of its own (*genome*), or only after others (*how*)."""

    wrong: str
    genome: str = ""
    how: str = ""
    frames: tuple[bytes, ...] = ()

    @staticmethod
    def kind(wrong: str) -> str:
        """What two findings of the same fault have in common."""
        return CHANGING.sub("", wrong)

    def shown(self) -> str:
        """In a line."""
        return f"{self.wrong}: {self.genome or self.how}"

    def keep(self, folder: Path) -> Path:
        """Write the genome, and its packets as pcap, into *folder*; the file with the genome."""
        paths.make_dir(folder)
        name = NAME.sub("-", self.wrong.lower()).strip("-")[:60]
        text = folder / f"{name}.txt"
        with paths.replacing(text) as stage:
            stage.write_text(f"# {self.wrong}\n{self.genome or f'# {self.how}'}\n")
        if self.frames:
            with paths.replacing(text.with_suffix(".pcap")) as stage:
                stage.write_bytes(pcap(self.frames))
        return text


def pcap(frames: tuple[bytes, ...]) -> bytes:
    """*frames* in the classic format of libpcap, a millisecond apart."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, LINK_ETHERNET)
    packets = (
        struct.pack("<IIII", 0, 1000 * number, len(frame), len(frame)) + frame
        for number, frame in enumerate(frames)
    )
    return head + b"".join(packets)


def smallest(genome: str, fails: Callable[[str], bool], *, tries: int) -> str:
    """The simplest genome that still *fails* and can be had from *genome* in so many *tries*.

    Shorter is simpler, and so is a byte that is nearer to 0, which stands for the ordinary.
    """
    best = b"" if genome == EMPTY else bytes.fromhex(genome)
    before = None
    while before != best:
        before = best
        for size in (32, 16, 8, 4, 2, 1):
            for at in range(len(best) - size, -1, -size):
                if not tries:
                    return _text(best)
                tries -= 1
                shorter = best[:at] + best[at + size :]
                if fails(_text(shorter)):
                    best = shorter
        for at in range(len(best)):
            for lower in dict.fromkeys((0, best[at] // 2, best[at] - 1)):
                if not 0 <= lower < best[at]:
                    continue
                if not tries:
                    return _text(best)
                tries -= 1
                nearer = best[:at] + bytes([lower]) + best[at + 1 :]
                if fails(_text(nearer)):
                    best = nearer
                    break
    return _text(best)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").hex() or EMPTY
