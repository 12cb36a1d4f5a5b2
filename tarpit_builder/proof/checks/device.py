"""Contract section 6: the device gives the answers that the target gives, to what is sent to it."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw
from scapy.utils6 import in6_getnsma, in6_getnsmac

from tarpit_builder.proof.checks import held, modes, shapes, state, storms, wire
from tarpit_builder.proof.checks.life import Traffic, lose_interfaces
from tarpit_builder.proof.checks.routes import (
    bridge,
    expect_on,
    ip,
    of_ports,
    restore_eth1,
    try_ip,
)
from tarpit_builder.proof.device import TABLE, Device, ingress, load, name_of
from tarpit_builder.proof.lab import MODES, PORT, Deviation, Lab, Unavailable
from tarpit_builder.proof.namespaces import Pair
from tarpit_builder.proof.network import CLIENT, SIDES, UNUSED
from tarpit_builder.proof.registry import Check, Group
from tarpit_builder.proof.segment import Segment, parse

device = Group(
    "device",
    "tarpit0, for nftables, tc and routes",
    order=58,
    backends=("legacy",),
    fresh=True,
    device=True,
    provokes=("renamed from", "bond9"),
)

NAME = "tarpit0"
BOND = "bond9"
TUNNEL, VNI, VXLAN_PORT = "vxlan9", 9, 4789
NOBODY = {4: "10.1.0.77", 6: "2001:db8:1::77"}
"""Addresses in eth0's segment that nobody has."""
ASKER = {4: "10.1.0.254", 6: "2001:db8:1::fe"}
STRANGER = "02:00:00:00:00:aa"
BIG = 150_000
"""Bytes of a packet that no header has a length for."""
THROUGH = (63,)
"""Hop limit of an answer that came through the host's stack."""
ANSWER = 200  # bytes that none of our answers has
SO_RCVBUFFORCE = 33


def of(lab: Lab) -> Device:
    """The device of a lab that judges one."""
    assert lab.device
    return lab.device


@device.setup
def prepare(lab: Lab) -> None:
    """All TCP that comes in is forwarded to the device."""
    lab.tarpit()


def under(prepare: Callable[[Lab], None], function: Callable[..., None]) -> Callable[..., None]:
    """A check of the target's with the device in its place."""

    @functools.wraps(function)
    def judged(lab: Lab, **arguments: Any) -> None:
        lab.clear()
        prepare(lab)
        function(lab, **arguments)

    return judged


# -- frames --------------------------------------------------------------------------------------


def answering(frames: Iterable[Packet]) -> list[Packet]:
    """Those of *frames* that may answer something.

    What the guest tells groups of its own accord, as a bridge or a tunnel that came up does,
    answers nothing.
    """
    return [each for each in frames if TCP in each or not int(each.dst[:2], 16) & 1]


def exchange(lab: Lab, *frames: Packet | bytes, card: int = 0) -> list[Packet]:
    """Send frames; those that come back on that card, but for pings."""
    seen: list[bytes] = []
    its = lab.wires[card]
    its.on_frame = seen.append
    try:
        for each in frames:
            its.send_frame(bytes(each))
        lab.settle()
    finally:
        its.on_frame = None
    return answering(Ether(each) for each in seen)


def syn(lab: Lab, family: int, *, src: str = "", dst: str = "", tags: Sequence[int] = ()) -> Packet:
    """A SYN from a stranger's address on the link to the guest's."""
    flow = lab.flow(family, src=src, dst=dst)
    packet = Segment(flow, "S", seq=lab.number()).packet()
    outer = Ether(src=STRANGER, dst=lab.wires[0].guest_mac)
    for tag in tags:
        outer = outer / Dot1Q(vlan=tag)
    return outer / (IPv6 if family == 6 else IP)(packet)


def expect_turned(lab: Lab, question: Packet, answers: Sequence[Packet]) -> Packet:
    """One answer, the addresses of the question exchanged, under the same tags.

    :raises Deviation: if not.
    """
    if len(answers) != 1:
        raise Deviation(f"{question.summary()}: {len(answers)} answers")
    (answer,) = answers
    seen = (answer.src, answer.dst, tags_of(answer), answer[TCP].flags)
    expected = (question.dst, question.src, tags_of(question), "SA")
    if seen != expected:
        raise Deviation(f"{question.summary()}: the answer has {seen}, expected {expected}")
    return answer


