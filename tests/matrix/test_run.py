"""`invoke matrix --run`: fail-soft, within limits, and after any kill the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from xml.etree import ElementTree as ET

import pytest

from tarpit_builder import container, matrix, paths
from tarpit_builder.container import Endpoint
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.matrix import Cell, CellOutcome, Result, RunOptions, Sources, Summary
from tarpit_builder.request import Request
from tests.disk import disk_of
from tests.matrix.fake import fake_invoke
from tests.mirror import FakeArchive
from tests.processes import kill_tree, start
from tests.results import digest
from tests.terminal import watch

INVOKE = Path(sys.executable).parent / "invoke"
CLOUD = Cell(Request("debian:trixie", flavour="cloud"), minutes=10)
PLAIN = replace(CLOUD, request=Request("debian:trixie"))
SMALL = """
[[build]]
kernels = "debian:trixie"
flavours = ["default", "cloud"]
"""


def digests(dist: Path) -> dict[str, str]:
    """SHA-256 of every package and manifest in *dist*."""
    return {
        str(path.relative_to(dist)): digest(path)
        for path in sorted(dist.glob("*/*"))
        if path.parent.name != "matrix" and path.name != "build.log"
    }


@pytest.fixture
def absent(fake: FakeArchive, mirror_url: str, tmp_path: Path) -> RunOptions:
    """RunOptions for an archive that has indexes but no packages: every build of it fails."""
    return RunOptions(jobs=2, dist=tmp_path / "dist")


def test_one_cell_that_fails_does_not_stop_the_others(absent: RunOptions) -> None:
    cells = (PLAIN, replace(CLOUD, request=Request("debian:sid", flavour="cloud")), CLOUD)
    summary = matrix.run(cells, absent)
    assert [result.outcome for result in summary.results] == [CellOutcome.FAILED] * 3
    assert len({result.log for result in summary.results}) == 3
    assert summary.exit_code == 4
    table = summary.table()
    assert all(cell.name in table for cell in cells)
    assert "3 cells: FAILED (3 failed)" in table


def test_failure_that_is_allowed_does_not_count(absent: RunOptions) -> None:
    summary = matrix.run([replace(CLOUD, allowed="for the test")], absent)
    assert (summary.exit_code, summary.results[0].outcome) == (0, CellOutcome.FAILED)
    assert "1 of these allowed to fail" in summary.line()
    suite = ET.parse(absent.dist / "matrix/junit.xml").getroot()  # noqa: S314  (our own)
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")


def test_files_for_machines_agree_with_the_table(absent: RunOptions) -> None:
    summary = matrix.run([PLAIN, CLOUD], absent)
    folder = absent.dist / "matrix"
    data = json.loads((folder / "summary.json").read_text())
    assert data["counts"] == {"failed": 2}
    assert data["exit_code"] == summary.exit_code
    assert [cell["name"] for cell in data["cells"]] == [PLAIN.name, CLOUD.name]
    suite = ET.parse(folder / "junit.xml").getroot()  # noqa: S314  (our own)
    assert [case.get("name") for case in suite] == [PLAIN.name, CLOUD.name]
    assert suite.get("failures") == "2"


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = Event()
        held = []

        def accept() -> None:
            while not stop.is_set():
                if select.select([server], [], [], 0.1)[0]:
                    held.append(server.accept()[0])

        thread = Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/debian"
        stop.set()
        thread.join()
        for connection in held:
            connection.close()


def test_cell_that_hangs_is_stopped_at_its_limit(absent: RunOptions) -> None:
    with silent_server() as url:
        began = time.monotonic()
        options = replace(absent, sources=Sources(mirror=url))
        summary = matrix.run([replace(CLOUD, minutes=0.1)], options)
    assert summary.results[0].outcome is CellOutcome.TIMEOUT
    assert "after its limit of 0.1 min" in summary.results[0].detail
    assert time.monotonic() - began < 60
    assert summary.exit_code == 5


@pytest.mark.network
def test_without_an_engine_nothing_more_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    summary = matrix.run([CLOUD, PLAIN], RunOptions(jobs=1, dist=tmp_path))
    assert [result.outcome for result in summary.results] == [
        CellOutcome.ERROR,
        CellOutcome.NOT_RUN,
    ]
    assert summary.exit_code == 3
    assert "no container engine answers" in summary.table()


def test_cell_that_needs_more_memory_than_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="may need 2048 MiB, more than --memory 1000"):
        matrix.run([CLOUD], RunOptions(memory=1000, dist=tmp_path))


def test_memory_limits_how_many_run_at_once(absent: RunOptions) -> None:
    cells = [replace(cell, memory=600) for cell in (PLAIN, CLOUD)]
    summary = matrix.run(cells, replace(absent, memory=1000))
    assert summary.seconds >= sum(result.seconds for result in summary.results)


def test_full_disk_is_named(tmp_path: Path) -> None:
    with disk_of(4096, tmp_path / "small") as disk:
        (disk.mount / "full").write_bytes(b"x" * 4096)
        with pytest.raises((InfrastructureError, OSError), match=r"no space|No space"):
            matrix.run([CLOUD], RunOptions(dist=disk.mount))


def arguments(tmp_path: Path, *more: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a run of two cells into a ``dist`` of its own."""
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    command = [str(INVOKE), "matrix", "--run", "--jobs", "2", "--file", str(file), *more]
    return command, {**os.environ, "TARPIT_DIST": str(tmp_path / "dist")}


