"""How a scanner tells a tarpit from a host, played against the guest.

The decision procedure of Degreaser (Alt, Beverly, Dainotti: Uncovering Network Tarpits with
Degreaser, ACSAC 2014), and what a careful observer of zero windows would look for beyond it.
"""

from __future__ import annotations

from tarpit_builder.proof.lab import Lab
from tarpit_builder.proof.segment import LINUX_OPTIONS, MODULUS, Option, Segment

SMALL = 20
"""Largest window that Degreaser takes for a tarpit's."""


def degreaser(lab: Lab, family: int) -> tuple[str, list[Segment]]:
    """What Degreaser calls the guest, and the segments that it judged by."""
    syn = lab.probe(family, "S", options=LINUX_OPTIONS)
    seen = [syn, *lab.answers(syn)]
    if len(seen) == 1:
        return "no answer", seen
    accepted = seen[1]
    if "R" in accepted.flags:
        return "closed port", seen
    if accepted.options or accepted.window > SMALL:
        return "real host", seen
    ack = Segment(syn.flow, "A", syn.end, accepted.end)
    replies = lab.answers(ack)
    seen += [ack, *replies]
    if any("R" in reply.flags for reply in replies):
        return "delude", seen
    if any(reply.window == 0 for reply in replies):
        return "real host" if accepted.window == 0 else "iptables tarpit", seen
    data = Segment(syn.flow, "PA", syn.end, accepted.end, payload=b"x" * (accepted.window - 1))
    replies = lab.answers(data)
    seen += [data, *replies]
    return "real host" if replies else "LaBrea", seen


def suspicions(lab: Lab, family: int) -> tuple[list[str], list[Segment]]:
    """What no host with a busy program would do, and the segments that show it."""
    wrong: list[str] = []
    flow = lab.flow(family)
    syn = Segment(flow, "S", seq=lab.number(), options=LINUX_OPTIONS)
    again = Segment(flow, "S", seq=lab.number(), options=LINUX_OPTIONS)
    accepted, second = lab.answers(syn)[0], lab.answers(again)[0]
    seen = [syn, accepted, again, second]
    if not accepted.options:
        wrong.append("no options in the SYN+ACK")
    if accepted.window <= SMALL:
        wrong.append(f"a window of {accepted.window}")
    if (accepted.seq - syn.seq - second.seq + again.seq) % MODULUS == 0:
        wrong.append("the same difference of initial sequence numbers when a port is used again")

    stamps = dict(second.options).get("Timestamp")
    if not stamps:
        wrong.append("no timestamps")

    def ask(flags: str, after: int, payload: bytes = b"") -> list[Segment]:
        options: tuple[Option, ...] = ()
        if isinstance(stamps, tuple):
            options = (("NOP", None), ("NOP", None), ("Timestamp", (1000, stamps[0])))
        at = (again.end + after) % MODULUS
        probe = Segment(flow, flags, at, second.end, payload=payload, options=options)
        replies = lab.answers(probe)
        if stamps and not all("Timestamp" in dict(reply.options) for reply in replies):
            wrong.append("an answer without timestamps, which were agreed on")
        seen.extend([probe, *replies])
        return replies

    if ask("A", 0):
        wrong.append("an answer to the handshake's ACK")
    keepalive = ask("A", -1)
    if len(keepalive) != 1 or keepalive[0].ack != again.end or not keepalive[0].window:
        wrong.append("no proper answer to a keepalive")
    edge = (second.ack + second.window) % MODULUS
    sent = 0
    for length in (18, 1000, 1400):
        replies = ask("PA", sent, b"x" * length)
        sent += length
        if len(replies) != 1 or replies[0].ack != (again.end + sent) % MODULUS:
            wrong.append(f"{length} bytes within the window are not acknowledged")
        elif (replies[0].ack + replies[0].window) % MODULUS != edge:
            wrong.append("the window's edge has moved back")
        if wrong:
            break
    return wrong, seen
