"""Contract section 2: --honeypot, --reset and --stall."""

from __future__ import annotations

import dataclasses
import errno
from typing import Any

from tarpit_builder.proof import scanner
from tarpit_builder.proof.checks.wire import expect_of_stranger
from tarpit_builder.proof.lab import Deviation, Lab
from tarpit_builder.proof.mirror import Mirror
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import LINUX_OPTIONS, MODULUS, Option, Segment

honeypot = Group("honeypot", "--honeypot", order=20)
reset = Group("reset", "--reset", order=21)
stall = Group("stall", "--stall", order=22)

STAMPS = (("NOP", None), ("NOP", None), ("Timestamp", (77, 78)))
SIOCOUTQ = 0x5411
FIN_WAIT_1, FIN_WAIT_2 = 4, 5
WINDOW = 64240
"""What --stall takes before it holds: as much as an ordinary host offers at first."""
MSS = {4: 1460, 6: 1440}
OFFERS: dict[str, tuple[Option, ...]] = {
    "none": (),
    "MSS": (("MSS", 1400),),
    "SACK": (("NOP", None), ("NOP", None), ("SAckOK", b"")),
    "all of Linux's": LINUX_OPTIONS,
    "Windows'": (
        ("MSS", 1460),
        ("NOP", None),
        ("WScale", 8),
        ("NOP", None),
        ("NOP", None),
        ("SAckOK", b""),
    ),
    "timestamps": (("NOP", None), ("NOP", None), ("Timestamp", (0x12345678, 0))),
    "neither": (("NOP", None), ("WScale", 7)),
    "an end before MSS": (("EOL", None), ("MSS", 1460)),
}
"""Options of a SYN."""
NEVER = ("R", "RA", "RPA", "", "SF", "SR", "SFR", "FR", "FPU", "FSRPAU", "U")


@honeypot.setup
def prepare_honeypot(lab: Lab) -> None:
    """Everything that arrives meets a honeypot."""
    lab.tarpit("honeypot", match=("!", "-i", "eth1"))


@stall.setup
def prepare_stall(lab: Lab) -> None:
    """Everything that arrives meets a server whose program never reads."""
    lab.tarpit("stall", match=("!", "-i", "eth1"))


@reset.setup
def prepare_reset(lab: Lab) -> None:
    """Everything that arrives is reset."""
    lab.tarpit("reset", match=("!", "-i", "eth1"))


def accept(lab: Lab, family: int, **fields: Any) -> tuple[Segment, Segment]:
    """A SYN and the honeypot's SYN+ACK."""
    syn = lab.probe(family, "S", **fields)
    replies = lab.answers(syn)
    lab.expect(syn, replies, "SYN", flags="SA", ack=syn.end)
    if replies[0].window < 4096:
        raise Deviation(f"a window of {replies[0].window} looks like no host", [syn, *replies])
    return syn, replies[0]


@honeypot.check("a SYN gets a SYN+ACK with a window like a common host's", section="2")
def honeypot_syn(lab: Lab, family: int) -> None:
    accept(lab, family)
    accept(lab, family, seq=MODULUS - 1)


def stamp_of(segment: Segment) -> tuple[int, int]:
    """The timestamps of a segment, the sender's own and the one it echoes.

    :raises Deviation: if there are none.
    """
    for kind, value in segment.options:
        if kind == "Timestamp":
            assert isinstance(value, tuple)
            return value
    raise Deviation("no timestamps", [segment])


