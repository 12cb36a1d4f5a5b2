"""Contract section 1: what is answered, with what, and what never is."""

from __future__ import annotations

import itertools
import socket
from collections import Counter
from dataclasses import replace
from typing import Any

from scapy.layers.inet import TCP, in4_chksum
from scapy.layers.inet6 import in6_chksum

from tarpit_builder.proof.lab import PORT, Deviation, Lab
from tarpit_builder.proof.network import CLIENT, SIDES, UNUSED
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import (
    LINUX_OPTIONS,
    MODULUS,
    Flow,
    Segment,
    ip_layer,
    tcp_layer,
)

wire = Group("wire", "what is answered, and how", order=10)

STAMPS = (("NOP", None), ("NOP", None), ("Timestamp", (77, 78)))
FAR = 60000
"""Bytes beyond its first that a held client may be: one window that was never offered, and more."""

SYNS: dict[str, dict[str, Any]] = {
    "SYN": {"flags": "S"},
    "SYN with options": {"flags": "S", "options": LINUX_OPTIONS},
    "SYN with data": {"flags": "S", "payload": b"fast open"},
    "SYN with 1400 bytes of data": {"flags": "S", "payload": b"x" * 1400},
    "SYN with ECN": {"flags": "SEC"},
    "SYN with AccECN": {"flags": "SECN"},
    "SYN with window 0": {"flags": "S", "window": 0},
    "SYN at the end of the sequence space": {"flags": "S", "seq": MODULUS - 1},
    "SYN with sequence number 0": {"flags": "S", "seq": 0},
    "SYN with an acknowledgement number": {"flags": "S", "ack": 12345},
    "SYN with a reserved bit": {"flags": "S", "reserved": 3},
    "SYN with TOS": {"flags": "S", "tos": 0xB8},
    "SYN with ECN in IP": {"flags": "S", "tos": 3},
    "SYN with TTL 1": {"flags": "S", "ttl": 1},
    "SYN with TTL 255": {"flags": "S", "ttl": 255},
    "SYN without DF": {"flags": "S", "df": False},
    "SYN with identification or flow label": {
        "flags": "S",
        "identification": 0x1234,
        "flow_label": 0x12345,
    },
}


@wire.setup
def prepare(lab: Lab) -> None:
    """Tarpit everything that arrives for the guest or is to be forwarded."""
    lab.tarpit()
    lab.tarpit(chain="FORWARD")


def establish(lab: Lab, family: int, **fields: Any) -> tuple[Segment, Segment]:
    """A SYN and the SYN+ACK that answers it."""
    syn = lab.probe(family, "S", **fields)
    replies = lab.answers(syn)
    lab.expect(syn, replies, "SYN", flags="SA", window=5, ack=syn.end)
    return syn, replies[0]


@wire.check("every kind of SYN gets a SYN+ACK: window 5, no options, acknowledges the SYN only")
def syn(lab: Lab, family: int) -> None:
    probes = {label: lab.probe(family, **fields) for label, fields in SYNS.items()}
    for label, replies in lab.converse(probes).items():
        probe = probes[label]
        lab.expect(probe, replies, label, flags="SA", window=5, ack=(probe.seq + 1) % MODULUS)


@wire.check("a retransmitted SYN gets the same SYN+ACK again")
def retransmission(lab: Lab, family: int) -> None:
    syn, first = establish(lab, family)
    replies = lab.answers(syn, syn)
    if [reply.seq for reply in replies] != [first.seq] * 2:
        raise Deviation("the initial sequence number changed", [syn, first, *replies])


@wire.check(
    "the end of the handshake, data, probes and keepalives get ACKs with window 0 at SND.UNA"
)
def held(lab: Lab, family: int) -> None:
    for isn in (lab.number(), 0, MODULUS - 1, MODULUS - 2, MODULUS - 3, MODULUS - 40000):
        syn, accepted = establish(lab, family, seq=isn)
        una = syn.end

        def later(
            flags: str = "A",
            after: int = 0,
            *,
            of: Segment = syn,
            by: Segment = accepted,
            **more: Any,
        ) -> Segment:
            return Segment(
                of.flow,
                flags,
                seq=(of.end + after) % MODULUS,
                ack=by.end,
                **more,
            )

        kinds = {
            "end of the handshake": later(),
            "end of the handshake with options": later(options=STAMPS),
            "data": later("PA", payload=b"GET /"),
            "one byte": later(payload=b"x"),
            "1400 bytes": later(payload=b"x" * 1400),
            "data with options": later("PA", payload=b"GET /", options=STAMPS),
            "urgent data": later("PAU", payload=b"!", urgent=1),
            "data behind the window": later(after=5, payload=b"more"),
            "data far ahead": later(after=FAR, payload=b"more"),
            "data with window 0": later(payload=b"x", window=0),
            "data with window 1": later(payload=b"x", window=1),
            "window probe": later(after=-1),
            "window probe with a byte": later(after=-1, payload=b"\0"),
            "keepalive after five bytes": later(after=4),
            "keepalive of an empty window": later(after=-1, window=1),
            "ACK with ECE": later("AE"),
            "ACK with CWR": later("AC", payload=b"x"),
            "ACK with TOS": later(tos=0xFF & ~3),
            "ACK with a reserved bit": later(reserved=5),
        }
        for label, probe in kinds.items():
            replies = lab.answers(probe)
            what = f"{label} (client's ISN {isn})"
            lab.expect(probe, replies, what, flags="A", window=0, seq=accepted.end, ack=una)


