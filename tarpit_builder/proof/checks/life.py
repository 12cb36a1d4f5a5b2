"""Contract section 5: coming and going, under traffic, in namespaces, on several CPUs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from tarpit_builder.proof.checks.state import COUNTED, COUNTERS
from tarpit_builder.proof.lab import KMEMLEAK, MODES, Deviation, Lab, Unavailable
from tarpit_builder.proof.namespaces import Pair
from tarpit_builder.proof.network import CLIENT, Configurator
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Flow, Segment, frame

life = Group("life", "loading, unloading, namespaces", order=80)

ROUNDS = 20
NAMESPACES = 10
BUSY, BUSY_WATCHED = 1, 15
"""Seconds of traffic on all processors; KCSAN looks at a few packets of a thousand."""
SIGKILL = 9


class Traffic:
    """A context in which the second namespace keeps sending SYNs and data.

    A sender for each processor: where it sends is where the packet is dealt with.
    """

    def __init__(self, lab: Lab, pair: Pair) -> None:
        self._lab = lab
        self._pair = pair
        self._jobs: list[int] = []

    def __enter__(self) -> Traffic:
        lab, pair = self._lab, self._pair
        mac = lab.guest.read(f"/sys/class/net/{pair.here}/address").strip()
        frames = []
        for family in lab.families:
            for sport in range(5000, 5010):
                flow = Flow(pair.other(family), pair.address(family), sport, 25)
                for segment in (
                    Segment(flow, "S", seq=1),
                    Segment(flow, "PA", seq=2, ack=1, payload=b"x" * 100),
                ):
                    frames.append(frame(segment.packet(), src="02:00:00:00:00:99", dst=mac))
        self._socket = lab.guest.socket(
            socket.AF_PACKET, socket.SOCK_RAW, lab.guest.htons(0x88B5), netns=pair.netns
        )
        there = Configurator(lab.guest, netns=pair.netns)
        self._socket.bind(lab.guest.packet_address(there.index(pair.there)))
        self._jobs = [self._socket.spawn_flood(frames) for _ in range(lab.machine.spec.cpus)]
        return self

    def __exit__(self, *_: object) -> None:
        if self._lab.machine.running:
            for job in self._jobs:
                self._lab.guest.wait(job, seconds=5, kill=SIGKILL)
            self._socket.close()

    def sent(self) -> int:
        """Frames that have reached the first namespace."""
        statistics = f"/sys/class/net/{self._pair.here}/statistics/rx_packets"
        return int(self._lab.guest.read(statistics))


@life.check(f"loads and unloads {ROUNDS} times under traffic", section="5")
def rounds(lab: Lab) -> None:
    with Pair(lab) as pair, Traffic(lab, pair) as traffic:
        before = traffic.sent()
        for number in range(ROUNDS):
            lab.tarpit(families=(lab.families[number % len(lab.families)],))
            if not lab.loaded:
                raise Deviation(f"round {number + 1}: the module is not loaded")
            lab.clear()
            lab.unload()
        if traffic.sent() - before < ROUNDS:
            raise Unavailable("there was no traffic")
    lab.require_module()


@life.check("inserting a rule loads the module by itself", section="5")
def autoload(lab: Lab, family: int) -> None:
    lab.clear()
    lab.unload()
    if lab.loaded:
        raise Deviation("the module is still loaded")
    lab.tarpit(families=(family,))
    if not lab.loaded:
        raise Deviation("the rule is in place, but the module is not loaded")


@life.check(
    "rmmod is refused while a rule is in use, also in a chain that nobody calls", section="5"
)
def in_use(lab: Lab, family: int) -> None:
    lab.rule(family, "-N", "idle")
    lab.rule(family, "-A", "idle", "-p", "tcp", "-j", "TARPIT")
    try:
        lab.guest.rmmod(lab.module)
    except OSError as error:
        if error.errno not in {errno.EAGAIN, errno.EBUSY}:
            raise
    else:
        raise Deviation("the module could be unloaded")


@life.check("namespaces come and go with rules in place and traffic on the way", section="5")
def namespaces(lab: Lab) -> None:
    if not lab.has_program("ip"):
        raise Unavailable("this user land has no iproute2")
    for _ in range(NAMESPACES):
        with Pair(lab) as pair:
            for family in lab.families:
                done = lab.guest.attempt(
                    lab.program(family),
                    *(*lab.tools.wait, "-A", "INPUT", "-p", "tcp", "-j", "TARPIT"),
                    netns=pair.netns,
                )
                if done.status:
                    raise Deviation(f"{done.command}: {done.stderr.strip()}")
            client = lab.client(4)
            client.connect(lab.guest.sockaddr(pair.other(4), 25), seconds=5)
            client.send(b"x" * 100)
            client.close()
    lab.unload()  # every rule went with its namespace
    lab.require_module()


def lose_interfaces(lab: Lab, prepare: Callable[[Pair], None]) -> None:
    """The interface that traffic comes in by goes away, again and again, after *prepare*.

    :raises Deviation: if it stays.
    """
    there_was = 0
    for number in range(NAMESPACES):
        with Pair(lab) as pair:
            prepare(pair)
            with Traffic(lab, pair) as traffic:
                lab.guest.sleep(0.02 + 0.01 * (number % 3))
                there_was += traffic.sent()
                lab.guest.run("ip", "link", "del", pair.here)  # waits for all that still uses it
            if lab.guest_has(pair.here):
                raise Deviation(f"{pair.here} is still there")
    if there_was < NAMESPACES:
        raise Unavailable("there was no traffic")


@life.check("the interface that segments come in by goes away under traffic", section="5")
def lost(lab: Lab) -> None:
    lab.tarpit()
    lose_interfaces(lab, lambda _: None)
    for family in lab.families:
        probe = lab.probe(family, "S")
        lab.expect(probe, lab.answers(probe), "a SYN afterwards", flags="SA", window=5)


@life.check("rules change on one side while packets come in on the other", section="5")
def changing(lab: Lab, family: int) -> None:
    with Pair(lab) as pair, Traffic(lab, pair):
        for mode in MODES * 2:
            lab.tarpit(mode, families=(family,))
            lab.clear()
    lab.tarpit(families=(family,))
    probe = lab.probe(family, "S", flow=lab.flow(family, src=CLIENT[family]))
    lab.expect(probe, lab.answers(probe), "SYN", flags="SA", window=5)


def answers(lab: Lab) -> list[int]:
    """How many SYNs were answered on each processor, as far as the kernel's age lets us count."""
    if lab.kernel < COUNTED:
        return []
    names, *rows = lab.guest.read(COUNTERS).splitlines()
    at = names.split().index("synack")
    return [int(row.split()[at], 16) for row in rows][: lab.processors]