def offered(lab: Lab, family: int, *, all_of_them: bool) -> None:
    """A SYN+ACK has options that need no memory, of those that the SYN has."""
    probes = {name: lab.probe(family, "S", options=options) for name, options in OFFERS.items()}
    for name, replies in lab.converse(probes).items():
        has = [kind for kind, _ in OFFERS[name]]
        if "EOL" in has:
            has = []
        expected: list[Option] = [("MSS", MSS[family])] if "MSS" in has else []
        padding: list[Option] = [("NOP", None), ("NOP", None)]
        if all_of_them and "SAckOK" in has:
            expected += [("SAckOK", b"")] if "Timestamp" in has else [*padding, ("SAckOK", b"")]
        if all_of_them and "Timestamp" in has:
            clock, echo = stamp_of(replies[0])
            if echo != stamp_of(probes[name])[0]:
                raise Deviation("it echoes another timestamp", [probes[name], replies[0]])
            expected += [] if "SAckOK" in has else padding
            expected.append(("Timestamp", (clock, echo)))
        what = f"SYN with {name} as options"
        lab.expect(probes[name], replies, what, flags="SA", window=WINDOW, options=tuple(expected))


@honeypot.check("a SYN+ACK has an MSS if the SYN has one", section="2")
def honeypot_options(lab: Lab, family: int) -> None:
    offered(lab, family, all_of_them=False)


@honeypot.check("every byte of data is acknowledged, options are not counted", section="2")
def honeypot_data(lab: Lab, family: int) -> None:
    syn, accepted = accept(lab, family)
    at = syn.end
    for length in (1, 2, 5, 536, 1000, 1400):
        for options in ((), STAMPS):
            for flags in ("A", "PA"):
                data = Segment(
                    syn.flow, flags, at, accepted.end, payload=b"x" * length, options=options
                )
                replies = lab.answers(data)
                what = f"{length} bytes" + (" with options" if options else "")
                lab.expect(data, replies, what, flags="A", seq=accepted.end, ack=data.end)
                if replies[0].window < 4096:
                    raise Deviation(f"{what}: window {replies[0].window}", [data, *replies])
                at = data.end
    stray = lab.probe(family, "PA", payload=b"GET /", seq=MODULUS - 2)
    lab.expect(stray, lab.answers(stray), "stray data", flags="A", seq=stray.ack, ack=3)


@honeypot.check("FIN+ACK gets a plain ACK of the FIN", section="2")
def honeypot_fin(lab: Lab, family: int) -> None:
    syn, accepted = accept(lab, family)
    for flags, payload in (("FA", b""), ("FPA", b"last words")):
        fin = Segment(syn.flow, flags, syn.end, accepted.end, payload=payload)
        lab.expect(fin, lab.answers(fin), flags, flags="A", seq=accepted.end, ack=fin.end)


@honeypot.check("a SYN+ACK gets one RST", section="2")
def honeypot_syn_ack(lab: Lab, family: int) -> None:
    probe = lab.probe(family, "SA")
    lab.expect(probe, lab.answers(probe), "SYN+ACK", flags="R", seq=probe.ack)


@honeypot.check("a bare ACK, RST, null and contradictory flags get no answer", section="2")
def honeypot_silence(lab: Lab, family: int) -> None:
    probes = {flags or "null": lab.probe(family, flags) for flags in (*NEVER, "A", "F")}
    probes["A with window 0"] = lab.probe(family, "A", window=0)
    for label, replies in lab.converse(probes).items():
        lab.expect_silence(probes[label], replies, label)
    syn, accepted = accept(lab, family)
    ack = Segment(syn.flow, "A", syn.end, accepted.end)
    lab.expect_silence(ack, lab.answers(ack), "the end of the handshake")


@honeypot.check("a Linux client connects, has all its data taken, and closes", section="2")
def honeypot_client(lab: Lab, family: int) -> None:
    lab.clear()
    lab.tarpit("honeypot", match=("-i", "eth1"))
    try:
        with Mirror(lab) as mirror:
            client = mirror.connect(family, 80)
            client.send(b"x" * 20000)

            def unsent() -> int:
                return int.from_bytes(client.ioctl(SIOCOUTQ, bytes(4)), client.guest.c.order)

            for _ in range(100):
                if not unsent():
                    break
                mirror.wait(lambda: False, 0.02)
            else:
                raise Deviation(f"{unsent()} bytes were not acknowledged", mirror.seen[-12:])
            client.shutdown(1)
            for _ in range(100):
                if client.state == FIN_WAIT_2:
                    break
                mirror.wait(lambda: False, 0.02)
            else:
                raise Deviation(f"the client is in state {client.state}", mirror.seen[-12:])
            client.close()
    finally:
        lab.clear()
        prepare_honeypot(lab)


