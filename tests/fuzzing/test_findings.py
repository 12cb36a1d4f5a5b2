"""Cases made small, and kept; genomes that are none."""

from __future__ import annotations

import fcntl
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.fuzzing import FuzzOptions, corpus
from tarpit_builder.fuzzing.findings import Finding, pcap, smallest
from tarpit_builder.fuzzing.world import FuzzRun


def test_a_case_is_made_as_small_as_what_fails_in_it() -> None:
    def fails(genome: str) -> bool:
        data = bytes.fromhex(genome.replace("-", ""))
        return len(data) >= 3 and data[2] >= 5

    assert smallest("ffee99aabbccdd00112233", fails, tries=500) == "000005"


@given(st.binary(min_size=1, max_size=40), st.integers(0, 255))
def test_what_is_made_small_still_fails(data: bytes, value: int) -> None:
    genome = (data + bytes([value, 1])).hex()

    def fails(one: str) -> bool:
        return value in bytes.fromhex(one.replace("-", "00")) + b"\0"

    small = smallest(genome, fails, tries=300)
    assert fails(small)
    assert len(small) <= len(genome)


def test_tries_are_used_up_and_no_more() -> None:
    asked: list[str] = []

    def passes(genome: str) -> bool:
        asked.append(genome)
        return False

    smallest("ff" * 30, passes, tries=7)
    assert len(asked) == 7


def test_a_finding_is_kept_with_its_packets(tmp_path: Path) -> None:
    finding = Finding("answers twice", "0102", "on tap0", (b"\1" * 60, b"\2" * 54))
    text = finding.keep(tmp_path / "findings")
    assert corpus.read(text) == ["0102"]
    assert "answers twice" in text.read_text()
    data = text.with_suffix(".pcap").read_bytes()
    assert data == pcap(finding.frames)
    magic, major, minor, _, _, snap, link = struct.unpack_from("<IHHiIII", data)
    assert (magic, major, minor, link) == (0xA1B2C3D4, 2, 4, 1)
    assert snap >= 65535
    lengths = struct.unpack_from("<II", data, 24 + 8)
    assert lengths == (60, 60)
    assert len(data) == 24 + 2 * 16 + 60 + 54


@pytest.mark.parametrize("line", ["xyz", "012", "0G", "00" * 193, "01 02"])
def test_a_damaged_corpus_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "corpus"
    file.write_text(f"-\n# a comment\n0102  # another\n{line}\n")
    with pytest.raises(UserError, match="line 4: that is no genome"):
        corpus.read(file)


def test_a_corpus_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "corpus"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read"):
        corpus.read(file)


def test_a_second_run_on_the_same_corpus_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "corpus"
    with (tmp_path / ".corpus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run works with"), corpus.claimed(file):
            pass
    with corpus.claimed(file) as genomes:
        assert genomes == []
        corpus.write(file, ["0102", "-", "01"])
    assert corpus.read(file) == ["-", "01", "0102"]


def test_what_the_fuzzer_prints_is_read() -> None:
    text = (
        "old -\nonce 01 answers twice\nwrong 01 answers twice\nnew 0203\n"
        "frame 0000\ndone 10 12 9 5 6\n"
    )
    run = FuzzRun.parse(text)
    assert (run.cases, run.packets, run.replies, run.places, run.edges) == (10, 12, 9, 5, 6)
    assert (run.old, run.new, run.wrong, run.once) == (
        ("-",),
        ("0203",),
        {"01": "answers twice"},
        1,
    )


def test_a_fuzzer_that_did_not_come_to_its_end_says_nothing_of_the_module() -> None:
    with pytest.raises(InfrastructureError, match="ended early"):
        FuzzRun.parse("new 01\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FuzzOptions(cpus=0), "--smp 0"),
        (FuzzOptions(seconds=0), "--seconds 0"),
        (FuzzOptions(replay=Path("/nonexistent/genomes")), "has no genome"),
    ],
)
def test_what_can_be_told_to_be_wrong_is_told_at_once(options: FuzzOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        options.check()


def test_the_committed_corpus_is_whole() -> None:
    assert corpus.read(corpus.COMMITTED)
    assert len(set(corpus.read(corpus.COMMITTED))) == len(corpus.read(corpus.COMMITTED))
