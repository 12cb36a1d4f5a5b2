"""Contract section 1: a reply leaves by the route and interface an ordinary reply would."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager

from tarpit_builder.proof.checks.state import COUNTED, counters, grown
from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.network import CLIENT, SIDES, UNUSED
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Flow, Segment
from tarpit_builder.versions import KernelVersion

routes = Group("routes", "VLAN, bridge, policy routing, VRF", order=55, fresh=True)

TABLE = "100"
FAR = 33
"""Hop limit of what comes from afar, which no answer has."""
VLAN = ("vid", "5")
BRIDGE_SHOWS, BRIDGE_TELLS = KernelVersion.parse("5.0"), KernelVersion.parse("5.14")
"""From where on a target is told by which port of a bridge a frame came, and of a port's VLANs."""


def ip(lab: Lab, command: str) -> None:
    """Run iproute2 with a command line."""
    lab.guest.run("ip", *command.split())


def try_ip(lab: Lab, command: str, missing: str) -> None:
    """Run iproute2; the check is skipped if the kernel cannot do it."""
    if not lab.has_program("ip"):
        raise Unavailable("this user land has no iproute2")
    if lab.guest.attempt("ip", *command.split()).status:
        raise Unavailable(f"this kernel has no {missing}")


def judge(
    lab: Lab, family: int, *, flow: Flow | None = None, into: int = 0, out: int, mac: str = ""
) -> None:
    """A SYN that arrives on card *into* is answered on card *out*, and so is data."""
    flow = flow or lab.flow(family)
    syn = lab.probe(family, "S", flow=flow, ttl=FAR)
    expect_on(lab, syn, lab.answers(syn, card=into), out, mac=mac, flags="SA", window=5)
    data = lab.probe(family, "PA", flow=flow, payload=b"data", ttl=FAR)
    expect_on(lab, data, lab.answers(data, card=into), out, mac=mac, flags="A", window=0)


def expect_on(
    lab: Lab,
    probe: Segment,
    replies: list[Segment],
    out: int,
    *,
    mac: str = "",
    flags: str,
    window: int,
    ttls: Collection[int] = (),
) -> None:
    """One reply, on that card and to that neighbour, with good manners."""
    if len(replies) != 1:
        raise Deviation(f"expected one reply, saw {len(replies)}", [probe, *replies])
    reply = replies[0]
    if (reply.flags, reply.window, reply.flow) != (flags, window, probe.flow.back):
        raise Deviation("the reply is wrong", [probe, reply])
    if reply.card != out:
        raise Deviation(f"left by eth{reply.card} instead of eth{out}", [probe, reply])
    if reply.mac != (mac or lab.wires[out].mac):
        raise Deviation(f"left for {reply.mac}, which is not the next hop", [probe, reply])
    if wrong := lab.manners(probe, reply, mac=mac, ttls=ttls):
        raise Deviation("; ".join(wrong), [probe, reply])


def to_client(family: int) -> str:
    """A selector for replies to probes, which pings are not."""
    return f"from {SIDES[0].guest(family)} to {CLIENT[family]}"


@contextmanager
def policy(lab: Lab, family: int, selector: str) -> Iterator[None]:
    """Whatever *selector* picks is routed through eth1's gateway."""
    version = "-6" if family == 6 else "-4"
    gateway = SIDES[1].gateway(family)
    route = f"route add default via {gateway} dev eth1 table {TABLE}"
    try_ip(lab, f"{version} {route}", "routing tables")
    rule = f"{version} rule add {selector} table {TABLE}"
    try:
        try_ip(lab, rule, "policy routing")
        try:
            yield
        finally:
            ip(lab, rule.replace(" add ", " del "))
    finally:
        ip(lab, f"{version} route flush table {TABLE}")


@routes.check("the reply follows the routing table, not the packet's way in")
def asymmetric(lab: Lab, family: int) -> None:
    lab.tarpit()
    judge(lab, family, into=1, out=0)
    lab.tarpit(chain="FORWARD")
    here = UNUSED[family]
    judge(lab, family, flow=lab.flow(family, dst=here), into=0, out=0)
    # From the subnet behind eth1 to somewhere behind eth0.
    flow = lab.flow(family, src=here, dst=CLIENT[family])
    judge(lab, family, flow=flow, into=1, out=1)


