"""Keys that several tests sign with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.signing.kit import Pair, pair


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The key of whoever distributes the packages."""
    return pair(tmp_path_factory.mktemp("keys"), "Modules of example")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The key of somebody else, of the same name."""
    return pair(tmp_path_factory.mktemp("stranger"), "Modules of example")


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something to sign."""
    path = tmp_path_factory.mktemp("module") / "xt_TARPIT.ko"
    path.write_bytes(b"\x7fELF" + bytes(range(256)) * 8)
    return path
