"""Every line of the contract has a home, and every home a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import UserError
from tarpit_builder.proof import registry
from tarpit_builder.proof.initramfs import BootFiles
from tarpit_builder.proof.lab import Tools
from tarpit_builder.proof.qemu import MachineSpec
from tarpit_builder.proof.report import Verdict
from tarpit_builder.proof.runner import Runner, Setup, units


def test_every_section_of_the_contract_is_judged() -> None:
    sections = {check.section for group in registry.groups() for check in group.checks}
    assert sections == {"1", "2", "3", "4", "5", "6"}


def test_groups_and_checks_can_be_told_apart() -> None:
    groups = registry.groups()
    assert len({group.name for group in groups}) == len(groups)
    for group in groups:
        titles = [check.title for check in group.checks]
        assert titles
        assert len(set(titles)) == len(titles), group.name


def test_smoke_comes_first() -> None:
    assert registry.groups()[0].name == "smoke"


def test_a_backend_that_is_not_there_is_stood_in_for_where_it_makes_no_difference() -> None:
    chosen = registry.select(("smoke", "wire"))
    assert [(unit.group.name, unit.backend) for unit in units(chosen, registry.BACKENDS)] == [
        ("smoke", "legacy"),
        ("wire", "legacy"),
        ("wire", "nft"),
    ]
    assert [(unit.group.name, unit.backend) for unit in units(chosen, ("nft",))] == [
        ("smoke", "nft"),
        ("wire", "nft"),
    ]


def test_only_selects() -> None:
    assert [group.name for group in registry.select(("storms", "smoke"))] == ["smoke", "storms"]


def test_misspelt_group_is_told_the_near_one() -> None:
    with pytest.raises(UserError, match="did you mean storms"):
        registry.select(("stroms",))


@pytest.mark.parametrize("counting", [False, True])
def test_cost_is_not_judged_where_the_kernel_looks_at_its_own_steps(
    tmp_path: Path, counting: bool
) -> None:
    """Nor is a machine booted for it: there is none here that could be."""
    nothing = tmp_path / "nothing"
    setup = Setup(
        BootFiles(nothing, nothing, "6.12.0"),
        MachineSpec(nothing, nothing),
        boot_seconds=1,
        tools=Tools(watched=not counting),
        coverage=tmp_path if counting else None,
    )
    with Runner(setup, Console()) as runner:
        parts = runner.run(units(registry.select(("cost",)), registry.BACKENDS))
        assert runner.first
    results = [result for part in parts for result in part.results]
    assert [result.outcome for result in results] == [Verdict.SKIP] * 2
    assert all("those of what looks for mistakes" in result.detail for result in results)
