"""Cells on a Dask cluster: each worker is a checkout of this very version, with an engine.

A worker that joins is looked at, and gets no cell if it has another version or no engine.  What it
takes at once is limited by its memory and, for cells that are booted, by its processors.  A cell
whose worker is lost goes to another; what a worker has made goes into a store that all can reach,
and a cell that is there already is taken from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import pickle
import platform
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from distributed import Client, Future, Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin

from tarpit_builder import __version__, architectures, build, digests, machine, paths
from tarpit_builder.container import Engine
from tarpit_builder.errors import InfrastructureError, TarpitError
from tarpit_builder.matrix import outcome as outcomes
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.matrix.local import LocalExecutor
from tarpit_builder.matrix.options import SHARE, RunOptions, files_of
from tarpit_builder.matrix.outcome import INFRASTRUCTURE, CellOutcome, Result
from tarpit_builder.matrix.store import ResultStore
from tarpit_builder.matrix.view import Running, View

MEMORY, BOOTS = "tarpit-builder-MiB", "tarpit-builder-boots"
"""What a worker has of: memory, and processors for guests.

It says so when it registers: of what a worker gets later, the scheduler does not tell the tasks
that no worker could take before.
"""
TOPIC = "tarpit-builder"
RETRIES = 2  # of a cell whose worker could not do it
ANSWER = 15  # seconds for the scheduler to answer
PATIENCE = 60.0  # seconds without any worker, after which a run ends
LOOK = 0.5  # seconds between looks at who does what
POLL = 0.1  # seconds
PARTS = ("tarpit_builder", "containers", "dkms", "tasks.py", "CHANGELOG.md")
"""What of a checkout the bytes of packages, and the verdict on them, may depend on."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a worker of the version *project* is told: a cell, how to carry it out, and what to call
    it in the store."""

    project: str
    cell: Cell
    options: RunOptions
    name: str


def _relay() -> Callable[[bytes], dict[str, Any]]:
    """What a task is for Dask: a function that goes by its code, so that the scheduler, which looks
    into tasks, needs nothing of ours."""

    def relay(order: bytes) -> dict[str, Any]:
        import importlib
        import pickle

        module = importlib.import_module("tarpit_builder.matrix.cluster")
        done: dict[str, Any] = module.work(pickle.loads(order))  # noqa: S301  (the coordinator's)
        return done

    return relay


class NotHereError(Exception):
    """A worker's machine could not do it, and another may."""


@cache
def project() -> str:
    """The version of this checkout, and a digest of :data:`PARTS`."""
    return f"{__version__} ({digests.tree(files_of(PARTS))[:12]})"


# -- on a worker -----------------------------------------------------------------------------


class Admission(WorkerPlugin):  # type: ignore[misc]
    """Looks at each worker, now and later, and keeps cells from one that is refused."""

    name = TOPIC
    idempotent = False

    def __init__(self, wanted: str, *, boots: bool) -> None:
        self._wanted, self._boots = wanted, boots

    async def setup(self, worker: Worker) -> None:
        """Called by Dask on every worker."""
        refusal = await asyncio.to_thread(refusal_of, self._wanted, boots=self._boots)
        if refusal:
            await worker.set_resources(**{MEMORY: 0, BOOTS: 0})
            worker.log_event(TOPIC, {"worker": worker.address, "refusal": refusal})


def refusal_of(wanted: str, *, boots: bool) -> str:
    """Why this machine is to get no cells from a coordinator of the version *wanted*, or nothing.

    :param boots: whether kernels are booted, too.
    """
    if project() != wanted:
        return f"it has version {project()}, not {wanted}"
    if platform.machine() not in {architectures.BUILD, "x86_64"}:
        return f"it is {platform.machine()}, and images are for {architectures.BUILD}"
    if boots and not shutil.which("qemu-system-x86_64"):
        return "it has no qemu-system-x86_64"
    try:
        Engine.connect()
    except TarpitError as error:
        return error.message
    return ""


def work(order: Order) -> dict[str, Any]:
    """Carry out one cell on this worker, and put what came of it into the store.

    :raises NotHereError: if this machine cannot do it.
    """
    if refusal := refusal_of(order.project, boots=order.options.verify):
        raise NotHereError(refusal)  # it joined, and was not looked at yet
    cell, store = order.cell, ResultStore(order.options.store)
    options = replace(order.options, dist=paths.dist_dir(), jobs=1, cluster="")
    if not options.force:
        _restore(order, store, options.dist)
    view = View(1, io.StringIO())
    executor = LocalExecutor(options, get_worker().state.nthreads, cell.memory, view)
    executor.begin(cell)
    try:
        while not (ended := executor.ended()):
            if _unwanted():
                raise NotHereError("nobody waits for it any more")
            time.sleep(POLL)
    finally:
        executor.stop()
    (result,) = ended
    outcomes.save(result, options.dist / outcomes.FOLDER)
    if result.outcome is CellOutcome.ERROR:
        raise NotHereError(result.detail)
    entry = _keep(result, store)
    store.enter(order.name, entry)
    return entry


