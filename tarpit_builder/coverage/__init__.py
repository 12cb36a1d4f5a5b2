"""Which lines of the module proof and fuzzing reach, and why not the others: ``invoke coverage``.

The module is built with gcov's counters into a kernel that has them, every group of checks is run
and then the fuzzer; each guest hands over its counters before it goes.  What a run has counted
lies in ``dist/coverage/``, a file for each kernel; the page is made of those that are of the module
as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import build as building
from tarpit_builder import paths, records
from tarpit_builder import plan as planning
from tarpit_builder.container import Files, Input
from tarpit_builder.coverage import counts, page
from tarpit_builder.coverage.counts import Counts
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.kernels import steps
from tarpit_builder.kernels.own import OwnKernel
from tarpit_builder.packaging import contents
from tarpit_builder.proof import VerifyOptions, VerifyReport, verify
from tarpit_builder.prove import staged
from tarpit_builder.versions import KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.fuzzing import FuzzOptions
    from tarpit_builder.kernels.source import Source
    from tarpit_builder.request import Request
    from tarpit_builder.sealed import Workshop
    from tarpit_builder.sources.debian import Archive

KIND = "coverage"
"""Of the tables in ``rules/debug.toml``."""


@dataclass(frozen=True, slots=True)
class CoverageRun:
    """What was counted on *kernel*, by way: ``verify`` and ``fuzz``; *done* says what each did."""

    kernel: str
    date: str
    done: Mapping[str, str]
    ways: Mapping[str, Counts]

    @property
    def counts(self) -> Counts:
        """Both together."""
        return counts.together(*self.ways.values())


def run(
    request: Request,
    options: VerifyOptions,
    fuzzing: FuzzOptions,
    archive: Archive,
    console: Console,
) -> VerifyReport:
    """Run proof and fuzzing on the kernel of *request*, and keep what the module counts meanwhile.

    The report of the proof is returned.

    :raises UserError: if the kernel can have no counters.
    :raises InfrastructureError: if nothing can be booted, or gcov fails.
    """
    from tarpit_builder import fuzzing as fuzz

    options.check()
    fuzzing.check()
    plan = planning.make(request.but(debug=KIND), archive)
    userland = plan.kernel.userland
    assert isinstance(userland, OwnKernel)
    built = building.carry_out(plan, console)
    done, ways = {}, {}
    with staged(plan, console, built.packages(), built) as (subject, workshop):
        folders = {way: workshop.log.with_name(way) for way in ("verify", "fuzz")}
        for folder in folders.values():
            folder.mkdir()
        how = replace(options, coverage=folders["verify"])
        proof = verify(subject, how, workshop.engine, console)
        done["verify"] = proof.summary()
        found = fuzz.fuzz(
            subject, replace(fuzzing, coverage=folders["fuzz"]), workshop.engine, console
        )
        done["fuzz"] = found.figures()
        for way, folder in folders.items():
            ways[way] = _counted(userland.tree, built.folder, folder, workshop)
        result = CoverageRun(proof.kernel, datetime.now(UTC).date().isoformat(), done, ways)
    _keep(result)
    return proof


def _counted(source: Source, built: Path, folder: Path, workshop: Workshop) -> Counts:
    """What the guests have counted into *folder*, for the modules in *built*."""
    members: dict[str, Path | bytes] = {
        str(path.relative_to(folder)): path for path in folder.rglob("*.gcda")
    }
    if not members:
        raise InfrastructureError(
            "no guest handed over its counters", hint="see what they say on their consoles: --log"
        )
    members |= {path.name: path for path in built.glob("*.gcno")}
    output = folder / "out"
    output.mkdir()
    workshop.run(
        steps.step(
            source,
            ("coverage.sh",),
            source.layer,
            (Input("/counters", [Files(members)]),),
            title=f"gcov for {folder.name}",
            done=lambda out: f"{len(list(out.rglob('*.json')))} counters",
        ),
        output,
    )
    return counts.read(output, own_files())


def own_files() -> dict[str, str]:
    """The module's own files, by name, with their text; the headers that stand in for a kernel's
    are not among them."""
    return {
        name: path.read_text() if isinstance(path, Path) else path.decode()
        for name, path in contents.module_source().members.items()
        if name.endswith((".c", ".h")) and not name.startswith(("compat/include", "compat/probes"))
    }


def _folder(dist: Path | None) -> Path:
    return (dist or paths.dist_dir()) / "coverage"


def _keep(result: CoverageRun, dist: Path | None = None) -> None:
    document = {
        "module": records.module_digest(),
        "kernel": result.kernel,
        "date": result.date,
        "done": dict(result.done),
        "ways": {way: counts.dump(counted) for way, counted in result.ways.items()},
    }
    with paths.replacing(_folder(dist) / f"{result.kernel}.json") as stage:
        stage.write_text(json.dumps(document) + "\n")


def kept(dist: Path | None = None) -> list[CoverageRun]:
    """The runs in *dist* that are of the module as it is, the oldest kernel first.

    :raises InfrastructureError: if what was kept is damaged.
    """
    found = []
    module = records.module_digest()
    for path in sorted(_folder(dist).glob("*.json")):
        try:
            data = json.loads(path.read_text())
            if data["module"] != module:
                continue
            ways = {way: counts.load(counted) for way, counted in data["ways"].items()}
            found.append(CoverageRun(data["kernel"], data["date"], data["done"], ways))
        except (ValueError, KeyError, TypeError) as error:
            raise InfrastructureError(
                f"{path.name} in {path.parent} is damaged: {error}",
                hint="remove it, and run `invoke coverage` for its kernel again",
            ) from error
    return sorted(found, key=lambda one: KernelVersion.of_name(one.kernel))


def report(dist: Path | None = None) -> page.Page:
    """The page of what was :func:`kept`.

    :raises UserError: if that is nothing.
    """
    runs: Sequence[CoverageRun] = kept(dist)
    if not runs:
        raise UserError(
            "nothing was counted of this module yet",
            hint="invoke coverage --kernel debian:bullseye, and again for debian:sid",
        )
    return page.make(runs, own_files())