def tags_of(packet: Packet) -> list[int]:
    """The VLANs of a frame, the outermost first."""
    found = []
    while Dot1Q in packet:
        packet = packet[Dot1Q]
        found.append(packet.vlan)
        packet = packet.payload
    return found


@device.check(
    "a frame is turned round: hardware addresses exchanged, no neighbour is asked", section="6"
)
def turned(lab: Lab, family: int) -> None:
    for dst in (SIDES[0].guest(family), NOBODY[family], UNUSED[family]):
        question = syn(lab, family, dst=dst)
        expect_turned(lab, question, exchange(lab, question))


@device.check("what fills a frame up is no part of its packet", section="6")
def padded(lab: Lab, family: int) -> None:
    for padding in (bytes(6), b"\xff" * 5, bytes(40)):
        question = syn(lab, family) / Raw(padding)
        expect_turned(lab, question, exchange(lab, bytes(question)))


@device.check("VLAN tags are kept, up to three of them", section="6")
def tagged(lab: Lab, family: int) -> None:
    ip(lab, "link set eth0 promisc on")  # else the card takes no tag that nobody asked for
    rule = f"add rule {TABLE} eth0 vlan id 5 fwd to {name_of('tarpit')}"
    of(lab).nft(rule)
    for tags in ((5,), (5, 7), (5, 7, 9)):
        question = syn(lab, family, tags=tags)
        expect_turned(lab, question, exchange(lab, question))
    question = syn(lab, family, tags=(5, 7, 9, 11))
    if answers := exchange(lab, question):
        raise Deviation(f"four tags: {len(answers)} answers")


@contextmanager
def redirected(lab: Lab, match: str, name: str) -> Iterator[None]:
    """With tc redirecting to the device *name* what *match* admits of what comes in by eth0.

    nft hands on a packet of its own, where there is a tap; tc does not.

    :raises Unavailable: if this kernel cannot.
    """
    if lab.guest.attempt("tc", "qdisc", "add", "dev", "eth0", "clsact").status:
        raise Unavailable("this kernel has no clsact")
    try:
        rule = f"filter add dev eth0 ingress {match} action mirred egress redirect dev {name}"
        if lab.guest.attempt("tc", *rule.split()).status:
            raise Unavailable("this kernel has no flower, or no mirred")
        yield
    finally:
        lab.guest.run("tc", "qdisc", "del", "dev", "eth0", "clsact")


def tcp_of(family: int) -> str:
    """A match of tc for all TCP of *family*."""
    return f"protocol {'ipv6' if family == 6 else 'ip'} flower ip_proto tcp"


@device.check("tc: mirred's redirect at ingress does as nft's fwd", section="6")
def by_tc(lab: Lab, family: int) -> None:
    lab.clear()
    with redirected(lab, f"{tcp_of(family)} dst_port {PORT}", name_of("tarpit")):
        question = syn(lab, family)
        expect_turned(lab, question, exchange(lab, question))
        probe = lab.probe(family, "PA", payload=b"x" * 1400)
        lab.expect(probe, lab.answers(probe), "data", flags="A", window=0)
        shapes.shared(lab, family)


@device.check(
    "tc: a tagged frame that somebody else looks at is answered under its tag", section="6"
)
def tagged_by_tc(lab: Lab, family: int) -> None:
    lab.clear()
    ip(lab, "link set eth0 promisc on")
    with redirected(lab, "protocol 802.1q flower vlan_id 5", name_of("tarpit")):
        with shapes.tap(lab, "eth0") as watching:
            question = syn(lab, family, tags=(5,))
            expect_turned(lab, question, exchange(lab, question))
            seen = [Ether(data) for data in watching.drain()]
        if not any(TCP in each and each.dst == question.dst for each in seen):
            raise Deviation("the tap saw nothing of the question")


@contextmanager
def tunnel(lab: Lab) -> Iterator[None]:
    """A tunnel to the far end of eth0, all TCP out of which is forwarded to the device."""
    lab.clear()
    here, there = SIDES[0].guest4, SIDES[0].gateway4
    link = f"{TUNNEL} type vxlan id {VNI} dstport {VXLAN_PORT} local {here} remote {there}"
    try_ip(lab, f"link add {link}", "VXLAN")
    try:
        ip(lab, f"link set {TUNNEL} up")
        rule = f"add rule {TABLE} v meta l4proto tcp fwd to {name_of('tarpit')}"
        of(lab).nft(*ingress("v", TUNNEL), rule)
        yield
    finally:
        ip(lab, f"link del {TUNNEL}")


