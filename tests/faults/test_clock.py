"""The clock is wrong, or jumps: the same bytes, or one line that names the clock."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths
from tests.results import packages

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

INVOKE = str(Path(sys.executable).parent / "invoke")
BUILD = [INVOKE, "build", "--kernel", "debian:trixie", "--flavour", "cloud"]
TOLD = {3, 4}  # exit status of InfrastructureError and SourceError
WRONG = ["-20y", "-1y", "-2d", "-2h", "+2h", "+2d", "+1y", "+20y"]


@pytest.fixture(scope="module")
def library() -> str:
    """libfaketime, which lies to a process about the clock."""
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed (apt-get install faketime)")
    told = subprocess.run(
        ["faketime", "-f", "+0", "sh", "-c", "echo $LD_PRELOAD"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return told.strip()


def start(dist: Path, library: str, **environment: str) -> subprocess.Popen[str]:
    """A build into *dist* that believes the clock of *environment*."""
    clock = {"LD_PRELOAD": library, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1"}
    return subprocess.Popen(
        BUILD,
        cwd=paths.PROJECT,
        env={**os.environ, "CI": "true", "TARPIT_DIST": str(dist), **clock, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is built when the clock is right."""
    dist = tmp_path_factory.mktemp("dist")
    environment = {**os.environ, "TARPIT_DIST": str(dist)}
    subprocess.run(BUILD, cwd=paths.PROJECT, env=environment, check=True, capture_output=True)
    return packages(dist)


def assert_same_or_told(
    process: subprocess.Popen[str], dist: Path, expected: dict[str, str]
) -> None:
    """*process* made what is *expected*, or nothing and said why in a line."""
    output, error = process.communicate(timeout=600)
    told = f"{process.returncode}\n{output}{error}"
    assert "Traceback" not in told
    if process.returncode == 0:
        assert packages(dist) == expected, told
    else:
        errors = [line for line in error.splitlines() if line.startswith("error: ")]
        assert process.returncode in TOLD, told
        assert len(errors) == 1, told
        assert "clock" in errors[0] + error, told
        assert not dist.exists() or not list(dist.iterdir()), told


@pytest.mark.parametrize("cache", ["cold", "warm"])
@pytest.mark.parametrize("offset", WRONG)
def test_a_wrong_clock(
    offset: str, cache: str, library: str, expected: dict[str, str], tmp_path: Path
) -> None:
    environment = {"FAKETIME": offset}
    if cache == "cold":
        environment["TARPIT_CACHE"] = str(tmp_path / "cache")
    dist = tmp_path / "dist"
    assert_same_or_told(start(dist, library, **environment), dist, expected)
    if cache == "cold":  # what it left in the cache is in nobody's way once the clock is right
        assert_same_or_told(start(dist, "", TARPIT_CACHE=str(tmp_path / "cache")), dist, expected)
        assert packages(dist) == expected


@pytest.mark.parametrize("jump", ["-2d", "-2h", "+2h", "+2d"])
def test_a_clock_that_jumps(
    jump: str, library: str, expected: dict[str, str], tmp_path: Path
) -> None:
    file, dist = tmp_path / "clock", tmp_path / "dist"
    file.write_text("+0")
    process = start(
        dist,
        library,
        FAKETIME_TIMESTAMP_FILE=str(file),
        TARPIT_CACHE=str(tmp_path / "cache"),
    )
    with_luck = random.Random(jump).uniform(0.5, 8)
    try:
        process.wait(with_luck)
    except subprocess.TimeoutExpired:
        file.write_text(jump)
    assert_same_or_told(process, dist, expected)