@routes.check("policy routing by source address")
def by_source(lab: Lab, family: int) -> None:
    lab.tarpit()
    with policy(lab, family, to_client(family)):
        judge(lab, family, out=1)
    judge(lab, family, out=0)


@routes.check("policy routing by a mark that mangle/OUTPUT sets, as for any local packet")
def by_mark(lab: Lab, family: int) -> None:
    lab.tarpit()
    mark = ("-t", "mangle", "-A", "OUTPUT", "-p", "tcp", "-j", "MARK", "--set-mark", "7")
    if lab.attempt_rule(family, *mark).status:
        raise Unavailable("this kernel has no MARK target")
    with policy(lab, family, "fwmark 7"):
        judge(lab, family, out=1)


@routes.check("a reply has its segment's mark where the host reflects marks, and only there")
def reflected(lab: Lab, family: int) -> None:
    lab.tarpit()
    mark = ("-t", "mangle", "-A", "PREROUTING", "-p", "tcp", "-j", "MARK", "--set-mark", "7")
    if lab.attempt_rule(family, *mark).status:
        raise Unavailable("this kernel has no MARK target")
    reflects = f"net.ipv{family}.fwmark_reflect"
    with policy(lab, family, "fwmark 7"):
        judge(lab, family, out=0)
        try:
            lab.guest.sysctl(reflects, 1)
        except FileNotFoundError:
            raise Unavailable("before 3.16 no mark is reflected") from None
        try:
            judge(lab, family, out=1)
        finally:
            lab.guest.sysctl(reflects, 0)


@routes.check("IPsec: what a policy does not let out does not leave")
def blocked(lab: Lab, family: int) -> None:
    lab.tarpit()
    what = f"src {SIDES[0].guest(family)} dst {CLIENT[family]} proto tcp dir out"
    try_ip(lab, f"xfrm policy add {what} action block", "IPsec")
    try:
        for flags in ("S", "PA", "SA"):
            probe = lab.probe(family, flags)
            lab.expect_silence(probe, lab.answers(probe), flags)
    finally:
        ip(lab, f"xfrm policy delete {what}")
    judge(lab, family, out=0)


@routes.check("no route back: nothing is sent, nothing breaks")
def unreachable(lab: Lab, family: int) -> None:
    lab.tarpit()
    before = counters(lab) if lab.kernel >= COUNTED else {}
    with policy(lab, family, to_client(family)):
        version = "-6" if family == 6 else "-4"
        ip(lab, f"{version} route flush table {TABLE}")
        ip(lab, f"{version} route add unreachable default table {TABLE}")
        for flags in ("S", "A", "SA"):
            probe = lab.probe(family, flags)
            lab.expect_silence(probe, lab.answers(probe), flags)
    if before and (seen := grown(before, counters(lab))) != {"no_route": 3}:
        raise Deviation(f"counted {seen}, expected 3 no_route")
    judge(lab, family, out=0)


@routes.check("VLAN: the reply carries the tag, and no priority that the segment was given here")
def vlan(lab: Lab, family: int) -> None:
    maps = "ingress-qos-map 0:6 egress-qos-map 6:3"
    try_ip(lab, f"link add link eth0 name eth0.5 type vlan id 5 {maps}", "VLAN")
    try:
        ip(lab, "addr add 10.5.0.1/24 dev eth0.5")
        if 6 in lab.families:
            ip(lab, "addr add fd05::1/64 dev eth0.5 nodad")
        ip(lab, "link set eth0.5 up")
        lab.tarpit()
        here, neighbour = ("fd05::1", "fd05::9") if family == 6 else ("10.5.0.1", "10.5.0.9")
        wire = lab.wires[0]
        saved, wire.guest_addresses = wire.guest_addresses, [*wire.guest_addresses, here]
        try:
            wire.settle(neighbour, here, vlan=5)
            for flags, expected in (("S", "SA"), ("PA", "A")):
                flow = lab.flow(family, src=neighbour, dst=here)
                probe = lab.probe(family, flags, flow=flow)
                wire.take()
                wire.send([probe.packet()], vlan=5)
                wire.settle(neighbour, here, vlan=5)
                replies = wire.take()
                expect_on(lab, probe, replies, 0, flags=expected, window=5 if flags == "S" else 0)
                if replies[0].vlan != 5:
                    raise Deviation(f"tag {replies[0].vlan} instead of 5", replies)
                if replies[0].vlan_priority:
                    raise Deviation(f"priority {replies[0].vlan_priority} in the tag", replies)
        finally:
            wire.guest_addresses = saved
    finally:
        ip(lab, "link del eth0.5")


