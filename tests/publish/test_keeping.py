"""What a repository remembers, gives up, and survives."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tarpit_builder import __version__, clean
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, SourceError, UserError
from tarpit_builder.packaging import modern
from tarpit_builder.publish import (
    PublishedRepository,
    RepositoryOptions,
    audit,
    publish,
    settings,
    states,
)
from tarpit_builder.publish.audit import checksums
from tarpit_builder.publish.keys import Key
from tests.mirror import serve
from tests.publish.kit import modules_deb, release, result, small_deb

pytestmark = pytest.mark.docker

QUIET = Console(quiet=True)
URL = "https://packages.example.org/tarpit"


def put(dist: Path, top: Path, key: Key, **options: object) -> PublishedRepository:
    """Publish without a word."""
    return publish(dist, top, key, QUIET, options=RepositoryOptions(**options))  # type: ignore[arg-type]


def uris(top: Path) -> set[str]:
    """Where the ``.sources`` files send users."""
    return {
        line for path in top.glob("*.sources") for line in path.read_text().splitlines()
        if line.startswith("URIs:")
    }  # fmt: skip


def build(dist: Path, abi: str, kernel: str, version: str = "1.0.0+deb13") -> None:
    """A result with modules for *abi*."""
    deb = modules_deb(abi, kernel, version)
    result(dist, abi, "trixie", deb, kernel=kernel)


# -- where users find it -------------------------------------------------------------------------


def test_url_must_be_named_once_and_is_remembered(dist: Path, tmp_path: Path, key: Key) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    with pytest.raises(UserError, match="not known where users will find") as caught:
        put(dist, top, key)
    assert not top.exists()
    put(dist, top, key, url=f"{URL}/")
    assert uris(top) == {f"URIs: {URL}"}
    release(dist, "1.0.1")
    assert put(dist, top, key).url == URL
    assert uris(top) == {f"URIs: {URL}"}
    put(dist, top, key, url="https://elsewhere.example.org")
    assert put(dist, top, key).url == "https://elsewhere.example.org"
    # For a trial, the hint gives a URL of this machine, which works as it stands.
    named = re.search(r"--url (file://\S+)", caught.value.hint)
    assert named is not None
    put(dist, tmp_path / "trial", key, url=named[1])
    assert uris(tmp_path / "trial") == {f"URIs: {top.as_uri()}"}


@pytest.mark.parametrize("url", ["packages.example.org", "/srv/repo", "https://a b", "http:"])
def test_what_is_no_url_is_refused(dist: Path, tmp_path: Path, key: Key, url: str) -> None:
    release(dist, "1.0.0")
    with pytest.raises(UserError, match="is no URL"):
        put(dist, tmp_path / "repo", key, url=url)


@pytest.mark.parametrize("known", [True, False])
def test_repository_of_a_former_release(
    dist: Path, tmp_path: Path, key: Key, *, known: bool
) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key, url=URL if known else top.as_uri())
    (top / settings.FILE).unlink()
    if known:
        assert put(dist, top, key).url == URL
    else:
        with pytest.raises(UserError, match="not known where users will find"):
            put(dist, top, key)
        assert put(dist, top, key, url=URL).url == URL
    assert uris(top) == {f"URIs: {URL}"}


def test_file_that_remembers_is_damaged(dist: Path, tmp_path: Path, key: Key) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key, url=URL)
    (top / settings.FILE).write_text("{")
    with pytest.raises(CheckFailedError, match=r"repository\.json cannot be read"):
        put(dist, top, key)
    (top / settings.FILE).unlink()
    assert put(dist, top, key).url == URL


@pytest.mark.parametrize("days", [0, -1])
def test_valid_for_is_at_least_a_day(dist: Path, tmp_path: Path, key: Key, days: int) -> None:
    release(dist, "1.0.0")
    with pytest.raises(UserError, match="number of days"):
        put(dist, tmp_path / "repo", key, url=URL, valid_for=days)


# -- what web servers and clients see ------------------------------------------------------------


def test_everybody_may_read_it_whatever_the_umask(dist: Path, tmp_path: Path, key: Key) -> None:
    top = tmp_path / "srv" / "repo"
    release(dist, "1.0.0")
    before = os.umask(0o077)
    try:
        put(dist, top, key, url=URL)
        release(dist, "1.0.1")
        put(dist, top, key)
    finally:
        os.umask(before)
    found = [path for path in (top.parent, *top.parent.rglob("*")) if not path.is_symlink()]
    modes = {(path.is_dir(), oct(path.stat().st_mode & 0o777)) for path in found}
    assert modes == {(True, "0o755"), (False, "0o644")}


def test_every_digest_of_each_state_has_its_index_for_a_day(
    dist: Path, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "repo"
    entries = []
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        release(dist, version)
        put(dist, top, key, url=URL)
        entries.append((top / "dists/trixie/Release").read_text())
        listed = re.findall(r"^(\w+):\n (?=[0-9a-f]{32})", entries[-1], re.M)
        assert listed == ["SHA256"]
    monkeypatch.setattr(states, "GRACE", 0)
    for since, expected in ((0, entries), (1, entries[1:])):
        for entry in expected:
            values = checksums(entry.encode())
            assert len(values) == 6
            for name, value in values.items():
                place = top / "dists/trixie" / Path(name).parent / "by-hash/SHA256" / value
                assert place.is_file(), (since, name)
        put(dist, top, key)


# -- what is taken out ---------------------------------------------------------------------------


def test_superseded_kernel_is_dropped_and_its_metapackage_follows(
    dist: Path, tmp_path: Path, key: Key
) -> None:
    top = tmp_path / "repo"
    build(dist, "6.12.57+deb13-amd64", "6.12.57-1")
    build(dist, "6.12.118+deb13-amd64", "6.12.118-1")
    put(dist, top, key, url=URL)
    meta = {pool for pool in audit(top) if "modules-amd64" in pool}
    assert meta == {"pool/trixie/xt-tarpit-modules-amd64_6.12.118-1+0tarpit1.0.0+deb13_amd64.deb"}
    with pytest.raises(UserError, match="'6.12.57'") as caught:
        put(dist, top, key, drop=("6.12.57",))
    assert "xt-tarpit-modules-6.12.57+deb13-amd64" in caught.value.hint
    made = put(dist, top, key, drop=("*-6.12.57+*",))
    assert {pool for pool in audit(top) if pool not in meta} == {
        "pool/trixie/xt-tarpit-modules-6.12.118+deb13-amd64_1.0.0+deb13_amd64.deb"
    }
    # What is still in dist/ would come back; the hint prevents that.
    assert len(made.notes) == 1
    words = shlex.split(made.notes[0].partition("prevent that: ")[2])
    assert words[:2] == ["rm", "-r"]
    shutil.rmtree(words[2])
    put(dist, top, key)
    assert not any("6.12.57" in pool for pool in audit(top))
    # The name is spent: another content never gets it.
    result(
        dist, "again", "trixie", small_deb("xt-tarpit-modules-6.12.57+deb13-amd64", "1.0.0+deb13",
        "amd64", text="other"), kernel="6.12.57-1",
    )  # fmt: skip
    with pytest.raises(CheckFailedError, match="published already, with another content"):
        put(dist, top, key)


def test_the_newest_kernel_may_be_dropped_too(dist: Path, tmp_path: Path, key: Key) -> None:
    top = tmp_path / "repo"
    build(dist, "6.12.57+deb13-amd64", "6.12.57-1")
    build(dist, "6.12.118+deb13-amd64", "6.12.118-1")
    put(dist, top, key, url=URL)
    put(dist, top, key, drop=("*-6.12.118+*",))
    assert any("modules-amd64_6.12.57-1+0tarpit1.0.0" in pool for pool in audit(top))
    with pytest.raises(UserError, match="nothing would be left"):
        put(dist, top, key, drop=("*",))
    assert len(audit(top)) == 2


def test_version_is_never_signed_twice_and_the_rest_goes_in(
    dist: Path, tmp_path: Path, key: Key
) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key, url=URL)
    before = audit(top)
    release(dist, "1.0.0", size=2)
    build(dist, "6.12.118+deb13-amd64", "6.12.118-1")
    with pytest.raises(CheckFailedError, match="published already") as caught:
        put(dist, top, key)
    assert "--skip-existing" in caught.value.hint
    made = put(dist, top, key, skip_existing=True)
    assert sum("skipped" in note for note in made.notes) == 2
    now = audit(top)
    assert {pool: now[pool].sha256 for pool in before} == {
        pool: file.sha256 for pool, file in before.items()
    }
    assert len(now) == len(before) + 2
    # The metapackage that is published stays, too, whoever publishes next.
    assert not put(dist, top, key, skip_existing=True).fresh


def test_stale_result_of_a_superseded_kernel(
    dist: Path, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the source changed after a kernel that the archive has no more was built for."""
    monkeypatch.setenv("TARPIT_DIST", str(dist))
    version = f"{__version__}+deb13"
    for abi, kernel, text in (
        ("6.12.57+deb13-amd64", "6.12.57-1", "of then"),
        ("6.12.118+deb13-amd64", "6.12.118-1", "of now"),
    ):
        target = modern.PackageSet(version, "trixie", "amd64", abi, kernel, "/usr/lib/modules")
        folder = result(
            dist, abi, "trixie", small_deb("xt-tarpit-dkms", version, text=text), kernel=kernel
        )
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["plan"] |= {"kernel": abi, "arch": "amd64"}
        manifest["module"] = {
            name: hashlib.sha256(
                content if isinstance(content, bytes) else content.read_bytes()
            ).hexdigest()
            for name, content in modern.source_files(target).members.items()
        }
        if text == "of then":
            manifest["module"][f"xt-tarpit-{version}/xt_TARPIT.c"] = "0"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckFailedError, match="differs between") as caught:
        put(dist, tmp_path / "repo", key, url=URL)
    assert "`invoke clean --stale`" in caught.value.hint
    assert "6.12.57+deb13-amd64" in clean.drop_stale()
    assert [path.name for path in dist.iterdir()] == ["6.12.118+deb13-amd64"]
    assert len(put(dist, tmp_path / "repo", key, url=URL).added) == 1
    assert clean.drop_stale() == "no result is stale"


