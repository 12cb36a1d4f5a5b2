"""What the tests of sources share: keys, a server, a store, and a catalogue to go with them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tarpit_builder.sources.download import Downloader, Patience
from tarpit_builder.sources.store import Store
from tests.sources.kit import KeyRing, Site, https, make_certificate

IMPATIENT = Patience(connect=5, read=1.0, attempts=3, pause=0.01, pause_limit=0.02, pace=1)


@dataclass(frozen=True)
class People:
    """Who signs in these tests, by name in *ring*, with the fingerprint of each."""

    ring: KeyRing
    developer: str
    autosigner: str
    netfilter: str
    stranger: str
    retired: str


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    """Real keys: a developer, the autosigner, netfilter, a stranger, and one expired in 2021."""
    home = tmp_path_factory.mktemp("people") / "g"
    ring = KeyRing(home)
    yield People(
        ring,
        ring.make("developer", when="20190101T000000"),
        ring.make("autosigner"),
        ring.make("netfilter"),
        ring.make("stranger"),
        ring.make("retired", when="20200101T000000", expire="1y"),
    )
    ring.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def site(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An HTTPS server that the client trusts, without a proxy in between."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_name("certificate.pem")))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("TARPIT_KERNEL_MIRROR", "TARPIT_IPTABLES_MIRROR", "TARPIT_CATALOGUE"):
        monkeypatch.delenv(name, raising=False)
    with https(Site(), certificate) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty cache, and a downloader that gives up soon."""
    return Store(tmp_path / "cache", downloader=Downloader(IMPATIENT))
