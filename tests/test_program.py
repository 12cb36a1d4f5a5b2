"""The first words typed: no verb at all, a version, a misspelt verb, another folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import __version__, overview, paths

INVOKE = str(Path(sys.executable).parent / "invoke")


def run(*command: str, cwd: Path = paths.PROJECT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(paths.PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def program(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """``tarpit-builder`` as the console script starts it."""
    return run(sys.executable, "-P", "-m", "tarpit_builder", *arguments, cwd=cwd)


def test_bare_invoke_says_what_this_is_and_where_to_begin() -> None:
    result = run(INVOKE)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"tarpit-builder {__version__}: ")
    assert "  invoke build " in result.stdout
    assert "Core options" not in result.stdout


def test_bare_invoke_tells_every_verb_once_with_its_purpose() -> None:
    listed = re.findall(r"^  ([a-z-]+) ", run(INVOKE, "--list").stdout, re.M)
    grouped = [name for names in overview.PURPOSES.values() for name in names]
    assert sorted(grouped) == sorted(listed)
    said = run(INVOKE).stdout
    for name in listed:
        assert re.search(rf"^  {name} +[A-Z].+\.$", said, re.M), name


def test_version_is_that_of_the_project(tmp_path: Path) -> None:
    assert run(INVOKE, "version").stdout == f"tarpit-builder {__version__}\n"
    assert program("--version", cwd=tmp_path).stdout.strip() == f"tarpit-builder {__version__}"


def test_the_program_works_from_any_folder_with_the_defaults_of_the_project(tmp_path: Path) -> None:
    assert program(cwd=tmp_path).stdout == run(INVOKE).stdout
    assert "Usage: tarpit-builder " in program("--help", cwd=tmp_path).stdout
    # invoke.yaml says that without --kernel Debian stable is meant.
    result = program("explain", "--flavour", "RT", cwd=tmp_path)
    assert "'RT' is no kernel flavour" in result.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["biuld"], "there is no verb 'biuld' — did you mean build?"),
        (["build", "--kernle", "x"], "build has no option --kernle — did you mean --kernel"),
        (["build", "--kernel"], "Flag --kernel needed value"),
        (["--nope"], "tarpit-builder has no option --nope"),
        (["xyzzy"], "there is no verb 'xyzzy' — `tarpit-builder --list`"),
        (["kernels", "extra"], "there is no verb 'extra'"),
    ],
)
def test_what_is_mistyped_is_one_line_and_exit_code_2(
    typed: list[str], said: str, tmp_path: Path
) -> None:
    result = program(*typed, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {said}")
    assert len(result.stderr.splitlines()) == 1