@pytest.mark.docker
@pytest.mark.network
def test_killed_runs_go_on_and_end_with_the_same_bytes(tmp_path: Path) -> None:
    command, environment = arguments(tmp_path)
    dist = tmp_path / "dist"
    for whole_tree in (False, True, True):
        child = subprocess.Popen(
            command, cwd=paths.PROJECT, env=environment, stderr=subprocess.DEVNULL
        )
        time.sleep(random.uniform(1, 9))
        if whole_tree:
            kill_tree(child)
        else:
            child.kill()
            child.wait()
    whole = subprocess.run(
        command, cwd=paths.PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert whole.returncode == 0, whole.stdout
    first = digests(dist)
    assert sum(name.endswith(".deb") for name in first) == 6
    again = subprocess.run(
        command, cwd=paths.PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert "2 cells: passed (2 present)" in again.stdout
    assert digests(dist) == first
    assert not [path for path in dist.iterdir() if path.name.startswith(".")]

    shutil.rmtree(dist)
    undisturbed = subprocess.run(
        command, cwd=paths.PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert "2 cells: passed (2 built)" in undisturbed.stdout
    assert digests(dist) == first


@pytest.mark.docker
@pytest.mark.network
def test_interruption_ends_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    command, environment = arguments(tmp_path, "--only", "debian-trixie-cloud-*")
    child = start(command, env=environment)
    log = tmp_path / "dist/matrix/debian-trixie-cloud-amd64.log"
    deadline = time.monotonic() + 60
    while "build for" not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, "the build did not start"
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, error = child.communicate(timeout=60)
    assert (child.returncode, "error: interrupted" in error) == (130, True)
    assert [path.name for path in (tmp_path / "dist").iterdir()] == ["matrix"]


@pytest.mark.docker
@pytest.mark.network
def test_on_a_terminal_a_table_moves(tmp_path: Path) -> None:
    command, environment = arguments(tmp_path, "--only", "debian-trixie-cloud-*")
    seen = watch(command, columns=100, environment=environment | {"TERM": "xterm", "CI": ""})
    assert seen.status == 0
    assert seen.ever("  0 of 1 done, 1 running, 0 waiting\n    debian-trixie-cloud-amd64  build  ")
    (ended,) = [line for line in seen.left if "[1/1]" in line]
    assert re.match(r"  ✓ \[1/1\] debian-trixie-cloud-amd64 +built", ended)
    assert not any("running" in line for line in seen.left)


@pytest.mark.docker
@pytest.mark.boot
@pytest.mark.network
@pytest.mark.slow
def test_proof_is_not_repeated_while_nothing_changed(tmp_path: Path) -> None:
    options = RunOptions(jobs=1, verify=True, dist=tmp_path)
    first = matrix.run([PLAIN], options)
    assert first.exit_code == 0, first.table()
    again = matrix.run([PLAIN], options)
    assert again.results[0].proof == first.results[0].proof
    assert again.results[0].outcome is CellOutcome.PRESENT
    assert again.seconds < first.seconds / 3


# -- several engines, and several runs -------------------------------------------------------

AN_INVOKE = """
import json, os, pathlib, sys
host = os.environ["DOCKER_HOST"]
if "nonexistent" in host:
    raise SystemExit(print("error: no container engine answers — start one") or 3)
pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({
    "folder": "", "fresh": True, "key": host, "packages": [], "stages": []
}))
"""


@pytest.fixture
def an_invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``invoke`` that builds nothing, and needs an engine all the same."""
    monkeypatch.setenv("PYTHONPATH", fake_invoke(tmp_path / "fake", AN_INVOKE))


GONE = Endpoint("unix:///nonexistent/docker.sock")


@pytest.mark.docker
@pytest.mark.usefixtures("an_invoke")
def test_cells_are_shared_among_engines_and_one_that_is_gone_gets_no_more(tmp_path: Path) -> None:
    here = os.environ.get("DOCKER_HOST", f"unix://{container.SOCKET}")
    same = here.replace("unix:///", "unix:////")
    cells = [replace(CLOUD, request=Request(f"debian:{name}")) for name in ("a", "b", "c", "d")]
    options = RunOptions(
        engines=(GONE, Endpoint(here), Endpoint(same)), jobs=3, dist=tmp_path / "dist"
    )
    summary = matrix.run(cells, options)
    assert summary.exit_code == 0, summary.table()
    assert {result.key for result in summary.results} == {here, same}


@pytest.mark.usefixtures("an_invoke")
def test_when_the_last_engine_is_gone_nothing_more_is_started(tmp_path: Path) -> None:
    options = RunOptions(
        engines=(GONE, replace(GONE, host=GONE.host + "2")), jobs=1, dist=tmp_path / "dist"
    )
    summary = matrix.run([CLOUD, PLAIN], options)
    assert [result.outcome for result in summary.results] == [
        CellOutcome.ERROR,
        CellOutcome.NOT_RUN,
    ]
    assert "no container engine answers" in summary.halted


@pytest.mark.usefixtures("an_invoke")
def test_an_engine_may_be_gone_for_two_cells_at_once(tmp_path: Path) -> None:
    options = RunOptions(engines=(GONE,), jobs=2, dist=tmp_path / "dist")
    summary = matrix.run([CLOUD, PLAIN], options)
    assert [result.outcome for result in summary.results] == [CellOutcome.ERROR] * 2
    assert "no container engine answers" in summary.halted


def test_summaries_of_shards_are_joined(tmp_path: Path) -> None:
    files = []
    for number, result in enumerate(
        (
            Result(
                PLAIN, CellOutcome.BUILT, 3.0, key="k", packages=("x.deb",), stages=(("a", 1.0),)
            ),
            Result(CLOUD, CellOutcome.FAILED, 4.0, 5, "the compiler said no"),
        )
    ):
        files.append(tmp_path / f"{number}.json")
        Summary((result,), 5.0, 2).write_json(files[-1])
    joined = matrix.merge(files, [CLOUD, PLAIN], tmp_path / "all")
    assert [result.cell for result in joined.results] == [CLOUD, PLAIN]
    assert (joined.exit_code, joined.seconds) == (5, 10.0)
    assert joined.results[1].stages == (("a", 1.0),)
    assert json.loads((tmp_path / "all/summary.json").read_text())["counts"] == {
        "failed": 1,
        "built": 1,
    }
    assert "failures" in (tmp_path / "all/junit.xml").read_text()
    with pytest.raises(UserError, match="of another matrix: there is no cell 'debian-trixie"):
        matrix.merge(files, [CLOUD], tmp_path / "all")
    files[0].write_text("{}")
    with pytest.raises(UserError, match="no summary of a matrix"):
        matrix.merge(files, [CLOUD, PLAIN], tmp_path / "all")
