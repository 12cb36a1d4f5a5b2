"""The shortest proof that is one: load, connect, be held, unload."""

from __future__ import annotations

import errno
from contextlib import closing

from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.mirror import Mirror
from tarpit_builder.proof.registry import Group

smoke = Group("smoke", "load, connect, be held, unload", order=0, backends=("legacy",))

ESTABLISHED = 1
FROM_ETH1 = ("-i", "eth1")


@smoke.setup
def prepare(lab: Lab) -> None:
    """One rule, for what comes in at eth1."""
    lab.tarpit(match=FROM_ETH1)


@smoke.check("the module loads and a rule can be inserted", section="5")
def loads(lab: Lab) -> None:
    if not lab.tools.builtin and not lab.guest.modules().get(lab.module):
        raise Deviation(f"a rule is in place, but {lab.module} counts no user")


@smoke.check("connect() succeeds: SYN+ACK with window 5, then ACK with window 0")
def handshake(lab: Lab, family: int) -> None:
    with Mirror(lab) as mirror, closing(mirror.connect(family, 135)):
        mirror.await_segments(4, 5, "handshake")
        syn, accepted, opened, held = mirror.seen[:4]
        lab.expect(syn, [accepted], "SYN", flags="SA", window=5, ack=syn.end)
        lab.expect(opened, [held], "ACK", flags="A", window=0, seq=accepted.end, ack=opened.seq)
        if not lab.ladder:
            lab.ladder = mirror.seen[:4]


@smoke.check("data is not taken, and the client is held by answered window probes")
def held(lab: Lab, family: int) -> None:
    with Mirror(lab) as mirror, closing(mirror.connect(family, 139)) as client:
        mirror.await_segments(4, 5, "handshake")
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        # Two probes, 200 and 400 ms later, with their answers.  Guests with 2.6.24 on a busy host
        # were seen to send the first after 3.5 s, and so the second after 10 s.
        mirror.await_segments(8, 30, "window probes")
        first = mirror.seen[0].end
        for segment in mirror.seen[3:]:
            from_tarpit = segment.flow.dport == mirror.seen[0].flow.sport
            if from_tarpit and (segment.window, segment.ack) != (0, first):
                raise Deviation("data was acknowledged or the window opened", mirror.seen)
        if client.state != ESTABLISHED:
            raise Deviation(f"the client's connection is in state {client.state}", mirror.seen)
        if not lab.held:
            lab.held = list(mirror.seen)


@smoke.check("rmmod is refused while a rule uses the module", section="5")
def in_use(lab: Lab) -> None:
    if lab.tools.builtin:
        raise Unavailable("the target is a part of this kernel's image")
    try:
        lab.guest.rmmod(lab.module)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EBUSY}:
            return
        raise
    raise Deviation("the module could be unloaded while a rule used it")


@smoke.check("the module unloads once no rule uses it", section="5")
def unloads(lab: Lab) -> None:
    lab.clear()
    lab.unload()
    if lab.loaded:
        raise Deviation("the module is still there after rmmod")
    lab.require_module()
