"""What a log of a build says about where its time went."""

from __future__ import annotations

import pytest

from tarpit_builder.matrix.times import Shares, logged

LOG = """\
[    0.00] == module.sh
[    2.50] configured
[    4.00] prepared 2.6.24
[   10.00] built xt_TARPIT.ko for 2.6.24
[    0.00] == iptables.sh
[    1.00] configured
[    3.00] built
"""


def test_each_run_begins_with_starting_its_container() -> None:
    assert logged(LOG) == (3.5, 9.5)


def test_log_without_runs() -> None:
    assert logged("") == (0.0, 0.0)


def test_shares_are_of_the_whole() -> None:
    rows = Shares(start=1, compile=2, package=3, images=0, sources=1, rest=3).rows(10)
    assert sum(row.value for row in rows) == pytest.approx(100)
    assert {row.unit for row in rows} == {"%"}
