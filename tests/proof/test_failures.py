"""A machine that fails is told apart from a module that does, and neither is ever a pass."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import InfrastructureError, TarpitError, ToolMissingError, UserError
from tarpit_builder.proof.initramfs import Assembly, BootFiles, nodes, require_space
from tarpit_builder.proof.lab import MODES, Deviation, Lab, Tools, Unavailable
from tarpit_builder.proof.qemu import MachineDied, MachineSpec
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.report import BAD, CheckResult, Verdict
from tarpit_builder.proof.runner import STEADY, Runner, Setup, units
from tests.proof.conftest import Bench

pytestmark = [pytest.mark.boot, pytest.mark.docker]


def runner(
    boot: BootFiles, *, seconds: float = 300, module: str = "original", cmdline: str = ""
) -> Runner:
    """A runner for these boot files."""
    base = MachineSpec(boot.kernel, boot.initrd, cmdline=cmdline)
    return Runner(Setup(boot, base, seconds, Tools(file=module)), Console())


def group(name: str, *functions: Callable[[Lab], None]) -> Group:
    """A group of checks made up for a test."""
    made = Group(name, name, order=0)
    for function in functions:
        made.check(function.__name__)(function)
    return made


def outcome_of(machine: Runner, *groups: Group) -> list[CheckResult]:
    """What comes of *groups*, one after the other."""
    parts = machine.run(units(groups, ("legacy",)))
    return [result for part in parts for result in part.results]


def fine(lab: Lab) -> None:
    lab.settle()


def send_urgent_data(lab: Lab) -> None:
    """What two of the mutants do not survive."""
    lab.tarpit()
    lab.answers(lab.probe(4, "PAU", payload=b"!", urgent=1))


def loop(lab: Lab) -> None:
    lab.guest.attempt("sh", "-c", "while :; do :; done", seconds=1)


def deviate(lab: Lab) -> None:
    raise Deviation("on purpose")


def insert_a_rule(lab: Lab) -> None:
    lab.tarpit()


def refused(
    boot: BootFiles, *, seconds: float = 300, module: str = "original", cmdline: str = ""
) -> TarpitError:
    """The error that ends a run before anything could be judged."""
    with (
        runner(boot, seconds=seconds, module=module, cmdline=cmdline) as machine,
        pytest.raises(TarpitError) as caught,
    ):
        outcome_of(machine, group("any", fine))
    return caught.value


@pytest.mark.parametrize(
    ("mutant", "said"),
    [
        ("panics", "crashed: .*(BUG|Oops|panic)"),
        pytest.param("hangs", "stopped answering|stall|soft lockup", marks=pytest.mark.slow),
    ],
)
def test_kernel_that_dies_fails_its_group_and_the_rest_go_on(
    bench: Bench, mutant: str, said: str
) -> None:
    groups = [group("first", fine, send_urgent_data, fine), group("second", fine)]
    with runner(bench.boot, module=mutant) as machine:
        results = outcome_of(machine, *groups)
    outcomes = [(result.group, result.outcome) for result in results]
    assert outcomes == [
        ("first", Verdict.PASS),
        ("first", Verdict.FAIL),
        ("second", Verdict.PASS),
        ("second", Verdict.PASS),  # the kernel's log
    ]
    assert re.search(said, results[1].detail)


def hold_without_stall(lab: Lab) -> None:
    """Whatever the old module knows goes on; what it does not is refused, and changes nothing."""
    for family in lab.families:
        for mode in MODES[:3]:
            lab.clear()
            lab.tarpit("" if mode == "tarpit" else mode, families=(family,))
            lab.expect(
                probe := lab.probe(family, "S"),
                lab.answers(probe),
                mode,
                flags="RA" if mode == "reset" else "SA",
            )
        lab.clear()
        rule = ("-A", "INPUT", "-p", "tcp", "-j", "TARPIT", "--stall")
        done = lab.attempt_rule(family, *rule)
        assert done.status, done.stdout
        assert done.stderr.strip()
        assert "TARPIT" not in lab.guest.run(lab.program(family), *lab.tools.wait, "-S")


@pytest.mark.parametrize("mutant", ["revision-0-only"])
def test_todays_extension_serves_yesterdays_module(bench: Bench, mutant: str) -> None:
    with runner(bench.boot, module=mutant) as machine:
        parts = machine.run(units([group("old", hold_without_stall)], ("legacy", "nft")))
        results = [result for part in parts for result in part.results]
    assert [r.detail for r in results if r.outcome is not Verdict.PASS] == []
    assert {r.backend for r in results} >= {"legacy", "nft"}


@pytest.mark.slow
def test_kernel_that_complains_by_itself_is_booted_once_more_with_steady_clocks(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the kernel is given on its command line it repeats on its console, each time."""
    complaint = 'loglevel=8 tarpit="WARNING: at your service"'
    with runner(bench.boot, cmdline=complaint) as machine:
        results = outcome_of(machine, group("first", fine), group("second", fine))
        assert machine.setup.base.icount == STEADY
    assert capsys.readouterr().err.count("the kernel complained of itself") == 1
    assert [result.outcome for result in results] == [Verdict.FAIL] * 2
    assert all("WARNING: at your service" in result.detail for result in results)


