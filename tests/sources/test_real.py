"""Real kernel source: Debian's linux-source package as a kernel.org mirror, and old kernels in git.

kernel.org cannot be reached from everywhere, Debian's mirror nearly so; what a tarball goes
through is the same.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, SourceError
from tarpit_builder.sources import (
    MODULE_BUILD,
    DebianSource,
    FetchedTree,
    GitRepository,
    SourceOptions,
    Tarball,
    bench,
    fetch_iptables,
    fetch_kernel,
)
from tarpit_builder.sources.archive import examine
from tarpit_builder.sources.catalogue import SHIPPED, Catalogue
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.trust import TrustFile
from tarpit_builder.sources.verbs import fetch
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.sources.conftest import People
from tests.sources.kit import Site, https, write_catalogue

QUIET = Console(quiet=True)


# -- Debian's source, and a kernel.org made of it --------------------------------------------


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> FetchedTree:
    """linux-source-6.1 of bookworm: 140 MB from the Debian mirror."""
    store = Store(tmp_path_factory.mktemp("debian") / "cache")
    archive = Archive(store, Mirrors.choose(None), QUIET)
    source = DebianSource("linux-source-6.1", "bookworm", archive)
    try:
        tree = fetch_kernel(source, store, QUIET)
    except NetworkError as error:
        pytest.skip(f"THE DEBIAN MIRROR CANNOT BE REACHED, real source is not tested: {error}")
    store.offline = True
    again = fetch_kernel(source, store, QUIET)
    assert again.cached
    assert replace(again, cached=False) == tree
    return tree


@dataclass
class KernelOrg:
    """A kernel.org that has the Debian source as if it were a release of its own."""

    site: Site
    options: SourceOptions
    version: KernelVersion
    content: str


@pytest.fixture
def kernel_org(
    debian: FetchedTree,
    people: People,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[KernelOrg]:
    """Packed, signed and served like kernel.org does; *param* says which part of the tree."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.with_name("certificate.pem")))
    version = debian.version
    assert isinstance(version, KernelVersion)
    with debian.tar(only=request.param, folder=version.stem) as plain:
        path = tmp_path / f"{version.stem}.tar"
        with path.open("wb") as out:
            for chunk in iter(lambda: plain.read(1 << 20), b""):
                out.write(chunk)
    ring = people.ring
    signature = ring.gpg("--armor", "--local-user", "developer@example.org", "--output", "-",
                         "--detach-sign", str(path))  # fmt: skip
    packed = subprocess.run(["xz", "-0", "--stdout", path], capture_output=True, check=True).stdout
    path.unlink()
    sums = f"{hashlib.sha256(packed).hexdigest()}  {version.stem}.tar.xz\n".encode()
    folder = f"/pub/linux/kernel/{version.folders[0]}"
    site = Site()
    site.files = {
        f"{folder}/{version.stem}.tar.xz": packed,
        f"{folder}/{version.stem}.tar.sign": signature,
        f"{folder}/sha256sums.asc": ring.clear("autosigner", sums),
    }
    with https(site, certificate):
        catalogue = write_catalogue(
            tmp_path / "catalogue",
            keys=[
                ("developer", people.developer, "kernel", ring.public("developer")),
                ("autosigner", people.autosigner, "kernel-checksums", ring.public("autosigner")),
            ],
            kernel_mirrors=[f"{site.url}/pub/linux/kernel"],
        )
        options = SourceOptions(catalogue=catalogue, trust=TrustFile(tmp_path / "lock"))
        yield KernelOrg(site, options, version, hashlib.sha256(packed).hexdigest())


def round_trip(kernel_org: KernelOrg, store: Store, target: Path) -> FetchedTree:
    """Fetch over HTTPS, verify both signatures, unpack."""
    source = Tarball(kernel_org.version)
    tree = fetch_kernel(source, store, QUIET, options=kernel_org.options)
    assert len([voucher for voucher in tree.vouchers if "signed by" in voucher]) == 2
    assert tree.digests["sha256"] == kernel_org.content
    store.offline = True
    assert fetch_kernel(source, store, QUIET, options=kernel_org.options).tree == tree.tree
    tree.unpack(target, only=MODULE_BUILD)
    assert (target / "net/netfilter/xt_TCPMSS.c").is_file()
    assert (target / "scripts/checkpatch.pl").stat().st_mode & 0o100
    assert not (target / "sound/core/init.c").exists()
    return tree


