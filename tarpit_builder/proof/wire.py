"""The far end of a guest's network card: this process is the whole network behind it.

Nothing that the guest says about itself is taken on trust; what counts is what comes out of its
cards.  "No answer" is established without waiting: pings go in after the probe, through the same
queue.  GRO may let the first one overtake a segment by a few instructions, on which a busy host
may take a break; but not the second one, which is sent when the first one has been answered.
"""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tarpit_builder.errors import InfrastructureError
from tarpit_builder.proof import segment
from tarpit_builder.proof.qemu import Machine, card_mac
from tarpit_builder.proof.segment import Segment

PING_SECONDS = 10.0


class Recorder:
    """A pcapng file with every frame of every card; comments tell which check begins where.

    Written by hand: scapy's writer takes longer over a packet than a guest does.
    """

    _ETHERNET = 1
    _COMMENT, _NAME = 1, 2  # options: of any block, of an interface

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._interfaces: dict[int, int] = {}
        self._comment = b""
        # byte order, version 1.0, length unknown
        self._block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))

    def mark(self, comment: str) -> None:
        """Comment on the next frame."""
        self._comment = comment.encode()

    def add(self, frame: bytes, card: int, when: float) -> None:
        """Keep a frame."""
        if card not in self._interfaces:
            self._interfaces[card] = len(self._interfaces)
            interface = struct.pack("<HHI", self._ETHERNET, 0, 0)
            self._block(1, interface + self._option(self._NAME, f"eth{card}".encode()))
        microseconds = int(when * 1e6)
        head = struct.pack(
            "<5I",
            self._interfaces[card],
            microseconds >> 32,
            microseconds & 0xFFFFFFFF,
            len(frame),
            len(frame),
        )
        option = self._option(self._COMMENT, self._comment) if self._comment else b""
        self._comment = b""
        self._block(6, head + frame + bytes(-len(frame) % 4) + option)

    @staticmethod
    def _option(code: int, value: bytes) -> bytes:
        """One option, and the one that ends the list."""
        return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4) + bytes(4)

    def _block(self, kind: int, body: bytes) -> None:
        size = len(body) + 12
        self._file.write(struct.pack("<II", kind, size) + body + struct.pack("<I", size))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class Wire:
    """One card's other end."""

    def __init__(self, machine: Machine, index: int, recorder: Recorder | None = None) -> None:
        self.index = index
        self.mac = f"02:00:00:00:01:{index + 1:02x}"
        self.guest_mac = card_mac(index)
        self.guest_addresses: list[str] = []
        self.hosts: list[str] | None = None  # the only neighbours here, if not all there can be
        self.on_frame: Callable[[bytes], None] | None = None
        self.segments: list[Segment] = []
        self._machine = machine
        self._sock = machine.cards[index]
        self._recorder = recorder
        self._received = bytearray()
        self._pings = itertools.count(1)
        self._answered = 0
        self._joined: Wire | None = None
        machine.reactor.add(self._sock, self._read)

    # -- sending -----------------------------------------------------------------------------

    def send_frame(self, frame: bytes) -> None:
        """Put a frame on the wire."""
        if self._recorder:
            self._recorder.add(frame, self.index, time.time())
        self.write(struct.pack(">I", len(frame)) + frame)

    def send(self, packets: Iterable[bytes], *, vlan: int | None = None, mac: str = "") -> None:
        """Put IP packets on the wire, addressed to the guest's card unless *mac* says else."""
        for packet in packets:
            destination = mac or self.guest_mac
            self.send_frame(segment.frame(packet, src=self.mac, dst=destination, vlan=vlan))

    def write(self, data: bytes) -> None:
        """Put frames on the wire that are as QEMU takes them, each with its length before it."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                # The guest is behind: take what it says meanwhile, so that neither side waits
                # for the other for ever.
                self._machine.reactor.wait(lambda: False, 0.002)
                if not self._machine.running:
                    raise self._machine.obituary() from None
            except OSError as error:
                raise self._machine.obituary() from error

    def settle(
        self, src: str, dst: str, *, vlan: int | None = None, mac: str = "", seconds: float = 0.0
    ) -> None:
        """Return once the guest has dealt with everything sent so far.

        :raises InfrastructureError: if the guest does not answer pings: nothing could be
            concluded from its silence.
        """
        for _ in range(2):
            self._ping(src, dst, vlan=vlan, mac=mac, seconds=seconds)

    def _ping(self, src: str, dst: str, *, vlan: int | None, mac: str, seconds: float) -> None:
        number = next(self._pings) & 0xFF
        deadline = time.monotonic() + (seconds or PING_SECONDS)
        while time.monotonic() < deadline:
            self.send([segment.echo_request(src, dst, number)], vlan=vlan, mac=mac)
            if self._machine.reactor.wait(
                lambda: self._answered == number or not self._machine.running,
                min(5.0, PING_SECONDS),
            ):
                break
        if not self._machine.running or self._machine.trouble:
            raise self._machine.obituary()
        if self._answered != number:
            raise InfrastructureError(
                f"the guest does not answer pings to {dst} on eth{self.index}",
                hint="its console log may say why",
            )

    def join(self, other: Wire) -> None:
        """From now on, whatever comes out of either card goes into the other, and nobody looks."""
        self._joined, other._joined = other, self

    # -- receiving ---------------------------------------------------------------------------

    def take(self) -> list[Segment]:
        """The TCP segments that came out of the guest since the last call."""
        taken, self.segments = self.segments, []
        return taken

    def _read(self) -> None:
        try:
            data = self._sock.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._machine.reactor.remove(self._sock)
            return
        if self._joined:
            self._joined.write(data)
            return
        self._received += data
        frames, at = [], 0
        while len(self._received) - at >= 4:
            length = struct.unpack_from(">I", self._received, at)[0]
            if len(self._received) - at - 4 < length:
                break
            frames.append(bytes(self._received[at + 4 : at + 4 + length]))
            at += 4 + length
        # Now, as an answer to a frame may wait for the guest, and read on meanwhile.
        del self._received[:at]
        for frame in frames:
            self._frame(frame)

    def _frame(self, data: bytes) -> None:
        when = time.time()
        if self._recorder:
            self._recorder.add(data, self.index, when)
        answer = segment.neighbour_answer(
            data, mac=self.mac, owns=self.guest_addresses, hosts=self.hosts
        )
        if answer:
            self.send_frame(answer)
            return
        number = segment.echo_reply_number(data)
        if number is not None:
            self._answered = number
            return
        if self.on_frame:
            self.on_frame(data)
            return
        parsed = segment.parse(data, card=self.index, when=when)
        if parsed:
            self.segments.append(parsed)

    def close(self) -> None:
        """Stop listening."""
        self._machine.reactor.remove(self._sock)
