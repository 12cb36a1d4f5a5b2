"""Debian's kernels of other architectures: packages for them, and a proof of each."""

from __future__ import annotations

import json
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder import architectures, suites
from tarpit_builder.build import BuildResult, build
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input
from tarpit_builder.kernels import find
from tarpit_builder.packaging import modern
from tarpit_builder.proof import VerifyOptions
from tarpit_builder.prove import prove
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive

pytestmark = [pytest.mark.docker, pytest.mark.network]

MACHINES = {"arm64": 183, "i386": 3, "s390x": 22}  # as elf(5) numbers them
CELLS = (
    pytest.param("trixie", "arm64", "smoke"),
    pytest.param("bookworm", "i386", "smoke", marks=pytest.mark.slow),
    pytest.param("forky", "s390x", "wire", marks=pytest.mark.slow),
)


@pytest.fixture
def dist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this test's packages go."""
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path))
    return tmp_path


@pytest.mark.boot
@pytest.mark.parametrize(("suite", "arch", "group"), CELLS)
def test_packages_are_built_for_it_and_proven(
    suite: str,
    arch: str,
    group: str,
    real: Archive,
    dist: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = Request(f"debian:{suite}", arch)
    if arch != "arm64":  # not every mirror has the rest of these
        for known in (suites.known(), suites.known(suites.DEBIAN)):
            monkeypatch.setitem(known, suite, replace(known[suite], pockets=()))
    report = prove(request, VerifyOptions(only=(group,)), real, Console(quiet=True))
    assert report.exit_code == 0, report.table()
    result = build(request, real, Console(quiet=True))
    assert not result.fresh
    kinds = sorted(path.stem.rpartition("_")[2] for path in result.packages())
    assert kinds == sorted(["all", arch, arch])
    for path in result.packages():
        subprocess.run(["dpkg-deb", "--extract", path, dist / "root"], check=True)
    _is_of(arch, dist / "root")
    _satisfies_lintian(result, find(request, real).userland.recipes[0].tag)


def _is_of(arch: str, root: Path) -> None:
    """The module and the extension, and nothing else, are programs, and for *arch*."""
    c = architectures.c(arch)
    programs = {
        path.suffix: path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.read_bytes()[:4] == b"\x7fELF"
    }
    assert programs.keys() == {".ko", ".so"}
    for data in programs.values():
        assert (data[4], data[5]) == (c.bits // 32, 1 if c.order == "little" else 2)
        assert struct.unpack_from(f"{c.mark}H", data, 18)[0] == MACHINES[arch]
    assert list(root.glob(f"usr/lib/{c.libraries}/xtables/libxt_TARPIT.so"))


def _satisfies_lintian(result: BuildResult, image: str) -> None:
    files = {path.name: path for path in result.folder.iterdir() if path.is_file()}
    run = Engine.connect().run(
        image,
        ["sh", "/scripts/check-packages.sh"],
        inputs=[Input("/packages", [Files(files)]), Input("/scripts", [modern.build_scripts()])],
    )
    assert (run.status, run.lines) == (0, ())


@pytest.mark.slow
def test_what_is_for_all_architectures_is_the_same_from_each(real: Archive, dist: Path) -> None:
    made = set()
    for arch in ("amd64", "arm64"):
        result = build(Request("debian:trixie", arch), real, Console(quiet=True))
        (shared,) = (
            item["sha256"]
            for item in json.loads((result.folder / "manifest.json").read_text())["outputs"]
            if item["file"].endswith("_all.deb")
        )
        made.add(shared)
    assert len(made) == 1
