"""Two hosts out of one kernel: what leaves one card comes back in at the other, renamed.

A client in the guest connects to a neighbour on eth0 that does not exist.  This process hands
its packets to eth1 as if a neighbour there had sent them, and the answers back.  Every packet is
seen on the way, and no network namespace is needed, so it works on kernels of every age.

====================  ==============  ==============
who                   as eth0 sees    as eth1 sees
====================  ==============  ==============
the client            10.1.0.1        10.2.0.99
the host it talks to  10.1.0.99       10.2.0.1
====================  ==============  ==============
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import replace

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

from tarpit_builder.proof import segment
from tarpit_builder.proof.guest import GuestSocket
from tarpit_builder.proof.lab import Deviation, Lab
from tarpit_builder.proof.network import SIDES
from tarpit_builder.proof.segment import Segment

NEIGHBOUR = {0: {4: "10.1.0.99", 6: "2001:db8:1::99"}, 1: {4: "10.2.0.99", 6: "2001:db8:2::99"}}
PATIENCE = 5  # seconds that a client may take to connect
STORM = 200  # segments after which two hosts that answer each other are cut off


class Mirror:
    """A context in which the lab's two cards are each other's far side."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.seen: list[Segment] = []
        """Every TCP segment, with the addresses that eth0's side knows."""
        self._names: list[dict[str, str]] = [{}, {}]
        for family in lab.families:
            here, there = SIDES[0].guest(family), SIDES[1].guest(family)
            self._names[0] |= {here: NEIGHBOUR[1][family], NEIGHBOUR[0][family]: there}
            self._names[1] |= {NEIGHBOUR[1][family]: here, there: NEIGHBOUR[0][family]}

    def __enter__(self) -> Mirror:
        # What the guest has sent already, such as the RST of a client that was closed, is not ours.
        self.lab.settle(cards=(0, 1))
        for wire in self.lab.wires[:2]:
            wire.on_frame = self._relay(wire.index)
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self.lab.wires[:2]:
            wire.on_frame = None

    def server(self, family: int) -> str:
        """The address that a client in the guest connects to."""
        return NEIGHBOUR[0][family]

    def connect(self, family: int, port: int) -> GuestSocket:
        """A client in the guest that is connected to the other host.

        :raises Deviation: if it does not come to that.
        """
        client = self.lab.client(family)
        try:
            client.connect(client.guest.sockaddr(self.server(family), port), seconds=PATIENCE)
        except OSError as error:
            late = error.errno == errno.ETIME
            why = f"nothing within {PATIENCE} s" if late else os.strerror(error.errno or 0)
            raise Deviation(f"connect() failed: {why}", self.seen) from error
        return client

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """Let packets pass until *until* answers true; false if *seconds* pass before."""
        return self.lab.machine.reactor.wait(until, seconds)

    def await_segments(self, count: int, seconds: float, what: str) -> None:
        """Return once *count* segments have been seen.

        :raises Deviation: if there are fewer after *seconds*.
        """
        if not self.wait(lambda: len(self.seen) >= count, seconds):
            raise Deviation(
                f"{what}: expected {count} segments within {seconds:g} s, saw {len(self.seen)}",
                self.seen,
            )

    def inject(self, card: int, packet: bytes) -> None:
        """Put a packet on one of the two wires, as if it came from the other host."""
        self.lab.wires[card].send([packet])

    def settle(self) -> None:
        """Return once both sides have fallen silent (or :data:`STORM` segments have passed)."""
        before = -1
        while before != len(self.seen) and len(self.seen) < STORM:
            before = len(self.seen)
            self.lab.settle(cards=(0, 1))

    def _relay(self, index: int) -> Callable[[bytes], None]:
        names = self._names[index]

        def relay(data: bytes) -> None:
            packet = packet_of(data)
            if packet is None or packet.src not in names or packet.dst not in names:
                return
            renamed = packet.copy()
            renamed.src, renamed.dst = names[packet.src], names[packet.dst]
            _forget_checksums(renamed)
            parsed = segment.parse(data, card=index, when=time.time())
            if parsed and index == 1:
                flow = parsed.flow
                flow = replace(flow, src=names[flow.src], dst=names[flow.dst])
                parsed = replace(parsed, flow=flow)
            if parsed:
                self.seen.append(parsed)
            if len(self.seen) < STORM:
                self.lab.wires[1 - index].send([bytes(renamed)])

        return relay


def packet_of(data: bytes) -> Packet | None:
    """The IP packet in an Ethernet frame."""
    if data[12:14] == b"\x08\x00":
        return IP(data[14:])
    if data[12:14] == b"\x86\xdd":
        return IPv6(data[14:])
    return None


def _forget_checksums(packet: Packet) -> None:
    if IP in packet:
        del packet[IP].chksum
    if TCP in packet:
        del packet[TCP].chksum
