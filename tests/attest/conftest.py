"""What the tests of attestations share: a package set, attested, and the keys to it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tarpit_builder.attest import keys, make
from tests.attest.kit import key_pair, package_set


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The key of the distributor, secret and public."""
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The key of somebody else."""
    return key_pair(tmp_path_factory.mktemp("keys"), "stranger")


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory, pair: tuple[Path, Path]) -> Path:
    """A package set that is attested, which no test changes."""
    folder = package_set(tmp_path_factory.mktemp("dist"))
    make.attest(folder.parent, keys.signer(str(pair[0])))
    return folder


@pytest.fixture
def attested(tmp_path: Path, original: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(original, tmp_path / "dist" / original.name))
