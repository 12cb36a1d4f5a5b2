"""Contract section 2: --honeypot and --reset."""

from __future__ import annotations

import errno
from typing import Any

from tarpit_builder.proof.lab import Deviation, Lab
from tarpit_builder.proof.mirror import Mirror
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import MODULUS, Segment

honeypot = Group("honeypot", "--honeypot", order=20)
reset = Group("reset", "--reset", order=21)

STAMPS = (("NOP", None), ("NOP", None), ("Timestamp", (77, 78)))
SIOCOUTQ = 0x5411
FIN_WAIT_1, FIN_WAIT_2 = 4, 5
NEVER = ("R", "RA", "RPA", "", "SF", "SR", "SFR", "FR", "FPU", "FSRPAU", "U")


@honeypot.setup
def prepare_honeypot(lab: Lab) -> None:
    """Everything that arrives meets a honeypot."""
    lab.tarpit("honeypot", match=("!", "-i", "eth1"))


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


def malformed(lab: Lab, family: int) -> None:
    """Bad checksums are dropped in silence in every mode."""
    probes = {flags: lab.probe(family, flags) for flags in ("S", "A", "PA", "SA", "FA")}
    packets = {label: probe.packet(chksum=1) for label, probe in probes.items()}
    for label, replies in lab.converse(probes, packets).items():
        lab.expect_silence(probes[label], replies, f"{label} with a bad checksum")


for group in (honeypot, reset):
    group.check("a bad checksum gets no answer", section="2")(malformed)
