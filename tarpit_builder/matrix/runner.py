"""Carrying the matrix out, on this machine or on many.

A cell may hang, run out of memory or kill its engine; the others go on.  Nothing is held here that
a killed run could lose: a build knows by its key whether it is there already, and what was proven
is in the record of the cell.  So going on is running the same command again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Protocol

from tarpit_builder import machine, paths
from tarpit_builder.errors import UserError
from tarpit_builder.matrix import outcome as outcomes
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.matrix.local import LocalExecutor
from tarpit_builder.matrix.options import SHARE, RunOptions
from tarpit_builder.matrix.outcome import INFRASTRUCTURE, CellOutcome, Result, Summary
from tarpit_builder.matrix.view import Running, View

POLL = 0.05  # seconds


class Executor(Protocol):
    """Where cells are carried out."""

    halted: str
    """Why no more can be, if so."""

    def room(self, cell: Cell) -> bool:
        """Whether *cell* may begin now."""

    def begin(self, cell: Cell) -> None:
        """Begin *cell*, and do not wait for it."""

    def ended(self) -> list[Result]:
        """The cells that have ended since, each once."""

    def running(self) -> Sequence[Running]:
        """What is under way."""

    def stop(self) -> None:
        """End all that runs."""


def run(cells: Sequence[Cell], options: RunOptions) -> Summary:
    """Carry out *cells*, and leave records, logs, ``summary.json`` and ``junit.xml`` in
    ``dist/matrix/``, and how it went in its ``history/``.

    :raises UserError: if a cell needs more memory than it may have.
    :raises InfrastructureError: if the records cannot be written, or the cluster cannot be had.
    """
    jobs = options.jobs or max(machine.cores(), len(options.engines))
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
    view = View(len(cells))
    with ExitStack() as cleanup:
        executor: Executor
        if options.cluster:
            from tarpit_builder.matrix.cluster import ClusterExecutor

            executor = cleanup.enter_context(ClusterExecutor(options, view))
        else:
            memory = options.memory or int(machine.memory() * SHARE)
            executor = LocalExecutor(options, jobs, memory, view)
        summary = carry_out(cells, executor, options, view, jobs)
    folder = options.dist / outcomes.FOLDER
    summary.write_json(folder / "summary.json")
    summary.write_junit(folder / "junit.xml")
    outcomes.remember(summary, folder)
    return summary


def carry_out(
    cells: Sequence[Cell], executor: Executor, options: RunOptions, view: View, jobs: int
) -> Summary:
    """Carry out *cells* by *executor*; on an interruption all that runs is stopped first."""
    folder = paths.make_dir(options.dist / outcomes.FOLDER)
    began = time.monotonic()
    waiting = list(cells)
    results: dict[str, Result] = {}
    under_way = 0
    try:
        while under_way or (waiting and not executor.halted):
            while waiting and not executor.halted and executor.room(waiting[0]):
                executor.begin(waiting.pop(0))
                under_way += 1
            for result in executor.ended():
                under_way -= 1
                results[result.cell.name] = result
                outcomes.save(result, folder)
                view.finished(result)
            view.tick(executor.running(), len(waiting))
            time.sleep(POLL)
    finally:
        executor.stop()
        view.close()
    for cell in waiting:
        results[cell.name] = Result(cell, CellOutcome.NOT_RUN, status=INFRASTRUCTURE)
    return Summary(
        tuple(results[cell.name] for cell in cells),
        time.monotonic() - began,
        jobs,
        executor.halted,
    )
