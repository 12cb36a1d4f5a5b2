"""How a matrix scales on a cluster: ``python -m tests.matrix.scaling``.

A real scheduler and real workers on this machine share cells that build nothing and take N seconds
each; what a cell takes beyond that is the cluster's doing.  A machine with two processors cannot
show how builds scale, so 1,000 cells on 100 workers are computed: by the seconds of a finished
run (``summary.json``) and what was measured, each cell going to the worker that is free first.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tarpit_builder import matrix
from tarpit_builder.console import format_table
from tarpit_builder.matrix import Cell
from tarpit_builder.request import Request
from tests.matrix.farm import Farm

WORKERS = (1, 2, 4)
CELLS = 24


def measured(workers: int, seconds: float) -> float:
    """Seconds that :data:`CELLS` cells of so many *seconds* take on so many *workers*."""
    cells = [Cell(Request(f"6.12.{number}"), memory=2000) for number in range(1, CELLS + 1)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as cleanup:
        farm = Farm(Path(folder), cleanup)
        for number in range(workers):
            farm.worker(f"worker{number}", PACE=str(seconds))
        farm.await_workers(workers)
        began = time.monotonic()
        summary = matrix.run(cells, farm.options)
        took = time.monotonic() - began
        assert summary.exit_code == 0, summary.table() + farm.logs()
        assert len({worker for _, _, worker in farm.seen()}) == workers
    return took


def computed(cells: Sequence[float], workers: int) -> float:
    """Seconds until *workers* have carried out *cells* of so many seconds each."""
    free = [0.0] * workers
    for seconds in cells:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def seconds_of(summary: Path) -> Iterator[float]:
    """What each cell of a finished run took, again and again."""
    cells = json.loads(summary.read_text())["cells"]
    return itertools.cycle([float(cell["seconds"]) for cell in cells if cell["seconds"] > 0])


def main() -> None:
    """Measure, compute, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="that a cell takes")
    parser.add_argument("--times", type=Path, help="summary.json of a run of the matrix")
    given = parser.parse_args()
    rows, overhead = [], 0.0
    for workers in WORKERS:
        took = measured(workers, given.seconds)
        ideal = computed([given.seconds] * CELLS, workers)
        overhead = (took - ideal) * workers / CELLS
        rows.append((f"{CELLS} × {given.seconds:g} s", str(workers), f"{took:.1f} s",
                     f"{ideal:.1f} s", f"{overhead:.2f} s"))  # fmt: skip
    if given.times:
        cells = list(itertools.islice(seconds_of(given.times), 1000))
        for workers in (1, 10, 100):
            took = computed([seconds + overhead for seconds in cells], workers)
            ideal = sum(cells) / workers
            rows.append(("1,000, computed", str(workers), f"{took:.0f} s", f"{ideal:.0f} s", ""))
    print(format_table(rows, header=("cells", "workers", "took", "ideal", "overhead per cell")))


if __name__ == "__main__":
    main()
