"""The disk runs full at each tenth of what a build needs: one line; with room, the same bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarpit_builder import build, leftovers, paths
from tests.disk import Disk, disk_of
from tests.engine import OwnEngine, images_of, own_engine
from tests.results import packages

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

INVOKE = str(Path(sys.executable).parent / "invoke")
BUILD = [INVOKE, "build", "--kernel", "debian:trixie", "--flavour", "cloud"]
DISK_FULL = 3  # exit status of InfrastructureError
MIB = 1 << 20
TENTHS = range(1, 10)


def peak(disk: Disk, work: subprocess.Popen[str]) -> int:
    """The most that is taken of *disk* until *work* ends."""
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, disk.used)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, error = work.communicate()
    done.set()
    watcher.join()
    assert work.returncode == 0, output + error
    return most


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A large one."""
    with disk_of(8192 * MIB, tmp_path / "disk") as found:
        yield found


def start(dist: Path, **environment: str) -> subprocess.Popen[str]:
    """A build into *dist*."""
    return subprocess.Popen(
        BUILD,
        cwd=paths.PROJECT,
        env={**os.environ, "CI": "true", "TARPIT_DIST": str(dist), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_told(process: subprocess.Popen[str], why: str) -> str:
    """*process* ended because of the disk, and said so; all that it said."""
    output, error = process.communicate(timeout=600)
    told = f"{why}: {process.returncode}\n{output}{error}"
    assert process.returncode == DISK_FULL, told
    assert "Traceback" not in told
    errors = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, told
    assert "no space left" in errors[0] or "disk is full" in errors[0], told
    return told


def test_cache_results_and_temporaries(disk: Disk, tmp_path: Path) -> None:
    """The cache is empty at first, so that downloads and indexes meet the full disk, too."""
    places = {"TARPIT_CACHE": disk.mount / "cache", "TMPDIR": disk.mount / "tmp"}
    dist = disk.mount / "dist"
    environment = {name: str(path) for name, path in places.items()}

    def empty() -> None:
        for path in (dist, *places.values()):
            shutil.rmtree(path, ignore_errors=True)
        places["TMPDIR"].mkdir()

    empty()
    start(tmp_path / "dist").communicate()  # makes the images, with the user's cache
    most = peak(disk, start(dist, **environment))
    expected = packages(dist)
    assert len(expected) == 3
    for tenth in TENTHS:
        empty()
        disk.resize(most * tenth // 10)
        told = assert_told(start(dist, **environment), f"{tenth}/10 of {most / MIB:.0f} MiB")
        assert not list(places["TMPDIR"].iterdir()), told
        assert not [path for path in dist.rglob("*") if leftovers.STAGE.fullmatch(path.name)]
        assert not list(dist.glob(f"*/{build.MANIFEST}")), told
        disk.resize(8192 * MIB)
        process = start(dist, **environment)
        output, error = process.communicate(timeout=600)
        assert process.returncode == 0, output + error
        assert packages(dist) == expected


@pytest.fixture
def engine(disk: Disk) -> Iterator[OwnEngine]:
    """One that keeps its images on *disk*."""
    with own_engine(disk.mount / "docker") as found:
        yield found


def test_the_engines_own(disk: Disk, engine: OwnEngine, tmp_path: Path) -> None:
    calm = start(tmp_path / "calm", TARPIT_DIST=str(tmp_path / "calm"))
    calm.communicate()
    expected = packages(tmp_path / "calm")
    assert len(expected) == 3
    engine.load(*images_of("trixie"))
    dist, host = tmp_path / "dist", {"DOCKER_HOST": engine.host}
    before = disk.used
    more = peak(disk, start(dist, **host)) - before
    assert packages(dist) == expected
    for tenth in TENTHS:
        shutil.rmtree(dist)
        for volume in engine.docker("volume", "ls", "-q").stdout.split():
            engine.docker("volume", "rm", volume)
        disk.resize(before + more * tenth // 10)
        told = assert_told(start(dist, **host), f"{tenth}/10 of {more / MIB:.0f} MiB")
        assert not list(dist.glob("*")), told
        disk.resize(8192 * MIB)
        process = start(dist, **host)
        output, error = process.communicate(timeout=600)
        assert process.returncode == 0, output + error
        assert packages(dist) == expected
        assert not engine.left()
