"""Checks that can fail: small faults put into the module, and each must be found.

The patches in ``mutants/`` name the group of checks that finds them in a line ``Caught-by:``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.proof import registry
from tarpit_builder.proof.lab import MODES, Tools
from tarpit_builder.proof.qemu import MachineSpec
from tarpit_builder.proof.report import CheckResult, Verdict
from tarpit_builder.proof.runner import Runner, Setup, units
from tests.proof.conftest import MUTANTS, Bench, tools_with

IN_CI = {"wrong-ack", "no-ipv6", "device-keeps-source"}


def group_of(patch: Path) -> str:
    """The group of checks that finds this mutant."""
    match = re.search(r"^Caught-by: (\w+)$", patch.read_text(), re.M)
    assert match, f"{patch.name} does not say what it is caught by"
    return match[1]


@pytest.fixture(scope="module")
def runner(bench: Bench) -> Iterator[Runner]:
    """Machines that are only booted anew where a group asks for it, or a mutant kills one."""
    base = MachineSpec(bench.boot.kernel, bench.boot.initrd)
    setup = Setup(bench.boot, base, 300, tools_with("original"))
    with Runner(setup, Console()) as runner:
        yield runner


def judge(
    runner: Runner, module: str | Tools, group: str, *, fail_fast: bool = True
) -> list[CheckResult]:
    """Run *group* with another module, until a check fails or to its end."""
    runner.use(module if isinstance(module, Tools) else tools_with(module))
    runner.setup = replace(runner.setup, fail_fast=fail_fast)
    (part,) = runner.run(units(registry.select((group,)), ("legacy",)))
    return list(part.results)


def test_a_dozen_mutants_at_least_name_a_group_that_exists() -> None:
    assert len(MUTANTS) >= 12
    registry.select(tuple({group_of(patch) for patch in MUTANTS}))


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(patch, id=patch.stem, marks=() if patch.stem in IN_CI else (pytest.mark.slow,))
        for patch in MUTANTS
    ],
)
def test_mutant_is_caught(runner: Runner, patch: Path) -> None:
    results = judge(runner, patch.stem, group_of(patch))
    failures = [result for result in results if result.outcome is Verdict.FAIL]
    assert failures, f"{patch.stem} passes {len(results)} checks of {group_of(patch)}"
    print(f"{patch.stem}: {failures[0].name}: {failures[0].detail}")


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "group"),
    [
        ("wrong-ack", "device"),
        ("skips-checksum", "device"),
        ("stall-moves-edge", "device"),
        ("fin-unanswered", "patience"),
    ],
)
def test_device_with_the_same_fault_is_caught(runner: Runner, mutant: str, group: str) -> None:
    """The target's checks judge the device, not the target, where it is to be judged."""
    results = judge(runner, Tools(file="original", device=f"device-of-{mutant}"), group)
    assert Verdict.FAIL in {result.outcome for result in results}


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("mutant", ["answers-rst"])
def test_storm_is_seen_between_any_two_modes(runner: Runner, mutant: str) -> None:
    """RST for RST has no end, whoever begins."""
    results = judge(runner, mutant, "storms", fail_fast=False)
    pairs = {(result.title, result.family): result.outcome for result in results if result.family}
    assert len(pairs) == len(MODES) ** 2 * 2
    assert set(pairs.values()) == {Verdict.FAIL}


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("group", sorted({group_of(patch) for patch in MUTANTS}))
def test_original_passes_where_mutants_fail(runner: Runner, group: str) -> None:
    results = judge(runner, "original", group)
    assert {result.outcome for result in results} <= {Verdict.PASS, Verdict.SKIP}
