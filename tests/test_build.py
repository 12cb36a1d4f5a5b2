"""`invoke build`, whole: real headers, a real container, real packages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tarpit_builder import paths
from tarpit_builder.attest import keys, make
from tarpit_builder.attest.check import Policy, check
from tarpit_builder.attest.documents import PLAIN_SBOM
from tarpit_builder.build import BuildResult, build, finished
from tarpit_builder.console import Console
from tarpit_builder.errors import BuildError, DockerError, InfrastructureError
from tarpit_builder.packaging import contents
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tests.attest.kit import key_pair
from tests.disk import disk_of
from tests.processes import start
from tests.results import warnings

pytestmark = pytest.mark.docker

INVOKE = str(Path(sys.executable).parent / "invoke")
BUILD_CLOUD = [INVOKE, "build", "--kernel", "debian:trixie", "--flavour", "cloud"]
CLOUD = Request("debian:trixie", flavour="cloud")


@pytest.fixture
def archive() -> Archive:
    """The real archive, with the user's cache."""
    return Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """One build for trixie's cloud kernel."""
    real = Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console())
    return build(CLOUD, real, Console(), dist=tmp_path_factory.mktemp("dist"))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every output in *folder*."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name not in {"manifest.json", "build.log"}
    }


def test_result_is_whole(built: BuildResult) -> None:
    abi = built.folder.name
    names = {path.name.split("_")[0] for path in built.packages()}
    assert names == {"xt-tarpit-dkms", "xt-tarpit-common", f"xt-tarpit-modules-{abi}"}
    manifest = json.loads((built.folder / "manifest.json").read_text())
    assert manifest["command"] == f"invoke build --kernel {abi}"
    assert all(choice["reason"] for choice in manifest["plan"]["choices"])
    assert {item["file"]: item["sha256"] for item in manifest["outputs"]} == digests(built.folder)
    assert [len(item["sha256"]) for item in manifest["sources"]] == [64, 64, 64]
    assert any("gcc-14" in line for line in manifest["toolchain"])
    assert "LD [M]" in (built.folder / "build.log").read_text()
    assert warnings(built.folder) == []
    assert finished(built.folder) is not None


