"""TCP segments: built as a check wants them, read as they were on the wire.

scapy puts headers together and takes them apart; what checks handle is :class:`Segment`, whose
fields have types and names.  scapy takes a third of a second to import, so import this late.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, in4_chksum
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    IPv6,
    in6_chksum,
)
from scapy.layers.l2 import ARP
from scapy.utils import checksum

Option = tuple[str, Any]
MODULUS = 1 << 32
LINUX_OPTIONS: tuple[Option, ...] = (
    ("MSS", 1460),
    ("SAckOK", b""),
    ("Timestamp", (77, 0)),
    ("NOP", None),
    ("WScale", 7),
)
"""What Linux puts into a SYN."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Both ends of a connection, seen from the sender."""

    src: str
    dst: str
    sport: int
    dport: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.src else 4

    @property
    def back(self) -> Flow:
        """The other direction."""
        return Flow(self.dst, self.src, self.dport, self.sport)


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment: as seen on the wire, or as it is to be sent."""

    flow: Flow
    flags: str
    seq: int = 0
    ack: int = 0
    window: int = 64240
    payload: bytes = b""
    options: tuple[Option, ...] = ()
    urgent: int = 0
    reserved: int = 0
    ttl: int = 64
    tos: int = 0
    df: bool = True
    identification: int = 1
    flow_label: int = 0
    # what only a received segment knows
    data_offset: int = 5
    checksums_good: bool = True
    trailing: bytes = b""
    mac: str = ""
    vlan: int | None = None
    vlan_priority: int = 0
    card: int = 0
    when: float = 0.0
    ip_options: int = 0

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.flow.family

    @property
    def end(self) -> int:
        """Sequence number after this segment."""
        length = len(self.payload) + ("S" in self.flags) + ("F" in self.flags)
        return (self.seq + length) % MODULUS

    @property
    def header_length(self) -> int:
        """Bytes of its TCP header, sent with these options."""
        return len(tcp_layer(self))

    def packet(self, **tcp: Any) -> bytes:
        """The IP packet; *tcp* overrides fields by scapy's names (``chksum``, ``dataofs``)."""
        header = tcp_layer(self, **tcp)
        return bytes(ip_layer(self) / header / self.payload)

    def __str__(self) -> str:
        """One line in the manner of tcpdump."""
        names = {"S": "S", "F": "F", "R": "R", "P": "P", "U": "U", "E": "E", "C": "W", "N": "e"}
        flags = "".join(names[letter] for letter in self.flags if letter != "A") or "."
        text = flags
        length = len(self.payload)
        if length or set(self.flags) & {"S", "F", "R"}:
            text += f" {self.seq}:{(self.seq + length) % MODULUS}({length})"
        else:
            text += f" seq {self.seq}"
        if "A" in self.flags:
            text += f" ack {self.ack}"
        text += f" win {self.window}"
        if self.options:
            text += " <" + ",".join(_option(*option) for option in self.options) + ">"
        if self.df and self.family == 4:
            text += " (DF)"
        return text


def _option(name: str, value: Any) -> str:
    """One TCP option in the manner of tcpdump."""
    values = value if isinstance(value, tuple) else (value,)
    return " ".join([name.lower(), *(str(v) for v in values if isinstance(v, int))])


def tcp_layer(segment: Segment, **overrides: Any) -> TCP:
    """scapy's TCP header of *segment*."""
    fields: dict[str, Any] = {
        "sport": segment.flow.sport,
        "dport": segment.flow.dport,
        "seq": segment.seq % MODULUS,
        "ack": segment.ack % MODULUS,
        "flags": segment.flags,
        "window": segment.window,
        "urgptr": segment.urgent,
        "reserved": segment.reserved,
        "options": list(segment.options),
    }
    return TCP(**(fields | overrides))


def ip_layer(segment: Segment) -> IP | IPv6:
    """scapy's IP or IPv6 header of *segment*."""
    flow = segment.flow
    if flow.family == 6:
        return IPv6(
            src=flow.src,
            dst=flow.dst,
            hlim=segment.ttl,
            tc=segment.tos,
            fl=segment.flow_label,
            nh=6,
        )
    return IP(
        src=flow.src,
        dst=flow.dst,
        ttl=segment.ttl,
        tos=segment.tos,
        flags="DF" if segment.df else 0,
        id=segment.identification,
        proto=6,
    )


def frame(packet: bytes, *, src: str, dst: str, vlan: int | None = None) -> bytes:
    """An Ethernet frame around an IP packet; short packets are padded as real cards do."""
    kind = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"
    tag = b"" if vlan is None else b"\x81\x00" + vlan.to_bytes(2, "big")
    return (_raw_mac(dst) + _raw_mac(src) + tag + kind + packet).ljust(60, b"\0")


def parse(data: bytes, *, card: int = 0, when: float = 0.0) -> Segment | None:
    """The TCP segment in an Ethernet frame; None if there is none (or a fragment of one)."""
    at, kind, vlan, tag = 14, struct.unpack_from(">H", data, 12)[0], None, 0
    if kind == 0x8100:
        tag, kind = struct.unpack_from(">HH", data, 14)
        at, vlan = 18, tag & 0xFFF
    packet = data[at:]
    if kind == 0x0800 and len(packet) >= 20:
        known = _parse_ipv4(packet)
    elif kind == 0x86DD and len(packet) >= 40:
        known = _parse_ipv6(packet)
    else:
        return None
    if known is None:
        return None
    mac = ":".join(f"{byte:02x}" for byte in data[0:6])
    return replace(known, mac=mac, vlan=vlan, vlan_priority=tag >> 13, card=card, when=when)


