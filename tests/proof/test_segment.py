"""Segments survive the way to the wire and back, and damage is seen."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tarpit_builder.proof.clients import Template
from tarpit_builder.proof.lab import is_padding
from tarpit_builder.proof.network import CLIENT, SIDES
from tarpit_builder.proof.segment import (
    Flow,
    Ladder,
    Segment,
    echo_reply_number,
    echo_request,
    frame,
    neighbour_answer,
    parse,
)

HERE, THERE = "02:00:00:00:00:01", "02:00:00:00:00:02"
patient = settings(deadline=None)  # the first packet loads half of scapy
numbers = st.integers(0, 2**32 - 1)
ports = st.integers(1, 65535)
families = st.sampled_from([4, 6])


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    """Any segment that a check could send."""
    family = draw(families)
    flags = "".join(letter for letter in "FSRPAUEC" if draw(st.booleans()))
    return Segment(
        Flow(CLIENT[family], SIDES[0].guest(family), draw(ports), draw(ports)),
        flags,
        seq=draw(numbers),
        ack=draw(numbers),
        window=draw(st.integers(0, 65535)),
        payload=draw(st.binary(max_size=100)),
        urgent=draw(st.integers(0, 65535)),
        reserved=draw(st.integers(0, 7)),
        ttl=draw(st.integers(1, 255)),
        tos=draw(st.integers(0, 255)),
        df=family == 6 or draw(st.booleans()),
        identification=0 if family == 6 else draw(st.integers(0, 65535)),
    )


def seen(packet: bytes, vlan: int | None = None) -> Segment:
    """What the wire would make of a packet."""
    parsed = parse(frame(packet, vlan=vlan, src=HERE, dst=THERE))
    assert parsed is not None
    return parsed


@patient
@given(segments(), st.sampled_from([None, 5]))
def test_what_is_sent_is_what_is_seen(segment: Segment, vlan: int | None) -> None:
    parsed = seen(segment.packet(), vlan)
    assert parsed.checksums_good
    for name in ("flow", "flags", "seq", "ack", "window", "payload", "urgent", "reserved"):
        assert getattr(parsed, name) == getattr(segment, name), name
    for name in ("ttl", "tos", "df", "identification"):
        assert getattr(parsed, name) == getattr(segment, name), name
    assert parsed.vlan == vlan


@patient
@given(segments(), st.integers(1, 255), st.data())
def test_any_damaged_byte_is_seen(segment: Segment, damage: int, data: st.DataObject) -> None:
    packet = bytearray(segment.packet())
    # Version and length fields decide whether it is a TCP segment at all; IPv6 has no checksum
    # over its first words.
    first = 40 if segment.family == 6 else 20
    at = data.draw(st.integers(first, len(packet) - 1))
    if at == first + 12:
        return  # the data offset: it moves the payload and the checksum with it
    packet[at] ^= damage
    assert not seen(bytes(packet)).checksums_good


@patient
@given(segments(), ports, numbers)
def test_templates_have_valid_checksums(segment: Segment, sport: int, ack: int) -> None:
    stamped = seen(Template(segment).stamp(sport, ack))
    assert (stamped.flow.sport, stamped.ack) == (sport, ack)
    assert stamped.checksums_good


def test_trailing_bytes_are_seen() -> None:
    packet = Segment(Flow("1.2.3.4", "5.6.7.8", 1, 2), "S", payload=b"x" * 20).packet()
    assert seen(packet).trailing == b""
    assert seen(packet + b"!").trailing == b"!"


@pytest.mark.parametrize(
    ("trailing", "padding"),
    [(b"\0" * 6, True), (b"\0" * 7, False), (b"\0\0\1", False), (b"", True)],
)
def test_padding_is_told_from_what_is_left_over(trailing: bytes, padding: bool) -> None:
    """An answer of 40 bytes, in a frame of 60."""
    assert (
        is_padding(Segment(Flow("192.0.2.1", "192.0.2.2", 1, 2), "A", trailing=trailing)) is padding
    )


@pytest.mark.parametrize("packet", [b"", b"\x45" + bytes(19), b"\x60" + bytes(39)])
def test_what_is_no_segment_is_none(packet: bytes) -> None:
    assert parse(frame(packet or b"\0", src=HERE, dst=THERE)) is None


def test_fragments_are_no_segments() -> None:
    packet = bytearray(Segment(Flow("1.2.3.4", "5.6.7.8", 1, 2), "S").packet())
    packet[6] = 0x20  # more fragments
    assert parse(frame(bytes(packet), src=HERE, dst=THERE)) is None


@pytest.mark.parametrize("family", [4, 6])
def test_ping_is_recognised_only_as_its_answer(family: int) -> None:
    request = echo_request(CLIENT[family], SIDES[0].guest(family), 7)
    assert echo_reply_number(frame(request, src=HERE, dst=THERE)) is None
    reply = bytearray(request)
    reply[40 if family == 6 else 20] = 129 if family == 6 else 0
    assert echo_reply_number(frame(bytes(reply), src=HERE, dst=THERE)) == 7


def test_host_answers_for_its_own_hosts_only() -> None:
    from scapy.layers.l2 import ARP, Ether

    ask = bytes(Ether(src=HERE) / ARP(op=1, psrc="10.2.0.1", pdst="10.2.0.77"))
    assert neighbour_answer(ask, mac=THERE, owns=[]) is not None
    assert neighbour_answer(ask, mac=THERE, owns=["10.2.0.77"]) is None
    assert neighbour_answer(ask, mac=THERE, owns=[], hosts=["10.2.0.78"]) is None
    assert neighbour_answer(ask, mac=THERE, owns=[], hosts=["10.2.0.77"]) is not None


def test_ladder_reads_like_the_trace_of_the_article() -> None:
    flow = Flow("10.1.0.1", "10.1.0.99", 4321, 135)
    syn = Segment(flow, "S", seq=333636191, window=16384, when=1.0)
    accepted = Segment(flow.back, "SA", seq=1551562378, ack=syn.end, window=5, when=1.1)
    opened = Segment(flow, "A", seq=syn.end, ack=accepted.end, window=16616, when=1.2)
    held = dataclasses.replace(
        accepted, flags="A", seq=accepted.end, ack=syn.end, window=0, when=1.3
    )
    lines = Ladder([syn, accepted, opened, held]).lines()
    assert lines[1].endswith("S 1551562378:1551562378(0) ack 333636192 win 5 (DF)")
    assert lines[2].endswith(". seq 1 ack 1 win 16616 (DF)")
    assert lines[3].endswith(". seq 1 ack 1 win 0 (DF)")
