"""The repository on disk and on the wire: whole at every moment, and nobody's but its owner's."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from tarpit_builder import paths
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, SourceError, UserError
from tarpit_builder.publish import (
    PublishedRepository,
    RepositoryOptions,
    audit,
    demand_valid,
    keys,
    publish,
    repository,
    states,
)
from tarpit_builder.publish.audit import checksums
from tarpit_builder.publish.keys import Key
from tests.mirror import serve
from tests.publish.kit import release, result, small_deb

pytestmark = pytest.mark.docker

QUIET = Console(quiet=True)
URL = "https://packages.example.org/tarpit"


def put(dist: Path, top: Path, key: Key, **options: object) -> PublishedRepository:
    """Publish without a word."""
    given = {"url": URL, **options}
    return publish(dist, top, key, QUIET, options=RepositoryOptions(**given))  # type: ignore[arg-type]


def names(top: Path) -> set[str]:
    """The packages of the pool."""
    return {path.name for path in (top / "pool").glob("*/*")}


def test_every_suite_and_architecture_gets_its_own_index(
    dist: Path, tmp_path: Path, key: Key
) -> None:
    release(dist, "1.0.0")
    for arch in ("amd64", "i386"):
        result(dist, f"2.6.24-{arch}", "", small_deb("xt-tarpit-modules-2.6.24", "1.0.0", arch))
    made = put(dist, tmp_path / "repo", key)
    assert dict(made.suites) == {
        "bookworm": ("amd64",),
        "trixie": ("amd64",),
        "upstream": ("amd64", "i386"),
    }
    top = tmp_path / "repo"
    index = (top / "dists/trixie/main/binary-amd64/Packages").read_text()
    assert "Filename: pool/trixie/xt-tarpit-dkms_1.0.0+deb13_all.deb" in index
    assert "deb12" not in index
    old = (top / "dists/upstream/main/binary-i386/Packages").read_text()
    assert "_i386.deb" in old
    assert "_amd64.deb" not in old
    text = (top / "dists/upstream/InRelease").read_text()
    assert "Acquire-By-Hash: yes" in text
    assert "Architectures: amd64 i386" in text
    for value in checksums(text.encode()).values():
        assert list((top / "dists/upstream").glob(f"main/*/by-hash/SHA256/{value}"))
    assert len(audit(top)) == 6


def test_same_packages_again_are_signed_anew(
    dist: Path, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    with monkeypatch.context() as patch:
        patch.setattr(repository, "_now", lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
        first = put(dist, top, key, valid_for=10)
    assert (
        "Date: Sun, 01 Mar 2026 12:00:00 UTC\nValid-Until: Wed, 11 Mar 2026 12:00:00 UTC\n"
        in (top / "dists/trixie/InRelease").read_text()
    )
    with pytest.raises(CheckFailedError, match="was valid until 2026-03-11 12:00 UTC"):
        demand_valid(top)
    # Its packages need not be there any more to go on with it.
    again = publish(tmp_path / "nothing", top, key, QUIET)
    assert (first.fresh, again.fresh) == (True, False)
    assert (first.url, again.url) == (URL, URL)
    assert again.until - datetime.now(UTC) > timedelta(days=9, hours=23)
    assert demand_valid(top) == f"{again.until:%Y-%m-%d}"
    assert len(audit(top)) == 4


def test_old_versions_go_when_no_state_names_them_any_more(
    dist: Path, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "repo"
    monkeypatch.setattr(states, "GRACE", 0)
    for version in ("1.9.0", "1.10.0", "1.11.0"):
        release(dist, version)
        put(dist, top, key, keep=1)
        assert len(audit(top)) == 4
    # 1.10.0 may still be on its way to a client that began before.
    assert {name.split("_")[1] for name in names(top)} == {
        f"1.1{minor}.0+deb1{suite}" for minor in "01" for suite in "23"
    }


def test_suites_that_are_not_wanted_stay_as_they_are(dist: Path, tmp_path: Path, key: Key) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key)
    release(dist, "1.0.1")
    made = put(dist, top, key, wanted=("trixie",))
    assert {pool.split("/")[1] for pool in made.added} == {"trixie"}
    assert "1.0.1" not in (top / "dists/bookworm/main/binary-amd64/Packages").read_text()


def test_clients_never_meet_a_half_written_repository(dist: Path, tmp_path: Path, key: Key) -> None:
    """A client that follows one InRelease to its end, while new versions keep being published."""
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key, keep=1)
    stop = threading.Event()
    troubles: list[str] = []
    seen: set[str] = set()

    def client(url: str) -> None:
        session = requests.Session()

        def get(name: str, expected: str = "") -> bytes:
            answer = session.get(f"{url}/{name}", timeout=10)
            if answer.status_code != 200:
                troubles.append(f"{name}: {answer.status_code}")
            elif expected and hashlib.sha256(answer.content).hexdigest() != expected:
                troubles.append(f"{name}: another content")
            return answer.content

        while not stop.is_set():
            for suite in ("bookworm", "trixie"):
                entry = get(f"dists/{suite}/InRelease")
                seen.add(hashlib.sha256(entry).hexdigest())
                value = checksums(entry)["main/binary-amd64/Packages"]
                time.sleep(random.random() / 20)
                folder = f"dists/{suite}/main/binary-amd64/by-hash/SHA256"
                stanzas = get(f"{folder}/{value}", value).decode().split("\n\n")
                for stanza in filter(str.strip, stanzas):
                    fields = dict(
                        line.split(": ", 1) for line in stanza.splitlines() if ": " in line
                    )
                    get(fields["Filename"], fields["SHA256"])

    with serve(top) as url:
        clients = [threading.Thread(target=client, args=(url,)) for _ in range(3)]
        for thread in clients:
            thread.start()
        for number in range(1, 5):
            release(dist, f"1.0.{number}", size=50)
            put(dist, top, key, keep=1)
        stop.set()
        for thread in clients:
            thread.join()
    assert troubles == []
    assert len(seen) >= 8


def test_killed_at_any_moment_the_repository_is_whole(dist: Path, tmp_path: Path, key: Key) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key)
    release(dist, "1.0.1", size=50)
    program = (
        "from pathlib import Path; import sys\n"
        "from tarpit_builder.console import Console\n"
        "from tarpit_builder.publish import keys, publish\n"
        "dist, top, home = map(Path, sys.argv[1:])\n"
        "publish(dist, top, keys.throwaway(home), Console(quiet=True))\n"
    )
    for moment in (0.8, 1.6, 2.2, 2.6, 3.0):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(dist), str(top), str(key.home)],
            cwd=paths.PROJECT,
            start_new_session=True,
        )
        time.sleep(moment)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert len(audit(top)) in {4, 8}
    put(dist, top, key)
    assert len(audit(top)) == 8
    left = {path.name for path in top.iterdir()}
    assert left == {
        ".states", "dists", "pool", "repository.json",
        "tarpit-builder.asc", "bookworm.sources", "trixie.sources",
    }  # fmt: skip
    assert all(path.name.isdigit() for path in (top / ".states").iterdir())


def test_package_that_was_touched_after_the_build_is_refused(
    dist: Path, tmp_path: Path, key: Key
) -> None:
    release(dist, "1.0.0")
    touched = dist / "kernel-of-trixie/xt-tarpit-dkms_1.0.0+deb13_all.deb"
    touched.write_bytes(touched.read_bytes() + b"\n")
    with pytest.raises(CheckFailedError, match="dkms.*is not what was built"):
        put(dist, tmp_path / "repo", key)
    assert not (tmp_path / "repo/dists").exists()


def test_package_that_was_touched_after_publishing_is_found(
    dist: Path, tmp_path: Path, key: Key
) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key)
    touched = top / "pool/trixie/xt-tarpit-dkms_1.0.0+deb13_all.deb"
    touched.write_bytes(touched.read_bytes() + b"\n")
    for action in (lambda: audit(top), lambda: put(dist, top, key)):
        with pytest.raises(CheckFailedError, match="is not what was published"):
            action()


@pytest.mark.parametrize(
    ("name", "error"),
    [("InRelease", SourceError), ("main/binary-amd64/Packages.xz", CheckFailedError)],
)
def test_index_that_was_touched_is_found(
    dist: Path, tmp_path: Path, key: Key, name: str, error: type[Exception]
) -> None:
    release(dist, "1.0.0")
    put(dist, tmp_path / "repo", key)
    touched = tmp_path / "repo/dists/trixie" / name
    touched.write_bytes(
        touched.read_bytes().replace(b"trixie", b"forged") + b"\0" * (name[0] == "m")
    )
    with pytest.raises(error):
        audit(tmp_path / "repo")


def test_published_version_never_changes_its_content(dist: Path, tmp_path: Path, key: Key) -> None:
    release(dist, "1.0.0")
    put(dist, tmp_path / "repo", key)
    release(dist, "1.0.0", size=2)
    with pytest.raises(CheckFailedError, match="published already, with another content"):
        put(dist, tmp_path / "repo", key)


def test_results_that_disagree_on_a_package_are_refused(
    dist: Path, tmp_path: Path, key: Key
) -> None:
    for number in "12":
        result(dist, number, "trixie", small_deb("xt-tarpit-dkms", "1.0.0", text=number))
    with pytest.raises(CheckFailedError, match="differs between 1 and 2"):
        put(dist, tmp_path / "repo", key)


def test_key_changes_only_on_purpose(dist: Path, tmp_path: Path, key: Key, other_key: Key) -> None:
    top = tmp_path / "repo"
    release(dist, "1.0.0")
    put(dist, top, key)
    with pytest.raises(UserError, match="users know only that one"):
        put(dist, top, other_key)
    assert put(dist, top, other_key, new_key=True).fresh
    assert keys.verify(top / "dists/trixie/InRelease", other_key.public())


@pytest.mark.parametrize(("wanted", "message"), [((), "nothing to publish"), (("sid",), "'sid'")])
def test_nothing_to_publish(
    dist: Path, tmp_path: Path, key: Key, wanted: tuple[str, ...], message: str
) -> None:
    dist.mkdir()
    with pytest.raises(UserError, match=message):
        put(dist, tmp_path / "repo", key, wanted=wanted)


def test_no_private_key_is_near_the_repository(dist: Path, tmp_path: Path, key: Key) -> None:
    release(dist, "1.0.0")
    put(dist, tmp_path / "repo", key)
    for path in (tmp_path / "repo").rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY" not in path.read_bytes()
