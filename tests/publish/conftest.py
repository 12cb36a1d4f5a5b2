"""What the tests of the repository share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarpit_builder.publish import keys
from tarpit_builder.publish.keys import Key


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A key to sign with."""
    return keys.throwaway(tmp_path_factory.mktemp("gpg") / "k")


@pytest.fixture
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """Another one."""
    return keys.throwaway(tmp_path_factory.mktemp("gpg") / "k")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """An empty ``dist/``."""
    return tmp_path / "dist"
