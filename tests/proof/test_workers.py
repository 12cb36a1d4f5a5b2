"""Several machines at once find out the same as one, and none outlives the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
from scapy.utils import PcapNgReader

from tarpit_builder.console import Console
from tarpit_builder.errors import BuildError, InfrastructureError, UserError
from tarpit_builder.proof import registry
from tarpit_builder.proof.lab import Tools
from tarpit_builder.proof.report import Verdict
from tarpit_builder.proof.runner import units
from tarpit_builder.proof.verification import Subject, VerifyOptions, judge, setup
from tarpit_builder.proof.workers import Outputs, Worker
from tests.processes import await_end, await_machines
from tests.proof.conftest import Bench

pytestmark = [pytest.mark.boot, pytest.mark.docker]


def subject(bench: Bench, module: str = "original") -> Subject:
    """A module of the bench."""
    return Subject(land=bench.land, boot_seconds=300, tools=Tools(file=module))


def options(tmp_path: Path) -> VerifyOptions:
    """Two machines at once."""
    return VerifyOptions(jobs=2, pcap=tmp_path / "packets.pcapng", log=tmp_path / "console.log")


def test_machines_side_by_side_report_in_the_order_of_the_groups(
    bench: Bench, tmp_path: Path
) -> None:
    wanted = units(registry.select(("smoke", "reset")), registry.BACKENDS)
    parts = judge(subject(bench), options(tmp_path), bench.boot, wanted, Console(), tmp_path)
    order = list(dict.fromkeys(result.where for part in parts for result in part.results))
    assert order == ["smoke", "reset/legacy", "reset/nft"]
    assert {result.outcome for part in parts for result in part.results} == {Verdict.PASS}
    packets = PcapNgReader(str(tmp_path / "packets.pcapng"))
    marks = [packet.comment.decode() for packet in packets if packet.comment]
    assert {mark.split(":")[0].split()[0] for mark in marks} == set(order)
    # The first machine, and two others.
    assert (tmp_path / "console.log").read_text().count("loading out-of-tree module") >= 3


def test_trouble_with_a_later_machine_is_no_pass(bench: Bench, tmp_path: Path) -> None:
    wanted = units(registry.select(("smoke", "reset")), ("legacy",))
    with pytest.raises(UserError, match="no_such_module"):
        judge(
            subject(bench, "no_such_module"),
            options(tmp_path),
            bench.boot,
            wanted,
            Console(),
            tmp_path,
        )
    assert multiprocessing.active_children() == []


def test_process_that_is_killed_is_one_line_and_leaves_no_machine(
    bench: Bench, tmp_path: Path
) -> None:
    (unit,) = units(registry.select(("reset",)), ("legacy",))
    outputs = Outputs(pcap=tmp_path / "1.pcapng", log=tmp_path / "1.log")
    with Worker(setup(subject(bench), options(tmp_path), bench.boot), outputs) as worker:
        worker.begin(unit, Console())
        pid = worker.process.pid
        assert pid
        machines = await_machines(pid, 1)
        threading.Thread(target=os.kill, args=(pid, signal.SIGKILL)).start()
        with pytest.raises(InfrastructureError, match="reset legacy was killed"):
            worker.end(Console())
    await_end(machines)


def test_errors_travel_whole() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(BuildError("what", hint="next", tail=("last line",))))  # noqa: S301
    assert (str(error), error.tail) == ("what — next", ("last line",))
