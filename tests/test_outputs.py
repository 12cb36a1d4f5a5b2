"""Files that the user names: refused before the work where they cannot be written."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths

INVOKE = str(Path(sys.executable).parent / "invoke")
TAKERS = [
    "build --kernel debian:trixie --json",
    "verify --kernel debian:trixie --json",
    "verify --kernel debian:trixie --junit",
    "verify --kernel debian:trixie --pcap",
    "verify --kernel debian:trixie --log",
    "matrix --run --json",
    "matrix --run --junit",
    "patch --kernel 2.6.24 --output",
    "regen --output",
]
FILES = [taker for taker in TAKERS if not taker.startswith("regen")]


def invoke(command: str, value: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INVOKE, *command.split(), str(value)],
        cwd=paths.PROJECT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("command", TAKERS)
def test_a_missing_folder_is_not_made_but_named(command: str, tmp_path: Path) -> None:
    where = tmp_path / "not there" / "result"
    result = invoke(command, where)
    option = command.rsplit(maxsplit=1)[-1]
    assert result.stderr.startswith(f"error: {option} {where}: there is no folder ")
    assert result.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_what_the_hint_says_helps(tmp_path: Path) -> None:
    where = tmp_path / "not there" / "tarpit.patch"
    command = "patch --kernel 2.6.24 --output"
    hint = invoke(command, where).stderr.rpartition("make it first: ")[2].strip()
    assert shlex.split(hint)[:2] == ["mkdir", "-p"]
    subprocess.run(["sh", "-c", hint], check=True)
    assert invoke(command, where).returncode == 0
    assert "add the TARPIT target (Linux 2.6.24)" in where.read_text()


@pytest.mark.parametrize("command", FILES[:5])
def test_a_folder_is_no_file(command: str, tmp_path: Path) -> None:
    result = invoke(command, tmp_path)
    assert result.returncode == 2
    assert "that is a folder — name a file in it" in result.stderr


def test_a_patch_without_a_place_for_it_is_refused() -> None:
    result = subprocess.run(
        [INVOKE, "patch", "--kernel", "6.12"],
        cwd=paths.PROJECT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert result.returncode == 2
    assert "nothing to do" in result.stderr
    assert "and --output FILE" in result.stderr
