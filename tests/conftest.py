"""What several rooms of the tests share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tarpit_builder.console import Console
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tests.mirror import FakeArchive, Signer, kernel, meta, package, serve

# How long an example takes says nothing on a machine that builds kernels at the same time.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("busy")

OLD, NEW, CLOUD = "6.12.94+deb13-amd64", "6.12.117+deb13-amd64", "6.12.117+deb13-cloud-amd64"


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """An archive key of the tests' own."""
    home = tmp_path_factory.mktemp("keys") / "archive"
    key = Signer(home)
    yield key
    key.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, which has nothing; nor does the environment name keys or an agent."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in (
        *("SSH_AUTH_SOCK", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),  # which requests puts above an engine's own
    ):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def fake(tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> FakeArchive:
    """An archive with trixie (an old kernel, and a newer one in security) and an old forky."""
    monkeypatch.setenv("TARPIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path / "dist"))
    monkeypatch.setenv("TARPIT_DEBIAN_KEYRING", str(signer.keyring))
    archive = FakeArchive(tmp_path / "www", signer)
    archive.suite(
        "trixie",
        [*kernel(OLD, "6.12.94-1"), meta("6.12.94-1", OLD), package("hello", "2.10-3")],
    )
    archive.suite("trixie-updates", [])
    archive.suite(
        "security:trixie-security",
        [
            *kernel(NEW, "6.12.117-1"),
            *kernel(CLOUD, "6.12.117-1"),
            meta("6.12.117-1", NEW),
            meta("6.12.117-1", CLOUD, flavour="cloud"),
        ],
    )
    archive.suite("stable", [], codename="trixie")
    forky = "7.2.12+deb14-amd64"
    archive.suite(
        "forky",
        [*kernel(forky, "7.2.12-1", compiler="gcc-16-for-host"), meta("7.2.12-1", forky)],
        valid_for=-86400,
    )
    return archive


@pytest.fixture
def mirror_url(fake: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The fake archive on the wire."""
    with serve(fake.root) as url:
        monkeypatch.setenv("TARPIT_DEBIAN_SECURITY_MIRROR", f"{url}/debian-security")
        monkeypatch.setenv("TARPIT_DEBIAN_MIRROR", f"{url}/debian")
        yield url


@pytest.fixture
def archive(tmp_path: Path, mirror_url: str) -> Archive:
    """The fake archive as the product sees it."""
    return Archive(Store(tmp_path / "cache"), Mirrors.choose(None), Console(quiet=True))