@routes.check("IPv6: a client with a link-local address is answered on its link")
def link_local(lab: Lab) -> None:
    if 6 not in lab.families:
        raise Unavailable("there is no IPv6")
    lab.tarpit(families=(6,))
    neighbour = "fe80::9"
    for wire in lab.wires:
        here = f"fe80::ff:fe00:{wire.index + 1}"  # of the card's own address, RFC 4291, appendix A
        saved, wire.guest_addresses = wire.guest_addresses, [*wire.guest_addresses, here]
        try:
            for flags, expected, window in (("S", "SA", 5), ("PA", "A", 0)):
                wire.settle(neighbour, here)  # and the guest knows its neighbour
                flow = Flow(neighbour, here, 2000 + wire.index, 25)
                probe = lab.probe(6, flags, flow=flow)
                replies = lab.answers(probe, card=wire.index)
                expect_on(lab, probe, replies, wire.index, flags=expected, window=window)
        finally:
            wire.guest_addresses = saved


@routes.check("VRF: the reply stays in the routing table of the interface")
def vrf(lab: Lab, family: int) -> None:
    try_ip(lab, f"link add red type vrf table {TABLE}", "VRF")
    try:
        ip(lab, "link set red up")
        ip(lab, "link set eth1 master red")
        # Enslaving moves the addresses' routes and drops IPv6 ones.
        if 6 in lab.families:
            ip(lab, "-6 addr replace 2001:db8:2::1/64 dev eth1 nodad")
        for version in ("-4", "-6") if 6 in lab.families else ("-4",):
            gateway = SIDES[1].gateway(6 if version == "-6" else 4)
            ip(lab, f"{version} route replace default via {gateway} dev eth1 table {TABLE}")
        lab.pin_neighbours()
        lab.settle()
        lab.tarpit()
        flow = lab.flow(family, dst=SIDES[1].guest(family))
        judge(lab, family, flow=flow, into=1, out=1)
    finally:
        ip(lab, "link set eth1 nomaster")
        ip(lab, "link del red")
        restore_eth1(lab)


def bridge(lab: Lab, *ports: str) -> AbstractContextManager[None]:
    """A bridge br0 of *ports*, which takes over eth1's addresses."""
    return of_ports(lab, "br0", "bridge forward_delay 0", *ports)


@contextmanager
def of_ports(lab: Lab, name: str, kind: str, *ports: str) -> Iterator[None]:
    """An interface of that *kind* above *ports*, which takes over eth1's addresses."""
    try_ip(lab, f"link add {name} type {kind}", kind.split(maxsplit=1)[0])
    try:
        for port in ports:
            if kind.startswith("bond"):
                ip(lab, f"link set {port} down")
            ip(lab, f"link set {port} master {name}")
        lab.guest.attempt("ip", "addr", "del", "10.2.0.1/24", "dev", "eth1")
        ip(lab, f"addr add 10.2.0.1/24 dev {name}")
        if 6 in lab.families:
            lab.guest.attempt("ip", "-6", "addr", "del", "2001:db8:2::1/64", "dev", "eth1")
            ip(lab, f"-6 addr add 2001:db8:2::1/64 dev {name} nodad")
        ip(lab, f"link set {name} address 02:00:00:00:00:02")
        ip(lab, f"link set {name} up")
        yield
    finally:
        for wire in lab.wires:
            wire.hosts = None
        ip(lab, f"link del {name}")
        for port in ports:
            ip(lab, f"link set {port} up")
        restore_eth1(lab)


def restore_eth1(lab: Lab) -> None:
    """Give eth1 back what :mod:`~tarpit_builder.proof.network` gave it."""
    ip(lab, "-4 addr replace 10.2.0.1/24 dev eth1")
    ip(lab, "-4 route replace 203.0.113.0/24 via 10.2.0.254 dev eth1")
    if 6 in lab.families:
        ip(lab, "-6 addr replace 2001:db8:2::1/64 dev eth1 nodad")
        ip(lab, "-6 route replace 2001:db8:203::/64 via 2001:db8:2::fe dev eth1")
    lab.pin_neighbours()
    lab.settle()


