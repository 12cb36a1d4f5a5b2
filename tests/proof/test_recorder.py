"""What a recording holds is what other programs read out of it."""

from __future__ import annotations

from pathlib import Path

from scapy.utils import PcapNgReader

from tarpit_builder.proof.wire import Recorder

FRAMES = [bytes(range(n)) for n in (60, 61, 62, 63)]


def test_recording_is_read_by_scapy(tmp_path: Path) -> None:
    path = tmp_path / "recording.pcapng"
    recorder = Recorder(path)
    for number, frame in enumerate(FRAMES):
        if number == 2:
            recorder.mark("wire nft: what begins here")
        recorder.add(frame, number % 2, 1_700_000_000.25 + number)
    recorder.close()
    packets = list(PcapNgReader(str(path)))
    assert [bytes(packet) for packet in packets] == FRAMES
    assert [float(packet.time) for packet in packets] == [1_700_000_000.25 + n for n in range(4)]
    names = [packet.sniffed_on for packet in packets]
    assert names in (["eth0", "eth1"] * 2, [b"eth0", b"eth1"] * 2)
    assert [packet.comment for packet in packets] == [
        None,
        None,
        b"wire nft: what begins here",
        None,
    ]


def test_recording_of_nothing_is_a_file_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "recording.pcapng"
    Recorder(path).close()
    assert list(PcapNgReader(str(path))) == []