def _unwanted() -> bool:
    """Whether the task of this thread was cancelled, as by a coordinator that is gone."""
    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state in {"cancelled", "resumed"}


def _keep(result: Result, store: ResultStore) -> dict[str, Any]:
    """What the coordinator is told: the record, and the digests of its log and of every file."""
    folder = Path(result.folder) if result.folder else None
    files = {}
    if result.good and folder:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files[str(path.relative_to(folder))] = store.put(path)
    return {"record": outcomes.plain(result), "files": files, "log": store.put(Path(result.log))}


def _restore(order: Order, store: ResultStore, dist: Path) -> None:
    """Put into *dist* what another worker has made of the cell, so that it need not be made again.

    Whether it still is what would be made, and proven, is found out by the build as always.
    """
    entry = store.entry(order.name)
    if not entry:
        return
    with suppress(TarpitError, KeyError, TypeError, ValueError, OSError):
        _bring(order.cell, entry, store, dist)
        outcomes.save(_result(order.cell, entry, dist), dist / outcomes.FOLDER)


def serve(address: str, *, jobs: int, memory: int) -> NoReturn:
    """Become a worker of the scheduler at *address*, for *jobs* cells at once in *memory* MiB.

    0 stands for what the machine has.
    """
    limit = memory or int(machine.memory() * SHARE)
    processors = jobs or machine.cores()
    words = ["--nworkers", "1", "--nthreads", str(processors), "--no-dashboard"]
    words += ["--memory-limit", f"{limit}MiB"]
    words += ["--resources", f"{MEMORY}={limit} {BOOTS}={processors}"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(paths.PROJECT), os.environ.get("PYTHONPATH")))
        ),
    }
    command = [sys.executable, "-m", "dask", "worker", address, *words]
    os.execve(sys.executable, command, environment)  # noqa: S606  (no shell is meant)


# -- on the coordinator ----------------------------------------------------------------------


def _bring(cell: Cell, entry: dict[str, Any], store: ResultStore, dist: Path) -> None:
    """Bring log and files of *entry* into *dist*, unless the same are there."""
    with paths.replacing(dist / outcomes.FOLDER / f"{cell.name}.log") as stage:
        store.get(entry["log"], stage)
    if not entry["files"]:
        return
    folder = dist / PurePosixPath(entry["record"]["folder"]).name
    manifest = build.finished(folder)
    if manifest and manifest["key"] == entry["record"]["key"] and _same(folder, entry["files"]):
        return
    with paths.staged_dir(folder) as stage:
        for name, digest in entry["files"].items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise InfrastructureError(
                    f"the store names a file outside of its folder: {name!r}",
                    hint="find out who wrote to it",
                )
            paths.make_dir((stage / path).parent)
            store.get(digest, stage / path)


def _same(folder: Path, files: dict[str, str]) -> bool:
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return there == files.keys() and all(
        digests.file(folder / name) == digest for name, digest in files.items()
    )


def _result(cell: Cell, entry: dict[str, Any], dist: Path) -> Result:
    """The record of *entry*, with the places where things are here."""
    found = outcomes.of_record(cell, entry["record"])
    return replace(
        found,
        folder=str(dist / PurePosixPath(found.folder).name) if found.folder else "",
        log=str(dist / outcomes.FOLDER / f"{cell.name}.log"),
    )


def _connect(address: str) -> Client:
    """A client of the scheduler at *address*.

    :raises InfrastructureError: if none answers; one that is silent would keep Dask waiting.
    """
    found: list[Client | Exception] = []

    def connect() -> None:
        try:
            found.append(
                Client(address, timeout=ANSWER, set_as_default=False, name="tarpit-builder")
            )
        except Exception as error:  # an incompatible one fails in ways of its own
            found.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * ANSWER)
    said = found[0] if found else "nothing was said"
    if isinstance(said, Exception | str):
        raise InfrastructureError(
            f"no Dask scheduler answers at {address} as this version of Dask expects: "
            f"{' '.join(str(said).split()) or type(said).__name__}",
            hint="start one there: dask scheduler; and compare `dask --version` on both",
        )
    return said