# -- what was damaged ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("dists/trixie/InRelease", SourceError),
        ("dists/trixie/main/binary-amd64/Packages.xz", CheckFailedError),
        ("pool/trixie/xt-tarpit-dkms_1.0.1+deb13_all.deb", CheckFailedError),
    ],
)
def test_damage_is_mended_as_the_hint_says(
    dist: Path, tmp_path: Path, key: Key, name: str, error: type[Exception]
) -> None:
    top = tmp_path / "repo"
    for version in ("1.0.0", "1.0.1"):
        release(dist, version)
        put(dist, top, key, url=URL)
    touched = top / name
    touched.write_bytes(touched.read_bytes().replace(b"trixie", b"forged") + b"\n")
    with pytest.raises(error) as caught:
        put(dist, top, key)
    assert "`invoke repo --repair`" in caught.value.hint  # type: ignore[attr-defined]
    made = put(dist, top, key, repair=True)
    assert len(audit(top)) == 8
    assert bool(made.notes) == name.startswith("pool/")
    assert b"forged" not in (top / name).read_bytes()


def test_what_is_lost_is_named(dist: Path, tmp_path: Path, key: Key, other_key: Key) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key, url=URL)
    release(dist, "1.0.1")
    put(dist, top, key)
    (top / "pool/trixie/xt-tarpit-dkms_1.0.0+deb13_all.deb").write_bytes(b"")
    for path in top.glob(".states/*/bookworm/InRelease"):
        path.write_bytes(other_key.clearsign(b"Suite: bookworm\n"))
    made = put(dist, top, key, repair=True)
    assert [note.split()[1] for note in made.notes] == [
        "bookworm:", "pool/trixie/xt-tarpit-dkms_1.0.0+deb13_all.deb,",
    ]  # fmt: skip
    # Of bookworm, there is what is in dist/.
    assert len(audit(top)) == 5