@pytest.mark.network
@pytest.mark.parametrize("kernel_org", [MODULE_BUILD], indirect=True)
def test_debians_source_goes_the_whole_way_of_a_release(
    kernel_org: KernelOrg, debian: FetchedTree, store: Store, tmp_path: Path
) -> None:
    assert "Debian's archive" in debian.vouchers[0]
    assert str(debian.version).startswith("6.1.")
    store.downloader = Store(tmp_path).downloader
    tree = round_trip(kernel_org, store, tmp_path / "out")
    debian.unpack(tmp_path / "debian", only=("include/uapi/", "Makefile"))
    for path in ("Makefile", "include/uapi/linux/tcp.h"):
        assert (tmp_path / "debian" / path).read_bytes() == (tmp_path / "out" / path).read_bytes()
    assert tree.tree != debian.tree


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("kernel_org", [()], indirect=True)
def test_a_whole_modern_kernel_goes_the_whole_way_and_keeps_its_tree_id(
    kernel_org: KernelOrg, debian: FetchedTree, store: Store, tmp_path: Path
) -> None:
    store.downloader = Store(tmp_path).downloader
    assert round_trip(kernel_org, store, tmp_path / "out").tree == debian.tree


# -- old kernels and iptables from git -------------------------------------------------------


def repository(variable: str, what: str) -> str:
    """The git mirror that *variable* names."""
    location = os.environ.get(variable, "")
    if not location:
        pytest.skip(f"{variable} IS NOT SET: real {what} are not tested; name a git mirror of them")
    return location


@pytest.fixture(scope="module")
def kernels() -> str:
    return repository("TARPIT_KERNEL_GIT", "old kernels")


def shipped(tmp_path: Path) -> SourceOptions:
    return SourceOptions(catalogue=Catalogue.load(SHIPPED), trust=TrustFile(tmp_path / "lock"))


def test_two_six_twenty_four_is_what_its_tag_was(
    kernels: str, store: Store, tmp_path: Path
) -> None:
    tree = fetch_kernel(
        GitRepository(kernels, KernelVersion.parse("2.6.24")),
        store,
        QUIET,
        options=shipped(tmp_path),
    )
    assert tree.tree == "46efd201c070e594c6da4bada354eab5e583eb0c"
    tree.unpack(tmp_path / "out", only=MODULE_BUILD)
    assert (tmp_path / "out/net/ipv4/netfilter/ipt_REJECT.c").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("series", [f"2.6.{number}" for number in range(19, 28)])
def test_every_old_series_is_what_its_tag_was(
    kernels: str, series: str, store: Store, tmp_path: Path
) -> None:
    options = shipped(tmp_path)
    version = KernelVersion.parse(series)
    tree = fetch_kernel(GitRepository(kernels, version), store, QUIET, options=options)
    with tree.stream() as entries:
        assert examine(entries, series).tree == options.catalogue.kernel(version).tree  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["1.3.8", "1.4.0"])
def test_old_iptables_are_what_they_were(name: str, store: Store, tmp_path: Path) -> None:
    location = repository("TARPIT_IPTABLES_GIT", "old iptables")
    version = IptablesVersion.parse(name)
    tree = fetch_iptables(GitRepository(location, version), store, QUIET, options=shipped(tmp_path))
    tree.unpack(tmp_path / "out")
    assert f"IPTABLES_VERSION:={name}" in (tmp_path / "out/Makefile").read_text()


@pytest.mark.slow
def test_unpacking_and_verifying_keeps_its_promises(
    kernels: str, store: Store, tmp_path: Path
) -> None:
    """The figures of ``invoke bench``; twice what is promised, for machines that are busy."""
    version = KernelVersion.parse("2.6.24")
    options = shipped(tmp_path)
    tree = fetch_kernel(GitRepository(kernels, version), store, QUIET, options=options)
    rows = {name: value for name, value, _, _ in bench.measure(tree, repository=kernels)}
    print(rows)
    assert rows["unpack and verify / tar xf"] < 2 * 1.5
    assert rows["verify a warm cache, linux-2.6.24"] < 2 * 0.2
    assert rows["a second kernel (2.6.25) of a git mirror"] < 2 * 5


# -- netfilter.org's own tarball, which Debian keeps -----------------------------------------


@pytest.mark.network
def test_a_real_iptables_tarball_answers_to_its_digest(store: Store, tmp_path: Path) -> None:
    """Debian's .orig tarball of 1.8.9 is netfilter.org's, byte for byte."""
    store.downloader = Store(tmp_path).downloader
    url = f"{Mirrors.choose(None).main}/pool/main/i/iptables/iptables_1.8.9.orig.tar.xz"
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    try:
        content = store.read("orig", [url], limit=1 << 20)
    except (NetworkError, SourceError) as error:
        pytest.skip(f"THE DEBIAN MIRROR HAS NO iptables 1.8.9, it is not tested: {error}")
    (mirror / "iptables-1.8.9.tar.xz").write_bytes(content)
    options = replace(shipped(tmp_path), mirrors=(mirror.as_uri(),))
    source = Tarball(IptablesVersion.parse("1.8.9"))
    assert "SHA-256" in fetch(None, source, store, QUIET, options)
    fetch_iptables(source, store, QUIET, options=options).unpack(tmp_path / "out")
    assert (tmp_path / "out/configure").stat().st_mode & 0o100