def be_killed(lab: Lab) -> None:
    """As by the host, when memory is short."""
    os.kill(lab.machine.pid, signal.SIGKILL)
    lab.settle()


def break_down(lab: Lab) -> None:
    raise StopIteration


@pytest.mark.slow
def test_qemu_that_is_killed_is_an_error_and_no_verdict_on_the_kernel(bench: Bench) -> None:
    with runner(bench.boot) as machine:
        results = outcome_of(machine, group("first", be_killed, fine), group("second", fine))
    outcomes = [(result.group, result.outcome) for result in results]
    assert outcomes == [
        ("first", Verdict.ERROR),
        ("second", Verdict.PASS),
        ("second", Verdict.PASS),
    ]
    assert results[0].detail == "QEMU was killed"


def test_machine_that_dies_between_checks_costs_no_other_group(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trouble(lab: Lab) -> None:
        os.kill(lab.machine.pid, signal.SIGKILL)
        lab.guest.kernel_log()

    with runner(bench.boot) as machine:
        results = outcome_of(machine, group("first", fine))
        with monkeypatch.context() as patched:
            patched.setattr(Lab, "trouble", trouble)
            results += outcome_of(machine, group("second", fine))
        results += outcome_of(machine, group("third", fine))
    bad = [(result.group, result.outcome) for result in results if result.outcome in BAD]
    assert bad == [("second", Verdict.ERROR)]
    assert results[-1].group == "third"


def test_check_that_breaks_is_an_error_and_the_next_go_on(bench: Bench) -> None:
    with runner(bench.boot) as machine:
        results = outcome_of(machine, group("first", break_down, fine))
    assert [result.outcome for result in results[:2]] == [Verdict.ERROR, Verdict.PASS]
    assert results[0].detail == "the check itself broke: StopIteration: "


def test_group_that_cannot_be_prepared_again_keeps_what_it_has_found(bench: Bench) -> None:
    first = group("first", deviate, fine)
    prepared: list[Lab] = []

    def prepare(lab: Lab) -> None:
        prepared.append(lab)
        if len(prepared) > 1:
            raise Unavailable("only once")

    first.setup(prepare)
    with runner(bench.boot) as machine:
        results = outcome_of(machine, first, group("second", fine))
    assert len(prepared) > 1
    outcomes = [(result.group, result.outcome) for result in results]
    assert outcomes[:2] == [("first", Verdict.FAIL), ("first", Verdict.PASS)]
    assert outcomes[-1] == ("second", Verdict.PASS)


def test_device_that_the_kernel_refuses_is_an_error_and_no_skip(bench: Bench) -> None:
    of_device = group("device", fine)
    of_device.device = True
    with runner(bench.boot, cmdline="module_blacklist=tarpit") as machine:
        results = outcome_of(machine, group("any", fine), of_device)
    (refused,) = [result for result in results if result.group == "device"]
    assert refused.outcome is Verdict.ERROR
    assert "refuses the device's module" in refused.detail


def test_what_the_first_machine_lacks_is_a_skip(bench: Bench) -> None:
    picky = group("first", fine)

    @picky.setup
    def prepare(lab: Lab) -> None:
        raise Unavailable("it is not there")

    with runner(bench.boot) as machine:
        results = outcome_of(machine, picky)
    assert [(result.outcome, result.detail) for result in results] == [
        (Verdict.SKIP, "it is not there")
    ]


def test_kernel_that_dies_of_the_first_rule_has_failed(bench: Bench) -> None:
    deadly = group("first", fine)
    deadly.setup(lambda lab: lab.guest.write("/proc/sysrq-trigger", "c"))
    with runner(bench.boot) as machine:
        results = outcome_of(machine, deadly)
    assert [result.outcome for result in results] == [Verdict.FAIL]


def test_program_that_does_not_end_is_an_error_and_not_a_pass(bench: Bench) -> None:
    with runner(bench.boot) as machine:
        results = outcome_of(machine, group("first", loop, fine))
    assert [result.outcome for result in results[:2]] == [Verdict.ERROR, Verdict.PASS]


def test_kernel_that_finds_no_init(bench: Bench, tmp_path: Path) -> None:
    initrd = tmp_path / "empty"
    initrd.write_bytes(nodes())
    error = refused(replace(bench.boot, initrd=initrd))
    assert isinstance(error, MachineDied)
    assert "panic" in error.message


def test_guest_that_never_speaks(bench: Bench) -> None:
    error = refused(bench.boot, seconds=15, cmdline="rdinit=/usr/bin/cat")
    assert isinstance(error, MachineDied)
    assert "stopped answering" in error.message


def test_what_is_no_kernel(bench: Bench) -> None:
    error = refused(replace(bench.boot, kernel=Path(__file__)), seconds=5)
    assert isinstance(error, InfrastructureError)


def test_module_that_is_not_there(bench: Bench) -> None:
    error = refused(bench.boot, module="no_such_module")
    assert isinstance(error, UserError)
    assert bench.boot.release in error.message


@pytest.mark.slow
def test_module_of_another_kernel(bench: Bench, tmp_path: Path) -> None:
    """What tells is the symbols' versions: the kernel overlooks the release where it has them."""
    module = bytearray((bench.modules / "original.ko").read_bytes())
    version = module.index(b"module_layout\0") - 8
    module[version] ^= 1
    other = tmp_path / "foreign.ko"
    other.write_bytes(module)
    assembly = Assembly(bench.engine, Console(), bench.land)
    boot = assembly.debian(bench.kernel_packages, [other], tmp_path)
    error = refused(boot, module="foreign")
    assert isinstance(error, UserError)
    assert "does not load" in error.message
    assert "invoke build" in error.hint


@pytest.mark.slow
def test_kernel_without_netfilter(bench: Bench, tmp_path: Path) -> None:
    (package,) = (path for path in bench.kernel_packages if "image" in path.name)
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    for path in tree.glob("**/lib/modules/*/kernel/net/netfilter"):
        shutil.rmtree(path)
    small = tmp_path / package.name
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, small], check=True, capture_output=True)
    shutil.rmtree(tree)
    assembly = Assembly(bench.engine, Console(), bench.land)
    boot = assembly.debian([small], [bench.modules / "original.ko"], tmp_path)
    error = refused(boot)
    assert isinstance(error, UserError)
    assert "without netfilter" in error.hint