class ClusterExecutor:
    """Hands cells to the Dask scheduler that *options* name; a context manager.

    :raises InfrastructureError: if the scheduler does not answer, or speaks another version.
    :raises UserError: if there is no store for the results.
    """

    def __init__(self, options: RunOptions, view: View) -> None:
        self._options, self._view = options, view
        self._store = ResultStore(options.store)
        self._run = uuid.uuid4().hex[:12]
        self._futures: dict[str, tuple[Cell, Future]] = {}
        self._began: dict[str, float] = {}
        self._running: tuple[Running, ...] = ()
        self._workers: tuple[dict[str, Any], ...] = ()
        self._looked = self._peopled = time.monotonic()
        self._refused: dict[str, str] = {}
        self.halted = ""

    def __enter__(self) -> ClusterExecutor:
        address = self._options.cluster
        self._client = _connect(address)
        try:
            self._client.subscribe_topic(TOPIC, self._heard)
            plugin = Admission(project(), boots=self._options.verify)
            self._client.register_plugin(plugin)
        except Exception as error:
            self._client.close()
            raise InfrastructureError(
                f"the workers of {address} cannot take cells: {error}",
                hint="each is started in a checkout of this version: see docs/cluster.md",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close(timeout=ANSWER)

    def _heard(self, event: tuple[float, dict[str, str]]) -> None:
        _, said = event
        worker, refusal = said["worker"], said["refusal"]
        if refusal and self._refused.get(worker) != refusal:
            self._refused[worker] = refusal
            self._view.say(f"{worker} gets no cells: {refusal}")

    def room(self, cell: Cell) -> bool:
        """Whether a worker is free for *cell*, or there is none and this is the first to wait.

        Dask would take more, but what it has given to a worker waits there, whoever else is free.
        """
        self._look()
        free: int = sum(
            min(each["nthreads"], int(each["resources"].get(MEMORY, 0)) // cell.memory)
            for each in self._workers
        )
        return len(self._futures) < max(1, free)

    def begin(self, cell: Cell) -> None:
        """Hand *cell* over."""
        name = f"{cell.name}-{hashlib.sha256(self._about().encode()).hexdigest()[:16]}"
        wanted = {MEMORY: cell.memory} | ({BOOTS: 1} if self._options.verify else {})
        key = f"{cell.name}-{self._run}"
        future = self._client.submit(
            _relay(),
            pickle.dumps(Order(project(), cell, self._options, name)),
            key=key,
            resources=wanted,
            retries=RETRIES,
            pure=False,
        )
        self._futures[key] = cell, future

    def _about(self) -> str:
        """What results of the same cell may differ by."""
        options = self._options
        return " ".join((project(), str(options.verify), *options.checks, repr(options.sources)))

    def ended(self) -> list[Result]:
        """What has ended, with its files and logs brought here."""
        done = [(key, *pair) for key, pair in self._futures.items() if pair[1].done()]
        for key, _, _ in done:
            del self._futures[key]
        self._look()
        return [self._ended(cell, future) for _, cell, future in done]

    def _ended(self, cell: Cell, future: Future) -> Result:
        if future.cancelled():
            return Result(cell, CellOutcome.NOT_RUN, status=INFRASTRUCTURE)
        try:
            entry = future.result(timeout=ANSWER)
            _bring(cell, entry, self._store, self._options.dist)
            return _result(cell, entry, self._options.dist)
        except Exception as error:  # of a worker, of Dask, of the store
            detail = error.message if isinstance(error, TarpitError) else str(error)
            detail = " ".join(detail.split()) or type(error).__name__
            return Result(cell, CellOutcome.ERROR, status=INFRASTRUCTURE, detail=detail)
        finally:
            future.release()

    def running(self) -> Sequence[Running]:
        """What the workers are at."""
        return self._running

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK:
            return
        self._looked = now
        with suppress(OSError, asyncio.TimeoutError, TimeoutError):
            info = self._client.scheduler_info(n_workers=-1)
            self._workers = tuple(info["workers"].values())
            if any(each["resources"].get(MEMORY) for each in self._workers):
                self._peopled = now
            self._running = tuple(
                Running(cell.name, where, self._began.setdefault(key, now), Path())
                for where, keys in self._client.processing().items()
                for key in keys
                if (cell := self._futures.get(key, (None,))[0])
            )
        if now - self._peopled > PATIENCE:
            why = "; ".join(f"{worker}: {said}" for worker, said in self._refused.items())
            self.halted = f"the cluster has no worker for cells{f' ({why})' if why else ''}"
            self._give_up()

    def _give_up(self) -> None:
        for _, future in self._futures.values():
            future.cancel(force=True)

    def stop(self) -> None:
        """Have the workers stop what nobody waits for any more."""
        with suppress(Exception):
            self._give_up()
        self._futures.clear()