@wire.check("a segment in the middle of somebody else's connection gets an ACK with window 0")
def stray(lab: Lab, family: int) -> None:
    probes = {
        "data": lab.probe(family, "PA", payload=b"cmd.exe"),
        "data with options": lab.probe(family, "PA", payload=b"cmd.exe", options=STAMPS),
        "urgent data": lab.probe(family, "PAU", payload=b"cmd.exe", urgent=3),
        "1400 bytes": lab.probe(family, "A", payload=b"x" * 1400),
        "data with window 0": lab.probe(family, "A", payload=b"x", window=0),
        "no data": lab.probe(family, "A"),
        "numbers at the end of their space": lab.probe(
            family, "A", seq=MODULUS - 1, ack=MODULUS - 1, payload=b"xx"
        ),
    }
    for label, replies in lab.converse(probes).items():
        probe = probes[label]
        expect_of_stranger(lab, probe, replies, label)


def expect_of_stranger(lab: Lab, probe: Segment, replies: list[Segment], what: str) -> None:
    """A segment of somebody else's connection is answered with its own numbers, and window 0.

    One in 65,000 has numbers that could be of a connection of ours; not another one after it.
    """
    for last in (False, True):
        try:
            expected = {"seq": probe.ack, "ack": probe.seq}
            return lab.expect(probe, replies, what, flags="A", window=0, **expected)
        except Deviation:
            if last:
                raise
            probe = replace(probe, flow=lab.flow(probe.family))
            replies = lab.answers(probe)


@wire.check("an ACK without data and with window 0 is never answered, matched or not")
def other_tarpit(lab: Lab, family: int) -> None:
    syn, accepted = establish(lab, family)
    for label, probe in {
        "stray": lab.probe(family, "A", window=0),
        "stray with options": lab.probe(family, "A", window=0, options=STAMPS),
        "matched": Segment(syn.flow, "A", seq=syn.end, ack=accepted.end, window=0),
        "matched probe": Segment(syn.flow, "A", seq=syn.seq, ack=accepted.end, window=0),
    }.items():
        lab.expect_silence(probe, lab.answers(probe), label)


@wire.check("a SYN+ACK gets one RST that is valid for its sender")
def syn_ack(lab: Lab, family: int) -> None:
    probes = {
        "SYN+ACK": lab.probe(family, "SA"),
        "SYN+ACK with options": lab.probe(family, "SA", options=LINUX_OPTIONS),
        "SYN+ACK with ECN": lab.probe(family, "SAE"),
        "SYN+ACK with window 5": lab.probe(family, "SA", window=5),
        "SYN+ACK with data": lab.probe(family, "SA", payload=b"x"),
    }
    for label, replies in lab.converse(probes).items():
        lab.expect(probes[label], replies, label, flags="R", seq=probes[label].ack)


@wire.check("FIN+ACK gets an ACK with window 0 that does not acknowledge the FIN")
def fin(lab: Lab, family: int) -> None:
    syn, accepted = establish(lab, family)
    for flags in ("FA", "FPA"):
        for payload in (b"", b"bye"):
            for after in (0, 3):
                probe = Segment(
                    syn.flow, flags, syn.end + after, accepted.end, payload=payload, window=after
                )
                replies = lab.answers(probe)
                what = f"{flags} with {len(payload)} bytes after {after}"
                expected = {"flags": "A", "window": 0, "seq": accepted.end, "ack": syn.end}
                lab.expect(probe, replies, what, **expected)
    stray = lab.probe(family, "FA", payload=b"bye")
    expect_of_stranger(lab, stray, lab.answers(stray), "stray")