def test_modules_package_depends_on_exactly_its_kernel(built: BuildResult) -> None:
    (package,) = (path for path in built.packages() if "modules" in path.name)
    fields = subprocess.run(
        ["dpkg-deb", "-f", package, "Depends", "Provides"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"linux-image-{built.folder.name}" in fields
    assert "Provides: xt-tarpit-modules (= " in fields


def test_it_can_be_attested_and_judged_by_a_stranger(built: BuildResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(built.folder, tmp_path / "dist" / built.folder.name))
    secret, public = key_pair(tmp_path)
    make.attest(folder.parent, keys.signer(str(secret)))
    with keys.trusted([public]) as trusted:
        found = check(folder, trusted, Policy(unproven=True))
    assert found.files == digests(built.folder)
    bill = (folder / PLAIN_SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert f"linux-headers-{built.folder.name}" in bill
    assert "pkg:deb/debian/gcc-14@14." in bill
    assert "trixie, iptables 1.8." in bill


def test_debrebuild_is_told_of_the_headers(built: BuildResult) -> None:
    (modules,) = built.folder.glob("xt-tarpit-modules-*.buildinfo")
    (main,) = built.folder.glob("xt-tarpit_*.buildinfo")
    sources = built.manifest["sources"]
    for source in sources:
        line = f"\n {source['package']} (= {source['version']}),\n"
        assert line in modules.read_text()
        assert line not in main.read_text()


def test_manifest_says_what_built_it_and_when(built: BuildResult) -> None:
    builder = built.manifest["builder"]
    assert len(builder["commit"]) in {0, 40}
    assert len(builder["lock"]) == 64
    assert built.manifest["started"] <= built.manifest["finished"]


def test_same_build_again_does_nothing(built: BuildResult, archive: Archive) -> None:
    before = (built.folder / "manifest.json").stat().st_mtime_ns
    again = build(CLOUD, archive, Console(), dist=built.folder.parent)
    assert not again.fresh
    assert (built.folder / "manifest.json").stat().st_mtime_ns == before


def test_nothing_to_do_needs_no_engine(
    built: BuildResult, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    assert not build(CLOUD, archive, Console(), dist=built.folder.parent).fresh


def test_damaged_result_is_made_again_and_comes_out_the_same(
    built: BuildResult, archive: Archive
) -> None:
    expected = digests(built.folder)
    built.packages()[0].write_bytes(b"damaged")
    again = build(CLOUD, archive, Console(), dist=built.folder.parent)
    assert again.fresh
    assert digests(again.folder) == expected


def test_two_builds_at_once_share_the_work(tmp_path: Path) -> None:
    environment = {**os.environ, "TARPIT_DIST": str(tmp_path), "CI": "true"}
    children = [
        subprocess.Popen(BUILD_CLOUD, cwd=paths.PROJECT, env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    outputs = [child.communicate(timeout=300)[0].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(output.splitlines()[0] for output in outputs) == [
        "built",
        "nothing to do: the same build is already there",
    ]


def test_failing_compile_shows_its_end_and_keeps_the_log(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "dkms"
    shutil.copytree(contents.DKMS, broken)
    with (broken / "xt_TARPIT.c").open("a") as source:
        source.write("#error broken on purpose\n")
    monkeypatch.setattr(contents, "DKMS", broken)
    with pytest.raises(BuildError, match=r"the full log is \S+\.log") as caught:
        build(CLOUD, archive, Console(), dist=tmp_path / "dist")
    assert any("broken on purpose" in line for line in caught.value.tail)
    log = Path(caught.value.hint.split("full log is ")[1].split(";")[0])
    assert "broken on purpose" in log.read_text()
    assert list((tmp_path / "dist").iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing(tmp_path: Path, how: signal.Signals) -> None:
    environment = {**os.environ, "TARPIT_DIST": str(tmp_path), "CI": "true"}
    child = start(BUILD_CLOUD, env=environment)
    assert child.stderr is not None
    for line in child.stderr:
        if "build for" in line:
            break
    time.sleep(0.5)
    child.send_signal(how)
    rest = child.stderr.read()
    assert child.wait(timeout=60) == 130
    assert "error: interrupted" in rest
    assert list(tmp_path.iterdir()) == []


def without_network(**environment: str) -> subprocess.CompletedProcess[str]:
    """A build that sees no network, not even loopback; the engine's socket is a file."""
    if os.geteuid() != 0:
        pytest.skip("taking the network away needs root")
    return subprocess.run(
        ["unshare", "--net", *BUILD_CLOUD],
        cwd=paths.PROJECT, env={**os.environ, "CI": "true", **environment},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_no_network_but_a_warm_cache_still_builds(built: BuildResult, tmp_path: Path) -> None:
    result = without_network(TARPIT_DIST=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "going on with what trixie had before" in result.stderr
    assert digests(tmp_path / built.folder.name) == digests(built.folder)


def test_no_network_and_a_cold_cache_is_one_line(tmp_path: Path) -> None:
    result = without_network(TARPIT_DIST=str(tmp_path / "d"), TARPIT_CACHE=str(tmp_path / "c"))
    assert result.returncode == 3
    assert "error: the Debian mirror cannot be reached" in result.stderr
    assert not (tmp_path / "d").exists()


def test_no_engine_is_one_line(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    with pytest.raises(DockerError, match="no container engine answers"):
        build(CLOUD, archive, Console(), dist=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_result_folder_that_cannot_be_written(archive: Archive, tmp_path: Path) -> None:
    blocked = tmp_path / "dist"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(InfrastructureError, match=r"cannot use .*dist"):
        build(CLOUD, archive, Console(), dist=blocked)


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    with disk_of(64 << 10, tmp_path / "small") as disk:
        yield disk.mount


def test_full_disk_is_named_and_nothing_half_written_stays(
    archive: Archive, full_disk: Path
) -> None:
    with pytest.raises(InfrastructureError, match="no space left.*TARPIT_DIST"):
        build(CLOUD, archive, Console(), dist=full_disk)
    assert list(full_disk.iterdir()) == []
