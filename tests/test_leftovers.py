"""kill -9 of real processes: what they leave, the next run removes, and nothing that is in use."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tarpit_builder import leftovers, paths
from tests.mirror import FakeArchive, QuietHandler, serve

INVOKE = str(Path(sys.executable).parent / "invoke")
BUSY = """
import os, signal, sys, time
from pathlib import Path
from tarpit_builder import leftovers, paths
dist, cache = Path(sys.argv[1]), Path(sys.argv[2])
with leftovers.scratch("results") as one, paths.staged_dir(dist / "6.1.0-1-amd64") as two:
    with paths.replacing(cache / "records" / "x.json") as three:
        for folder in (one, two):
            (folder / "sub").mkdir()
            (folder / "sub" / "file").write_text("half")
        three.write_text("half")
        print("busy", flush=True)
        time.sleep(600)
"""
BETWEEN = """
import os, signal, sys
from pathlib import Path
from tarpit_builder import paths
real = Path.rename
def rename(self, target):
    if ".old" not in str(target):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
Path.rename = rename
with paths.staged_dir(Path(sys.argv[1])) as stage:
    (stage / "file").write_text("new")
"""
BOOTSTRAP = """
from tarpit_builder.container import Engine, Recipe
from tarpit_builder.sources.debian import Mirrors
main = Mirrors.choose(None).main
Engine.connect()._bootstrap(Recipe("bare", "trixie", "amd64", (f"deb {main} trixie main",), main))
"""
SWEEPER = """
import sys, time
from pathlib import Path
from tarpit_builder import leftovers
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    leftovers.sweep(map(Path, sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A temporary folder, a cache and results of the test's own."""
    for variable, name in {"TMPDIR": "tmp", "TARPIT_CACHE": "cache", "TARPIT_DIST": "dist"}.items():
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setenv(variable, str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)  # so that TMPDIR is read again
    yield
    monkeypatch.setattr("tempfile.tempdir", None)


def python(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs *program*."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, cwd=paths.PROJECT, stdout=subprocess.PIPE, text=True)


def temporaries(tmp_path: Path) -> list[str]:
    """What lies about in any of the places, by name."""
    return sorted(
        path.name
        for path in tmp_path.rglob("*")
        if leftovers.SCRATCH.fullmatch(path.name) or leftovers.STAGE.fullmatch(path.name)
    )


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A task of which nobody would think that it cleans up."""
    return subprocess.run(
        [INVOKE, *arguments], cwd=paths.PROJECT, capture_output=True, text=True, check=False
    )


def test_any_run_removes_what_a_killed_one_left_and_nothing_of_a_live_one(tmp_path: Path) -> None:
    dead, live = (python(BUSY, tmp_path / "dist", tmp_path / "cache") for _ in range(2))
    try:
        for process in (dead, live):
            assert process.stdout is not None
            assert process.stdout.readline() == "busy\n"
        assert len(temporaries(tmp_path)) == 6
        dead.kill()
        dead.wait()
        assert len(temporaries(tmp_path)) == 6
        assert run("cache").returncode == 0
        assert len(temporaries(tmp_path)) == 3
    finally:
        for process in (dead, live):
            process.kill()
            process.wait()
    assert run("cache").returncode == 0
    assert temporaries(tmp_path) == []
    assert not (tmp_path / "dist" / "6.1.0-1-amd64").exists()


def test_result_is_there_again_after_a_kill_between_two_renames(tmp_path: Path) -> None:
    final = tmp_path / "dist" / "6.1.0-1-amd64"
    final.mkdir(parents=True)
    (final / "file").write_text("old")
    assert python(BETWEEN, final).wait() == -signal.SIGKILL
    assert not final.exists()
    assert run("cache").returncode == 0
    assert (final / "file").read_text() == "old"
    assert temporaries(tmp_path) == []


def test_the_same_file_is_written_over_what_a_killed_process_left(tmp_path: Path) -> None:
    """Beside files that the user named, where no other run would look."""
    (tmp_path / "own").mkdir()
    process = python(BUSY, tmp_path / "dist", tmp_path / "own")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    with paths.replacing(tmp_path / "own" / "records" / "x.json") as stage:
        stage.write_text("whole")
    assert [path.name for path in (tmp_path / "own" / "records").iterdir()] == ["x.json"]


@pytest.mark.parametrize("folder", [True, False])
def test_sweepers_never_take_what_somebody_works_in(tmp_path: Path, folder: bool) -> None:
    """Two sweep all the time while temporaries are made, used and put in place."""
    roots = (tmp_path / "dist", tmp_path / "cache")
    sweepers = [python(SWEEPER, 4, *roots) for _ in range(2)]
    made = 0
    try:
        deadline = time.monotonic() + 3
        while time.monotonic() < deadline:
            final = roots[0] / "result"
            if folder:
                with paths.staged_dir(final) as stage, leftovers.scratch("results") as scratch:
                    (scratch / "x").write_text("x")
                    (stage / "file").write_text(str(made))
                assert (final / "file").read_text() == str(made)
            else:
                with paths.replacing(final) as stage:
                    stage.write_text(str(made))
                assert final.read_text() == str(made)
            made += 1
    finally:
        for sweeper in sweepers:
            assert sweeper.wait() == 0
    assert made > 50
    assert temporaries(tmp_path) == []


def test_what_is_mounted_in_a_folder_is_let_go_and_stays_what_it_is(tmp_path: Path) -> None:
    """As by a bootstrap that was killed, which has the machine's own /dev in there."""
    stray = tmp_path / "tmp" / "tarpit-builder-base-abcd1234" / "a b"
    theirs = tmp_path / "dev"
    theirs.mkdir()
    (theirs / "null").touch()
    (stray / "dev").mkdir(parents=True)
    script = f"""
        mount --bind {theirs} '{stray}/dev' && mount -t tmpfs none '{stray}/dev' || exit 77
        {sys.executable} -c 'from tarpit_builder import leftovers; leftovers.sweep([])'
    """
    outcome = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script],
        cwd=paths.PROJECT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if outcome.returncode == 77:
        pytest.skip("this machine allows no mounts")
    assert outcome.returncode == 0, outcome.stderr
    assert not stray.parent.exists()
    assert (theirs / "null").exists()


def test_killed_while_it_reads_an_index(
    fake: FakeArchive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real verb: its scratch folder is gone after the next one."""
    reached = tmp_path / "reached"

    def stall(handler: QuietHandler) -> None:
        if "Packages" in handler.path:
            reached.touch()
            time.sleep(20)
        else:
            answer(handler)

    answer = QuietHandler.do_GET
    monkeypatch.setattr(QuietHandler, "do_GET", stall)
    with serve(fake.root) as url:
        monkeypatch.setenv("TARPIT_DEBIAN_MIRROR", f"{url}/debian")
        monkeypatch.setenv("TARPIT_DEBIAN_SECURITY_MIRROR", f"{url}/debian-security")
        process = subprocess.Popen(
            [INVOKE, "explain", "--kernel", "debian:trixie"], cwd=paths.PROJECT
        )
        deadline = time.monotonic() + 30
        while not reached.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert any("index" in name for name in temporaries(tmp_path))
    assert run("cache").returncode == 0
    assert temporaries(tmp_path) == []


@pytest.mark.docker
def test_a_bootstrap_that_outlives_its_run_keeps_its_folder_until_it_ends(tmp_path: Path) -> None:
    """The real mmdebstrap, which goes on when whoever started it is killed."""
    process = python(BOOTSTRAP)
    base = tmp_path / "tmp"
    try:
        await_that(lambda: any(base.glob("tarpit-builder-base-*/mmdebstrap.*")))
    finally:
        process.kill()
        process.wait()
    assert run("cache").returncode == 0
    assert any(base.glob("tarpit-builder-base-*/mmdebstrap.*"))
    await_that(lambda: run("cache").returncode == 0 and not any(base.glob("tarpit-builder-*")))


def await_that(what: Callable[[], bool]) -> None:
    """Return once *what* holds."""
    deadline = time.monotonic() + 300
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.2)
