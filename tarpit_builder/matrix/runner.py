"""Carrying the matrix out, each cell in processes of its own.

A cell may hang, run out of memory or kill its engine; the others go on.  Nothing is held here that
a killed run could lose: a build knows by its key whether it is there already, and what was proven
is in the record of the cell.  So going on is running the same command again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from tarpit_builder import digests, machine, paths
from tarpit_builder.errors import DockerError, UserError
from tarpit_builder.matrix import outcome as outcomes
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.matrix.outcome import Outcome, Proof, Result, Summary
from tarpit_builder.matrix.view import Running, View
from tarpit_builder.request import option

POLL = 0.05  # seconds
GRACE = 15.0  # seconds that a stopped step has to put its things away
INFRASTRUCTURE = 3  # exit code, see errors
SHARE = 0.75  # of the machine's memory, unless told otherwise
PROOF_SOURCES = (
    "tarpit_builder/container.py",
    "tarpit_builder/prove.py",
    "tarpit_builder/proof",
    "tarpit_builder/kernels",
    "tarpit_builder/sealed.py",
    "containers/proof",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where sources come from; *kernel_git* and *iptables_git* stand in for release tarballs."""

    mirror: str = ""
    kernel_git: str = ""
    iptables_git: str = ""
    offline: bool = False

    def arguments(self, cell: Cell) -> list[str]:
        """RunOptions of ``invoke build`` and ``invoke verify`` for *cell*."""
        words = ["--mirror", self.mirror] if self.mirror else []
        words += ["--offline"] if self.offline else []
        for name in ("kernel_git", "iptables_git"):
            if name in cell.origin.takes and (place := getattr(self, name)):
                words += [option(name), _place(place)]
        return words


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to carry the matrix out.

    *jobs* cells at once that together may need *memory* MiB (0: what the machine has); *checks* are
    further arguments for ``invoke verify``.
    """

    jobs: int = 0
    memory: int = 0
    verify: bool = False
    force: bool = False
    checks: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    dist: Path = field(default_factory=paths.dist_dir)


@dataclass(slots=True)
class _Step:
    """One command of a cell, while it runs."""

    cell: Cell
    name: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    log: Path
    began: float  # of the cell
    started: float  # of this step
    stopping: float = 0.0  # when it was told to stop; 0 if it was not
    build: dict[str, Any] = field(default_factory=dict)
    proof_key: str = ""

    def running(self) -> Running:
        return Running(self.cell.name, self.name, self.began, self.log)


class Runner:
    """One run; see :func:`run`."""

    def __init__(self, options: RunOptions, view: View) -> None:
        self._options = options
        self._view = view
        self._folder = paths.make_dir(options.dist / outcomes.FOLDER)
        self._steps: list[_Step] = []
        self._results: dict[str, Result] = {}
        self._halted = ""
        self._cores = 1

    def run(self, cells: Sequence[Cell], jobs: int, memory: int) -> Summary:
        """Carry out *cells*; on an interruption all that runs is stopped first."""
        self._cores = max(1, machine.cores() // jobs)
        began = time.monotonic()
        waiting = list(cells)
        try:
            while self._steps or (waiting and not self._halted):
                while waiting and not self._halted and self._fits(waiting[0], jobs, memory):
                    self._begin(waiting.pop(0))
                for step in tuple(self._steps):
                    self._look_after(step)
                self._view.tick([step.running() for step in self._steps], len(waiting))
                time.sleep(POLL)
        finally:
            self._stop_all()
            self._view.close()
        for cell in waiting:
            self._results[cell.name] = Result(cell, Outcome.NOT_RUN, status=INFRASTRUCTURE)
        return Summary(
            tuple(self._results[cell.name] for cell in cells),
            time.monotonic() - began,
            jobs,
            self._halted,
        )

    def _fits(self, cell: Cell, jobs: int, memory: int) -> bool:
        """Whether *cell* may start beside those that run; the first always may."""
        if not self._steps:
            return True
        taken = sum(step.cell.memory for step in self._steps)
        return len(self._steps) < jobs and taken + cell.memory <= memory

    def _begin(self, cell: Cell) -> None:
        now = time.monotonic()
        log = self._folder / f"{cell.name}.log"
        self._report(cell, "build").unlink(missing_ok=True)
        arguments = [*self._arguments(cell), *(["--force"] if self._options.force else [])]
        self._start(cell, "build", arguments, log, now, mode="wb")

    def _arguments(self, cell: Cell) -> list[str]:
        return [*cell.arguments, *self._options.sources.arguments(cell)]

    def _start(
        self, cell: Cell, name: str, arguments: Sequence[str], log: Path, began: float, *, mode: str
    ) -> _Step:
        command = ["invoke", name, *arguments, "--json", str(self._report(cell, name))]
        environment = {
            **os.environ,
            "CI": "true",
            "TARPIT_DIST": str(self._options.dist),
            "TARPIT_JOBS": str(self._cores),
        }
        output = log.open(mode)
        output.write(f"$ {' '.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [*_tied(), sys.executable, "-m", *command],
            cwd=paths.PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        step = _Step(cell, name, process, output, log, began, time.monotonic())
        self._steps.append(step)
        self._view.started(step.running())
        return step

    def _look_after(self, step: _Step) -> None:
        now = time.monotonic()
        if step.process.poll() is not None:
            self._ended(step, now)
        elif step.stopping and now > step.stopping + GRACE:
            _signal(step, signal.SIGKILL)
        elif not step.stopping and now > step.began + step.cell.minutes * 60:
            step.stopping = now
            _signal(step, signal.SIGTERM)

    def _ended(self, step: _Step, now: float) -> None:
        self._steps.remove(step)
        step.output.close()
        status = step.process.returncode
        report = _read(self._report(step.cell, step.name))
        build = report if step.name == "build" else step.build
        result = Result(
            cell=step.cell,
            outcome=Outcome.BUILT if build.get("fresh") else Outcome.PRESENT,
            seconds=now - step.began,
            folder=str(build.get("folder", "")),
            key=str(build.get("key", "")),
            packages=tuple(build.get("packages", ())),
            stages=tuple((title, seconds) for title, seconds in build.get("stages", ())),
            log=str(step.log),
        )
        if step.stopping:
            detail = f"{step.name} was stopped after its limit of {step.cell.minutes:g} min"
            result = replace(result, outcome=Outcome.TIMEOUT, status=5, detail=detail)
        elif status:
            result = replace(
                result,
                outcome=Outcome.ERROR if status == INFRASTRUCTURE else Outcome.FAILED,
                status=status if status > 0 else 5,
                detail=_complaint(step.log, step.name, status),
            )
        if step.name == "verify":
            summary = _last(step.log) if status in {0, 1} else result.detail
            proof = Proof(step.proof_key, status, summary, now - step.started)
            result = replace(result, proof=proof, detail=summary if status == 1 else result.detail)
        elif result.good and self._options.verify:
            key = proof_key(result, self._options.checks)
            if proven := outcomes.recall_proof(step.cell, self._folder, key):
                result = replace(result, proof=proven)
            else:
                self._verify(step, report, key)
                return
        self._finish(result)

    def _verify(self, step: _Step, build: dict[str, Any], key: str) -> None:
        self._report(step.cell, "verify").unlink(missing_ok=True)
        arguments = [*self._arguments(step.cell), *self._options.checks]
        following = self._start(step.cell, "verify", arguments, step.log, step.began, mode="ab")
        following.build, following.proof_key = build, key

    def _finish(self, result: Result) -> None:
        self._results[result.cell.name] = result
        outcomes.save(result, self._folder)
        self._view.finished(result)
        if result.outcome is Outcome.ERROR and not self._halted:
            self._halted = _no_engine()

    def _report(self, cell: Cell, step: str) -> Path:
        return self._folder / f"{cell.name}.{step}.json"

    def _stop_all(self) -> None:
        for step in self._steps:
            _signal(step, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for step in self._steps:
            try:
                step.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(step, signal.SIGKILL)
                step.process.wait()
            step.output.close()


def run(cells: Sequence[Cell], options: RunOptions) -> Summary:
    """Carry out *cells*, and leave records, logs, ``summary.json`` and ``junit.xml`` in
    ``dist/matrix/``, and how it went in its ``history/``.

    :raises UserError: if a cell needs more memory than it may have.
    :raises InfrastructureError: if the records cannot be written.
    """
    jobs = options.jobs or machine.cores()
    if jobs < 1 or options.memory < 0:
        raise UserError(
            "--jobs and --memory are numbers from 1 on", hint="leave them out, or raise them"
        )
    for cell in cells:
        if options.memory and cell.memory > options.memory:
            raise UserError(
                f"{cell.name} may need {cell.memory} MiB, more than --memory {options.memory}",
                hint="raise --memory, or lower `memory` of its block in matrix.toml",
            )
    memory = options.memory or int(machine.memory() * SHARE)
    summary = Runner(options, View(len(cells))).run(cells, jobs, memory)
    folder = options.dist / outcomes.FOLDER
    summary.write_json(folder / "summary.json")
    summary.write_junit(folder / "junit.xml")
    outcomes.remember(summary, folder)
    return summary


def proof_key(result: Result, checks: Iterable[str]) -> str:
    """A digest of all that a proof of *result* depends on: the build, the packages, the checks."""
    sources = {str(path.relative_to(paths.PROJECT)): path for path in _files(PROOF_SOURCES)}
    return digests.digest([result.key, *result.packages, *checks, digests.tree(sources)])


def _files(names: Iterable[str]) -> list[Path]:
    roots = [paths.PROJECT / name for name in names]
    found = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    return sorted(p for p in found if p.is_file() and "__pycache__" not in p.parts)


def _tied() -> list[str]:
    """A prefix that ends a command when this process dies, however it dies."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def _signal(step: _Step, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(step.process.pid, number)


def _no_engine() -> str:
    """Why nothing more can be built, if the container engine is gone."""
    from tarpit_builder.container import Engine

    try:
        Engine.connect()
    except DockerError as error:
        return error.message
    return ""


def _complaint(log: Path, step: str, status: int) -> str:
    """The error that a command ended with, without its hint."""
    for line in reversed(_lines(log)):
        if line.startswith("error: "):
            return line.removeprefix("error: ").partition(" — ")[0]
    if status < 0:
        return f"{step} was killed by signal {-status}"
    return f"{step} ended with status {status}"


def _last(log: Path) -> str:
    lines = [line for line in _lines(log) if line.strip()]
    return lines[-1].strip() if lines else ""


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _place(location: str) -> str:
    """A repository as seen from anywhere: a folder by its whole path, a URL as it is."""
    path = Path(location).expanduser()
    return str(path.absolute()) if path.exists() else location