def test_extension_that_is_not_there(bench: Bench, tmp_path: Path) -> None:
    assembly = Assembly(bench.engine, Console(), bench.land)
    boot = assembly.debian(bench.kernel_packages, [bench.modules / "original.ko"], tmp_path)
    with runner(boot) as machine:
        results = outcome_of(machine, group("first", insert_a_rule))
    assert [result.outcome for result in results[:1]] == [Verdict.ERROR]
    assert "extension" in results[0].detail


def test_machine_without_qemu(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    error = refused(bench.boot)
    assert isinstance(error, ToolMissingError)
    assert "qemu-system-x86_64" in error.message


RUN_AND_SLEEP = """
import sys, time
from pathlib import Path
from tarpit_builder.proof.qemu import Machine, MachineSpec
from tarpit_builder.proof.reactor import Reactor
machine = Machine(MachineSpec(Path(sys.argv[1]), Path(sys.argv[2])), Reactor())
print(machine.pid, flush=True)
time.sleep(600)
"""


def test_guest_does_not_outlive_whoever_runs_it(bench: Bench) -> None:
    boot = [str(bench.boot.kernel), str(bench.boot.initrd)]
    command = [sys.executable, "-c", RUN_AND_SLEEP, *boot]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.kill()
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, f"QEMU {pid} is still there"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not dead already, whoever has to bury it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_full_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(InfrastructureError, match="MiB free; a proof needs"):
        require_space(tmp_path, 2 * free)
