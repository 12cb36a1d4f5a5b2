"""A machine that fails is told apart from a module that does, and neither is ever a pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import InfrastructureError, TarpitError, UserError
from tarpit_builder.proof.initramfs import Assembly, BootFiles, nodes
from tarpit_builder.proof.lab import Lab, Tools
from tarpit_builder.proof.qemu import MachineDied, MachineSpec
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.report import Outcome
from tarpit_builder.proof.runner import Runner
from tests.proof.conftest import Bench

pytestmark = [pytest.mark.boot, pytest.mark.docker]


def runner(boot: BootFiles, *, seconds: float = 300, module: str = "original") -> Runner:
    """A runner for these boot files."""
    return Runner(
        boot=boot,
        base=MachineSpec(boot.kernel, boot.initrd),
        boot_seconds=seconds,
        console=Console(),
        backends=("legacy",),
        tools=Tools(file=module),
    )


def group(name: str, *functions: Callable[[Lab], None]) -> Group:
    """A group of checks made up for a test."""
    made = Group(name, name, order=0)
    for function in functions:
        made.check(function.__name__)(function)
    return made


def fine(lab: Lab) -> None:
    lab.settle()


def crash(lab: Lab) -> None:
    lab.guest.write("/proc/sysrq-trigger", "c")


def hang(lab: Lab) -> None:
    lab.guest.attempt("sh", "-c", "while :; do :; done", seconds=1)


def insert_a_rule(lab: Lab) -> None:
    lab.tarpit()


def refused(boot: BootFiles, *, seconds: float = 300, module: str = "original") -> TarpitError:
    """The error that ends a run before anything could be judged."""
    with (
        runner(boot, seconds=seconds, module=module) as machine,
        pytest.raises(TarpitError) as caught,
    ):
        machine.run([group("any", fine)])
    assert not machine.results
    return caught.value


def test_kernel_that_crashes_fails_its_group_and_the_rest_go_on(bench: Bench) -> None:
    with runner(bench.boot) as machine:
        machine.run([group("first", fine, crash, fine), group("second", fine)])
    outcomes = [(result.group, result.outcome) for result in machine.results]
    assert outcomes[:2] == [("first", Outcome.PASS), ("first", Outcome.FAIL)]
    assert ("second", Outcome.PASS) in outcomes
    assert "crash" in machine.results[1].detail


def test_program_that_does_not_end_is_an_error_and_not_a_pass(bench: Bench) -> None:
    with runner(bench.boot) as machine:
        machine.run([group("first", hang, fine)])
    assert [result.outcome for result in machine.results[:2]] == [Outcome.ERROR, Outcome.PASS]


def test_guest_that_never_speaks(bench: Bench, tmp_path: Path) -> None:
    initrd = tmp_path / "empty"
    initrd.write_bytes(nodes())
    error = refused(replace(bench.boot, initrd=initrd))
    assert isinstance(error, MachineDied)
    assert "panic" in error.message or "stopped answering" in error.message


def test_what_is_no_kernel(bench: Bench) -> None:
    error = refused(replace(bench.boot, kernel=Path(__file__)), seconds=5)
    assert isinstance(error, InfrastructureError)


def test_module_that_is_not_there(bench: Bench) -> None:
    error = refused(bench.boot, module="no_such_module")
    assert isinstance(error, UserError)
    assert bench.boot.release in error.message


def test_module_of_another_kernel(bench: Bench, tmp_path: Path) -> None:
    release = bench.boot.release.encode()
    other = tmp_path / "foreign.ko"
    module = (bench.modules / "original.ko").read_bytes()
    assert b"vermagic=" + release in module
    other.write_bytes(module.replace(b"vermagic=" + release, b"vermagic=9" + release[1:]))
    assembly = Assembly(bench.engine, Console(), bench.land)
    boot = assembly.debian(bench.kernel_packages, [other], tmp_path)
    error = refused(boot, module="foreign")
    assert isinstance(error, UserError)
    assert "does not load" in error.message


def test_extension_that_is_not_there(bench: Bench, tmp_path: Path) -> None:
    assembly = Assembly(bench.engine, Console(), bench.land)
    boot = assembly.debian(bench.kernel_packages, [bench.modules / "original.ko"], tmp_path)
    with runner(boot) as machine:
        machine.run([group("first", insert_a_rule)])
    assert [result.outcome for result in machine.results[:1]] == [Outcome.ERROR]
    assert "extension" in machine.results[0].detail
