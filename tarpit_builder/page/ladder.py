"""Packets as a proof records them (:class:`tarpit_builder.proof.segment.Ladder`), to be drawn.

The client's line is at the left, the tarpit's at the right; each packet is an arrow between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

LINE = re.compile(
    r"\s*(?P<time>\d+\.\d+)?\s+(?P<source>\S+) > (?P<target>\S+)\s+(?P<flags>[A-Za-z]+|\.) "
    r"(?:\d+:\d+\((?P<length>\d+)\)|seq (?P<seq>\d+))(?: ack (?P<ack>\d+))? win (?P<window>\d+)"
    r"(?P<rest>.*)"
)
NAMES = {"S": "SYN", "F": "FIN", "R": "RST"}
ROW, TOP, LEFT, RIGHT = 42, 24, 76, 304
"""Measures of the drawing, in its own units."""
LONG = 1.0  # seconds without a packet that are drawn as a gap
MOST = 16  # packets that are drawn


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet: *at* seconds after the first, None if that is not known; *window* in bytes."""

    at: float | None
    outward: bool
    """It comes from the client."""
    flags: str
    length: int
    seq: int | None
    ack: int | None
    window: int
    text: str

    @property
    def label(self) -> str:
        """What it is, in words: ``SYN+ACK``, ``18 bytes``."""
        if self.outward and not self.flags and self.seq == 0:
            return "window probe"  # the number before the first: tcp_xmit_probe_skb()
        names = [NAMES[flag] for flag in self.flags if flag in NAMES]
        if self.length:
            names.insert(0, f"{self.length} byte{'' if self.length == 1 else 's'}")
        elif self.ack is not None:
            names.append("ACK")
        return "+".join(names) or self.flags

    @property
    def held(self) -> bool:
        """Whether it shuts the window."""
        return self.window == 0 and not set(self.flags) & set("SR")


@dataclass(frozen=True, slots=True)
class Rung:
    """A packet where it is drawn: its arrow from *x1* to *x2* at *y*; *time* as people read it."""

    packet: Packet
    x1: int
    x2: int
    y: int
    time: str
    gap: bool
    """Nothing happened for long before it."""

    @property
    def head(self) -> str:
        """The arrow's head, as the points of a polygon."""
        back = self.x2 - (9 if self.packet.outward else -9)
        return f"{self.x2},{self.y} {back},{self.y - 5} {back},{self.y + 5}"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A ladder to be drawn, *height* high; *left* out are packets that came after those drawn."""

    rungs: tuple[Rung, ...]
    height: int
    lines: tuple[str, ...]
    left: int = 0

    @property
    def words(self) -> str:
        """The same as a sentence, for those who do not see it."""
        return "; ".join(
            f"{'client' if rung.packet.outward else 'tarpit'}: {rung.packet.label},"
            f" window {rung.packet.window}"
            for rung in self.rungs
        )


def parse(lines: Iterable[str]) -> list[Packet]:
    """The packets of *lines*; what is no packet is left out."""
    packets: list[Packet] = []
    client = ""
    for line in lines:
        if not (found := LINE.fullmatch(line)):
            continue
        client = client or found["source"]
        packets.append(
            Packet(
                at=float(found["time"]) if found["time"] else None,
                outward=found["source"] == client,
                flags=found["flags"].strip("."),
                length=int(found["length"] or 0),
                seq=int(found["seq"]) if found["seq"] else None,
                ack=int(found["ack"]) if found["ack"] else None,
                window=int(found["window"]),
                text=line.strip(),
            )
        )
    return packets


def draw(lines: Iterable[str]) -> Drawing | None:
    """The ladder that *lines* tell of; None if there is no packet in them."""
    lines = tuple(lines)
    packets = parse(lines)
    if not packets:
        return None
    rungs: list[Rung] = []
    y, before = TOP, 0.0
    for packet in packets[:MOST]:
        gap = packet.at is not None and packet.at - before > LONG
        y += ROW + (16 if gap else 0)
        ends = (LEFT, RIGHT) if packet.outward else (RIGHT, LEFT)
        rungs.append(Rung(packet, *ends, y, _time(packet.at), gap))
        before = packet.at if packet.at is not None else before
    return Drawing(tuple(rungs), y + 24, lines, len(packets) - len(rungs))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
