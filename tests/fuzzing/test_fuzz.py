"""The fuzzer on a booted kernel: it finds nothing in the module, and something in mutants of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.console import Console
from tarpit_builder.fuzzing import FuzzOptions, FuzzReport, corpus
from tarpit_builder.fuzzing.session import ENOUGH, GROUP, work
from tarpit_builder.fuzzing.world import PORTS, World
from tarpit_builder.proof.qemu import MachineSpec
from tarpit_builder.proof.runner import Runner, Setup
from tarpit_builder.verbs import INTERRUPTED
from tests.proof.conftest import Bench, tools_with

REGRESSIONS = Path(__file__).with_name("regressions.txt")
SMOKE = 60  # seconds
SIMPLE = 10  # choices that are not the ordinary one, at most

pytestmark = [pytest.mark.boot, pytest.mark.docker]


def runner(bench: Bench, module: str) -> Runner:
    """A machine with *module* in place of ours."""
    base = MachineSpec(bench.boot.kernel, bench.boot.initrd, cpus=2)
    return Runner(Setup(bench.boot, base, 300, tools_with(module)), Console())


def fuzzed(bench: Bench, mutant: str, packets: int, findings: Path) -> FuzzReport:
    """What so many packets show of *mutant*, without a corpus; the same ones each time."""
    options = FuzzOptions(packets=packets, seed=1, findings=findings)
    with runner(bench, mutant) as machine:
        return work(machine, options, Console(), [])


def test_every_case_that_is_known_is_dealt_with_rightly(bench: Bench) -> None:
    known = [*corpus.read(REGRESSIONS), *corpus.read(corpus.COMMITTED)]
    with runner(bench, "original") as machine:
        report = work(machine, FuzzOptions(replay=REGRESSIONS), Console(), known)
    print(report.summary())
    assert not report.findings, report.summary()
    assert report.device
    assert report.packets > len(known)
    assert report.replies > len(known) // 5


def test_a_minute_of_hostile_frames_finds_nothing(bench: Bench, tmp_path: Path) -> None:
    """Every genome that was ever worth keeping, and what is near to it."""
    known = [*corpus.read(REGRESSIONS), *corpus.read(corpus.COMMITTED)]
    options = FuzzOptions(seconds=SMOKE, findings=tmp_path / "findings")
    with runner(bench, "original") as machine:
        report = work(machine, options, Console(), known)
    print(report.summary())
    assert not report.findings, report.summary()
    assert report.device
    assert report.packets > 10 * len(known)
    assert report.replies > report.packets // 5
    assert report.unloads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "wrong"),
    [
        ("wrong-ack", "acknowledges something else"),
        ("skips-checksum", "answers what wants no answer"),
        ("answers-rst", "answers what wants no answer"),
        ("trailing-bytes", "sends a wrong checksum"),
        ("answers-broadcast", "answers what wants no answer"),
        ("device-answers-twice", "answers twice"),
        ("no-ipv6", "does not answer"),
        ("window-1", "opens another window"),
        ("device-defends", "tells who must not be told"),
        ("device-believes-solicitations", "tells who must not be told"),
    ],
)
def test_a_fault_in_the_module_is_found_and_made_small(
    bench: Bench, tmp_path: Path, mutant: str, wrong: str
) -> None:
    report = fuzzed(bench, mutant, 50_000, tmp_path)
    found = {finding.wrong: finding for finding in report.findings}
    assert any(wrong in name for name in found), report.summary()
    finding = next(one for name, one in found.items() if wrong in name)
    assert finding.genome
    assert sum(map(bool, bytes.fromhex(finding.genome))) <= SIMPLE
    assert finding.frames
    (kept,) = (file for file in tmp_path.glob("*.txt") if wrong in file.read_text())
    assert corpus.read(kept) == [finding.genome]
    assert kept.with_suffix(".pcap").stat().st_size > 24


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["tracked-replies"])
def test_connections_that_stay_tracked_are_found(bench: Bench, tmp_path: Path, mutant: str) -> None:
    """By what is in the table after a round, of no case in particular."""
    report = fuzzed(bench, mutant, 20_000, tmp_path)
    assert [finding.wrong for finding in report.findings] == ["connections stay tracked"]
    (kept,) = tmp_path.glob("*.txt")
    assert corpus.read(kept) == []


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["panics"])
def test_a_guest_that_dies_is_traced_to_a_case(bench: Bench, tmp_path: Path, mutant: str) -> None:
    report = fuzzed(bench, mutant, 20_000, tmp_path)
    (finding,) = report.findings
    assert "crashed" in finding.wrong
    assert finding.genome
    assert finding.frames
    assert report.deaths == ENOUGH


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["panics-in-the-end"])
def test_a_guest_that_dies_while_a_case_is_made_small_loses_nothing(
    bench: Bench, tmp_path: Path, mutant: str
) -> None:
    report = fuzzed(bench, mutant, 5_000, tmp_path)
    crash, wrong = report.findings
    assert "crashed" in crash.wrong
    assert wrong.wrong == "acknowledges something else"
    assert crash.genome
    assert wrong.genome
    assert len(list(tmp_path.glob("*.txt"))) == len(report.findings)


@pytest.mark.slow
def test_a_run_that_is_interrupted_has_told_its_figures_and_leaves_no_guest(tmp_path: Path) -> None:
    told = tmp_path / "fuzz.json"
    where = ["--json", str(told), "--corpus", str(tmp_path / "corpus.txt")]
    command = ["fuzz", "--kernel", "debian:trixie", "--flavour", "cloud", "--debug", "none"]
    run = subprocess.Popen(
        [str(Path(sys.executable).parent / "invoke"), *command, "--seconds", "3000", *where],
        cwd=paths.PROJECT,
        env={**os.environ, "TARPIT_DIST": str(tmp_path / "dist")},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not told.exists():
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
    assert run.returncode == INTERRUPTED, said
    assert "error: interrupted" in said
    assert json.loads(told.read_text())["packets"] > 0
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)


def test_the_same_seed_makes_the_same_cases(bench: Bench) -> None:
    with runner(bench, "original") as machine:
        world = World(machine.machine(GROUP))
        print_them = world.command(PORTS[0], "--seed", "7", "--count", "50", "--print")
        first, second = (
            world.guest.attempt(*print_them, stdin="0102\n-\n").stdout for _ in range(2)
        )
        assert first == second
        cases = [line.split()[1] for line in first.splitlines()]
        assert len(set(cases)) > 25
        later = world.command(PORTS[0], "--seed", "7", "--first", "10", "--count", "5", "--print")
        alone = world.guest.attempt(*later, stdin="0102\n-\n").stdout
        assert [line.split()[1] for line in alone.splitlines()] == cases[10:15]