@wire.check("FIN, RST, null, Xmas and contradictory flags get no answer")
def silence(lab: Lab, family: int) -> None:
    syn, accepted = establish(lab, family)
    combinations: tuple[str, ...]
    combinations = ("F", "R", "RA", "RPA", "", "SF", "SFA", "SR", "SRA", "SFR", "FR")
    combinations += ("FPU", "FSRPAU", "FSRPAUECN", "U", "P", "PU", "FRA", "EC", "ECN")
    probes: dict[str, Segment] = {}
    for flags in combinations:
        name = flags or "null"
        probes[name] = lab.probe(family, flags)
        probes[f"{name} with data"] = lab.probe(family, flags, payload=b"x" * 20)
        probes[f"{name} with window 0"] = lab.probe(family, flags, window=0)
    for label, replies in lab.converse(probes).items():
        lab.expect_silence(probes[label], replies, label)
    for flags in combinations:
        if "A" in flags:
            probe = Segment(syn.flow, flags, seq=syn.end, ack=accepted.end, payload=b"x")
            lab.expect_silence(probe, lab.answers(probe), f"{flags} of a held connection")


@wire.check("bad checksums, truncated headers and impossible data offsets get no answer")
def malformed(lab: Lab, family: int) -> None:
    probes: dict[str, Segment] = {}
    packets: dict[str, bytes] = {}

    def add(label: str, probe: Segment, packet: bytes) -> None:
        probes[label], packets[label] = probe, packet

    for flags, payload in (("S", b""), ("PA", b"data"), ("SA", b"")):
        for wrong in (0, 1, 0xFFFF):
            probe = lab.probe(family, flags, payload=payload)
            good = TCP(bytes(probe.packet())[40 if family == 6 else 20 :]).chksum
            if wrong != good:
                add(f"{flags} with checksum {wrong:#x}", probe, probe.packet(chksum=wrong))
        probe = lab.probe(family, flags, payload=payload)
        packet = bytearray(probe.packet())
        packet[-1] ^= 1
        add(f"{flags} with its last bit flipped", probe, bytes(packet))
        for offset in range(5):
            probe = lab.probe(family, flags, payload=payload)
            add(f"{flags} with data offset {offset}", probe, with_offset(probe, offset))
        for offset in (7, 15):
            probe = lab.probe(family, flags, payload=payload)
            add(f"{flags} with data offset {offset}", probe, with_offset(probe, offset))
    for length in (0, 1, 8, 13, 14, 19):
        probe = lab.probe(family, "S")
        raw = bytes(tcp_layer(probe))[:length]
        add(f"SYN cut off after {length} bytes", probe, bytes(ip_layer(probe) / raw))
    if family == 4:
        probe = lab.probe(4, "S")
        packet = bytearray(probe.packet())
        packet[10] ^= 0x55
        add("SYN with a bad IP checksum", probe, bytes(packet))
    for label, replies in lab.converse(probes, packets).items():
        lab.expect_silence(probes[label], replies, label)


def with_offset(probe: Segment, offset: int) -> bytes:
    """A packet with that data offset and a checksum that is right all the same."""
    ip = ip_layer(probe)
    raw = bytearray(bytes(tcp_layer(probe, chksum=0)) + probe.payload)
    raw[12] = offset << 4 | raw[12] & 0x0F
    ip = type(ip)(bytes(ip / bytes(raw)))
    value = (in6_chksum if probe.family == 6 else in4_chksum)(6, ip, bytes(raw))
    raw[16:18] = value.to_bytes(2, "big")
    return bytes(ip_layer(probe) / bytes(raw))


