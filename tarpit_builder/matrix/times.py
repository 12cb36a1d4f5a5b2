"""How long the whole matrix takes, what with, and how much memory a cell."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tarpit_builder import build as building
from tarpit_builder import machine
from tarpit_builder import plan as planning
from tarpit_builder.bench import Measurement, compiling, environment, images_of_its_own
from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.errors import BuildError
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.leftovers import scratch
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.matrix.options import RunOptions, Sources
from tarpit_builder.matrix.outcome import Result, Summary
from tarpit_builder.matrix.runner import run
from tarpit_builder.sources.debian import Archive

JOBS = (1, 2)
SAMPLE = 0.1  # seconds between two looks at the memory
STAMP = re.compile(r"^\[ *(\d+\.\d\d)\] (.*)$", re.MULTILINE)
IN_CONTAINER = ("build for ", "xt_TARPIT for ", "ipt_TARPIT for ", "iptables ")
IMAGES = ("image ", "suite ")


@dataclass(slots=True)
class Shares:
    """Seconds of one-at-a-time work by what they went into."""

    start: float = 0.0
    """Volumes, copying in, starting the container."""
    compile: float = 0.0
    package: float = 0.0
    images: float = 0.0
    sources: float = 0.0
    rest: float = 0.0
    """Starting Python, reading indexes, planning, checking results."""

    def rows(self, whole: float) -> list[Measurement]:
        """Each as a share of *whole*."""
        named = {
            "compile": self.compile,
            "packaging": self.package,
            "container start": self.start,
            "images": self.images,
            "sources": self.sources,
            "rest": self.rest,
        }
        return [
            Measurement(f"matrix, share of {name}", 100 * seconds / whole, "%")
            for name, seconds in named.items()
        ]


def measure(
    cells: Sequence[Cell], archive: Archive, console: Console, sources: Sources, *, cold: bool
) -> list[Measurement]:
    """Build all *cells* with one and two at once, from a warm cache; with *cold* from nothing, too.

    :raises BuildError: if a cell fails that must not.
    """
    found: list[Measurement] = []
    if cold:
        with (
            scratch("cold") as name,
            images_of_its_own() as images,
            environment(TARPIT_CACHE=str(name / "cache"), TARPIT_IMAGES=images),
        ):
            summary = _run(cells, RunOptions(jobs=JOBS[-1], sources=sources, dist=name / "dist"))
            found.append(Measurement(f"matrix, cold, {JOBS[-1]} at once", summary.seconds, "s"))
    else:
        # Fills cache and images, so that the runs after it are alike.
        with scratch("bench") as name:
            _run(cells, RunOptions(sources=sources, dist=name))
    shares: list[Measurement] = []
    for jobs in JOBS:
        with scratch("bench") as name:
            options = RunOptions(jobs=jobs, sources=sources, dist=name)
            summary = _run(cells, options)
            found.append(Measurement(f"matrix, warm, {jobs} at once", summary.seconds, "s"))
            if jobs == 1:
                with console.stage("what the time goes into"):
                    whole = sum(result.seconds for result in summary.results)
                    shares = _shares(summary.results, archive).rows(whole)
                again = _run(cells, options)
                found.append(Measurement("matrix, nothing changed", again.seconds, "s"))
    return [*found, *shares]


def measure_memory(cells: Sequence[Cell], console: Console, sources: Sources) -> list[Measurement]:
    """What each of *cells* takes of the machine's memory, to be built and to be booted; in MiB.

    It is what the kernel counts as available less than before, at the worst moment: other programs
    should have nothing to do.  A cell that fails is left out.
    """
    found = []
    for cell in cells:
        with scratch("bench") as name, _peak() as taken:
            options = RunOptions(jobs=1, verify=True, sources=sources, dist=name)
            if run([cell], options).exit_code:
                console.warn(f"{cell.name} is not measured: it fails")
                continue
        found.append(Measurement(f"memory, {cell.name}", max(taken), "MiB"))
    return sorted(found, key=lambda one: one.value)


@contextmanager
def _peak() -> Iterator[list[int]]:
    """MiB that are taken, from moment to moment until the block ends."""
    before, taken, ended = machine.free_memory(), [0], threading.Event()

    def watch() -> None:
        while not ended.wait(SAMPLE):
            taken.append(before - machine.free_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield taken
    finally:
        ended.set()
        watcher.join()


def _run(cells: Sequence[Cell], options: RunOptions) -> Summary:
    summary = run(cells, replace(options))
    if summary.exit_code:
        raise BuildError(
            "the matrix cannot be measured: not all of it builds",
            hint="see the table above, or run it alone: invoke matrix --run",
            tail=tuple(summary.table().splitlines()),
        )
    return summary


def _shares(results: Sequence[Result], archive: Archive) -> Shares:
    total = Shares()
    for result in (result for result in results if result.good):
        inside = _seconds(result, IN_CONTAINER)
        total.images += _seconds(result, IMAGES)
        others = sum(seconds for _, seconds in result.stages) - inside - _seconds(result, IMAGES)
        total.sources += others
        total.rest += result.seconds - sum(seconds for _, seconds in result.stages)
        userland = planning.make(result.cell.request, archive).kernel.userland
        start, compiled = (
            compiling(Engine.connect(), userland)
            if isinstance(userland, SuiteUserland)
            else logged((Path(result.folder) / building.LOG).read_text())
        )
        total.start += start
        total.compile += compiled
        total.package += max(0.0, inside - start - compiled)
    return total


def _seconds(result: Result, titles: tuple[str, ...]) -> float:
    return sum(seconds for title, seconds in result.stages if title.startswith(titles))


def logged(log: str) -> tuple[float, float]:
    """Seconds until the first line of each run in *log* (container start), and from then on.

    Packages in the form of 2007 are made outside of containers: inside everything is compiling.  A
    suite's are built side by side and say what they did only at the end, so :func:`compiling`
    measures apart.
    """
    start = inside = 0.0
    for part in re.split(r"^\[ *\d+\.\d\d\] == .*\n", log, flags=re.MULTILINE)[1:]:
        stamps = [float(match[1]) for match in STAMP.finditer(part)]
        if stamps:
            start += stamps[0]
            inside += stamps[-1] - stamps[0]
    return start, inside