@routes.check("bridge: the reply to what arrives at the bridge's own address leaves through it")
def bridged_input(lab: Lab, family: int) -> None:
    with bridge(lab, "eth1"):
        lab.settle()
        lab.tarpit()
        neighbour = SIDES[1].gateway(family)
        flow = lab.flow(family, src=neighbour, dst=SIDES[1].guest(family))
        judge(lab, family, flow=flow, into=1, out=1)


def show_bridged(lab: Lab, *more: str) -> None:
    """Show bridged packets to iptables, and those that *more* settings stand for."""
    lab.guest.attempt("modprobe", "br_netfilter")
    try:
        for name in ("call-iptables", "call-ip6tables", *more):
            lab.guest.sysctl(f"net.bridge.bridge-nf-{name}", 1)
    except FileNotFoundError:
        raise Unavailable("this kernel does not show bridged packets to iptables") from None


@routes.check("bridge: a connection that is only passing through is held, to its sender")
def bridged_forward(lab: Lab, family: int) -> None:
    show_bridged(lab)
    base = "2001:db8:2::" if family == 6 else "10.2.0."
    # Each wire is the home of its own hosts now.
    for wire in lab.wires:
        wire.hosts = [f"{base}7{wire.index}"]
    assert lab.wires[1].hosts is not None
    lab.wires[1].hosts += [SIDES[1].gateway4, SIDES[1].gateway6]
    with bridge(lab, "eth1", "eth0"):
        for wire in lab.wires:  # from now on the guest knows who is where
            wire.settle(f"{base}7{wire.index}", SIDES[1].guest(family))
        lab.tarpit(chain="FORWARD")
        for sender, receiver in ((1, 0), (0, 1)):
            flow = lab.flow(family, src=f"{base}7{sender}", dst=f"{base}7{receiver}")
            for flags, expected, window in (("S", "SA", 5), ("PA", "A", 0)):
                payload = b"" if flags == "S" else b"data"
                probe = lab.probe(family, flags, flow=flow, payload=payload, ttl=FAR)
                for wire in lab.wires:
                    wire.take()
                lab.wires[sender].send([probe.packet()], mac=lab.wires[receiver].mac)
                for wire in lab.wires:
                    wire.settle(f"{base}7{wire.index}", SIDES[1].guest(family))
                seen = [segment for wire in lab.wires for segment in wire.take()]
                if not seen and lab.kernel < BRIDGE_SHOWS:
                    raise Unavailable("before 5.0 the target stays silent on a bridge")
                expect_on(lab, probe, seen, sender, flags=expected, window=window)


def hits(lab: Lab, family: int) -> int:
    """How many packets the target saw of those that were to be forwarded."""
    listed = lab.guest.run(lab.program(family), *lab.tools.wait, "-nvxL", "FORWARD")
    return sum(int(line.split()[0]) for line in listed.splitlines() if "TARPIT" in line)


@routes.check(
    "bridge: what comes in a header of PPPoE, which could not be put back, gets no answer"
)
def bridged_pppoe(lab: Lab, family: int) -> None:
    show_bridged(lab, "filter-pppoe-tagged")
    session = struct.pack(">BBH", 0x11, 0, 7)  # RFC 2516, 4: version and type, code, session
    base = "2001:db8:2::" if family == 6 else "10.2.0."
    for each in lab.wires:
        each.hosts = [f"{base}7{each.index}"]
    with bridge(lab, "eth1", "eth0"):
        lab.tarpit(chain="FORWARD", families=(family,))
        probe = lab.probe(family, "S", flow=lab.flow(family, src=f"{base}71", dst=f"{base}70"))
        packet = probe.packet()
        inner = struct.pack(">HH", len(packet) + 2, 0x57 if family == 6 else 0x21) + packet
        wire = lab.wires[1]
        wire.send_frame(
            bytes.fromhex((lab.wires[0].mac + wire.mac).replace(":", "") + "8864") + session + inner
        )
        wire.settle(f"{base}71", SIDES[1].guest(family))
        seen = [segment for each in lab.wires for segment in each.take()]
        lab.expect_silence(probe, seen, "a SYN in PPPoE")
        if (seen_by_it := hits(lab, family)) != 1:
            raise Unavailable(f"this kernel does not show what is in PPPoE ({seen_by_it} packets)")


