"""Contract section 1, last point: a packet may be of any size and be stored in any way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from scapy.layers.inet import IP, IPOption_NOP, IPOption_Router_Alert, fragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)

from tarpit_builder.proof.checks.wire import establish
from tarpit_builder.proof.guest import ETH_P_ALL, GuestSocket
from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.namespaces import Pair
from tarpit_builder.proof.network import UNUSED
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Segment, frame, ip_layer, parse, tcp_layer

shapes = Group("shapes", "packets of every size and make", order=50, fresh=True)

JUMBO = 9000
LARGEST = 4000


@shapes.setup
def prepare(lab: Lab) -> None:
    """Tarpit what arrives and what is to be forwarded; no defragmentation yet."""
    if "nf_defrag_ipv4" in lab.guest.modules():
        raise Unavailable("defragmentation is on already: this kernel has it built in")
    lab.tarpit(match=("!", "-i", "eth1"))
    lab.tarpit(chain="FORWARD")


def pieces(probe: Segment, size: int) -> list[bytes]:
    """The packet of *probe* in fragments of *size* bytes of payload."""
    packet = ip_layer(probe) / tcp_layer(probe) / probe.payload
    if probe.family == 6:
        whole = IPv6(bytes(packet))
        inner = bytes(whole)[40:]
        out = []
        for at in range(0, len(inner), size):
            header = IPv6ExtHdrFragment(
                nh=6, offset=at // 8, m=int(at + size < len(inner)), id=probe.identification
            )
            ip = IPv6(src=whole.src, dst=whole.dst, hlim=64)
            out.append(bytes(ip / header / inner[at : at + size]))
        return out
    whole = IP(bytes(packet))
    whole.flags = 0
    del whole.chksum
    return [bytes(part) for part in fragment(whole, fragsize=size)]


def fragments(lab: Lab, family: int, dst: str = "") -> dict[str, list[tuple[Segment, bytes]]]:
    """Fragmented segments by label; each list is complete."""
    out = {}
    for number, (label, flags, length, size) in enumerate(
        [
            ("SYN, split after 8 bytes", "S", 0, 8),
            ("SYN, split after 16 bytes", "S", 0, 16),
            ("SYN with data, split after its header", "S", 40, 24),
            ("data, split in two", "PA", 1000, 800),
            ("data, split in many", "PA", 1000, 104),
        ]
    ):
        probe = lab.probe(
            family,
            flags,
            flow=lab.flow(family, dst=dst),
            payload=b"x" * length,
            df=False,
            identification=lab.number() & 0xFF00 | number + 1,
        )
        out[label] = [(probe, piece) for piece in pieces(probe, size)]
    return out


def disguised(lab: Lab, family: int) -> dict[str, tuple[Segment, bytes]]:
    """Fragments to be forwarded whose content is a whole segment, with the right checksum."""
    out = {}
    for label, offset, more in (("first", 0, True), ("later", 100, True), ("last", 100, False)):
        flow = lab.flow(family, dst=UNUSED[family])
        probe = lab.probe(family, "S", flow=flow, payload=b"1234", df=False)
        ip = ip_layer(probe)
        inner = probe.packet()[len(ip) :]
        if family == 6:
            header = IPv6ExtHdrFragment(nh=6, offset=offset, m=int(more), id=7)
            piece = bytes(IPv6(src=flow.src, dst=flow.dst) / header / inner)
        else:
            ip.flags, ip.frag = "MF" if more else 0, offset
            piece = bytes(ip / inner)
        out[f"a {label} fragment that looks like a segment"] = probe, piece
    return out


@shapes.check("a fragment that was not reassembled gets no answer")
def unassembled(lab: Lab, family: int) -> None:
    for label, parts in fragments(lab, family, dst=UNUSED[family]).items():
        replies = lab.send(piece for _, piece in parts)
        lab.expect_silence(parts[0][0], replies, f"{label}, to be forwarded")
    for label, parts in fragments(lab, family).items():
        for part, (probe, piece) in enumerate(parts[:-1]):  # never complete
            what = f"{label}, part {part + 1} alone"
            lab.expect_silence(probe, lab.send([piece]), what)
    for label, (probe, piece) in disguised(lab, family).items():
        lab.expect_silence(probe, lab.send([piece]), label)
    # One that begins behind the TCP header's first bytes, which a firewall must not guess.
    probe, _ = fragments(lab, family)["data, split in two"][0]
    for piece in pieces(probe, 16)[1:3]:
        lab.expect_silence(probe, lab.send([piece]), "a later fragment alone")


@shapes.check("a segment of any size is answered with window 0 at SND.UNA (0 to 4000 bytes)")
def sizes(lab: Lab, family: int) -> None:
    lab.network.mtu("eth0", JUMBO)
    try:
        syn, accepted = establish(lab, family)
        blob = bytes(range(256)) * (LARGEST // 256 + 1)
        probes = [
            Segment(syn.flow, "A", syn.end, accepted.end, payload=blob[:length])
            for length in range(LARGEST + 1)
        ]
        replies = lab.send(probe.packet() for probe in probes)
        if len(replies) != len(probes):
            raise Deviation(f"{len(probes)} segments got {len(replies)} replies", replies[:3])
        for probe, reply in zip(probes, replies, strict=True):
            what = f"{len(probe.payload)} bytes"
            lab.expect(probe, [reply], what, flags="A", window=0, seq=accepted.end, ack=syn.end)
        for length in range(0, LARGEST, 97):
            syn = lab.probe(family, "S", payload=blob[:length])
            lab.expect(syn, lab.answers(syn), f"SYN with {length} bytes", flags="SA", window=5)
    finally:
        lab.network.mtu("eth0", 1500)


@shapes.check("options of IPv4 and extension headers of IPv6 are neither echoed nor in the way")
def headers(lab: Lab, family: int) -> None:
    for flags, expected, window in (("S", "SA", 5), ("PA", "A", 0)):
        probe = lab.probe(family, flags, payload=b"" if flags == "S" else b"data")
        ip = ip_layer(probe)
        rest = tcp_layer(probe) / probe.payload
        variants = {}
        if family == 4:
            ip.options = [IPOption_NOP()] * 4
            variants["four NOPs"] = bytes(ip / rest)
            ip.options = [IPOption_Router_Alert()]
            variants["router alert"] = bytes(ip / rest)
            # Not record route: the kernel writes into it on arrival, and nf_ip_checksum(), which
            # REJECT uses too, then finds the whole packet damaged.
        else:
            ip.nh = 0
            variants["hop-by-hop"] = bytes(ip / IPv6ExtHdrHopByHop(options=[PadN()]) / rest)
            ip.nh = 60
            variants["destination options"] = bytes(ip / IPv6ExtHdrDestOpt() / rest)
        for label, packet in variants.items():
            what = f"{flags} with {label}"
            lab.expect(probe, lab.send([packet]), what, flags=expected, window=window)


@contextmanager
def tap(lab: Lab, interface: str) -> Iterator[GuestSocket]:
    """Somebody else who looks at all that comes in and goes out, as tcpdump does."""
    sock = lab.guest.socket(socket.AF_PACKET, socket.SOCK_RAW, lab.guest.htons(ETH_P_ALL))
    sock.bind(lab.guest.packet_address(lab.network.index(interface)))
    try:
        yield sock
    finally:
        sock.close()


@shapes.check("a packet that somebody else looks at (tcpdump) is not changed")
def shared(lab: Lab, family: int) -> None:
    with tap(lab, "eth0") as watching:
        watching.drain()
        syn, accepted = establish(lab, family)
        sent = [syn]
        for payload in (b"", b"x", b"x" * 200, b"x" * 1400):
            probe = Segment(syn.flow, "A", syn.end, accepted.end, payload=payload)
            lab.expect(probe, lab.answers(probe), "ACK", flags="A", window=0, ack=syn.end)
            sent.append(probe)
        seen = watching.drain()
        wire = lab.wires[0]
        for probe in sent:
            expected = frame(probe.packet(), src=wire.mac, dst=wire.guest_mac)
            if expected not in seen:
                strange = [s for s in map(parse, seen) if s and s.flow.dport == probe.flow.dport]
                raise Deviation("the tap saw another packet than was sent", [probe, *strange])


@shapes.check("segments that GRO puts together are answered as one or each for itself")
def coalesced(lab: Lab, family: int) -> None:
    syn, accepted = establish(lab, family)
    at = syn.end
    packets = []
    for _ in range(40):
        segment = Segment(syn.flow, "A", at, accepted.end, payload=b"x" * 1400)
        packets.append(segment.packet())
        at = segment.end
    replies = lab.send(packets)
    if not 1 <= len(replies) <= len(packets):
        raise Deviation(f"40 segments got {len(replies)} replies", replies[:6])
    for reply in replies:
        lab.expect(syn, [reply], "data", flags="A", window=0, seq=accepted.end, ack=syn.end)


@shapes.check("64 kB in one packet, as a local sender's offload makes it, are answered")
def offloaded(lab: Lab, family: int) -> None:
    with Pair(lab) as pair:
        lab.clear()
        match = ("-i", pair.here, "-m", "string", "--string", "cmd.exe", "--algo", "bm")
        done = lab.attempt_rule(family, "-A", "INPUT", "-p", "tcp", *match, "-j", "TARPIT")
        if done.status:
            raise Unavailable("this kernel has no string match")
        answered_whole(lab, pair, family)


LARGE = 20000
"""Bytes that no packet on a wire has."""
MOST = 65535
"""Bytes that the header of a packet can say that it has."""


def answered_whole(lab: Lab, pair: Pair, family: int) -> None:
    """What a rule answers of an upload, the part of it with ``cmd.exe``, comes in one packet.

    :raises Deviation: if the answer is none.
    """
    let_send_at_once(lab, pair, family)
    frames = upload(lab, pair, family, b"z" * 62000 + b"cmd.exe" + b"z" * 1000)
    large = max(map(len, frames), default=0)
    seen = [s for s in (parse(data) for data in frames) if s]
    hostile = [s for s in seen if b"cmd.exe" in s.payload]
    if large < LARGE or not hostile:
        raise Unavailable(f"this kernel sent no packet of more than {large} bytes")
    replies = [s for s in seen if s.flow == hostile[0].flow.back and s.window == 0]
    if not replies:
        raise Deviation(f"no answer with window 0 to {len(hostile[0].payload)} bytes", seen[-6:])
    reply = replies[0]
    if reply.payload or reply.options or reply.trailing or reply.flags != "A":
        raise Deviation("the reply is not a bare ACK", [reply])


def let_send_at_once(lab: Lab, pair: Pair, family: int, segments: int = 44) -> None:
    """What makes a sender send 64 kB in one go, or so many segments: room, and no pacing."""
    lab.guest.sysctl("net.ipv4.tcp_rmem", "2000000 2000000 4000000")
    lab.guest.sysctl("net.ipv4.tcp_min_tso_segs", segments, netns=pair.netns)
    network = "fd03::/64 proto kernel metric 256" if family == 6 else "10.3.0.0/24"
    route = f"-{family} -n {pair.netns} route replace {network} dev {pair.there} initcwnd 200"
    lab.guest.run("ip", *route.split())


def upload(lab: Lab, pair: Pair, family: int, data: bytes) -> list[bytes]:
    """Have a client send *data* to a server that reads nothing; the frames on their wire."""
    server = lab.client(family)
    server.bind(lab.guest.sockaddr(pair.address(family), 80))
    server.listen()
    with tap(lab, pair.here) as watching:
        client = lab.client(family, netns=pair.netns)
        client.connect(lab.guest.sockaddr(pair.address(family), 80), seconds=5)
        peer = server.accept(seconds=5)
        client.send(data)
        lab.guest.sleep(0.3)
        frames = watching.drain()
    for sock in (client, peer, server):
        sock.close()
    return frames


@shapes.check("with defragmentation, reassembled segments are answered once")
def assembled(lab: Lab, family: int) -> None:
    lab.clear()
    done = lab.attempt_rule(family, "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW")
    if done.status:
        raise Unavailable("this kernel has no connection tracking to reassemble for")
    lab.tarpit()
    lab.tarpit(chain="FORWARD")
    for where in ("", UNUSED[family]):
        for label, parts in fragments(lab, family, dst=where).items():
            probe = parts[0][0]
            if family == 6 and "after" in label and "header" not in label:
                continue  # RFC 8200: the first fragment must hold the whole TCP header
            what = f"{label}, {'to be forwarded' if where else 'for the guest'}"
            replies = lab.send(piece for _, piece in parts)
            if "S" in probe.flags:
                lab.expect(probe, replies, what, flags="SA", window=5, ack=probe.seq + 1)
            else:
                lab.expect(probe, replies, what, flags="A", window=0)
            replies = lab.send(piece for _, piece in reversed(parts))
            if len(replies) != 1:
                raise Deviation(f"{what}, in reverse order: {len(replies)} replies", replies)
