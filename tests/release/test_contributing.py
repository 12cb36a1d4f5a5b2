"""CONTRIBUTING.md shows what is there: its examples, files and options."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths

TEXT = (paths.PROJECT / "CONTRIBUTING.md").read_text()
SOURCES = {
    "toml": [
        "tarpit_builder/rules/suites.toml",
        "tarpit_builder/rules/distributions.toml",
    ],
    "c": ["dkms/xt_TARPIT.c", "dkms/compat/compat.h", "dkms/compat/probes/dst_dev.c"],
    "python": ["tarpit_builder/proof/checks/storms.py"],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_examples_are_in_the_repository(kind: str) -> None:
    content = "".join((paths.PROJECT / name).read_text() for name in SOURCES[kind])
    lines = {line.strip() for line in content.splitlines()}
    examples = re.findall(rf"^```{kind}\n(.*?)^```", TEXT, re.M | re.S)
    assert examples
    for example in examples:
        missing = [line for line in example.splitlines() if line.strip() not in lines]
        assert missing == []


def test_files_that_it_names_exist() -> None:
    for name in re.findall(r"`((?:dkms|tarpit_builder|tests|patches)/[\w./-]+)`", TEXT):
        assert (paths.PROJECT / name).exists(), name


def test_settings_that_it_quotes_are_in_a_table() -> None:
    files = [
        paths.PROJECT / "matrix.toml",
        *(paths.PROJECT / "tarpit_builder/rules").glob("*.toml"),
    ]
    lines = {line.strip() for file in files for line in file.read_text().splitlines()}
    quoted = re.findall(r"`(\w+ = [^`]+)`", TEXT)
    assert quoted
    assert [setting for setting in quoted if setting not in lines] == []


def test_options_that_it_names_exist() -> None:
    invoke = Path(sys.executable).parent / "invoke"
    commands = re.findall(r"invoke ([a-z-]+)((?:\s+--?[\w-]+(?:\s+[^\s`-][^\s`]*)?)*)", TEXT)
    wanted: dict[str, set[str]] = {}
    for task, options in commands:
        wanted.setdefault(task, set()).update(re.findall(r"--[\w-]+", options))
    for task, options in wanted.items():
        shown = subprocess.run(
            [invoke, "--help", task], cwd=paths.PROJECT, capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, task
        known = set(re.findall(r"--[\w-]+", shown.stdout))
        assert options <= known, f"invoke {task}: {options - known}"
