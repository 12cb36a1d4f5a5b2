"""``invoke bench --load``: many connections, on a small scale but with everything that is real."""

from __future__ import annotations

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.load.host import CONTENDERS, named
from tarpit_builder.load.session import ContenderResult, LoadOptions, LoadReport, LoadRun, measure
from tarpit_builder.proof.lab import Tools
from tarpit_builder.proof.qemu import MachineSpec
from tarpit_builder.proof.runner import Runner, Setup
from tests.proof.conftest import Bench

SMALL = LoadOptions(clients=400, frames=20_000, seconds=1200, flood=20_000)
TOLERANCE = 512  # kB that the kernel's own bookkeeping may grow by meanwhile
USUAL = 1.5  # times as long as without load a question to the service may take, in the median
AT_REST = 0.02  # of the processor's time may be the held connections'
LATE = 1e9  # ns, in which 95 % of the answers have to come in a flood

SAID = """\
service idle count=200 failed=0 median=100000 high=110000 most=5000000
state idle time=1000 busy=0 softirq=0 memory=1000 slab=1 sockets=1 tracked=2 received=0
state loaded time=2000 busy=500 softirq=1 memory=1200 slab=1 sockets=1 tracked=2 received=0
service loaded count=200 failed=200
done tried=100 established=90 refused=10 lost=1 held=89
"""


def test_what_the_guest_prints_is_read() -> None:
    run = LoadRun.parse(SAID)
    assert run.ended["held"] == 89
    assert run.grown("memory", "idle", "loaded") == 200
    assert run.share("busy", "idle", "loaded") == 0.5


@pytest.mark.parametrize("text", ["", SAID.rpartition("done")[0]])
def test_a_program_that_ends_early_is_no_result(text: str) -> None:
    with pytest.raises(InfrastructureError, match="ended early"):
        LoadRun.parse(text)


def test_the_tables_have_every_figure_and_who_is_missing() -> None:
    run = LoadRun.parse(SAID)
    entries = [
        ContenderResult("TARPIT", frames=run),
        ContenderResult("LaBrea", missing="no package of this suite"),
    ]
    text = LoadReport("6.12", SMALL, entries).tables()
    assert "TARPIT" in text
    # 200 kB for 100 connections; a service that does not answer has no time.
    assert [*text.splitlines()[2].split()] == [
        *("TARPIT", "100", "90", "2,048", "0", "0", "0.0", "89", "100", "(110)", "-")
    ]
    assert text.endswith("LaBrea: no package of this suite")


def test_contenders_are_named_as_the_table_has_them() -> None:
    assert [one.name for one in named(("DROP", "TARPIT"))] == ["DROP", "TARPIT"]
    assert named(()) == CONTENDERS
    with pytest.raises(UserError, match="TARPITT: no such contender"):
        named(("TARPITT",))


@pytest.mark.parametrize("name", ["clients", "frames", "seconds", "flood"])
def test_numbers_that_make_no_sense_are_refused(name: str) -> None:
    options = LoadOptions()
    object.__setattr__(options, name, 0)
    with pytest.raises(UserError, match=f"--{name} 0"):
        options.check()


def loaded(bench: Bench, module: str, *contenders: str) -> list[ContenderResult]:
    """What came of *contenders* with *module* in place of ours."""
    base = MachineSpec(bench.boot.kernel, bench.boot.initrd)
    with Runner(Setup(bench.boot, base, 300, Tools(file=module)), Console()) as runner:
        report = measure(runner, named(contenders), SMALL, Console())
    print(report.tables())
    return report.entries


@pytest.mark.boot
@pytest.mark.docker
def test_twenty_thousand_connections_cost_the_host_nothing(bench: Bench) -> None:
    (entry,) = loaded(bench, "original", "TARPIT")
    frames, clients, flood = entry.frames, entry.clients, entry.flood
    assert frames
    assert clients
    assert flood
    assert frames.ended["held"] == SMALL.frames
    assert clients.ended["held"] == SMALL.clients
    for run in (frames, clients):
        # The service's own, of which one may be about to end, are none of them.
        assert run.grown("sockets", "idle", "loaded") <= 1
        assert run.grown("tracked", "idle", "loaded") <= 0
        assert run.service["loaded"]["failed"] == 0
        assert run.service["loaded"]["median"] < USUAL * run.service["idle"]["median"]
    assert clients.share("softirq", "watched", "kept") < AT_REST
    assert frames.grown("memory", "idle", "loaded") < TOLERANCE
    assert flood.grown("received", "before", "after") >= SMALL.flood
    # With what is under way; a socket for each SYN would be 6 MB and more.
    assert flood.grown("memory", "before", "after") < 8 * TOLERANCE
    assert flood.service["flooded"]["failed"] == 0
    assert flood.service["flooded"]["high"] < LATE


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.slow
def test_a_module_that_leaks_is_seen_by_its_memory(bench: Bench) -> None:
    (entry,) = loaded(bench, "leaks", "TARPIT")
    assert entry.frames
    assert entry.frames.grown("memory", "idle", "loaded") > 10 * TOLERANCE


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.slow
def test_what_keeps_connections_out_holds_none(bench: Bench) -> None:
    for entry in loaded(bench, "original", "nothing listens", "DROP", "REJECT"):
        for run in (entry.frames, entry.clients):
            assert run
            assert run.ended["established"] == run.ended["held"] == 0
