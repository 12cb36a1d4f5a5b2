"""Contract section 5: too little of what others use up, and memory that is not there.

Allocations fail on purpose where a kernel was built for that (Documentation/fault-injection in its
source): those that the module makes, or the kernel on its behalf, are told by their stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tarpit_builder.proof import device
from tarpit_builder.proof.checks.device import redirected, tcp_of
from tarpit_builder.proof.checks.shapes import tap
from tarpit_builder.proof.checks.state import CONNTRACK_COUNT, Tracked, conntrack_count
from tarpit_builder.proof.checks.wire import establish
from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Segment

shortage = Group(
    "shortage",
    "when something runs out",
    order=45,
    fresh=True,
    provokes=("nf_conntrack: table full", "nf_conntrack: nf_conntrack: table full"),
)

CONNTRACK_MOST = CONNTRACK_COUNT.replace("count", "max")
FAULTS = ("failslab", "fail_page_alloc")
DEBUGFS = "/sys/kernel/debug"
LOOPBACK, DISCARD = "127.0.0.1", 9
PROBES = 200
NAMESPACE = "short"
NAME = "tarpit0"


@contextmanager
def full_table(lab: Lab) -> Iterator[None]:
    """With a table of connections that has no room for another one.

    What fills it are connections of the guest with itself: one that was established is not put
    out to make room.  Pings, which tell when the guest has dealt with everything, need none.
    """
    guest = lab.guest
    lab.rule(4, "-I", "INPUT", "-i", "lo", "-j", "ACCEPT")
    for chain, way in (("PREROUTING", "-i"), ("OUTPUT", "-o")):
        for family, protocol in ((4, "icmp"), (6, "ipv6-icmp")):
            if family in lab.families:
                where = ("-t", "raw", "-I", chain, "-p", protocol)
                lab.rule(family, *where, "-j", "CT", "--notrack")
        lab.rule(4, "-t", "raw", "-I", chain, way, "lo", "-j", "ACCEPT")
    server = lab.client(4)
    server.bind(guest.sockaddr(LOOPBACK, DISCARD))
    server.listen()
    clients = [lab.client(4) for _ in range(2)]
    for client in clients:
        client.connect(guest.sockaddr(LOOPBACK, DISCARD), seconds=5)
    before = guest.read(CONNTRACK_MOST).strip()
    guest.write(CONNTRACK_MOST, "1")
    try:
        if conntrack_count(lab) < len(clients):
            raise Unavailable("this kernel does not track what its host sends")
        yield
    finally:
        guest.write(CONNTRACK_MOST, before)
        for sock in (*clients, server):
            sock.close()


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


def answered(lab: Lab, family: int, probes: Sequence[Segment]) -> int:
    """How many of *probes* were; each answer is the right one."""
    seen = lab.converse({str(number): probe for number, probe in enumerate(probes)})
    count = 0
    for probe, replies in zip(probes, seen.values(), strict=True):
        if replies:
            lab.expect(probe, replies, "SYN", flags="SA", window=5, ack=probe.end)
            count += 1
    return count


def judge(lab: Lab, family: int, module: str) -> None:
    """Answers are right or missing while memory is short, and all there afterwards."""
    lab.answers(lab.probe(family, "S"))  # what is allocated once is allocated now
    with tap(lab, "eth0"):  # so that no packet can be turned round in place
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
    assert lab.device
    try:
        lab.device.make(NAME)
        with redirected(lab, tcp_of(family), NAME):
            judge(lab, family, device.MODULE)
    finally:
        lab.judge_device(judged=False)


@shortage.check("no memory for a namespace: an error, and nothing left of it", section="5")
def namespace_without_memory(lab: Lab) -> None:
    guest = lab.guest
    add, remove = (("ip", "netns", do, NAMESPACE) for do in ("add", "del"))
    with failing(lab, lab.module, 100):
        made = not guest.attempt(*add).status
    guest.attempt(*remove)  # its name is there before it is
    if made:
        raise Unavailable("this kernel's namespaces need no memory of the module")
    guest.run(*add)
    guest.run(*remove)