@contextmanager
def filtered(lab: Lab, family: int) -> Iterator[list[str]]:
    """A host on each port of a bridge that filters VLANs, both in VLAN 5: eth0 untagged, eth1 as
    a trunk.
    """
    show_bridged(lab, "filter-vlan-tagged")
    base = "2001:db8:2::" if family == 6 else "10.2.0."
    hosts = [f"{base}70", f"{base}71"]
    for wire, host in zip(lab.wires, hosts, strict=True):
        wire.hosts = [host]
    with bridge(lab, "eth1", "eth0"):
        try_ip(lab, "link set br0 type bridge vlan_filtering 1", "bridge that filters VLANs")
        for port in ("eth0", "br0"):
            own = ("self",) if port == "br0" else ()
            lab.guest.run("bridge", "vlan", "add", "dev", port, *VLAN, "pvid", "untagged", *own)
        lab.guest.run("bridge", "vlan", "add", "dev", "eth1", *VLAN)
        lab.tarpit(chain="FORWARD", families=(family,))
        yield hosts


def across(
    lab: Lab, family: int, hosts: list[str], into: int, tag: int | None
) -> tuple[Segment, list[Segment]]:
    """A SYN from one of *hosts* to the other, under a tag; what came back on that card."""
    wire = lab.wires[into]
    flow = lab.flow(family, src=hosts[into], dst=hosts[1 - into])
    probe = lab.probe(family, "S", flow=flow, ttl=FAR)
    wire.settle(hosts[into], SIDES[1].guest(family), vlan=tag)
    wire.take()
    wire.send([probe.packet()], mac=lab.wires[1 - into].mac, vlan=tag)
    wire.settle(hosts[into], SIDES[1].guest(family), vlan=tag)
    return probe, [segment for segment in wire.take() if segment.flow == flow.back]


@routes.check("bridge that filters VLANs: the reply has the tag of the port that it leaves by")
def filtered_forward(lab: Lab, family: int) -> None:
    with filtered(lab, family) as hosts:
        for into, tag in ((0, None), (1, 5)):
            probe, seen = across(lab, family, hosts, into, tag)
            if not seen and lab.kernel < BRIDGE_TELLS:
                raise Unavailable("before 5.14 a bridge does not tell a port's tag")
            expect_on(lab, probe, seen, into, flags="SA", window=5)
            if seen[0].vlan != tag:
                raise Deviation(f"tag {seen[0].vlan} instead of {tag}", [probe, *seen])


@routes.check("bridge that filters VLANs: where no tag would be right, there is no answer")
def filtered_apart(lab: Lab, family: int) -> None:
    # What leaves by eth0 untagged may be of VLAN 5, which is not what comes in by it untagged.
    for own in ((), ("vid", "7", "pvid", "untagged")):
        with filtered(lab, family) as hosts:
            changes = [
                ("del", *VLAN),
                ("add", *VLAN, "untagged"),
                *([("add", *own)] if own else []),
            ]
            for verb, *vlan in changes:
                lab.guest.run("bridge", "vlan", verb, "dev", "eth0", *vlan)
            probe, seen = across(lab, family, hosts, 1, 5)
            lab.expect_silence(probe, seen, f"eth0 with {' '.join(own) or 'no VLAN of its own'}")
            if not hits(lab, family):
                raise Unavailable("this kernel does not show what is tagged")


@routes.check("bridge: a module that has asked one lets go of it when it is unloaded")
def bridge_released(lab: Lab) -> None:
    filtered_forward(lab, 4)
    lab.clear()
    guest = lab.guest
    if "bridge" not in guest.modules():
        raise Unavailable("the bridge is a part of this kernel's image")
    try:
        guest.rmmod("br_netfilter")
        lab.unload()
        guest.rmmod("bridge")  # refused, if somebody has kept a reference
    except BlockingIOError:
        raise Deviation("the bridge is in use still") from None
    finally:
        lab.require_module()
