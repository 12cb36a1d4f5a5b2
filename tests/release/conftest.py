"""What the tests of releases share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarpit_builder.publish import keys
from tests.attest.kit import key_pair
from tests.release.forges import GitHub, GitLab, serve
from tests.release.kit import Rehearsal, Signers, git, git_server, project, rehearsal, small


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout as it is now, as a repository of its own."""
    return project(tmp_path_factory.mktemp("base") / "project")


@pytest.fixture(scope="session")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signers]:
    """The keys of the distributor."""
    pem, _ = key_pair(tmp_path_factory.mktemp("keys"))
    home = tmp_path_factory.mktemp("gpg") / "k"
    yield Signers(pem, keys.throwaway(home).fingerprint, home)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with changes to release."""
    return small(tmp_path / "checkout")


@pytest.fixture(params=[GitHub, GitLab])
def forge(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GitHub | GitLab]:
    """A forge, which knows the tags that were pushed."""
    served = tmp_path / "served"
    made: GitHub | GitLab = request.param(
        lambda: {tag for bare in served.glob("*/*.git") for tag in git(bare, "tag").split()}
    )
    with serve(made):
        yield made


@pytest.fixture
def rehearsed(
    tmp_path: Path, base: Path, forge: GitHub | GitLab, signers: Signers
) -> Iterator[Rehearsal]:
    """A checkout, its remote and its forge."""
    served = tmp_path / "served"
    served.mkdir()
    with git_server(served) as server:
        yield rehearsal(tmp_path, base, server, served, forge, signers)
