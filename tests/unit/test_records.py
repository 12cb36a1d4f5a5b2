"""What was built and proven is entered from results, and said as it was entered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tarpit_builder import digests, evidence, records
from tarpit_builder.build import MANIFEST
from tarpit_builder.errors import InfrastructureError
from tarpit_builder.packaging import contents
from tarpit_builder.records import Record

GCC = "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"


def result(
    dist: Path,
    kernel: str,
    *,
    proven: bool = False,
    module: dict[str, str] | None = None,
    command: str = "invoke build",
) -> None:
    """A finished build in *dist*, as :mod:`tarpit_builder.build` leaves it."""
    folder = dist / f"{kernel}-amd64"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {
        "format": 1,
        "key": "a key",
        "command": command,
        "plan": {"kernel": kernel, "arch": "amd64", "userland": "bookworm"},
        "sources": [{"git-tree": "656f652716e87ee6d72c526a86d65f0c8617767a"}],
        "module": module or digests.members(contents.module_source().members),
        "toolchain": [GCC],
        "outputs": [],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))
    proof = {"format": 1, "key": "a key", "groups": ["smoke", "wire/nft"], "counts": {"pass": 8}}
    if proven:
        (folder / evidence.EVIDENCE).write_text(json.dumps(proof))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of records that is not there yet."""
    return tmp_path / "records.tsv"


def test_a_build_and_its_proof_are_entered_once(tmp_path: Path, file: Path) -> None:
    dist = tmp_path / "dist"
    result(dist, "6.12.19", proven=True)
    (entered,) = records.enter(dist, file)
    assert (entered.kernel, entered.arch, entered.userland) == ("6.12.19", "amd64", "bookworm")
    assert entered.compiler == GCC
    assert entered.source == "656f652716e8"
    assert entered.checks == "smoke wire: 8 pass"
    assert entered.current
    assert records.read(file) == (entered,)
    assert records.enter(dist, file) == ()


def test_a_proof_is_replaced_only_by_a_proof(tmp_path: Path, file: Path) -> None:
    result(tmp_path / "one", "6.12.19", proven=True)
    result(tmp_path / "two", "6.12.19", module={"xt_TARPIT.c": "of another day"})
    result(tmp_path / "three", "6.12.19", module={"xt_TARPIT.c": "newer"}, proven=True)
    records.enter(tmp_path / "one", file)
    assert records.enter(tmp_path / "two", file) == ()
    (entered,) = records.enter(tmp_path / "three", file)
    assert not entered.current
    assert "an older module" in records.status(records.read(file))


def test_the_module_is_another_when_any_of_its_sources_changes() -> None:
    ours = digests.members(contents.module_source().members)
    sources = [name for name in ours if name.endswith((".c", ".h"))]
    assert {"xt_TARPIT.c", "tarpit.c", "tarpit_core.h"} <= set(sources)
    for name in sources:
        assert records._module(ours | {name: "other"}) != records.module_digest(), name


def test_the_module_is_the_same_in_packages_of_every_kind() -> None:
    ours = digests.members(contents.module_source().members)
    period = digests.members(contents.module_source("ipt_TARPIT").members)
    packed = {f"xt-tarpit-modules-6.12-1.0/{name}": digest for name, digest in ours.items()}
    packed |= {f"xt-tarpit-1.0/{name}": digest for name, digest in ours.items()}
    packed |= {"xt-tarpit-1.0/libxt_TARPIT.c": "the extension", "xt-tarpit-1.0/debian/rules": "x"}
    assert {records._module(files) for files in (ours, period, packed)} == {records.module_digest()}


def test_what_nobody_else_can_repeat_is_not_entered(tmp_path: Path, file: Path) -> None:
    result(tmp_path, "6.12.19", command="invoke build --config my.config")
    assert records.enter(tmp_path, file) == ()
    assert not file.exists()


def test_the_summary_joins_series_that_follow_each_other() -> None:
    def record(kernel: str, vouched: str, proven: str = "", arch: str = "amd64") -> Record:
        return Record(
            kernel, arch, "bookworm", GCC, "tree", vouched, "module", "2026-11-27", proven
        )

    day = "2026-11-27"
    said = records.summary(
        [
            *(record(f"2.6.{minor}", records.RELEASE, day) for minor in range(19, 29)),
            record("2.6.32.63", records.RELEASE),
            record("5.15.148", records.COPY),
            record("6.1.20", records.COPY, day),
            record("2.6.19", records.RELEASE, arch="i386"),
            record("6.12.118+deb13-amd64", records.ARCHIVE, day),
            record("6.1.192", records.ARCHIVE, day),
        ]
    )
    lines = " ".join(said.split())
    assert (
        "kernel.org, on amd64: 2.6.19 to 2.6.28 booted and proven; 2.6.32 seen to build." in lines
    )
    assert "vouches for those, on amd64: 6.1 booted and proven; 5.15 seen to build." in lines
    assert "kernel.org, on i386: 2.6.19 seen to build." in lines
    assert "booted and proven: 6.1.192, 6.12.118+deb13-amd64." in lines


@pytest.mark.parametrize(
    ("source", "vouched"),
    [
        ({"git-tree": "0", "verified": ["git tree 0 is the catalogue's"]}, records.RELEASE),
        ({"git-tree": "0", "verified": ["signed by Linus Torvalds"]}, records.RELEASE),
        ({"git-tree": "0", "verified": ["git tree 0 was trusted on first use (x)"]}, records.COPY),
        ({"git-tree": "0", "verified": ["Debian's archive names SHA-256 0"]}, records.ARCHIVE),
        ({"sha256": "0"}, records.ARCHIVE),
    ],
)
def test_who_vouches_for_a_source_is_told_from_its_manifest(
    source: dict[str, object], vouched: str
) -> None:
    assert records._vouched(source) == vouched


def test_a_damaged_file_is_said_to_be(file: Path) -> None:
    file.write_text("kernel\tarch\n2.6.24\tamd64\n")
    with pytest.raises(InfrastructureError, match=r"records\.tsv is damaged"):
        records.read(file)