def through_tunnel(lab: Lab, inner: Packet, *, summed: bool) -> list[Packet]:
    """Send a frame in another one, whose checksum covers both if it is *summed*.

    :return: what comes back, out of the tunnel if it was in it.
    """
    wire = lab.wires[0]
    outer = Ether(src=wire.mac, dst=wire.guest_mac) / IP(src=SIDES[0].gateway4, dst=SIDES[0].guest4)
    udp = UDP(sport=40000, dport=VXLAN_PORT, **({} if summed else {"chksum": 0}))
    frame = Ether(bytes(outer / udp / VXLAN(vni=VNI, flags="Instance") / inner))
    back = exchange(lab, frame)
    return answering(each[VXLAN].payload if VXLAN in each else each for each in back)


@device.check("out of a tunnel: answered into it, whoever has summed the segment up", section="6")
def tunnelled(lab: Lab, family: int) -> None:
    with tunnel(lab):
        for summed in (False, True):
            # With the outer checksum verified, the kernel hands on that of all there is inside.
            for fill in (b"", b"\xff" * 9):
                question = syn(lab, family, dst=NOBODY[family])
                answers = through_tunnel(lab, question / fill, summed=summed)
                expect_turned(lab, question, answers)
            wrong = Ether(bytes(syn(lab, family, dst=NOBODY[family])))
            wrong[TCP].chksum ^= 0x100
            if answers := through_tunnel(lab, wrong, summed=summed):
                raise Deviation(f"a wrong checksum inside: {len(answers)} answers")


@contextmanager
def routed(lab: Lab, family: int) -> Iterator[None]:
    """The subnet behind eth1 belongs to the device."""
    lab.clear()
    of(lab).make(NAME)
    # As good as the route that there is, in whose place it comes.
    network = "2001:db8:203::/64 metric 1" if family == 6 else "203.0.113.0/24"
    ip(lab, f"route replace {network} dev {NAME}")
    try:
        yield
    finally:
        of(lab).remove(NAME)
        restore_eth1(lab)


@device.check("a route: unused space is answered through the host's stack", section="6")
def by_route(lab: Lab, family: int) -> None:
    with routed(lab, family):
        for flags, expected, window in (("S", "SA", 5), ("PA", "A", 0)):
            flow = lab.flow(family, dst=UNUSED[family])
            probe = lab.probe(family, flags, flow=flow, payload=b"x" * (flags == "PA"))
            replies = lab.answers(probe)
            expect_on(lab, probe, replies, 0, flags=expected, window=window, ttls=THROUGH)


@device.check("a route: a client on the host itself is held", section="6")
def local_client(lab: Lab, family: int) -> None:
    with routed(lab, family):
        client = lab.client(family)
        try:
            client.connect(lab.guest.sockaddr(UNUSED[family], 80), seconds=5)
            client.send(b"x" * 100)
            lab.guest.sleep(1)
            if client.state != 1:
                raise Deviation(f"the client is in state {client.state}, not ESTABLISHED")
        finally:
            client.close()


@device.check("a port of a bridge: answered out of that port", section="6")
def bridge_port(lab: Lab, family: int) -> None:
    with bridge(lab, "eth1"):
        lab.clear()
        prepare(lab)
        question = syn(lab, family, dst="2001:db8:2::70" if family == 6 else "10.2.0.70")
        question.dst = STRANGER[:-1] + "b"  # of another host's behind the bridge
        expect_turned(lab, question, exchange(lab, question, card=1))


@device.check("a bond, and what is in it: answered out of where the rule is", section="6")
def bonded(lab: Lab, family: int) -> None:
    with of_ports(lab, BOND, "bond mode active-backup", "eth1"):
        for interface in (BOND, "eth1"):
            lab.clear()
            rule = f"add rule {TABLE} v meta l4proto tcp fwd to {name_of('tarpit')}"
            of(lab).nft(*ingress("v", interface), rule)
            question = syn(lab, family, dst=NOBODY[family])
            question.dst = lab.wires[1].guest_mac
            expect_turned(lab, question, exchange(lab, question, card=1))


@device.check(
    "64 kB in one packet, as a local sender's offload makes it, are answered", section="6"
)
def offloaded(lab: Lab, family: int) -> None:
    with Pair(lab) as pair:
        lab.clear()
        rule = f"add rule {TABLE} v meta length > {shapes.LARGE} fwd to {name_of('tarpit')}"
        of(lab).nft(*ingress("v", pair.here), rule)
        shapes.answered_whole(lab, pair, family)


