"""Ten thousand clients at once: segments by the thousand, from templates instead of scapy."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from tarpit_builder.proof.lab import QUEUE, Deviation, Lab
from tarpit_builder.proof.segment import MODULUS, Segment

FIRST_PORT = 2000
SYN, ACK = 0x02, 0x10


class Template:
    """A packet of which port and acknowledgement number differ from client to client."""

    def __init__(self, segment: Segment) -> None:
        self._packet = bytearray(segment.packet())
        self._at = 40 if segment.family == 6 else 20
        words = (0, 8, 10, 16)  # source port, both halves of the ACK number, checksum
        for word in words[:3]:
            self._add(-self._word(word))
            self._set(word, 0)

    def stamp(self, sport: int, ack: int = 0) -> bytes:
        """The packet of one client; its checksum is brought up to date (RFC 1624)."""
        saved = self._word(16)
        for offset, value in ((0, sport), (8, ack >> 16), (10, ack & 0xFFFF)):
            self._set(offset, value)
            self._add(value)
        packet = bytes(self._packet)
        self._set(16, saved)
        return packet

    def _word(self, offset: int) -> int:
        return int(struct.unpack_from(">H", self._packet, self._at + offset)[0])

    def _set(self, offset: int, value: int) -> None:
        struct.pack_into(">H", self._packet, self._at + offset, value)

    def _add(self, value: int) -> None:
        total = (~self._word(16) & 0xFFFF) + value % 0xFFFF
        total = (total & 0xFFFF) + (total >> 16)
        self._set(16, ~total & 0xFFFF)


class Clients:
    """Clients of one family that all connect at the same time and send some data."""

    def __init__(self, lab: Lab, family: int, count: int) -> None:
        self.lab = lab
        self.family = family
        self.ports = range(FIRST_PORT, FIRST_PORT + count)
        self.isns: dict[int, int] = {}
        self.held: dict[int, int] = {}
        self._at = 14 + (40 if family == 6 else 20)

    def run(self, *, data: int = 1) -> None:
        """Connect, acknowledge, and send *data* segments each.

        :raises Deviation: if a client did not get what it should.
        """
        flow = self.lab.flow(self.family)
        base = Segment(flow, "S", seq=1000)
        wire = self.lab.wires[0]
        wire.on_frame = self._frame
        try:
            syn = Template(base)
            self._send(syn.stamp(port) for port in self.ports)
            if len(self.isns) != len(self.ports):
                raise Deviation(f"{len(self.ports)} SYNs got {len(self.isns)} SYN+ACKs")
            for payload in (b"", *([b"hello"] * data)):
                later = Template(Segment(flow, "PA" if payload else "A", 1001, payload=payload))
                self.held.clear()
                self._send(
                    later.stamp(port, (self.isns[port] + 1) % MODULUS) for port in self.ports
                )
                if len(self.held) != len(self.ports):
                    raise Deviation(f"{len(self.ports)} ACKs got {len(self.held)} answers")
                if set(self.held.values()) != {1001}:
                    raise Deviation("not every answer acknowledges SND.UNA")
        finally:
            wire.on_frame = None

    def _send(self, packets: Iterable[bytes]) -> None:
        for count, packet in enumerate(packets, 1):
            self.lab.wires[0].send([packet])
            if count % QUEUE == 0:
                self.lab.settle(cards=[0])
        self.lab.settle(cards=[0])

    def _frame(self, data: bytes) -> None:
        port, seq, ack, _, flags, window = struct.unpack_from(">HIIBBH", data, self._at + 2)
        if flags == SYN | ACK and window == 5:
            self.isns[port] = seq
        elif flags == ACK and window == 0:
            self.held[port] = ack


def measure(read: Callable[[str], str], name: str) -> str:
    """A file of /proc, or nothing if this kernel has none of that name."""
    try:
        return read(name)
    except OSError:
        return ""
