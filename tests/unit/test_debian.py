"""Kernels are found in a signed archive, and nothing unsigned or altered is believed."""

from __future__ import annotations

import lzma
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder import suites
from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.sources import debian
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tests.conftest import CLOUD, NEW, OLD
from tests.mirror import FakeArchive, kernel, meta

TRIXIE = suites.known()["trixie"]


def again(archive: Archive, *, offline: bool = False) -> Archive:
    """*archive* as the next process would see it: same cache, nothing in memory."""
    return Archive(Store(archive.store.root, offline=offline), archive.mirrors, Console(quiet=True))


def test_newest_kernel_comes_from_the_pocket_with_the_highest_version(archive: Archive) -> None:
    kernel = archive.newest(TRIXIE, "", "amd64")
    assert (kernel.abi, kernel.version, kernel.compiler) == (NEW, "6.12.117-1", "gcc-14")
    assert [package.name for package in kernel.packages] == [
        f"linux-headers-{NEW}",
        "linux-headers-6.12.117+deb13-common",
        "linux-kbuild-6.12.117+deb13",
    ]
    assert {package.suite for package in kernel.packages} == {"trixie-security"}


def test_flavour_selects_another_kernel(archive: Archive) -> None:
    kernel = archive.newest(TRIXIE, "cloud", "amd64")
    assert (kernel.abi, kernel.flavour) == (CLOUD, "cloud")


def test_unknown_flavour_names_those_there_are(archive: Archive) -> None:
    with pytest.raises(UserError, match="flavour 'clod'.*flavours there: cloud"):
        archive.newest(TRIXIE, "clod", "amd64")


def test_exact_abi_is_found_though_superseded(archive: Archive) -> None:
    kernel = archive.exact(OLD, "amd64")
    assert (kernel.abi, kernel.suite.name) == (OLD, "trixie")


def test_misspelt_abi_suggests_near_ones(archive: Archive) -> None:
    with pytest.raises(UserError, match="did you mean 6.12.117"):
        archive.exact("6.12.171+deb13-amd64", "amd64")


def test_stable_is_what_the_archive_says(archive: Archive) -> None:
    assert archive.codename("stable") == "trixie"


def test_misspelt_suite_suggests_near_ones(archive: Archive) -> None:
    with pytest.raises(UserError, match="did you mean trixie"):
        archive.codename("trixi")


def test_compiler_of_newer_packaging_is_understood(archive: Archive) -> None:
    assert archive.newest(suites.known()["forky"], "", "amd64").compiler == "gcc-16"


def test_expired_index_is_noticed(archive: Archive) -> None:
    assert archive.newest(suites.known()["forky"], "", "amd64").expired
    assert not archive.newest(TRIXIE, "", "amd64").expired


def test_suite_that_left_the_mirror_says_how_to_name_another(archive: Archive) -> None:
    with pytest.raises(UserError, match=r"no suite bullseye \(any more\).*--mirror"):
        archive.newest(suites.known()["bullseye"], "", "amd64")


def test_index_signed_by_nobody_is_refused(archive: Archive, fake: FakeArchive) -> None:
    release = fake.root / "debian" / "dists" / "trixie" / "InRelease"
    release.write_text("Suite: trixie\nSHA256:\n")
    with pytest.raises(SourceError, match="not signed by Debian"):
        archive.newest(TRIXIE, "", "amd64")


def test_index_altered_after_signing_is_refused(archive: Archive, fake: FakeArchive) -> None:
    release = fake.root / "debian" / "dists" / "trixie" / "InRelease"
    release.write_bytes(release.read_bytes().replace(b"Suite: trixie", b"Suite: tricky"))
    with pytest.raises(SourceError, match="not signed by Debian"):
        archive.newest(TRIXIE, "", "amd64")


def test_package_list_altered_after_signing_is_refused(archive: Archive, fake: FakeArchive) -> None:
    listing = fake.root / "debian/dists/trixie/main/binary-amd64/Packages.xz"
    listing.write_bytes(lzma.compress(b"Package: linux-headers-evil\n"))
    with pytest.raises(SourceError, match="SHA-256 differs"):
        archive.newest(TRIXIE, "", "amd64")


def test_changed_archive_is_noticed_by_the_next_run(archive: Archive, fake: FakeArchive) -> None:
    assert archive.newest(TRIXIE, "", "amd64").abi == NEW
    newer = "6.12.120+deb13-amd64"
    fake.suite(
        "security:trixie-security", [*kernel(newer, "6.12.120-1"), meta("6.12.120-1", newer)]
    )
    release = fake.root / "debian-security/dists/trixie-security/InRelease"
    _touch_later(release)
    assert again(archive).newest(TRIXIE, "", "amd64").abi == newer


