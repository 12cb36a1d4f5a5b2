"""`invoke matrix --run --cluster`: a real scheduler and workers, each with a ``dist`` of its own.

What workers do but for the building is tried with an ``invoke`` that makes its results in no time;
slow tests build.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import dask
import pytest

from tarpit_builder import matrix, paths
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.matrix import Cell, CellOutcome, RunOptions, cluster
from tarpit_builder.matrix.store import ResultStore
from tarpit_builder.request import Request
from tests.disk import disk_of
from tests.matrix.farm import Farm
from tests.places import certificates
from tests.processes import await_end, descendants, kill_tree, start

CELLS = tuple(Cell(Request(f"debian:{suite}"), memory=2000) for suite in ("trixie", "forky", "sid"))
FLAVOURS = '[[build]]\nkernels = "debian:trixie"\nflavours = ["default", "cloud"]\n'


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """One without workers."""
    with ExitStack() as cleanup:
        yield Farm(tmp_path, cleanup)


@pytest.mark.docker
def test_cells_are_shared_and_what_is_there_is_not_made_again(farm: Farm) -> None:
    farm.worker("one", PACE="1")
    farm.worker("two", PACE="1")
    farm.await_workers(2)
    summary = matrix.run(CELLS, farm.options)
    assert summary.exit_code == 0, summary.table() + farm.logs()
    assert [result.outcome for result in summary.results] == [CellOutcome.BUILT] * 3
    assert {worker for _, _, worker in farm.seen()} == {"one", "two"}
    dist = farm.options.dist
    for cell, result in zip(CELLS, summary.results, strict=True):
        folder = Path(result.folder)
        assert folder.parent == dist
        assert (folder / "x.deb").read_text() == cell.request.kernel
        assert f"making {cell.request.kernel}" in Path(result.log).read_text()
        record = json.loads((dist / f"matrix/{cell.name}.json").read_text())
        assert (record["outcome"], record["folder"]) == ("built", str(folder))
    # Somebody else, on a machine that has none of it.
    farm.worker("three")
    for name in ("one", "two"):
        shutil.rmtree(farm.folder / name)
    again = matrix.run(CELLS, replace(farm.options, dist=farm.folder / "elsewhere"))
    assert [result.outcome for result in again.results] == [CellOutcome.PRESENT] * 3
    assert (farm.folder / "elsewhere/debian-sid/x.deb").read_text() == "debian:sid"


def tls(keys: Path, own: str) -> dict[str, str]:
    """Dask's settings for who has the key *own* of *keys*, and lets in those who have another."""
    prefix = "distributed.comm.tls"
    return {f"{prefix}.ca-file": str(keys / "ca.pem")} | {
        f"{prefix}.{role}.{kind}": str(keys / f"{own}{ending}")
        for role in ("scheduler", "worker", "client")
        for kind, ending in (("cert", ".pem"), ("key", "-key.pem"))
    }


@pytest.mark.docker
def test_a_cluster_with_keys_shuts_out_who_has_none(tmp_path: Path) -> None:
    certificates(keys := tmp_path / "keys")
    certificates(others := tmp_path / "others")
    settings = tls(keys, "server")
    environment = {
        f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": value
        for name, value in settings.items()
    }
    with ExitStack() as cleanup:
        farm = Farm(tmp_path, cleanup, environment=environment, protocol="tls")
        farm.worker("one")
        with dask.config.set(settings):
            farm.await_workers(1)
            summary = matrix.run(CELLS[:1], farm.options)
        assert summary.exit_code == 0, summary.table() + farm.logs()
        with dask.config.set(tls(others, "server")), pytest.raises(InfrastructureError):
            matrix.run(CELLS[:1], replace(farm.options, dist=tmp_path / "elsewhere"))


@pytest.mark.docker
def test_a_worker_that_joins_later_takes_its_share(farm: Farm) -> None:
    cells = [replace(CELLS[0], request=Request(f"6.12.{number}")) for number in range(1, 9)]
    farm.worker("one", PACE="1.5")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(matrix.run, cells, farm.options)
        farm.await_seen(1)
        farm.worker("two", PACE="1.5")
        summary = running.result()
    assert summary.exit_code == 0, summary.table() + farm.logs()
    shares = Counter(worker for _, _, worker in farm.seen())
    assert shares["two"] >= 2, farm.seen()
    assert shares.total() == len(cells)


