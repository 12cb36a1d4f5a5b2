"""What `invoke bench` makes of the container's lines."""

from __future__ import annotations

import pytest

from tarpit_builder.bench import DkmsBuild, Measurement, compared, table
from tarpit_builder.errors import BuildError

LINES = [
    *("xt-tarpit 1.500 1.000", "built xt-tarpit 1"),
    *("xtables-addons 20.000 9.000", "built xtables-addons 24"),
    *("xt-tarpit 1.250 1.000", "built xt-tarpit 1"),
    *("xtables-addons 19.000 9.000", "built xtables-addons 24"),
]


def test_the_faster_round_counts_and_modules_are_counted() -> None:
    assert compared(LINES, "6.12") == (DkmsBuild(2.25, 1), DkmsBuild(28.0, 24))


def test_a_module_that_does_not_compile_is_named_with_its_kernel() -> None:
    failed = [*LINES[:2], "error: too few arguments", "failed xtables-addons"]
    with pytest.raises(BuildError, match="xtables-addons does not build for 7.3.4") as caught:
        compared(failed, "7.3.4")
    assert "error: too few arguments" in caught.value.tail


def test_half_a_comparison_is_none() -> None:
    with pytest.raises(BuildError, match="did not build both"):
        compared(LINES[:2], "6.12")


def test_counts_have_neither_unit_nor_decimals() -> None:
    lines = table([Measurement("modules", 24, ""), Measurement("time", 2.5, "s")]).splitlines()
    assert lines[-2].split() == ["modules", "24"]
    assert lines[-1].split() == ["time", "2.50", "s"]