@device.check(
    "more than 64 kB in one packet, whose header has no length for it (BIG TCP)", section="6"
)
def big(lab: Lab, family: int) -> None:
    with Pair(lab) as pair:
        for netns, interface in (("", pair.here), (pair.netns, pair.there)):
            sizes = " ".join(f"{name} {BIG}" for name in ("gso_max_size", "gso_ipv4_max_size"))
            command = f"link set dev {interface} {sizes}"
            if lab.guest.attempt("ip", *command.split(), netns=netns).status:
                raise Unavailable("this kernel or user land knows no packets of more than 64 kB")
        lab.clear()
        rule = f"add rule {TABLE} v meta length > {shapes.MOST} fwd to {name_of('tarpit')}"
        of(lab).nft(*ingress("v", pair.here), rule)
        shapes.let_send_at_once(lab, pair, family, segments=BIG // 1500)
        before = of(lab).counted(name_of("tarpit"))
        with shapes.tap(lab, pair.here) as watching:
            watching.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
            shapes.upload(lab, pair, family, b"z" * 2 * BIG)
            small = (data for data in watching.drain(ANSWER) if len(data) < ANSWER)
            seen = [each for each in map(parse, small) if each and not each.window]
        counted = state.grown(before, of(lab).counted(name_of("tarpit")))
        if not counted:
            raise Unavailable("this kernel sent no packet of more than 64 kB")
        if set(counted) != {"hold"} or not seen:
            raise Deviation(f"counted {counted}", seen[:4])


@device.check("a route by a gateway that does not exist: one neighbour for all", section="6")
def by_gateway(lab: Lab, family: int) -> None:
    prefix, length = ("2001:db8:99::", 64) if family == 6 else ("192.0.2.", 24)
    gateway = "fe80::1" if family == 6 else "169.254.0.1 onlink"
    lab.clear()
    made = of(lab)
    for via, expected in (("", 10), (f"via {gateway}", 1)):
        made.make(NAME)
        ip(
            lab,
            f"-{family} route add {prefix}{'' if family == 6 else '0'}/{length} {via} dev {NAME}",
        )
        for host in range(1, 11):
            probe = lab.probe(family, "S", flow=lab.flow(family, dst=f"{prefix}{host}"))
            expect_on(lab, probe, lab.answers(probe), 0, flags="SA", window=5, ttls=THROUGH)
        listed = lab.guest.run("ip", f"-{family}", "neigh", "show", "dev", NAME, "nud", "all")
        here = [line for line in listed.splitlines() if not line.startswith(("ff02:", "224."))]
        if len(here) != expected:
            raise Deviation(f"{len(here)} neighbours {via}, expected {expected}:\n{listed}")
        made.remove(NAME)


@device.check("our own address as source: its sender gets the answer, nobody else", section="6")
def own_source(lab: Lab, family: int) -> None:
    lab.clear()
    prepare(lab)
    question = syn(lab, family, src=SIDES[0].guest(family), dst=NOBODY[family])
    expect_turned(lab, question, exchange(lab, question))


@device.check("addresses that no single host has get no answer", section="6")
def addresses(lab: Lab, family: int) -> None:
    lab.clear()
    prepare(lab)
    guest, client = SIDES[0].guest(family), CLIENT[family]
    if family == 4:
        pairs = [
            *((client, dst) for dst in ("255.255.255.255", "10.1.0.255", "224.0.0.1", "127.0.0.1")),
            *((src, guest) for src in ("255.255.255.255", "10.1.0.255", "224.0.0.1", "127.0.0.1")),
            ("0.0.0.0", guest),  # noqa: S104
            (client, "0.0.0.0"),  # noqa: S104
            (guest, guest),
        ]
    else:
        pairs = [
            *((client, dst) for dst in ("ff02::1", "ff0e::1", "::", "::1")),
            *((src, guest) for src in ("ff02::1", "ff0e::1", "::", "::1")),
            (guest, guest),
        ]
    for src, dst in pairs:
        if answers := exchange(lab, syn(lab, family, src=src, dst=dst)):
            raise Deviation(f"from {src} to {dst}: {len(answers)} answers")
    for there, here in (
        (STRANGER, "ff:ff:ff:ff:ff:ff"),
        (STRANGER, "33:33:00:00:00:01"),
        ("33:33:00:00:00:01", lab.wires[0].guest_mac),
        ("00:00:00:00:00:00", lab.wires[0].guest_mac),
    ):
        question = syn(lab, family)
        question.src, question.dst = there, here
        if answers := exchange(lab, question):
            raise Deviation(f"a frame from {there} to {here}: {len(answers)} answers")
    question = syn(lab, family)
    expect_turned(lab, question, exchange(lab, question))


# -- neighbours ----------------------------------------------------------------------------------


def claim(lab: Lab, family: int) -> None:
    """Questions for an address that nobody has go to the device, and what is sent there."""
    lab.clear()
    prepare(lab)
    ip(lab, "link set eth0 allmulticast on")  # a card need not take what nobody has joined
    name = name_of("tarpit")
    asked = (
        f"icmpv6 type nd-neighbor-solicit @th,64,128 {hexadecimal(NOBODY[6])}"
        if family == 6
        else f"arp operation request arp daddr ip {NOBODY[4]}"
    )
    of(lab).nft(f"add rule {TABLE} eth0 {asked} fwd to {name}")


def hexadecimal(address: str) -> str:
    """An IPv6 address as one number."""
    return "0x" + socket.inet_pton(socket.AF_INET6, address).hex()


def question_for(family: int, address: str, *, asker: str, unicast: str = "") -> Packet:
    """An ARP request or a neighbour solicitation."""
    if family == 4:
        to = unicast or "ff:ff:ff:ff:ff:ff"
        return Ether(src=STRANGER, dst=to) / ARP(op=1, hwsrc=STRANGER, psrc=asker, pdst=address)
    group = in6_getnsma(socket.inet_pton(socket.AF_INET6, address))
    dst = address if unicast else socket.inet_ntop(socket.AF_INET6, group)
    to = unicast or in6_getnsmac(group)
    body = ICMPv6ND_NS(tgt=address)
    if asker != "::":
        body = body / ICMPv6NDOptSrcLLAddr(lladdr=STRANGER)
    return Ether(src=STRANGER, dst=to) / IPv6(src=asker, dst=dst, hlim=255) / body


@device.check("who asks for an address is told that of the interface", section="6")
def neighbour(lab: Lab, family: int) -> None:
    claim(lab, family)
    here = lab.wires[0].guest_mac
    for unicast in ("", here):
        question = question_for(family, NOBODY[family], asker=ASKER[family], unicast=unicast)
        answers = exchange(lab, question)
        if len(answers) != 1:
            raise Deviation(f"{question.summary()}: {len(answers)} answers")
        (answer,) = answers
        if family == 4:
            its = answer[ARP]
            seen: list[Any] = [its.op, its.hwsrc, its.psrc, its.hwdst, its.pdst]
            expected: list[Any] = [2, here, NOBODY[4], STRANGER, ASKER[4]]
        else:
            its = answer[ICMPv6ND_NA]
            lladdr = answer[ICMPv6NDOptDstLLAddr].lladdr
            whole = answer[IPv6]
            sum_is = its.cksum
            again = IPv6(bytes(whole))
            del again[ICMPv6ND_NA].cksum
            right = IPv6(bytes(again))[ICMPv6ND_NA].cksum
            seen = [its.tgt, lladdr, its.R, its.S, its.O, whole.src, whole.dst, whole.hlim, sum_is]
            expected = [NOBODY[6], here, 0, 1, 1, NOBODY[6], ASKER[6], 255, right]
        if (answer.src, answer.dst) != (here, STRANGER) or seen != expected:
            raise Deviation(f"the answer is {seen}, expected {expected}")
    held = syn(lab, family, dst=NOBODY[family])
    expect_turned(lab, held, exchange(lab, held))


@device.check(
    "who is about to take an address, and what is no proper question, gets no answer", section="6"
)
def no_neighbour(lab: Lab, family: int) -> None:
    claim(lab, family)
    nobody, asker = NOBODY[family], ASKER[family]
    questions: dict[str, Packet] = {}
    if family == 4:
        proper = question_for(4, nobody, asker=asker)
        questions["a probe (RFC 5227)"] = question_for(4, nobody, asker="0.0.0.0")  # noqa: S104
        questions["an announcement"] = question_for(4, nobody, asker=nobody)
        questions["from a group"] = question_for(4, nobody, asker="224.0.0.1")
        changed: Packet
        altered: dict[str, dict[str, Any]] = {
            "an answer": {"op": 2},
            "another kind of hardware": {"hwtype": 6},
            "another protocol": {"ptype": 0x86DD},
            "another's hardware address": {"hwsrc": "02:00:00:00:00:bb"},
        }
        for label, changes in altered.items():
            changed = proper.copy()
            for field, value in changes.items():
                setattr(changed[ARP], field, value)
            questions[label] = changed
        questions["cut short"] = Ether(bytes(proper)[:40])
        name = name_of("tarpit")
        of(lab).nft(f"add rule {TABLE} eth0 meta protocol arp fwd to {name}")
    else:
        proper = question_for(6, nobody, asker=asker)
        questions["before it is taken (DAD)"] = question_for(6, nobody, asker="::")
        questions["from a group"] = question_for(6, nobody, asker="ff02::1")
        for label, layer, field, value in (
            ("from beyond the link", IPv6, "hlim", 254),
            ("with a code", ICMPv6ND_NS, "code", 1),
            ("with a bad checksum", ICMPv6ND_NS, "cksum", 1),
            ("to all hosts", IPv6, "dst", "ff02::1"),
        ):
            changed = Ether(bytes(proper))
            if field != "cksum":
                del changed[ICMPv6ND_NS].cksum
            setattr(changed[layer], field, value)
            questions[label] = changed
        plain = question_for(6, nobody, asker=asker)
        plain[ICMPv6ND_NS].remove_payload()
        questions["with an option of no length"] = plain / Raw(b"\1\0" + bytes(6))
        questions["with half an option"] = question_for(6, nobody, asker="2001:db8:1::fe") / Raw(
            b"\1"
        )
    for label, question in questions.items():
        if answers := exchange(lab, question):
            raise Deviation(f"{label}: {answers[0].summary()}")
    if not exchange(lab, proper):
        raise Deviation("the proper question was not answered either")


# -- settings and numbers ------------------------------------------------------------------------


@device.check("one mode at a time, by private flags; an unknown one is refused", section="6")
def flags(lab: Lab) -> None:
    made, guest = of(lab), lab.guest

    def shown() -> list[str]:
        lines = guest.run("ethtool", "--show-priv-flags", NAME).splitlines()[1:]
        return [line.split(":")[0].strip() for line in lines if line.endswith("on")]

    made.make(NAME)
    if shown() != ["tarpit"]:
        raise Deviation(f"a new device is in mode {shown()}")
    for mode in (*MODES, *reversed(MODES)):
        made.set_mode(NAME, mode)
        if shown() != [mode]:
            raise Deviation(f"after --{mode} is on: {shown()}")
    made.set_mode(NAME, "honeypot")
    guest.run("ethtool", "--set-priv-flags", NAME, "honeypot", "off")
    if shown() != ["tarpit"]:
        raise Deviation(f"after it was turned off: {shown()}")
    for refused in (("echo", "on"), ("stall", "on", "reset", "on")):
        if not guest.attempt("ethtool", "--set-priv-flags", NAME, *refused).status:
            raise Deviation(f"{refused} is accepted: {shown()}")
    made.remove(NAME)


@device.check("ip -s link and ethtool -S count answers by kind and silence by reason", section="6")
def counted(lab: Lab, family: int) -> None:
    name = name_of("tarpit")
    made = of(lab)
    before, totals = made.counted(name), made.statistics(name)
    expected = state.provoke(lab, family)
    exchange(lab, syn(lab, family, src="ff02::1" if family == 6 else "224.0.0.1"))
    after, now = made.counted(name), made.statistics(name)
    seen = state.grown(before, after)
    if seen != {**expected, "address": 1}:
        raise Deviation(f"counted {seen}")
    for key, count in (("tx_packets", 8), ("rx_packets", 3), ("tx_dropped", 5)):
        if now[key] - totals[key] != count:
            raise Deviation(f"{key} grew by {now[key] - totals[key]}, not {count}")
    if now["rx_bytes"] - totals["rx_bytes"] != 3 * (74 if family == 6 else 54):
        raise Deviation(f"rx_bytes grew by {now['rx_bytes'] - totals['rx_bytes']}")


@device.check("ethtool -i says whose driver it is, and which version", section="6")
def driver(lab: Lab) -> None:
    shown = lab.guest.run("ethtool", "-i", name_of("tarpit")).splitlines()
    said = dict(line.split(": ", 1) for line in shown if ": " in line)
    version = lab.guest.read("/sys/module/tarpit/version").strip()
    if (said.get("driver"), said.get("version")) != ("tarpit", version):
        raise Deviation(f"ethtool says {said}, the module is tarpit {version}")


# -- what must not happen ------------------------------------------------------------------------


@device.check(
    "whatever else is sent to it is dropped, counted, and said nothing about", section="6"
)
def garbage(lab: Lab) -> None:
    name = name_of("tarpit")
    ip(lab, "link set eth0 promisc on")
    of(lab).nft(f"add rule {TABLE} eth0 ether saddr {STRANGER} fwd to {name}")
    outer = Ether(src=STRANGER, dst=lab.wires[0].guest_mac)
    lab_syn4, lab_syn6 = (bytes(syn(lab, f))[14:] for f in (4, 6))
    frames = [
        outer,
        *(Ether(bytes(outer)[:14]) / Raw(lab_syn4[:n]) for n in (1, 8, 19, 20, 27, 39)),
        *(
            Ether(src=outer.src, dst=outer.dst, type=0x86DD) / Raw(lab_syn6[:n])
            for n in (1, 39, 40, 50)
        ),
        *(
            Ether(src=outer.src, dst=outer.dst, type=kind) / Raw(bytes(60))
            for kind in (0x0800, 0x86DD)
        ),
        *(
            Ether(src=outer.src, dst=outer.dst, type=kind) / Raw(b"\xff" * 60)
            for kind in (0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x8847, 0x88CC, 100, 0xFFFF)
        ),
        *(outer / IP(src=CLIENT[4], dst="10.1.0.1", proto=6, len=n) / TCP() for n in (10, 19, 999)),
        outer / IP(src=CLIENT[4], dst="10.1.0.1", proto=17) / Raw(bytes(30)),
        outer / IP(src=CLIENT[4], dst="10.1.0.1", proto=6, flags="MF") / Raw(bytes(24)),
        outer / IP(src=CLIENT[4], dst="10.1.0.1", proto=6, frag=9) / Raw(bytes(24)),
        outer / IPv6(src=CLIENT[6], dst="2001:db8:1::1", nh=17) / Raw(bytes(30)),
        outer / IPv6(src=CLIENT[6], dst="2001:db8:1::1", nh=44) / Raw(bytes(30)),
        outer / IPv6(src=CLIENT[6], dst="2001:db8:1::1", nh=0) / Raw(b"\0" * 8),
    ]
    before = of(lab).statistics(name)
    for each in frames:
        if answers := exchange(lab, each):
            raise Deviation(f"{each.summary()}: {answers[0].summary()}")
    after = of(lab).statistics(name)
    if after["tx_dropped"] - before["tx_dropped"] < len(frames):
        raise Deviation(
            f"{len(frames)} frames, {after['tx_dropped'] - before['tx_dropped']} counted"
        )
    for family in lab.families:
        question = syn(lab, family)
        expect_turned(lab, question, exchange(lab, question))


@device.check("no loops: device to device, to itself, and a route to itself", section="6")
def loops(lab: Lab, family: int) -> None:
    made = of(lab)
    other = name_of("reset")
    if other not in made.made:
        made.make(other, "reset")
    with routed(lab, family):
        made.nft(*ingress("own", NAME))
        for target in (NAME, other):
            made.nft(f"flush chain {TABLE} own", f"add rule {TABLE} own fwd to {target}")
            probe = lab.probe(family, "S", flow=lab.flow(family, dst=UNUSED[family]))
            before = made.counted(target)
            lab.expect_silence(probe, lab.answers(probe), f"forwarded to {target}")
            seen = state.grown(before, made.counted(target))
            if (seen.get("nowhere"), seen.get("rst")) != (1, None):
                raise Deviation(f"forwarded to {target}, which counted {seen}")
        made.clear()
        # From one address behind the device to another.
        last = "2001:db8:203::77" if family == 6 else "203.0.113.77"
        before = made.counted(NAME)
        flow = lab.flow(family, src=last, dst=UNUSED[family])
        lab.answers(lab.probe(family, "S", flow=flow))
        seen = state.grown(before, made.counted(NAME))
        seen.pop("other", 0)  # ICMP's redirects: both are behind the same interface
        if seen != {"synack": 1, "rst": 1, "ignored": 1}:
            raise Deviation(f"one SYN caused {seen}")


@device.check("both ends of a veth pair: one segment causes at most four", section="6")
def veth(lab: Lab, family: int) -> None:
    lab.clear()
    name = name_of("tarpit")
    with Pair(lab) as pair:
        guest = lab.guest
        guest.run("ip", "link", "add", NAME, "type", "tarpit", netns=pair.netns)
        guest.run("ip", "link", "set", NAME, "up", netns=pair.netns)
        rule = f"add rule {TABLE} v meta l4proto tcp fwd to "
        for netns, interface, target in (("", pair.here, name), (pair.netns, pair.there, NAME)):
            of(lab).nft(*ingress("v", interface), rule + target, netns=netns)
        before = of(lab).statistics(name)["tx_packets"]
        client = guest.socket(
            socket.AF_INET6 if family == 6 else socket.AF_INET, socket.SOCK_STREAM, netns=pair.netns
        )
        try:
            client.connect(guest.sockaddr(pair.address(family), 80), seconds=1)
        except OSError:
            pass
        finally:
            client.close()
        count = of(lab).statistics(name)["tx_packets"] - before
        if not 0 < count <= 2 * storms.MOST:
            raise Deviation(f"a connection between two devices caused {count} segments here")


@device.check("comes and goes, is renamed, moved and resized under load", section="6")
def under_load(lab: Lab) -> None:
    lab.clear()
    with Pair(lab) as pair:
        made, guest = of(lab), lab.guest
        with Traffic(lab, pair) as traffic:
            before = traffic.sent()
            for number in range(20):
                made.make(NAME, MODES[number % len(MODES)])
                made.nft(
                    *ingress("v", pair.here),
                    f"add rule {TABLE} v meta l4proto tcp fwd to {NAME}",
                )
                ip(lab, f"link set {NAME} mtu {68 + number * 400}")
                ip(lab, f"link set {NAME} address 02:00:00:00:01:{number:02x}")
                if number % 2:
                    ip(lab, f"link set {NAME} down")
                    ip(lab, f"link set {NAME} name moved")
                    ip(lab, f"link set moved netns {pair.netns}")
                    guest.run("ip", "link", "del", "moved", netns=pair.netns)
                    made.made.discard(NAME)
                else:
                    made.remove(NAME)
                made.clear()
            if traffic.sent() - before < 20:
                raise Unavailable("there was no traffic")


@device.check("the interface that frames come in by goes away under traffic", section="6")
def lost(lab: Lab) -> None:
    lab.clear()
    rule = f"add rule {TABLE} v meta l4proto tcp fwd to {name_of('tarpit')}"
    lose_interfaces(lab, lambda pair: of(lab).nft(*ingress("v", pair.here), rule))
    lab.clear()
    prepare(lab)
    for family in lab.families:
        question = syn(lab, family)
        expect_turned(lab, question, exchange(lab, question))


@device.check("the module unloads while devices exist, and comes by itself", section="6")
def unloads(lab: Lab) -> None:
    made, guest = of(lab), lab.guest
    lab.clear()
    made.nft(f"add table {TABLE}")
    guest.rmmod("tarpit")
    left = [name for name in made.made if lab.guest_has(name)]
    if left:
        raise Deviation(f"still there: {left}")
    made.made.clear()
    made.make(NAME)
    if "tarpit" not in guest.modules():
        raise Deviation("the module is not loaded")
    made.remove(NAME)
    load(guest, lab.tools.device)  # what came by itself need not be what is judged


def declare(first: str, second: str) -> None:
    """A check for the device against the target."""

    @device.check(f"--{first} against the target's --{second}: at most four segments", section="6")
    def pair(lab: Lab, family: int) -> None:
        storms.provoke(lab, family, first, second, target=True)


for one in MODES:
    for another in MODES:
        declare(one, another)

# What a route, a socket, OUTPUT or the target's own module have to do with.
NOT_ITS = (
    wire.addresses,
    wire.output,
    wire.swallowed,
    wire.key,
    shapes.offloaded,
    shapes.assembled,
)
for group, start in (
    (wire.wire, prepare),
    (shapes.shapes, prepare),
    (modes.honeypot, modes.prepare_honeypot),
    (modes.reset, modes.prepare_reset),
    (modes.stall, modes.prepare_stall),
):
    for each in group.checks:
        if each.function not in NOT_ITS:
            title = f"--{group.name}: {each.title}" if group.name in MODES else each.title
            device.checks.append(Check(title, each.section, under(start, each.function)))

for each in state.state.checks:
    if each.function is state.crowd:
        device.checks.append(each)

patience = Group(
    "patience",
    "clients are held by tarpit0",
    order=71,
    icount=held.held.icount,
    cards=0,
    backends=("legacy",),
    device=True,
)
ITS = (
    held.live,
    held.distant,
    held.closed,
    held.stall_live,
    held.stall_closed,
    held.honeypot,
)
patience.checks += [each for each in held.held.checks if each.function in ITS]