@pytest.mark.docker
def test_a_worker_of_another_version_gets_no_cells(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    other = farm.folder / "checkout"
    for part in ("tarpit_builder", "containers", "dkms"):
        shutil.copytree(paths.PROJECT / part, other / part)
    for part in ("tasks.py", "CHANGELOG.md"):
        shutil.copyfile(paths.PROJECT / part, other / part)
    (other / "dkms/xt_TARPIT.c").write_text("")
    farm.worker("old", checkout=other)
    monkeypatch.setattr(cluster, "PATIENCE", 15.0)
    summary = matrix.run(CELLS[:1], farm.options)
    assert summary.exit_code == 3
    assert "no worker for cells" in summary.halted
    assert "it has version" in summary.halted, farm.logs()
    assert farm.seen() == []
    farm.worker("new")
    assert matrix.run(CELLS, farm.options).exit_code == 0
    assert {worker for _, _, worker in farm.seen()} == {"new"}
    assert "gets no cells: it has version" in capfd.readouterr().err


def test_a_scheduler_that_is_not_there_or_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER", 2)
    options = RunOptions(dist=tmp_path, store=str(tmp_path / "store"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (9, silent.getsockname()[1]):
            there = replace(options, cluster=f"tcp://127.0.0.1:{port}")
            with pytest.raises(InfrastructureError, match="no Dask scheduler answers at"):
                matrix.run(CELLS, there)


@pytest.mark.docker
@pytest.mark.slow
def test_a_cell_whose_worker_is_lost_goes_to_another(farm: Farm) -> None:
    slow = farm.worker("slow", PACE="120")
    run = start(farm.command(), env={**os.environ, "TARPIT_DIST": str(farm.options.dist)})
    farm.await_seen(1)
    farm.worker("quick")
    kill_tree(slow)
    _, error = run.communicate(timeout=120)
    assert run.returncode == 0, error + farm.logs()
    assert [worker for _, _, worker in farm.seen()] == ["slow", "quick", "quick", "quick"]


@pytest.mark.docker
@pytest.mark.slow
def test_a_lost_coordinator_is_followed_by_another(farm: Farm) -> None:
    farm.worker("one", PACE="4")
    environment = {**os.environ, "TARPIT_DIST": str(farm.options.dist)}
    first = start(farm.command(), env=environment)
    farm.await_seen(2)
    first.kill()
    first.communicate()
    time.sleep(6)
    assert len(farm.seen()) == 2, "the worker went on for nobody"
    summary = matrix.run(CELLS, farm.options)
    outcomes = [result.outcome for result in summary.results]
    assert sorted(outcomes) == [CellOutcome.BUILT, CellOutcome.BUILT, CellOutcome.PRESENT]


@pytest.mark.docker
@pytest.mark.slow
def test_interruption_ends_what_the_workers_do(farm: Farm) -> None:
    worker = farm.worker("one", PACE="120")
    run = start(farm.command(), env={**os.environ, "TARPIT_DIST": str(farm.options.dist)})
    farm.await_seen(1)
    working = [
        pid
        for pid in descendants(worker.pid)
        if b"--kernel" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert working
    run.send_signal(signal.SIGINT)
    _, error = run.communicate(timeout=60)
    assert (run.returncode, "error: interrupted" in error) == (130, True)
    await_end(working)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize(("status", "tries", "outcome"), [("3", 3, "error"), ("5", 1, "failed")])
def test_what_a_machine_could_not_do_is_tried_again_and_what_failed_is_not(
    farm: Farm, status: str, tries: int, outcome: str
) -> None:
    farm.worker("one", STATUS=status)
    summary = matrix.run(CELLS[:1], farm.options)
    assert (summary.exit_code, summary.results[0].outcome) == (int(status), outcome)
    assert summary.results[0].detail == "no luck"
    assert len(farm.seen()) == tries
    if outcome == "failed":
        assert "no luck" in Path(summary.results[0].log).read_text()


@pytest.fixture
def two_networks() -> Iterator[Sequence[str]]:
    """Commands for a network of its own, 10.203.0.2, which reaches this machine at 10.203.0.1."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network of one's own needs root and iproute2")
    name = f"tarpit{os.getpid()}"
    inside = ["ip", "netns", "exec", name]
    try:
        for command in (
            ["ip", "netns", "add", name],
            ["ip", "link", "add", name, "type", "veth", "peer", "eth0", "netns", name],
            ["ip", "address", "add", "10.203.0.1/24", "dev", name],
            ["ip", "link", "set", name, "up"],
            [*inside, "ip", "address", "add", "10.203.0.2/24", "dev", "eth0"],
            [*inside, "ip", "link", "set", "eth0", "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
        ):
            subprocess.run(command, check=True)
        yield inside
    finally:
        subprocess.run(["ip", "link", "delete", name], check=False)
        subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.mark.docker
@pytest.mark.slow
def test_a_worker_that_is_cut_off_loses_its_cell_and_may_come_back(
    tmp_path: Path, two_networks: Sequence[str]
) -> None:
    link = [*two_networks, "ip", "link", "set", "eth0"]
    with ExitStack() as cleanup:
        farm = Farm(tmp_path, cleanup, host="10.203.0.1")
        farm.worker("far", wrapper=two_networks, PACE="60")
        run = start(farm.command(), env={**os.environ, "TARPIT_DIST": str(farm.options.dist)})
        farm.await_seen(1)
        farm.worker("near")
        subprocess.run([*link, "down"], check=True)
        _, error = run.communicate(timeout=180)
        assert run.returncode == 0, error + farm.logs()
        assert [worker for _, _, worker in farm.seen()] == ["far", "near", "near", "near"]
        subprocess.run([*link, "up"], check=True)
        again = replace(farm.options, dist=tmp_path / "elsewhere")
        assert matrix.run(CELLS, again).exit_code == 0


@pytest.mark.docker
@pytest.mark.network
@pytest.mark.slow
def test_packages_are_the_same_as_from_one_machine(farm: Farm) -> None:
    """Two workers with engines build in earnest, and one dies in the middle of it."""
    cells = [
        Cell(Request("debian:trixie", flavour=flavour), minutes=20) for flavour in ("", "cloud")
    ]
    alone = matrix.run(cells, RunOptions(dist=farm.folder / "alone", jobs=1))
    assert alone.exit_code == 0, alone.table()
    dying, _ = farm.worker("dying", fake=False), farm.worker("living", fake=False)
    environment = {**os.environ, "TARPIT_DIST": str(farm.options.dist)}
    run = start(farm.command(FLAVOURS), env=environment)
    deadline = time.monotonic() + 300
    while not any(
        "build for" in log.read_text() for log in (farm.folder / "dying").glob("matrix/*.log")
    ):
        assert time.monotonic() < deadline, farm.logs()
        time.sleep(0.1)
    kill_tree(dying)
    _, error = run.communicate(timeout=900)
    assert run.returncode == 0, error + farm.logs()
    for result in alone.results:
        folder = farm.options.dist / Path(result.folder).name
        for name in result.packages:
            assert (folder / name).read_bytes() == (Path(result.folder) / name).read_bytes()


# -- the store -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"), [("nowhere://x", "nowhere"), ("", "needs a store"), ("gs://b", "gcsfs")]
)
def test_a_store_that_cannot_be_is_refused(url: str, message: str, tmp_path: Path) -> None:
    options = RunOptions(dist=tmp_path, store=url, cluster="tcp://127.0.0.1:9")
    with pytest.raises(UserError, match=message):
        matrix.run(CELLS, options)


def test_a_store_that_is_full_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1 << 17))
    with disk_of(64 << 10, tmp_path / "small") as disk:
        with pytest.raises(InfrastructureError, match="no space left"):
            ResultStore(str(disk.mount)).put(tmp_path / "file")
        assert not [path for path in disk.mount.rglob("*") if path.is_file()]


def test_a_store_names_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    store = ResultStore(str(tmp_path / "store"))
    (tmp_path / "file").write_text("content")
    digest = store.put(tmp_path / "file")
    record = {"folder": "/a/b", "key": "k"}
    for name in ("../evil", "/evil"):
        entry = {"record": record, "log": digest, "files": {name: digest}}
        with pytest.raises(InfrastructureError, match="outside of its folder"):
            cluster._bring(CELLS[0], entry, store, tmp_path / "dist")
    assert not list(tmp_path.rglob("evil"))
