"""Contract section 5: too little of what others use up, and memory that is not there.

Allocations fail on purpose where a kernel was built for that (Documentation/fault-injection in its
source): those that the module makes, or the kernel on its behalf, are told by their stack.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tarpit_builder.proof import device
from tarpit_builder.proof.checks.state import CONNTRACK_COUNT, Tracked, conntrack_count
from tarpit_builder.proof.checks.wire import establish
from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.network import SIDES, Configurator
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Segment

shortage = Group(
    "shortage",
    "when something runs out",
    order=45,
    provokes=("nf_conntrack: table full", "nf_conntrack: nf_conntrack: table full"),
)

CONNTRACK_MOST = CONNTRACK_COUNT.replace("count", "max")
FAULTS = ("failslab", "fail_page_alloc")
DEBUGFS = "/sys/kernel/debug"
PROBES = 200
NAMESPACE = "short"


@contextmanager
def full_table(lab: Lab) -> Iterator[None]:
    """With a table of connections that has no room for another one."""
    guest = lab.guest
    # Two connections that the guest makes itself; pings, which tell when it has dealt with
    # everything, are not to need room.
    for port in (7, 9):
        sock = guest.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.send(b"x", 0, guest.sockaddr(SIDES[0].gateway4, port))
    for family, protocol in ((4, "icmp"), (6, "ipv6-icmp")):
        if family in lab.families:
            for chain in ("PREROUTING", "OUTPUT"):
                where = ("-t", "raw", "-I", chain, "-p", protocol)
                lab.rule(family, *where, "-j", "CT", "--notrack")
    if not conntrack_count(lab):
        raise Unavailable("this kernel does not track what its host sends")
    before = guest.read(CONNTRACK_MOST).strip()
    guest.write(CONNTRACK_MOST, "1")
    try:
        yield
    finally:
        guest.write(CONNTRACK_MOST, before)


@shortage.check("a full table of conntrack: what is exempt from it is answered as ever")
def full_but_exempt(lab: Lab, family: int) -> None:
    with Tracked(lab, exempt=("PREROUTING", "OUTPUT")) as guest, full_table(lab):
        guest.judge(family)


@shortage.check("a full table of conntrack: what the kernel cannot track is answered once it can")
def full(lab: Lab, family: int) -> None:
    with Tracked(lab):
        with full_table(lab):
            probe = lab.probe(family, "S")
            lab.expect_silence(probe, lab.answers(probe), "SYN")
        establish(lab, family)


@contextmanager
def failing(lab: Lab, module: str, percent: int) -> Iterator[None]:
    """With so many of 100 allocations on behalf of *module* failing.

    :raises Unavailable: if this kernel cannot do that, or not by the stack.
    """
    guest = lab.guest
    try:
        start = int(guest.read(f"/sys/module/{module}/sections/.text"), 16)
        size = int(guest.read(f"/sys/module/{module}/coresize"))
        guest.read(f"{DEBUGFS}/{FAULTS[0]}/require-start")
    except OSError:
        raise Unavailable("this kernel has no faults on purpose, told by the stack") from None
    settings = {
        "require-start": start,
        "require-end": start + size,
        "stacktrace-depth": 32,
        "task-filter": "N",
        "ignore-gfp-wait": "N",
        "verbose": 0,
        "interval": 1,
        "times": -1,
        "probability": percent,
    }
    try:
        for fault in FAULTS:
            for name, value in settings.items():
                guest.write(f"{DEBUGFS}/{fault}/{name}", f"{value}")
        yield
    finally:
        for fault in FAULTS:
            guest.write(f"{DEBUGFS}/{fault}/probability", "0")


@contextmanager
def watched(lab: Lab) -> Iterator[None]:
    """With somebody else who sees each packet, so that none can be turned round in place."""
    sock = lab.guest.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind(lab.guest.packet_address(Configurator(lab.guest).index("eth0")))
    try:
        yield
    finally:
        sock.close()


def answered(lab: Lab, family: int, probes: Sequence[Segment]) -> int:
    """How many of *probes* were; each answer is the right one."""
    count = 0
    for probe, replies in zip(probes, _each(lab, probes), strict=True):
        if replies:
            lab.expect(probe, replies, "SYN", flags="SA", window=5, ack=probe.end)
            count += 1
    return count


def _each(lab: Lab, probes: Sequence[Segment]) -> list[list[Segment]]:
    return list(lab.converse({str(n): probe for n, probe in enumerate(probes)}).values())


def judge(lab: Lab, family: int, module: str) -> None:
    """Answers are right or missing while memory is short, and all there afterwards."""
    lab.answers(lab.probe(family, "S"))  # what is allocated once is allocated now
    with watched(lab):
        with failing(lab, module, 100):
            probe = lab.probe(family, "S")
            lab.expect_silence(probe, lab.answers(probe), "SYN without memory for an answer")
        with failing(lab, module, 50):
            seen = answered(lab, family, [lab.probe(family, "S") for _ in range(PROBES)])
            if seen in (0, PROBES):
                raise Deviation(
                    f"{seen} of {PROBES} answered, with every second allocation failing"
                )
        every = answered(lab, family, [lab.probe(family, "S") for _ in range(PROBES)])
        if every != PROBES:
            raise Deviation(f"{every} of {PROBES} answered once there was memory again")


@shortage.check("no memory for an answer: silence, and answers again afterwards", section="5")
def target_without_memory(lab: Lab, family: int) -> None:
    lab.clear()
    lab.tarpit()
    judge(lab, family, lab.module)


@shortage.check("the same of the device", section="5")
def device_without_memory(lab: Lab, family: int) -> None:
    lab.clear()
    lab.judge_device(judged=True)
    try:
        lab.tarpit()
        judge(lab, family, device.MODULE)
    finally:
        lab.judge_device(judged=False)


@shortage.check("no memory for a namespace or a device: an error, and nothing left", section="5")
def nothing_made(lab: Lab) -> None:
    guest = lab.guest
    add = ("ip", "netns", "add", NAMESPACE)
    with failing(lab, lab.module, 100):
        done = guest.attempt(*add)
    if not done.status:
        guest.run("ip", "netns", "del", NAMESPACE)
        raise Unavailable("this kernel needs no memory of the module for a namespace")
    guest.attempt("ip", "netns", "del", NAMESPACE)  # the name is there before the namespace is
    guest.run(*add)
    guest.run("ip", "netns", "del", NAMESPACE)
    lab.judge_device(judged=True)
    try:
        with failing(lab, device.MODULE, 100):
            done = guest.attempt("ip", "link", "add", "tarpit0", "type", device.MODULE)
        if not done.status or lab.guest_has("tarpit0"):
            raise Deviation("a device came of it, without memory")
        guest.run("ip", "link", "add", "tarpit0", "type", device.MODULE)
        guest.run("ip", "link", "del", "tarpit0")
    finally:
        lab.judge_device(judged=False)