@wire.check("broadcast, multicast and unspecified addresses get no answer")
def addresses(lab: Lab, family: int) -> None:
    guest = SIDES[0].guest(family)
    if family == 4:
        pairs = [
            (CLIENT[4], "255.255.255.255"),
            (CLIENT[4], "10.1.0.255"),
            (CLIENT[4], "10.2.0.255"),
            (CLIENT[4], "224.0.0.1"),
            (CLIENT[4], "239.1.2.3"),
            (CLIENT[4], "0.0.0.0"),  # noqa: S104
            ("0.0.0.0", guest),  # noqa: S104
            ("255.255.255.255", guest),
            ("10.1.0.255", guest),
            ("224.0.0.1", guest),
            ("127.0.0.1", guest),
            ("255.255.255.255", UNUSED[4]),
            ("224.0.0.1", UNUSED[4]),
            ("10.1.0.255", UNUSED[4]),
            (guest, guest),
        ]
    else:
        pairs = [
            (CLIENT[6], "ff02::1"),
            (CLIENT[6], "ff05::2"),
            (CLIENT[6], "ff0e::1"),
            (CLIENT[6], "::"),
            ("::", guest),
            ("ff02::1", guest),
            ("ff0e::1", UNUSED[6]),
            ("::", UNUSED[6]),
            (guest, guest),
        ]
    for mac in ("", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"):
        for src, dst in pairs:
            for flags in ("S", "A", "SA"):
                probe = lab.probe(family, flags, flow=lab.flow(family, src=src, dst=dst))
                quiet(lab, probe, f"{flags} from {src} to {dst}", mac)
    for flags in ("S", "A", "SA"):
        probe = lab.probe(family, flags)
        quiet(lab, probe, f"{flags} in a broadcast frame", "ff:ff:ff:ff:ff:ff")
        quiet(lab, probe, f"{flags} in a multicast frame", "33:33:00:00:00:01")


def quiet(lab: Lab, probe: Segment, what: str, mac: str) -> None:
    """Send a probe in a frame to *mac*; nothing may be answered."""
    where = lab.wires[0]
    for each in lab.wires:
        each.take()
    where.send([probe.packet()], mac=mac)
    lab.settle()
    replies = [segment for each in lab.wires for segment in each.take()]
    lab.expect_silence(probe, replies, what + (f" (frame to {mac})" if mac else ""))


@wire.check("the TTL or hop limit of a reply is the system's default")
def ttl(lab: Lab, family: int) -> None:
    name = "net.ipv6.conf.all.hop_limit" if family == 6 else "net.ipv4.ip_default_ttl"
    every = ["net.ipv6.conf.eth0.hop_limit", name] if family == 6 else [name]
    for each in every:
        lab.guest.sysctl(each, 77)
    try:
        probe = lab.probe(family, "S")
        replies = lab.answers(probe)
    finally:
        for each in every:
            lab.guest.sysctl(each, 64)
    if [reply.ttl for reply in replies] != [77]:
        raise Deviation("the default was 77", [probe, *replies])


@wire.check("nothing reaches a local socket, and nothing is forwarded")
def dropped(lab: Lab, family: int) -> None:
    server = lab.client(family)
    server.bind(lab.guest.sockaddr(SIDES[0].guest(family), PORT))
    server.listen()
    try:
        syn, accepted = establish(lab, family)
        ack = Segment(syn.flow, "A", seq=syn.end, ack=accepted.end)
        lab.expect(ack, lab.answers(ack), "ACK", flags="A", window=0)
        sockets = lab.guest.read("/proc/net/tcp6" if family == 6 else "/proc/net/tcp")
        states = Counter(line.split()[3] for line in sockets.splitlines()[1:])
        if set(states) - {"0A"}:
            raise Deviation(f"the guest's own TCP has connections in states {dict(states)}")
    finally:
        server.close()
    through = lab.probe(family, "S", flow=lab.flow(family, dst=UNUSED[family]))
    lab.expect(through, lab.answers(through), "SYN to be forwarded", flags="SA", window=5)


@wire.check("what gets no answer is dropped as well: no rule that follows sees it")
def swallowed(lab: Lab, family: int) -> None:
    chains = {"INPUT": SIDES[0].guest(family), "FORWARD": UNUSED[family]}
    everything = ("-p", "tcp")
    for chain in chains:
        lab.rule(family, "-I", chain, *everything)  # before the target, which sees them all
        lab.rule(family, "-A", chain, *everything)  # behind it
    try:
        for chain, dst in chains.items():
            packets = unanswerable(lab, family, dst)
            lab.expect_silence(lab.probe(family, "S"), lab.send(packets), f"to {dst}")
            listed = lab.guest.run(lab.program(family), *lab.tools.wait, "-nvxL", chain)
            seen = [int(line.split()[0]) for line in listed.strip().splitlines()[2:]]
            if (seen[0], seen[-1]) != (len(packets), 0):
                raise Deviation(f"{chain}: of {seen[0]} packets {seen[-1]} were passed on")
    finally:
        for chain in chains:
            for _ in range(2):
                lab.rule(family, "-D", chain, *everything)


def unanswerable(lab: Lab, family: int, dst: str) -> list[bytes]:
    """Packets to *dst* that get no answer, of each reason that has nothing to do with addresses."""

    def probe(flags: str, **fields: Any) -> Segment:
        return lab.probe(family, flags, flow=lab.flow(family, dst=dst), **fields)

    cut = probe("S")
    return [
        *(probe(flags).packet() for flags in ("R", "RA", "F", "", "FPU", "SF")),
        probe("A", window=0).packet(),
        probe("S").packet(chksum=1),
        with_offset(probe("S"), 4),
        with_offset(probe("S"), 15),
        bytes(ip_layer(cut) / bytes(tcp_layer(cut))[:14]),
    ]


@wire.check("every segment is answered once: no limit of its own, no retransmission")
def unlimited(lab: Lab, family: int) -> None:
    syn, accepted = establish(lab, family)
    probe = Segment(syn.flow, "PA", seq=syn.end, ack=accepted.end, payload=b"x")
    packet = probe.packet()
    replies = lab.send(packet for _ in range(500))
    if len(replies) != 500:
        raise Deviation(f"500 segments got {len(replies)} replies", [probe, *replies[:3]])


@wire.check("replies pass OUTPUT, as those of REJECT do")
def output(lab: Lab, family: int) -> None:
    probe = lab.probe(family, "S")
    rule = ("OUTPUT", "-p", "tcp", "--sport", str(PORT), "-j", "DROP")
    lab.rule(family, "-A", *rule)
    try:
        replies = lab.answers(probe)
    finally:
        lab.rule(family, "-D", *rule)
    lab.expect_silence(probe, replies, "SYN while OUTPUT drops the reply")


@wire.check("initial sequence numbers are unpredictable to anyone but the client")
def numbers(lab: Lab, family: int) -> None:
    count = 400
    probes = [lab.probe(family, "S", seq=0) for _ in range(count)]
    replies = lab.send(probe.packet() for probe in probes)
    isns = [reply.seq for reply in replies]
    if len(set(isns)) < count:
        raise Deviation(f"{count} SYNs got {len(set(isns))} different numbers", replies[:6])
    steps = Counter((b - a) % MODULUS for a, b in itertools.pairwise(isns))
    if steps.most_common(1)[0][1] > 1:
        raise Deviation("the same step between two numbers occurs more than once", replies[:6])
    for bit in range(32):
        ones = sum(isn >> bit & 1 for isn in isns)
        if not count * 0.35 < ones < count * 0.65:  # six standard deviations
            raise Deviation(f"bit {bit} is set in {ones} of {count} numbers", replies[:6])


@wire.check("each part of both addresses and ports has to do with the number")
def tuples(lab: Lab, family: int) -> None:
    kind, size = (socket.AF_INET6, 16) if family == 6 else (socket.AF_INET, 4)
    src, dst = CLIENT[family], UNUSED[family]
    network = 8 if family == 6 else 3  # bytes of it, behind eth1

    def other(address: str, at: int) -> str:
        raw = bytearray(socket.inet_pton(kind, address))
        raw[at] ^= 1
        return socket.inet_ntop(kind, bytes(raw))

    flows = [
        Flow(src, dst, 999, PORT),
        Flow(src, dst, 998, PORT),
        Flow(src, dst, 999, PORT + 1),
        *(Flow(other(src, at), dst, 999, PORT) for at in range(size)),
        *(Flow(src, other(dst, at), 999, PORT) for at in range(network, size)),
        *(Flow(src, side.guest(family), 999, PORT) for side in SIDES),
    ]
    probes = {str(flow): Segment(flow, "S", seq=0) for flow in flows}
    replies = [reply for each in lab.converse(probes).values() for reply in each]
    different = len({reply.seq for reply in replies})
    if (len(replies), different) != (len(flows), len(flows)):
        raise Deviation(
            f"{len(flows)} SYNs got {len(replies)} answers, with {different} different numbers"
        )


@wire.check("who connects from a port again learns nothing from the number of before")
def reused(lab: Lab, family: int) -> None:
    flow = lab.flow(family)
    seqs = (0, 1, 2, 1 << 16, 1 << 31, lab.number())
    replies = [lab.answers(Segment(flow, "S", seq=seq))[0] for seq in seqs]
    steps = Counter((r.seq - seq) % MODULUS for r, seq in zip(replies, seqs, strict=True))
    if steps.most_common(1)[0][1] > 1:
        raise Deviation("the difference to the client's number is the same again", replies)


@wire.check("the key of the sequence numbers is not the same after the module was loaded again")
def key(lab: Lab, family: int) -> None:
    flow = lab.flow(family)
    probe = Segment(flow, "S", seq=1)
    seen = []
    for _ in range(2):
        seen += lab.answers(probe)
        lab.clear()
        lab.unload()
        lab.require_module()
        prepare(lab)
    if len(seen) != 2 or seen[0].seq == seen[1].seq:
        raise Deviation("the same SYN got the same number from a module that was reloaded", seen)
