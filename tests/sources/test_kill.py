"""kill -9 at any moment, several processes at once, a full disk: the cache is never poisoned."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.sources.catalogue import Release
from tarpit_builder.sources.store import Store
from tarpit_builder.versions import KernelVersion
from tests.sources.kit import (
    COMPRESS,
    Site,
    git_tree,
    kernel_files,
    read_tree,
    tar_of,
    write_catalogue,
)

V = KernelVersion.parse("2.6.24")
PATH = "/pub/linux/kernel/v2.6/linux-2.6.24.tar.xz"
FILES = kernel_files(V, size=400_000)
KILLS = 100


class Victims:
    """A process that starts attempts and kills them; see ``victim.py``."""

    def __init__(self, folder: Path, site: Site, tree: str) -> None:
        self.cache, self.target = folder / "cache", folder / "out" / "linux"
        write_catalogue(
            folder / "catalogue",
            kernels=[Release(V, tree=tree)],
            kernel_mirrors=[f"{site.url}/pub/linux/kernel"],
        )
        self.arguments: list[str | Path] = [
            folder / "catalogue",
            self.cache,
            folder / "lock",
            self.target,
            str(V),
        ]

    @contextmanager
    def running(self, *wrapper: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "tests.sources.victim", *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=paths.PROJECT,
        )
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)

    def check(self) -> None:
        """Whatever happened, what is there is right."""
        for path in (self.cache / "blobs").glob("??/[!.]*"):
            if path.suffix != ".json":
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        for path in (self.cache / "records").glob("[!.]*.json"):
            assert json.loads(path.read_text())["tree"]
        if self.target.exists():
            assert read_tree(self.target) == FILES


def attempt(process: subprocess.Popen[str], delay: float) -> str:
    """One attempt; how it ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{delay}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


@pytest.fixture
def victims(site: Site, tmp_path: Path) -> Victims:
    site.files[PATH] = COMPRESS[".tar.xz"](tar_of(FILES, V.stem))
    site.pace = 0.003
    return Victims(tmp_path, site, git_tree(FILES, tmp_path / "git"))


def test_a_hundred_kills_and_restarts_end_with_the_right_tree(victims: Victims, site: Site) -> None:
    seed = int(os.environ.get("TARPIT_TEST_SEED", "20080124"))
    chance = random.Random(seed)
    ends: Counter[str] = Counter()
    with victims.running() as process:
        while ends["killed"] < KILLS:
            end = attempt(process, chance.uniform(0, 0.35))
            ends[end] += 1
            assert end in {"killed", "done"}, f"{end} (seed {seed})"
            victims.check()
            if end == "done":  # begin anew, so that every kill has something to hit
                shutil.rmtree(victims.cache)
                shutil.rmtree(victims.target)
        assert attempt(process, -1) == "done"
    victims.check()
    assert read_tree(victims.target) == FILES
    assert not list((victims.cache / "partial").iterdir())
    resumed = [asked for asked in site.asked(PATH) if asked]
    assert len(resumed) > 5, f"{ends}: the kills did not hit downloads"


def test_several_processes_at_once_fetch_once(victims: Victims, site: Site) -> None:
    """Each waits for the one that fetches, and then takes what is there."""
    with victims.running() as first, victims.running() as second, victims.running() as third:
        for process in (first, second, third):
            assert process.stdin is not None
            process.stdin.write("-1\n")
            process.stdin.flush()
        for process in (first, second, third):
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "done"
    victims.check()
    assert site.asked(PATH) == [""]


def test_a_full_disk_is_an_error_in_one_line_and_no_harm(
    victims: Victims, site: Site, tmp_path: Path
) -> None:
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    cache = victims.cache
    cache.mkdir()
    small = f"mount -t tmpfs -o size=200k none '{cache}' && exec \"$@\""
    if subprocess.run([*mount, small, "sh", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mounts, so no disk can be filled")
    with victims.running(*mount, small, "sh") as process:
        end = attempt(process, -1)
        assert end.startswith("failed no space left on the disk"), end
        assert "TARPIT_CACHE" in end
        assert process.stdout is not None
        process.stdout.readline()
        assert attempt(process, -1).startswith("failed no space left")
    assert not victims.target.exists()
    with victims.running() as process:  # with room, all is well again
        assert attempt(process, -1) == "done"
    victims.check()


def test_leftovers_of_the_killed_are_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_record("x", {})
    stale, fresh = tmp_path / "records/.x.json.abc", tmp_path / "records/.x.json.def"
    for path in (stale, fresh):
        path.write_text("")
    os.utime(stale, (0, 0))
    store.prune(older_than=3600)
    assert fresh.exists()
    assert not stale.exists()
    assert store.record("x") == {}