def _parse_ipv4(packet: bytes) -> Segment | None:
    ip = IP(packet)
    start, end = ip.ihl * 4, ip.len
    if ip.proto != 6 or ip.frag or ip.flags.MF or len(packet) < start + 20:
        return None
    raw = packet[start:end]
    return replace(
        _parse_tcp(raw, ip.src, ip.dst),
        ttl=ip.ttl,
        tos=ip.tos,
        df=bool(ip.flags.DF),
        identification=ip.id,
        ip_options=start - 20,
        checksums_good=checksum(packet[:start]) == 0 and in4_chksum(6, ip, raw) == 0,
        trailing=packet[end:],
    )


def _parse_ipv6(packet: bytes) -> Segment | None:
    ip = IPv6(packet)
    end = 40 + ip.plen
    if ip.nh != 6 or len(packet) < 60:
        return None
    raw = packet[40:end]
    return replace(
        _parse_tcp(raw, ip.src, ip.dst),
        ttl=ip.hlim,
        tos=ip.tc,
        identification=0,
        flow_label=ip.fl,
        checksums_good=in6_chksum(6, ip, raw) == 0,
        trailing=packet[end:],
    )


def _parse_tcp(raw: bytes, src: str, dst: str) -> Segment:
    tcp = TCP(raw)
    return Segment(
        flow=Flow(src, dst, tcp.sport, tcp.dport),
        flags=str(tcp.flags),
        seq=tcp.seq,
        ack=tcp.ack,
        window=tcp.window,
        payload=raw[tcp.dataofs * 4 :],
        options=tuple(tcp.options),
        urgent=tcp.urgptr,
        reserved=tcp.reserved,
        data_offset=tcp.dataofs,
    )


# -- the neighbourhood -------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def echo_request(src: str, dst: str, number: int) -> bytes:
    """A ping; its answer tells that everything sent before it has been dealt with."""
    if ":" in dst:
        return bytes(IPv6(src=src, dst=dst) / ICMPv6EchoRequest(id=0x7A72, seq=number))
    return bytes(IP(src=src, dst=dst) / ICMP(id=0x7A72, seq=number))


def echo_reply_number(data: bytes) -> int | None:
    """The number of the ping that this frame answers."""
    at = 18 if data[12:14] == b"\x81\x00" else 14
    kind = data[at - 2 : at]
    if kind == b"\x08\x00" and data[at + 9] == 1:
        icmp = data[at + (data[at] & 15) * 4 :]
        answer = 0
    elif kind == b"\x86\xdd" and data[at + 6] == 58:
        icmp = data[at + 40 :]
        answer = 129
    else:
        return None
    if icmp[0] != answer or icmp[4:6] != b"\x7a\x72":
        return None
    return int(struct.unpack_from(">H", icmp, 6)[0])


def neighbour_answer(
    data: bytes, *, mac: str, owns: Sequence[str], hosts: Sequence[str] | None = None
) -> bytes | None:
    """The frame that answers an ARP request or neighbour solicitation.

    The host is every neighbour, or only *hosts*, but never one of *owns*: the guest's own.
    """

    def elsewhere(address: str) -> bool:
        return address in owns or (hosts is not None and address not in hosts)

    at = 18 if data[12:14] == b"\x81\x00" else 14
    kind, tag = data[at - 2 : at], data[12 : at - 2]
    if kind == b"\x08\x06":
        asked = ARP(data[at:])
        if asked.op != 1 or asked.psrc == asked.pdst or elsewhere(asked.pdst):
            return None
        reply = ARP(op=2, hwsrc=mac, psrc=asked.pdst, hwdst=asked.hwsrc, pdst=asked.psrc)
        return data[6:12] + _raw_mac(mac) + tag + kind + bytes(reply)
    if kind == b"\x86\xdd" and data[at + 6] == 58 and data[at + 40] == 135:
        ip = IPv6(data[at:])
        asked = ip[ICMPv6ND_NS]
        if ip.src == "::" or elsewhere(asked.tgt):
            return None
        answer = (
            IPv6(src=asked.tgt, dst=ip.src, hlim=255)
            / ICMPv6ND_NA(tgt=asked.tgt, R=0, S=1, O=1)
            / ICMPv6NDOptDstLLAddr(lladdr=mac)
        )
        return data[6:12] + _raw_mac(mac) + tag + kind + bytes(answer)
    return None


def _raw_mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@dataclass(slots=True)
class Ladder:
    """Who said what, in order, relative to the first segment, as a person reads it."""

    segments: list[Segment] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line per segment; numbers after the first two are relative, as tcpdump has it."""
        if not self.segments:
            return []
        start = next((segment.when for segment in self.segments if segment.when), 0.0)
        base: dict[Flow, int] = {}
        out = []
        for segment in self.segments:
            flow = segment.flow
            first = flow not in base
            base.setdefault(flow, segment.seq)
            shown = segment
            if not first:
                shown = replace(shown, seq=(segment.seq - base[flow]) % MODULUS)
            if "A" in segment.flags and flow.back in base and not first:
                shown = replace(shown, ack=(segment.ack - base[flow.back]) % MODULUS)
            arrow = f"{_end(flow.src, flow.sport)} > {_end(flow.dst, flow.dport)}"
            # A probe was sent before its answer came; its own time is of no interest.
            time = f"{segment.when - start:9.6f}" if segment.when else " " * 9
            out.append(f"{time}  {arrow}  {shown}")
        return out


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
