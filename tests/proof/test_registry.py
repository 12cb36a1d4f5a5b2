"""Every line of the contract has a home, and every home a name."""

from __future__ import annotations

import pytest

from tarpit_builder.errors import UserError
from tarpit_builder.proof import registry
from tarpit_builder.proof.runner import units


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
