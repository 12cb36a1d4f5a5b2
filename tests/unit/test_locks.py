"""The locks hold what pyproject.toml asks for, with a digest for every file."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tarpit_builder import paths

PROJECT = tomllib.loads((paths.PROJECT / "pyproject.toml").read_text())["project"]
DEV = PROJECT["optional-dependencies"]["dev"]


def pins(lock: str) -> dict[str, str]:
    """Name → version; every pin has a digest at least."""
    text = (paths.PROJECT / lock).read_text()
    blocks = re.split(r"^(?=\S)", text, flags=re.M)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    return dict(block.split()[0].split("==") for block in blocks)


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("requirements.lock", PROJECT["dependencies"]),
        ("requirements-dev.lock", [*PROJECT["dependencies"], *DEV]),
    ],
)
def test_lock_has_all_that_is_asked_for(lock: str, wanted: list[str]) -> None:
    have = pins(lock)
    for text in wanted:
        asked = Requirement(text)
        assert asked.specifier.contains(have[canonicalize_name(asked.name)]), text


def test_what_is_tested_is_what_is_used() -> None:
    assert pins("requirements.lock").items() <= pins("requirements-dev.lock").items()
