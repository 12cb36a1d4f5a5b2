"""`./bootstrap` says what it would do, and costs nothing once all is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tarpit_builder import __version__, paths

BASIC = ("sh", "dirname", "cmp", "id", "env", "cat", "python3")


def bootstrap(*arguments: str, path: str | None = None, **environment: str) -> tuple[int, str]:
    """Exit status and standard error of a run with only *path* to find programs on."""
    names = {key: value for key, value in os.environ.items() if key != "DOCKER_HOST"}
    names |= environment | ({"PATH": path} if path else {})
    run = subprocess.run(
        ["/bin/sh", paths.PROJECT / "bootstrap", *arguments],
        env=names, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return run.returncode, run.stderr


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A PATH with hardly anything on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in BASIC:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(os.path.realpath(found))
    return str(folder)


def test_no_install_names_the_commands_and_does_nothing(bare: str, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    status, text = bootstrap("--no-install", "true", path=bare, TARPIT_VENV=str(venv))
    assert status == 3
    (command,) = [line for line in text.splitlines() if "apt-get install" in line]
    assert {"mmdebstrap", "qemu-system-x86", "gpgv", "git"} <= set(command.split())
    assert not venv.exists()


def test_only_tests_and_documentation_need_mandoc(bare: str) -> None:
    for command, needed in (("docs", True), ("test", True), ("build", False)):
        _, text = bootstrap("--no-install", "invoke", command, path=bare)
        assert ("mandoc" in text.split()) is needed, command


def test_each_architecture_brings_its_qemu(bare: str) -> None:
    for command, needed in (
        ("build --kernel debian:trixie", set()),
        ("verify --arch arm64 --kernel debian:trixie", {"qemu-system-arm"}),
        ("verify --kernel debian:trixie --arch=s390x", {"qemu-system-misc"}),
        ("test", {"qemu-system-arm", "qemu-system-misc"}),
    ):
        _, text = bootstrap("--no-install", "invoke", *command.split(), path=bare)
        assert {word for word in text.split() if "qemu" in word} == {"qemu-system-x86"} | needed


def test_second_run_is_silent_and_runs_the_command(tmp_path: Path) -> None:
    status, text = bootstrap("--no-install", "sh", "-c", "command -v invoke >&2", DOCKER_HOST="x:")
    assert status == 0, text
    assert text.strip().endswith("bin/invoke")
    assert len(text.splitlines()) == 1


def test_the_program_is_on_the_path_and_works_from_anywhere() -> None:
    command = "cd / && tarpit-builder --version >&2"
    status, text = bootstrap("--no-install", "sh", "-c", command, DOCKER_HOST="x:")
    assert (status, text) == (0, f"tarpit-builder {__version__}\n")


def test_unknown_option_shows_the_usage() -> None:
    status, text = bootstrap("--fast")
    assert (status, "usage:" in text) == (2, True)


def test_status_of_the_command_is_passed_on() -> None:
    assert bootstrap("--no-install", "sh", "-c", "exit 7", DOCKER_HOST="x:") == (7, "")