@life.check("packets are answered on all processors at once", section="5")
def crowded(lab: Lab) -> None:
    with Pair(lab) as pair, Traffic(lab, pair) as traffic:
        lab.tarpit()
        before, answered = traffic.sent(), answers(lab)
        lab.guest.sleep(BUSY_WATCHED if lab.tools.watched else BUSY)
        if traffic.sent() - before < ROUNDS:
            raise Unavailable("there was no traffic")
        idle = [
            n for n, (was, now) in enumerate(zip(answered, answers(lab), strict=True)) if was == now
        ]
    if idle:
        raise Deviation(f"nothing was answered on processor {idle}")
    for family in lab.families:
        probe = lab.probe(family, "S")
        lab.expect(probe, lab.answers(probe), "SYN", flags="SA", window=5)


@life.check("a kernel that looks for leaks (CONFIG_DEBUG_KMEMLEAK) finds none", section="5")
def leaks(lab: Lab) -> None:
    try:
        lab.guest.write(KMEMLEAK, "clear")
    except OSError:
        raise Unavailable("this kernel does not look for leaks") from None
    for mode in MODES:
        lab.tarpit(mode)
        for family in lab.families:
            for flags, payload in (("S", b""), ("PA", b"data"), ("SA", b""), ("FA", b"")):
                lab.answers(*(lab.probe(family, flags, payload=payload) for _ in range(20)))
        lab.clear()
    lab.unload()
    lab.require_module()
    if found := lab.lost():
        raise Deviation("\n".join(["kmemleak found:", *found]))