# -- what is fetched from where it is published --------------------------------------------------


def test_next_machine_goes_on_where_the_last_one_stopped(
    dist: Path, tmp_path: Path, key: Key
) -> None:
    site, top = tmp_path / "site", tmp_path / "repo"
    with serve(site) as url:
        with pytest.raises(UserError, match="nothing is published") as caught:
            put(dist, top, key, url=url, fetch=True)
        assert "leave out --fetch" in caught.value.hint
        shutil.rmtree(top)
        release(dist, "1.0.0")
        put(dist, top, key, url=url, valid_for=7)
        first = (top / "dists/trixie/Release").read_bytes()
        for version in ("1.0.1", "1.0.2"):
            # Static hosts take no links, and leave hidden files out.
            shutil.rmtree(site, ignore_errors=True)
            shutil.copytree(top, site, ignore=shutil.ignore_patterns(".*"))
            with pytest.raises(UserError, match="is not empty"):
                put(dist, top, key, url=url, fetch=True)
            shutil.rmtree(top)
            shutil.rmtree(dist)
            release(dist, version)
            made = put(dist, top, key, url=url, fetch=True)
            assert len(made.added) == 4
        assert len(audit(top)) == 12
        assert json.loads((top / settings.FILE).read_text())["valid_for"] == 7
        for name, value in checksums((site / "dists/trixie/Release").read_bytes()).items():
            folder = top / "dists/trixie" / Path(name).parent
            assert (folder / "by-hash/SHA256" / value).is_file()
        assert first not in (top / "dists/trixie/Release").read_bytes()
        shutil.rmtree(dist)
        release(dist, "1.0.0", size=3)
        with pytest.raises(CheckFailedError, match="published already, with another content"):
            put(dist, top, key)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("dists/trixie/InRelease", SourceError, "no good signature"),
        ("pool/trixie/xt-tarpit-dkms_1.0.0+deb13_all.deb", CheckFailedError, "not what was signed"),
        ("", SourceError, "no good signature"),
    ],
)
def test_host_that_was_broken_into_slips_nothing_in(
    dist: Path, tmp_path: Path, key: Key, other_key: Key, name: str, error: type[Exception],
    message: str,
) -> None:  # fmt: skip
    site, top = tmp_path / "site", tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, site, key if name else other_key, url=URL)
    if name:
        (site / name).write_bytes((site / name).read_bytes().replace(b"e", b"f"))
    with serve(site) as url, pytest.raises(error, match=message):
        put(dist, top, key, url=url, fetch=True)
    assert not (top / "dists").exists()


def test_published_file_that_is_missing_is_named(dist: Path, tmp_path: Path, key: Key) -> None:
    site, top = tmp_path / "site", tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, site, key, url=URL)
    next(site.glob("pool/trixie/*dkms*")).unlink()
    with serve(site) as url, pytest.raises(CheckFailedError, match="lacks what it lists"):
        put(dist, top, key, url=url, fetch=True)
    assert not (top / "dists").exists()
