"""Contract section 1, no storms: two TARPIT hosts never keep answering each other."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tarpit_builder.proof.lab import MODES, PORT, Deviation, Lab
from tarpit_builder.proof.mirror import NEIGHBOUR, Mirror
from tarpit_builder.proof.network import SIDES
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Flow, Segment

storms = Group("storms", "two TARPIT hosts fall silent", order=30)

MOST = 4
"""Segments that one spoofed packet may cause, in all."""

KINDS: dict[str, dict[str, Any]] = {
    "SYN": {"flags": "S"},
    "SYN with data": {"flags": "S", "payload": b"x"},
    "SYN+ACK": {"flags": "SA"},
    "SYN+ACK with window 5": {"flags": "SA", "window": 5},
    "ACK": {"flags": "A"},
    "ACK with window 0": {"flags": "A", "window": 0},
    "ACK with window 5": {"flags": "A", "window": 5},
    "data": {"flags": "PA", "payload": b"data"},
    "data with window 0": {"flags": "PA", "payload": b"data", "window": 0},
    "FIN": {"flags": "F"},
    "FIN+ACK": {"flags": "FA"},
    "FIN+ACK with data": {"flags": "FPA", "payload": b"x"},
    "RST": {"flags": "R"},
    "RST+ACK": {"flags": "RA"},
    "null": {"flags": ""},
    "SYN+FIN": {"flags": "SF"},
    "Xmas": {"flags": "FPU"},
}


def provoke(lab: Lab, family: int, first: str, second: str, *, target: bool = False) -> None:
    """Let *first* stand on eth0's side and *second* on eth1's; spoof every kind at both.

    :param target: the second is the target, also where it is the device that is judged.
    """
    lab.clear()
    lab.tarpit(first, match=("-i", "eth0"), families=(family,))
    device, lab.device = lab.device, None if target else lab.device
    try:
        lab.tarpit(second, match=("-i", "eth1"), families=(family,))
    finally:
        lab.device = device
    with Mirror(lab) as mirror:
        labels: dict[frozenset[int], str] = {}
        sport = 2000
        for card in (0, 1):
            here, there = SIDES[card].guest(family), NEIGHBOUR[card][family]
            for label, fields in KINDS.items():
                sport += 1
                labels[frozenset((sport, PORT))] = f"{label} spoofed at --{(first, second)[card]}"
                probe = lab.probe(family, flow=Flow(there, here, sport, PORT), **fields)
                mirror.inject(card, probe.packet())
        mirror.settle()
        follow_up(lab, mirror, family)
        counts = Counter(frozenset((s.flow.sport, s.flow.dport)) for s in mirror.seen)
        for ports, count in counts.items():
            if count > MOST:
                told = [s for s in mirror.seen if {s.flow.sport, s.flow.dport} == ports]
                label = labels.get(ports, "a segment of a held connection")
                raise Deviation(f"--{first} against --{second}: {label} caused {count}", told)


def follow_up(lab: Lab, mirror: Mirror, family: int) -> None:
    """Segments that match a connection which the second host believes to hold."""
    here, there = SIDES[1].guest(family), NEIGHBOUR[1][family]
    flow = Flow(there, here, 3999, PORT)
    mirror.inject(1, lab.probe(family, "S", flow=flow, seq=1000).packet())
    mirror.settle()
    accepted = [s for s in mirror.seen if s.flow.dport == 3999 and s.flags == "SA"]
    mirror.seen = [s for s in mirror.seen if 3999 not in {s.flow.sport, s.flow.dport}]
    if not accepted:
        return  # a host that resets holds nothing
    for number, (flags, payload, window) in enumerate(
        [("A", b"", 1000), ("A", b"", 0), ("PA", b"data", 0), ("FA", b"", 5), ("SA", b"", 5)]
    ):
        before = len(mirror.seen)
        segment = Segment(
            flow, flags, seq=1001, ack=accepted[0].end, window=window, payload=payload
        )
        mirror.inject(1, segment.packet())
        mirror.settle()
        caused = mirror.seen[before:]
        if len(caused) > MOST:
            raise Deviation(f"{flags} number {number} of a held connection", [segment, *caused])
        mirror.seen = mirror.seen[:before]


def declare(first: str, second: str) -> None:
    """A check for one ordered pair of modes."""

    @storms.check(f"--{first} against --{second}: one spoofed packet causes at most four")
    def pair(lab: Lab, family: int) -> None:
        provoke(lab, family, first, second)


for one in MODES:
    for other in MODES:
        declare(one, other)