@reset.check("a SYN gets RST+ACK that acknowledges it", section="2")
def reset_syn(lab: Lab, family: int) -> None:
    probes = {
        "SYN": lab.probe(family, "S"),
        "SYN with ECN": lab.probe(family, "SEC"),
        "SYN with data": lab.probe(family, "S", payload=b"fast open"),
        "SYN at the end of the sequence space": lab.probe(family, "S", seq=MODULUS - 1),
    }
    for label, replies in lab.converse(probes).items():
        probe = probes[label]
        lab.expect(probe, replies, label, flags="RA", seq=0, ack=probe.end)


@reset.check("whatever carries an ACK gets a RST with that number", section="2")
def reset_ack(lab: Lab, family: int) -> None:
    probes = {
        "ACK": lab.probe(family, "A"),
        "ACK with window 0": lab.probe(family, "A", window=0),
        "data": lab.probe(family, "PA", payload=b"data"),
        "SYN+ACK": lab.probe(family, "SA"),
        "FIN+ACK": lab.probe(family, "FA"),
    }
    for label, replies in lab.converse(probes).items():
        lab.expect(probes[label], replies, label, flags="R", seq=probes[label].ack)


@reset.check("a RST is never answered", section="2")
def reset_silence(lab: Lab, family: int) -> None:
    probes = {flags: lab.probe(family, flags) for flags in ("R", "RA", "RPA", "SR", "FR", "FSRPAU")}
    probes |= {f"{k} with data": lab.probe(family, k, payload=b"x") for k in tuple(probes)}
    for label, replies in lab.converse(probes).items():
        lab.expect_silence(probes[label], replies, label)


@reset.check("a Linux client's connect() gets ECONNREFUSED at once", section="2")
def reset_client(lab: Lab, family: int) -> None:
    lab.clear()
    lab.tarpit("reset", match=("-i", "eth1"))
    try:
        with Mirror(lab) as mirror:
            client = lab.client(family)
            try:
                client.connect(lab.guest.sockaddr(mirror.server(family), 80), seconds=5)
            except ConnectionRefusedError:
                pass
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0)
                raise Deviation(f"connect() failed with {name}", mirror.seen) from error
            else:
                raise Deviation("connect() succeeded", mirror.seen)
            client.close()
            if len(mirror.seen) != 2:
                raise Deviation(f"{len(mirror.seen)} segments instead of 2", mirror.seen)
    finally:
        lab.clear()
        prepare_reset(lab)


def stalled(lab: Lab, family: int, *, seq: int | None = None) -> tuple[Segment, Segment]:
    """A SYN and the SYN+ACK of --stall."""
    syn = lab.probe(family, "S", seq=lab.number() if seq is None else seq)
    replies = lab.answers(syn)
    lab.expect(syn, replies, "SYN", flags="SA", ack=syn.end, window=WINDOW)
    return syn, replies[0]


@stall.check(
    "a SYN+ACK has an ordinary window and those of the SYN's options it can have", section="2"
)
def stall_options(lab: Lab, family: int) -> None:
    offered(lab, family, all_of_them=True)


