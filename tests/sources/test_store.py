"""The cache as such: blobs by digest, listing, verifying, pruning, and the tasks' texts."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import InfrastructureError, NetworkError, SourceError, UserError
from tarpit_builder.sources import LocalTree, SourceOptions, Tarball, fetch_kernel
from tarpit_builder.sources.catalogue import Catalogue, Release
from tarpit_builder.sources.store import Blob, Store
from tarpit_builder.sources.trust import TrustFile
from tarpit_builder.sources.verbs import (
    cache_list,
    cache_prune,
    cache_verify,
    fetch,
    iptables_source,
    parse_size,
    parse_span,
)
from tarpit_builder.versions import KernelVersion
from tests.sources.kit import (
    COMPRESS,
    FILE,
    Fault,
    Site,
    git_tree,
    kernel_files,
    tar_of,
    write_catalogue,
)

V = KernelVersion.parse("2.6.24")
DATA = b"a package" * 10_000
DAY = 86400


def blob(site: Site, data: bytes = DATA, name: str = "a.deb") -> Blob:
    site.files[f"/{name}"] = data
    return Blob(name, hashlib.sha256(data).hexdigest(), [f"{site.url}/{name}"], len(data))


def test_a_blob_is_fetched_once_and_kept_by_its_digest(site: Site, store: Store) -> None:
    wanted = blob(site)
    assert not store.has(wanted)
    path = store.get(wanted)
    assert path == store.path(wanted)
    assert path.read_bytes() == DATA
    assert store.get(wanted) == path
    assert len(site.requests) == 1
    assert store.origin(path) == wanted.urls[0]


def test_offline_a_missing_blob_is_named(site: Site, store: Store) -> None:
    store.offline = True
    with pytest.raises(SourceError, match=r"a\.deb is not in the cache"):
        store.get(blob(site))
    assert site.requests == []


def test_wrong_content_is_not_kept(site: Site, store: Store) -> None:
    wanted = blob(site)
    site.files["/a.deb"] = DATA[:-1] + b"!"
    with pytest.raises(SourceError, match="SHA-256 differs"):
        store.get(wanted)
    site.files["/a.deb"] = DATA + b"!"
    with pytest.raises(NetworkError, match="more than"):
        store.get(wanted)
    assert store.items() == []


def test_what_rots_in_the_cache_is_fetched_again(site: Site, store: Store) -> None:
    wanted = blob(site)
    path = store.get(wanted)
    path.chmod(0o644)
    path.write_bytes(b"rotten")
    assert store.get(wanted).read_bytes() == DATA
    assert len(site.requests) == 2


def test_threads_share_one_download(site: Site, store: Store) -> None:
    wanted = blob(site)
    site.pace = 0.01
    got: list[Path] = []
    threads = [threading.Thread(target=lambda: got.append(store.get(wanted))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [store.path(wanted)] * 5
    assert len(site.requests) == 1


def test_what_was_begun_in_another_life_is_finished(site: Site, store: Store) -> None:
    wanted = blob(site)
    site.fail("/a.deb", *[Fault(after=40_000, cut=True), *[Fault(status=500)] * 3])
    with pytest.raises(NetworkError):
        store.get(wanted)
    assert [item.kind for item in store.items()] == ["partial"]
    assert Store(store.root, downloader=store.downloader).get(wanted).read_bytes() == DATA
    assert site.asked("/a.deb")[-1].startswith("bytes=")


def test_a_cache_that_cannot_be_written_says_so(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="file"):
        Store(tmp_path / "file" / "cache").get(blob(site))


# -- housekeeping ----------------------------------------------------------------------------


@pytest.fixture
def full(site: Site, store: Store) -> Store:
    """Three blobs, last used today, ten and forty days ago."""
    for days, name in ((0, "new"), (10, "middle"), (40, "old")):
        path = store.get(blob(site, name.encode() * 1000, name))
        os.utime(path, (time.time() - days * DAY,) * 2)
    return store


def names(store: Store) -> list[str]:
    return [item.name for item in store.items()]


def test_the_list_names_what_is_there_newest_first(full: Store) -> None:
    assert names(full) == ["new", "middle", "old"]
    text = cache_list(full)
    assert "40 days ago" in text
    assert text.endswith(f"3 items, 12.0 kB in {full.root}")
    assert cache_list(Store(full.root / "nothing")).startswith("0 items")


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({"older_than": "30d"}, ["new", "middle"]),
        ({"older_than": "1w"}, ["new"]),
        ({"keep": "9kB"}, ["new", "middle"]),
        ({"keep": "0.1kB"}, []),
        ({"older_than": "90d", "keep": "1GB"}, ["new", "middle", "old"]),
    ],
)
def test_pruning_removes_the_least_recently_used(
    full: Store, limits: dict[str, str], left: list[str]
) -> None:
    text = cache_prune(full, **limits)
    assert names(full) == left
    assert text.startswith(f"removed {3 - len(left)} items")
    assert len(list((full.root / "blobs").glob("??/*"))) == 2 * len(left)


def test_pruning_needs_a_limit_that_can_be_read(full: Store) -> None:
    with pytest.raises(UserError, match="needs a limit"):
        cache_prune(full)
    for limits in ({"keep": "much"}, {"older_than": "long"}, {"keep": "-1GB"}):
        with pytest.raises(UserError):
            cache_prune(full, **limits)
    for limits in ({"keep": "5"}, {"keep": "1000"}, {"older_than": "5"}):
        with pytest.raises(UserError, match="has no unit — write it like"):
            cache_prune(full, **limits)
    for limits in ({"keep": "0GB"}, {"older_than": "0d"}, {"keep": "0.0M"}):
        with pytest.raises(UserError, match="would remove everything — `invoke clean`"):
            cache_prune(full, **limits)
    assert len(names(full)) == 3
    assert parse_size("1.5 GiB") == 1_500_000_000
    assert parse_span("12h") == DAY / 2


def test_using_a_blob_keeps_it_from_being_pruned(full: Store, site: Site) -> None:
    full.get(blob(site, b"old" * 1000, "old"))
    cache_prune(full, older_than="30d")
    assert names(full)[0] == "old"


def test_a_download_under_way_is_not_pruned(full: Store) -> None:
    full.partial("under-way").write_bytes(b"x")
    stale = full.partial("stale")
    stale.write_bytes(b"x")
    os.utime(stale, (1, 1))
    cache_prune(full, keep="0.001kB")
    assert names(full) == ["under-way"]


def test_verifying_finds_and_removes_what_is_damaged(full: Store) -> None:
    victim = next(item for item in full.items() if item.name == "middle")
    victim.path.chmod(0o644)
    victim.path.write_bytes(b"middling")
    used = {item.name: item.used for item in full.items() if item.name != "middle"}
    text, damaged = cache_verify(full, Console(quiet=True))
    assert "middle" in text
    assert [item.name for item in damaged] == ["middle"]
    assert {item.name: item.used for item in full.items()} == pytest.approx(used)
    assert cache_verify(full, Console(quiet=True)) == ("the cache is intact", [])


# -- local trees and the fetch task ----------------------------------------------------------


@pytest.fixture
def options(tmp_path: Path, site: Site) -> SourceOptions:
    tree = git_tree(kernel_files(V), tmp_path / "git")
    catalogue = write_catalogue(
        tmp_path / "catalogue",
        kernels=[Release(V, tree=tree)],
        kernel_mirrors=[f"{site.url}/k"],
    )
    return SourceOptions(catalogue=catalogue, trust=TrustFile(tmp_path / "lock"))


def test_a_local_tree_or_tarball_that_is_a_release_is_taken_as_such(
    options: SourceOptions, store: Store, tmp_path: Path
) -> None:
    tarball = tmp_path / "some name.tgz"
    tarball.write_bytes(COMPRESS[".tar.gz"](tar_of(kernel_files(V), "whatever")))
    first = fetch_kernel(LocalTree(tarball), store, Console(quiet=True), options=options)
    first.unpack(tmp_path / "tree")
    second = fetch_kernel(LocalTree(tmp_path / "tree"), store, Console(quiet=True), options=options)
    assert (first.version, first.tree) == (second.version, second.tree) == (V, first.tree)
    assert first.path == tarball
    assert set(first.digests) == {"sha256"}
    second.unpack(tmp_path / "copy")
    (tmp_path / "tree/Kconfig").write_text("changed")
    with pytest.raises(SourceError, match="changed while"):
        second.unpack(tmp_path / "copy")


def test_a_local_tree_of_ones_own_must_be_trusted_and_stays_pinned(
    options: SourceOptions, store: Store, tmp_path: Path
) -> None:
    from dataclasses import replace

    root = tmp_path / "own"
    for path, (mode, data) in kernel_files(V).items():
        if mode == FILE:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
    source, trusting = LocalTree(root), replace(options, trust_on_first_use=True)
    console = Console(quiet=True)
    with pytest.raises(SourceError, match="cannot be verified"):
        fetch_kernel(source, store, console, options=options)
    assert fetch_kernel(source, store, console, options=trusting).version == V
    assert fetch_kernel(source, store, console, options=options).version == V
    (root / "Kconfig").write_text("changed")
    with pytest.raises(SourceError, match="not what it was") as caught:
        fetch_kernel(source, store, console, options=trusting)
    assert "lock" in caught.value.hint


def test_what_is_no_kernel_tree_is_refused_unread(
    options: SourceOptions, store: Store, tmp_path: Path
) -> None:
    root = tmp_path / "home"
    root.mkdir()
    os.mkfifo(root / "pipe")
    for makefile in (None, "all:\n"):
        if makefile:
            (root / "Makefile").write_text(makefile)
        with pytest.raises(UserError, match="is no kernel tree"):
            fetch_kernel(LocalTree(root), store, Console(quiet=True), options=options)
    with pytest.raises(UserError, match="there is no"):
        fetch_kernel(LocalTree(root / "no"), store, Console(quiet=True), options=options)


def test_a_tree_with_a_pipe_is_refused(
    options: SourceOptions, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "Makefile").write_bytes(kernel_files(V)["Makefile"][1])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe"):
        fetch_kernel(LocalTree(tmp_path), store, Console(quiet=True), options=options)


def test_fetch_warms_the_cache_and_tells_who_vouches(
    options: SourceOptions, store: Store, site: Site
) -> None:
    path = "/k/v2.6/linux-2.6.24.tar.xz"
    site.files[path] = COMPRESS[".tar.xz"](tar_of(kernel_files(V), V.stem))
    text = fetch(Tarball(V), None, store, Console(quiet=True), options)
    assert "linux-2.6.24" in text
    assert "catalogue" in text
    store.offline = True
    assert fetch(Tarball(V), None, store, Console(quiet=True), options) == text
    with pytest.raises(UserError, match="nothing to fetch"):
        fetch(None, None, store, Console(quiet=True), options)


def test_a_misspelt_iptables_brings_near_ones() -> None:
    with pytest.raises(UserError) as caught:
        iptables_source("1.4.0x")
    assert "1.4.0" in caught.value.hint
    assert Catalogue.load().iptables
