"""A case that was dealt with wrongly: made as small as it gets, and kept with its packets."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.fuzzing.corpus import EMPTY

LINK_ETHERNET = 1  # pcap's LINKTYPE_ETHERNET
NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Finding:
    """What went *wrong*; in a case of its own (*genome*), or only after others (*how*)."""

    wrong: str
    genome: str = ""
    how: str = ""
    frames: tuple[bytes, ...] = ()

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
    best = genome
    left = tries
    again = True
    while again and left > 0:
        again = False
        for simpler in _simpler(best):
            left -= 1
            if fails(simpler):
                best, again = simpler, True
                break
            if left <= 0:
                break
    return best


def _simpler(genome: str) -> Iterator[str]:
    """What is next to *genome* and simpler, the boldest first."""
    data = b"" if genome == EMPTY else bytes.fromhex(genome)
    for size in (32, 16, 8, 4, 2, 1):
        for at in range(len(data) - size, -1, -size):
            yield _text(data[:at] + data[at + size :])
    for at, value in enumerate(data):
        for lower in dict.fromkeys((0, value // 2, value - 1)):
            if 0 <= lower < value:
                yield _text(data[:at] + bytes([lower]) + data[at + 1 :])


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").hex() or EMPTY