@stall.check(
    "64 kB in order are acknowledged exactly while the window shrinks, then it is shut", section="2"
)
def stall_fills(lab: Lab, family: int) -> None:
    for seq in (None, MODULUS - 2, MODULUS - 30000):
        syn, accepted = stalled(lab, family, seq=seq)
        taken = 0
        for length in (1, 2, 5, 536, *[1000] * 20, *[1400] * 31, 296, 1, 1400, 1):
            data = Segment(
                syn.flow, "PA", (syn.end + taken) % MODULUS, accepted.end, payload=b"x" * length
            )
            taken = min(taken + length, WINDOW)
            expected = {
                "flags": "A",
                "seq": accepted.end,
                "ack": (syn.end + taken) % MODULUS,
                "window": WINDOW - taken,
            }
            lab.expect(data, lab.answers(data), f"data up to {taken}", **expected)
        if taken != WINDOW:
            raise Deviation(f"the check itself sends {taken} bytes")
        edge = (syn.end + WINDOW) % MODULUS
        full = {"flags": "A", "seq": accepted.end, "ack": edge, "window": 0}
        for label, at, payload in (
            ("a probe without data", edge - 1, b""),
            ("a probe with the last byte", edge - 1, b"x"),
            ("a probe with the next byte", edge, b"x"),
        ):
            probe = Segment(syn.flow, "A", at % MODULUS, accepted.end, payload=payload)
            lab.expect(probe, lab.answers(probe), label, **full)


@stall.check(
    "the end of the handshake and other ACKs get no answer, a keepalive gets one", section="2"
)
def stall_acks(lab: Lab, family: int) -> None:
    syn, accepted = stalled(lab, family)
    for label, after, window in (
        ("the end of the handshake", 0, 64240),
        ("an ACK after 5 bytes", 5, 64240),
        ("an ACK at the edge", WINDOW, 64240),
        ("an ACK with window 0", -1, 0),
        ("an ACK with window 0 at the edge", WINDOW - 1, 0),
    ):
        probe = Segment(syn.flow, "A", syn.end + after, accepted.end, window=window)
        lab.expect_silence(probe, lab.answers(probe), label)
    expected = {"flags": "A", "seq": accepted.end, "ack": syn.end, "window": WINDOW}
    for label, payload in (("a keepalive", b""), ("a keepalive with a byte", b"\0")):
        probe = Segment(syn.flow, "A", syn.seq, accepted.end, payload=payload)
        lab.expect(probe, lab.answers(probe), label, **expected)


@stall.check("with timestamps, a keepalive after some data is acknowledged exactly", section="2")
def stall_stamped(lab: Lab, family: int) -> None:
    syn = lab.probe(family, "S", options=LINUX_OPTIONS)
    accepted = lab.answers(syn)[0]
    clock = stamp_of(syn)[0]
    last = stamp_of(accepted)[0]

    def segment(after: int, payload: bytes = b"") -> Segment:
        options = (("NOP", None), ("NOP", None), ("Timestamp", (clock, last)))
        at = (syn.end + after) % MODULUS
        flags = "PA" if payload else "A"
        return Segment(syn.flow, flags, at, accepted.end, payload=payload, options=options)

    def expect(probe: Segment, what: str, taken: int) -> None:
        nonlocal clock, last
        replies = lab.answers(probe)
        value, _ = stamp_of(replies[0]) if replies else (0, 0)
        options = (("NOP", None), ("NOP", None), ("Timestamp", (value, clock)))
        expected = {"flags": "A", "ack": (syn.end + taken) % MODULUS, "options": options}
        window = WINDOW - taken
        lab.expect(probe, replies, what, seq=accepted.end, window=window, **expected)
        if (value - last) % MODULUS >= MODULUS // 2:
            raise Deviation(f"{what}: the clock went back from {last}", [probe, *replies])
        clock, last = clock + 1, value

    sent = 0
    for length in (1, 2, 535, 1000):
        for again in range(2):  # what was lost is sent again
            expect(segment(sent, b"x" * length), f"{length} bytes, {again}", sent + length)
        sent += length
        for label, after in (("an ACK", sent), ("a keepalive right after an answer", sent - 1)):
            probe = segment(after)
            lab.expect_silence(probe, lab.answers(probe), label)
        lab.guest.sleep(0.6)
        for wrong in (sent, sent - 2) if sent > 1 else (sent,):
            probe = segment(wrong)
            lab.expect_silence(probe, lab.answers(probe), "an ACK much later")
        expect(segment(sent - 1), f"a keepalive after {sent} bytes", sent)
    lab.guest.sleep(0.6)
    fin = dataclasses.replace(segment(sent, b"last words"), flags="FPA")
    (reply,) = lab.answers(fin)
    if (reply.window, reply.ack) != (0, (syn.end + sent + 10) % MODULUS):
        raise Deviation("the FIN is taken, or its data is not", [fin, reply])
    stamp_of(reply)