def test_what_another_mirror_has_is_fetched_from_there(archive: Archive) -> None:
    """Though it has the same index, which is not read again: the first may drop a file."""
    before = archive.newest(TRIXIE, "", "amd64")
    mirrors = archive.mirrors
    moved = replace(
        mirrors,
        main=mirrors.main.replace("127.0.0.1", "localhost"),
        security=mirrors.security.replace("127.0.0.1", "localhost"),
    )
    after = Archive(archive.store, moved, Console(quiet=True)).newest(TRIXIE, "", "amd64")
    for old, new in zip(before.packages, after.packages, strict=True):
        assert new == replace(old, url=old.url.replace("127.0.0.1", "localhost"))
        assert new.url != old.url


def test_an_older_index_than_the_last_is_not_used(
    archive: Archive, fake: FakeArchive, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mirror that plays back what was signed once, such as the one before a security update."""
    pocket = "security:trixie-security"
    release = fake.root / "debian-security/dists/trixie-security/InRelease"
    newer = "6.12.120+deb13-amd64"
    fake.suite(pocket, [*kernel(newer, "6.12.120-1"), meta("6.12.120-1", newer)], made=2_000_000)
    assert archive.newest(TRIXIE, "", "amd64").abi == newer
    fake.suite(pocket, [*kernel(NEW, "6.12.117-1"), meta("6.12.117-1", NEW)], made=1_000_000)
    _touch_later(release)
    capsys.readouterr()
    loud = Archive(Store(archive.store.root), archive.mirrors, Console())
    assert loud.newest(TRIXIE, "", "amd64").abi == newer
    assert "an older index of security:trixie-security than" in capsys.readouterr().err
    assert again(archive, offline=True).newest(TRIXIE, "", "amd64").abi == newer


def test_an_index_of_indexes_without_end_is_not_read_to_it(
    archive: Archive, fake: FakeArchive
) -> None:
    release = fake.root / "debian" / "dists" / "trixie" / "InRelease"
    with release.open("ab") as file:
        file.truncate(40_000_000)
    with pytest.raises(SourceError, match="more for .*InRelease than any such index has"):
        archive.newest(TRIXIE, "", "amd64")


@pytest.mark.parametrize("filler", ["\n", " "])
def test_a_package_list_without_end_is_not_read_to_it(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, filler: str
) -> None:
    """Nor is a line of it, which would be in memory as a whole."""
    monkeypatch.setattr(debian, "INDEX_LIMIT", 50_000)
    monkeypatch.setattr(debian, "LINE_LIMIT", 1000)
    index = tmp_path / "Packages.xz"
    index.write_bytes(lzma.compress(f"Package: linux-image-x\n{filler * 40_000_000}".encode()))
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match="unpacks to more than"):
            list(debian._stanzas(index, ".xz"))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_packages_that_are_not_what_the_index_says_are_not_kept(
    archive: Archive, fake: FakeArchive
) -> None:
    """Of the announced size, and longer: neither the bytes nor their number are believed."""
    found = archive.newest(TRIXIE, "", "amd64").packages[0]
    blob = found.blob()
    file = fake.root / found.url.partition("/debian-security/")[2]
    file = fake.root / "debian-security" / file.relative_to(fake.root)
    file.parent.mkdir(parents=True, exist_ok=True)
    for content in (bytes(found.size), bytes(40_000_000)):
        file.write_bytes(content)
        with pytest.raises((SourceError, NetworkError)):
            archive.store.get(blob)
    assert not archive.store.has(blob)


def test_no_network_and_nothing_cached_is_an_error(tmp_path: Path, fake: FakeArchive) -> None:
    archive = Archive(
        Store(tmp_path / "empty"), Mirrors("http://127.0.0.1:9", "http://127.0.0.1:9"), Console()
    )
    with pytest.raises(NetworkError, match="cannot be reached.*--offline"):
        archive.newest(TRIXIE, "", "amd64")


def test_no_network_but_a_warm_cache_goes_on_with_a_warning(
    archive: Archive,
    fake: FakeArchive,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive.newest(TRIXIE, "", "amd64")

    def refuse(*args: object, **kwargs: object) -> None:
        import requests

        raise requests.ConnectionError("no route")

    monkeypatch.setattr("requests.get", refuse)
    assert again(archive).newest(TRIXIE, "", "amd64").abi == NEW
    assert "going on with what trixie had before" in capsys.readouterr().err


def test_offline_uses_the_cache_and_says_what_is_missing(archive: Archive) -> None:
    archive.newest(TRIXIE, "", "amd64")
    offline = again(archive, offline=True)
    assert offline.newest(TRIXIE, "", "amd64").abi == NEW
    with pytest.raises(SourceError, match="index of forky is not in the cache"):
        offline.newest(suites.known()["forky"], "", "amd64")


def test_reading_without_writing_leaves_no_trace(archive: Archive) -> None:
    archive.write = False
    archive.newest(TRIXIE, "", "amd64")
    assert not archive.store.root.exists()


def _touch_later(path: Path) -> None:
    """Give *path* a later modification time: HTTP dates have whole seconds."""
    import os

    later = path.stat().st_mtime + 5
    os.utime(path, (later, later))
