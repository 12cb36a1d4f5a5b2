"""Cells on this machine: each step of one is a process of its own, which can be stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from tarpit_builder import machine, paths
from tarpit_builder.container import LOCAL, Endpoint, Engine
from tarpit_builder.errors import DockerError
from tarpit_builder.matrix import outcome as outcomes
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.matrix.options import RunOptions, proof_key
from tarpit_builder.matrix.outcome import INFRASTRUCTURE, CellOutcome, CellProof, Result
from tarpit_builder.matrix.view import Running, View

GRACE = 15.0  # seconds that a stopped step has to put its things away


@dataclass(slots=True)
class _Step:
    """One command of a cell, while it runs."""

    cell: Cell
    name: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    log: Path
    engine: Endpoint
    began: float  # of the cell
    started: float  # of this step
    stopping: float = 0.0  # when it was told to stop; 0 if it was not
    build: dict[str, Any] = field(default_factory=dict)
    proof_key: str = ""

    def running(self) -> Running:
        return Running(self.cell.name, self.name, self.began, self.log)


class LocalExecutor:
    """Carries out up to *jobs* cells at once, which together may need *memory* MiB.

    Where *options* name several container engines, each cell goes to the one that has the fewest,
    and to another if that one is gone.
    """

    def __init__(self, options: RunOptions, jobs: int, memory: int, view: View) -> None:
        self._options = options
        self._jobs, self._memory = jobs, memory
        self._view = view
        self._folder = paths.make_dir(options.dist / outcomes.FOLDER)
        self._cores = max(1, machine.cores() // jobs)
        self._steps: list[_Step] = []
        self._engines = list(options.engines) or [LOCAL]
        self.halted = ""

    def room(self, cell: Cell) -> bool:
        """Whether *cell* may start beside those that run; the first always may."""
        if not self._steps:
            return True
        taken = sum(step.cell.memory for step in self._steps)
        return len(self._steps) < self._jobs and taken + cell.memory <= self._memory

    def begin(self, cell: Cell) -> None:
        """Start its first step."""
        now = time.monotonic()
        log = self._folder / f"{cell.name}.log"
        self._report(cell, "build").unlink(missing_ok=True)
        arguments = [*self._arguments(cell), *(["--force"] if self._options.force else [])]
        taken = [step.engine for step in self._steps]
        engine = min(self._engines, key=taken.count)
        self._start(cell, "build", arguments, log, engine, now, mode="wb")

    def running(self) -> list[Running]:
        """What is under way."""
        return [step.running() for step in self._steps]

    def ended(self) -> list[Result]:
        """What has ended since; steps that follow others are started, and late ones stopped."""
        return [result for step in tuple(self._steps) if (result := self._look_after(step))]

    def _arguments(self, cell: Cell) -> list[str]:
        return [*cell.arguments, *self._options.sources.arguments(cell)]

    def _start(
        self,
        cell: Cell,
        name: str,
        arguments: Sequence[str],
        log: Path,
        engine: Endpoint,
        began: float,
        *,
        mode: str,
    ) -> _Step:
        command = ["invoke", name, *arguments, "--json", str(self._report(cell, name))]
        environment = {
            **os.environ,
            "CI": "true",
            "TARPIT_DIST": str(self._options.dist),
            "TARPIT_JOBS": str(self._cores),
            **engine.environment,
        }
        output = log.open(mode)
        output.write(f"$ {' '.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            [*tied(), sys.executable, "-m", *command],
            cwd=paths.PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        step = _Step(cell, name, process, output, log, engine, began, time.monotonic())
        self._steps.append(step)
        self._view.started(step.running())
        return step

    def _look_after(self, step: _Step) -> Result | None:
        now = time.monotonic()
        if step.process.poll() is not None:
            return self._ended(step, now)
        if step.stopping and now > step.stopping + GRACE:
            _signal(step, signal.SIGKILL)
        elif not step.stopping and now > step.began + step.cell.minutes * 60:
            step.stopping = now
            _signal(step, signal.SIGTERM)
        return None

    def _ended(self, step: _Step, now: float) -> Result | None:
        self._steps.remove(step)
        step.output.close()
        status = step.process.returncode
        report = outcomes.read(self._report(step.cell, step.name))
        build = report if step.name == "build" else step.build
        result = Result(
            cell=step.cell,
            outcome=CellOutcome.BUILT if build.get("fresh") else CellOutcome.PRESENT,
            seconds=now - step.began,
            folder=str(build.get("folder", "")),
            key=str(build.get("key", "")),
            packages=tuple(build.get("packages", ())),
            stages=tuple((title, seconds) for title, seconds in build.get("stages", ())),
            log=str(step.log),
        )
        if step.stopping:
            detail = f"{step.name} was stopped after its limit of {step.cell.minutes:g} min"
            result = replace(result, outcome=CellOutcome.TIMEOUT, status=5, detail=detail)
        elif status:
            result = replace(
                result,
                outcome=CellOutcome.ERROR if status == INFRASTRUCTURE else CellOutcome.FAILED,
                status=status if status > 0 else 5,
                detail=_complaint(step.log, step.name, status),
            )
        if step.name == "verify":
            summary = _last(step.log) if status in {0, 1} else result.detail
            proof = CellProof(step.proof_key, status, summary, now - step.started)
            result = replace(result, proof=proof, detail=summary if status == 1 else result.detail)
        elif result.good and self._options.verify:
            key = proof_key(result, self._options.checks)
            if proven := outcomes.recall_proof(step.cell, self._folder, key):
                result = replace(result, proof=proven)
            else:
                self._verify(step, report, key)
                return None
        if result.outcome is CellOutcome.ERROR and (gone := _no_engine(step.engine)):
            with suppress(ValueError):  # another cell has met it already
                self._engines.remove(step.engine)
            if not self._engines:
                self.halted = gone
            else:
                self._view.say(f"{gone}: {step.cell.name} is begun again elsewhere")
                self.begin(step.cell)
                return None
        return result

    def _verify(self, step: _Step, build: dict[str, Any], key: str) -> None:
        self._report(step.cell, "verify").unlink(missing_ok=True)
        arguments = [
            *self._arguments(step.cell),
            *step.cell.checks,
            *self._options.checks,
        ]
        following = self._start(
            step.cell, "verify", arguments, step.log, step.engine, step.began, mode="ab"
        )
        following.build, following.proof_key = build, key

    def _report(self, cell: Cell, step: str) -> Path:
        return self._folder / f"{cell.name}.{step}.json"

    def stop(self) -> None:
        """End all that runs."""
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


def tied() -> list[str]:
    """A prefix that ends a command when this process dies, however it dies."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def _signal(step: _Step, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(step.process.pid, number)


def _no_engine(endpoint: Endpoint) -> str:
    """Why nothing more can be built on the engine at *endpoint*, if it is gone."""
    try:
        Engine.connect(endpoint)
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