@stall.check(
    "a FIN is not acknowledged, what comes before it is, and the window is shut", section="2"
)
def stall_fin(lab: Lab, family: int) -> None:
    syn, accepted = stalled(lab, family)
    for payload in (b"", b"last words", b"x" * 1400):
        for after in (0, 1000):
            at = (syn.end + after) % MODULUS
            fin = Segment(syn.flow, "FPA", at, accepted.end, payload=payload)
            # Where the client knows all numbers, ours grows, or older kernels keep the window open.
            known = bool(after and not payload)
            expected = {
                "flags": "A",
                "window": 0,
                "seq": (accepted.end + known) % MODULUS,
                "ack": (at + len(payload)) % MODULUS,
            }
            lab.expect(fin, lab.answers(fin), f"FIN with {len(payload)} bytes", **expected)


@stall.check("a segment of somebody else's connection gets an ACK with window 0", section="2")
def stall_stray(lab: Lab, family: int) -> None:
    for label, flags, payload in (
        ("data", "PA", b"cmd.exe"),
        ("ACK", "A", b""),
        ("FIN", "FA", b""),
    ):
        probe = lab.probe(family, flags, payload=payload)
        expect_of_stranger(lab, probe, lab.answers(probe), label)


@stall.check("SYN+ACK gets one RST; RST, null and contradictory flags get no answer", section="2")
def stall_others(lab: Lab, family: int) -> None:
    honeypot_syn_ack(lab, family)
    probes = {flags or "null": lab.probe(family, flags) for flags in (*NEVER, "F")}
    for label, replies in lab.converse(probes).items():
        lab.expect_silence(probes[label], replies, label)


@stall.check("scanners that look for tarpits call it a real host", section="2")
def stall_scanned(lab: Lab, family: int) -> None:
    verdict, seen = scanner.degreaser(lab, family)
    if verdict != "real host":
        raise Deviation(f"Degreaser's procedure says: {verdict}", seen)
    suspicions, seen = scanner.suspicions(lab, family)
    if suspicions:
        raise Deviation("; ".join(suspicions), seen)


@stall.check("and they do recognise --tarpit", section="2")
def tarpit_scanned(lab: Lab, family: int) -> None:
    lab.clear()
    lab.tarpit(match=("!", "-i", "eth1"))
    try:
        verdict, seen = scanner.degreaser(lab, family)
        if verdict != "iptables tarpit":
            raise Deviation(f"Degreaser's procedure says: {verdict}", seen)
        suspicions, seen = scanner.suspicions(lab, family)
        if not suspicions:
            raise Deviation("nothing is suspicious", seen)
    finally:
        lab.clear()
        prepare_stall(lab)


def malformed(lab: Lab, family: int) -> None:
    """Bad checksums are dropped in silence in every mode."""
    probes = {flags: lab.probe(family, flags) for flags in ("S", "A", "PA", "SA", "FA")}
    packets = {label: probe.packet(chksum=1) for label, probe in probes.items()}
    for label, replies in lab.converse(probes, packets).items():
        lab.expect_silence(probes[label], replies, f"{label} with a bad checksum")


for group in (honeypot, reset, stall):
    group.check("a bad checksum gets no answer", section="2")(malformed)
