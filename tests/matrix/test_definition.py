"""From matrix.toml to cells, and what is said of a wrong one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tarpit_builder import suites
from tarpit_builder.errors import UserError
from tarpit_builder.matrix import definition, pipelines
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.matrix.options import proof_key
from tarpit_builder.matrix.outcome import CellOutcome, Result
from tarpit_builder.request import Request
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.versions import KernelVersion

CATALOGUE = Catalogue.load()


def cells(*blocks: dict[str, Any], **rest: Any) -> list[str]:
    """The names of the cells of a matrix."""
    expanded = definition.expand({"build": list(blocks), **rest}, CATALOGUE)
    return [cell.name for cell in expanded]


def test_default_matrix_is_every_suite_and_the_old_kernels() -> None:
    found = definition.read()
    debian = {c.request.kernel for c in found if not c.origin.shares_image}
    # Experimental is for a glance at what comes: nobody's host, and at times without a kernel.
    assert debian == {f"debian:{suite}" for suite in suites.known()} - {"debian:experimental"}
    for arch in ("amd64", "arm64"):
        of = [c.request.flavour for c in found if c.request.arch == arch and c.request.flavour]
        assert sorted(of) == sorted(["cloud", "rt"] * len(debian) + ["16k"] * (arch == "arm64"))
    assert {"i386", "s390x"} <= {c.request.arch for c in found if not c.origin.shares_image}
    releases = {c.request for c in found if c.origin.shares_image}
    assert {
        Request(f"2.6.{minor}", arch, iptables=iptables)
        for minor in range(19, 27)
        for arch in ("amd64", "i386")
        for iptables in ("1.3.8", "1.4.0")
    } < releases
    patched = {c.request.kernel for c in found if c.in_tree}
    assert patched == {f"2.6.{minor}" for minor in range(19, 33)}
    later = {str(KernelVersion.parse(r.kernel).series) for r in releases if not r.iptables}
    assert {"2.6.28", "2.6.39", "3.2", "3.18", "4.19", "5.15", "6.18", "7.1"} < later
    assert len(found) >= 60
    allowed = {c.name for c in found if c.allowed}
    assert allowed == {c.name for c in found if c.request.kernel == "debian:sid"}


def test_names_are_fit_for_files_and_jobs_and_belong_to_one_cell() -> None:
    names = [cell.name for cell in definition.read()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9.+~_-]+", name) for name in names)


@pytest.mark.parametrize(
    ("take", "expected"),
    [
        ("first", ["2.6.26-amd64", "2.6.27-amd64"]),
        ("last", ["2.6.26-amd64", "2.6.27.57-amd64"]),
    ],
)
def test_range_takes_one_release_of_each_series(take: str, expected: list[str]) -> None:
    assert cells({"kernels": "2.6.26-2.6.27", "take": take}) == expected


def test_range_takes_all_releases_but_no_candidates() -> None:
    found = cells({"kernels": "2.6.26-2.6.27", "take": "all"})
    assert {"2.6.26-amd64", "2.6.27-amd64", "2.6.27.1-amd64"} < set(found)
    assert not any("rc" in name for name in found)


def test_combinations_are_made_once() -> None:
    block = {"kernels": ["2.6.24", "2.6.24-2.6.25"], "arch": ["amd64", "i386"]}
    assert cells(block, block) == ["2.6.24-amd64", "2.6.24-i386", "2.6.25-amd64", "2.6.25-i386"]


def test_exact_kernel_of_debian_and_flavours() -> None:
    assert cells(
        {"kernels": "6.1.0-56-amd64"},
        {"kernels": "debian:trixie", "flavours": ["default", "cloud"]},
        {"kernels": "2.6.24.7"},
    ) == ["6.1.0-56-amd64", "debian-trixie-amd64", "debian-trixie-cloud-amd64", "2.6.24.7-amd64"]


def test_a_patched_tree_is_a_cell_of_its_own() -> None:
    block = {"kernels": "2.6.24", "in-tree": ["m", "y"]}
    names = ["2.6.24-amd64-in-tree-m", "2.6.24-amd64-in-tree-y"]
    assert cells({"kernels": "2.6.24"}, block) == ["2.6.24-amd64", *names]
    (plain, *patched) = definition.expand({"build": [{"kernels": "2.6.24"}, block]}, CATALOGUE)
    assert [cell.arguments for cell in patched] == [plain.arguments] * 2
    assert [cell.checks for cell in (plain, *patched)] == [
        (),
        ("--in-tree", "m"),
        ("--in-tree", "y"),
    ]
    keys = {proof_key(Result(cell, CellOutcome.BUILT, key="k"), ()) for cell in (plain, *patched)}
    assert len(keys) == 3


def test_limits_of_a_block_win() -> None:
    data = {
        "limits": {"minutes": 5, "memory": 100},
        "build": [{"kernels": "debian:sid"}, {"kernels": "debian:trixie", "minutes": 50}],
    }
    assert [(c.minutes, c.memory) for c in definition.expand(data, CATALOGUE)] == [
        (5, 100),
        (50, 100),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "names nothing"),
        ({"build": []}, "names nothing"),
        ({"build": [{}]}, "number 1: 'kernels' names nothing"),
        ({"build": [{"kernels": []}]}, "names nothing"),
        ({"biuld": []}, "unknown key 'biuld' — did you mean build"),
        ({"build": [{"kernels": "debian:sid", "archs": "i386"}]}, "did you mean arch"),
        ({"build": [{"kernels": "debian:trixi"}]}, "did you mean trixie"),
        ({"build": [{"kernels": "2.6.99"}]}, "no Linux 2.6.99 in the catalogue"),
        ({"build": [{"kernels": "2.6.90-2.6.99"}]}, "no release of the catalogue is in the range"),
        ({"build": [{"kernels": "2.6.26-2.6.19"}]}, "range '2.6.26-2.6.19' is empty"),
        ({"build": [{"kernels": "2.6.18"}]}, "targets had another interface before 2.6.19"),
        ({"build": [{"kernels": "windows"}]}, "not a version of Linux"),
        ({"build": [{"kernels": "2.6.24", "arch": "sparc"}]}, "supported: amd64, i386"),
        ({"build": [{"kernels": "debian:sid", "arch": "mips"}]}, "'mips' is not supported"),
        ({"build": [{"kernels": "2.6.24", "iptables": "1.4.0rc3"}]}, "no iptables 1.4.0rc3"),
        ({"build": [{"kernels": "2.6.24", "iptables": "1.4.99"}]}, "no iptables 1.4.99"),
        ({"build": [{"kernels": "debian:sid", "iptables": "1.4.0"}]}, "no choice of `iptables`"),
        ({"build": [{"kernels": "2.6.24", "flavours": "rt"}]}, "no choice of `flavours`"),
        ({"build": [{"kernels": "debian:sid", "in-tree": "m"}]}, "no choice of `in-tree`"),
        ({"build": [{"kernels": "2.6.24", "in-tree": "n"}]}, "there are m, y"),
        ({"build": [{"kernels": "2.6.33", "in-tree": "m"}]}, "no patch is kept for the tree of"),
        ({"build": [{"kernels": "2.6.24", "take": "some"}]}, "there are first, last, all"),
        ({"build": [{"kernels": "2.6.24", "minutes": 0}]}, "no positive number"),
        ({"build": {"kernels": "2.6.24"}}, r"write it as \[\[build\]\]"),
        (
            {"build": [{"kernels": "2.6.24"}], "allow": [{"cells": "x*", "reason": "y"}]},
            "fits no cell",
        ),
        ({"build": [{"kernels": "2.6.24"}], "allow": [{"cells": "*"}]}, "text for 'reason'"),
    ],
)
def test_wrong_matrix_is_one_line(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        definition.expand(data, CATALOGUE)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("text", ["[[build]\n", "\0", None])
def test_file_that_cannot_be_read(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "matrix.toml"
    if text:
        file.write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        definition.read(file)


def test_shards_are_a_partition() -> None:
    whole = definition.read()
    parts = [definition.select(whole, (), f"{part}/7") for part in range(1, 8)]
    assert sorted(c.name for part in parts for c in part) == sorted(c.name for c in whole)
    assert {len(part) for part in parts} <= {len(whole) // 7, len(whole) // 7 + 1}


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1/0", "3", "1/2/3", "a/b", "-1/2"])
def test_shard_that_is_none(shard: str) -> None:
    with pytest.raises(UserError, match="write it like 3/10"):
        definition.select(definition.read(), (), shard)


def test_selection_by_pattern() -> None:
    found = definition.select(definition.read(), ("*-i386-*1.3.8", "debian-sid-*"), "")
    assert len(found) == 8 + 6
    with pytest.raises(UserError, match="did you mean debian-sid-amd64"):
        definition.select(definition.read(), ("debian-sit-amd64",), "")


def test_forms_for_machines_name_every_cell() -> None:
    whole = definition.read()
    github = pipelines.render(whole, "github")
    assert "\n" not in github
    rows = json.loads(github)["include"]
    assert [row["cell"] for row in rows] == [cell.name for cell in whole]
    assert len([row["cell"] for row in rows if row["allowed"]]) == 6
    child = json.loads(pipelines.render(whole, "gitlab"))
    assert {cell.name for cell in whole} < child.keys()
    listed = json.loads(pipelines.render(whole, "json"))
    assert listed[0]["command"] == "invoke build --kernel debian:bullseye"
    with pytest.raises(UserError, match="there are github, gitlab, json"):
        pipelines.render(whole, "jenkins")


def test_more_cells_than_github_takes_are_dealt_out() -> None:
    many = [Cell(Request(f"2.6.24.{number}"), minutes=200) for number in range(600)]
    rows = json.loads(pipelines.github(many))["include"]
    assert len(rows) == pipelines.GITHUB_JOBS
    assert len({row["cell"] for row in rows}) == len(rows)
    assert {row["minutes"] for row in rows} == {pipelines.GITHUB_MINUTES}
    wanted = [word for row in rows for word in row["arguments"].split() if word != "--only"]
    assert sorted(wanted) == sorted(cell.name for cell in many)


def test_job_of_several_cells_may_fail_only_if_each_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "GITHUB_JOBS", 2)
    names = ("2.6.21", "2.6.22", "2.6.23", "2.6.24")
    cells = [Cell(Request(name), allowed="" if name == "2.6.21" else "it breaks") for name in names]
    rows = json.loads(pipelines.github(cells))["include"]
    assert [(row["arguments"], row["allowed"]) for row in rows] == [
        ("--only 2.6.21-amd64 --only 2.6.23-amd64", False),
        ("--only 2.6.22-amd64 --only 2.6.24-amd64", True),
    ]


def test_shard_of_nothing_is_not_passed() -> None:
    whole = definition.read()
    number = len(whole) + 1
    with pytest.raises(UserError, match=f"{number}/{number} is empty: there are only") as caught:
        definition.select(whole, (), f"{number}/{number}")
    assert caught.value.exit_code == 2
    parts = re.search(r"at most (\d+) shards", caught.value.hint)
    assert parts is not None
    assert definition.select(whole, (), f"{parts[1]}/{parts[1]}")
