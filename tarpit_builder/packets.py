"""What an answer costs, beside REJECT, DROP and the peer: ``invoke bench --packets``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tarpit_builder import build as building
from tarpit_builder import evidence, paths, peers, prove
from tarpit_builder import plan as planning
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.proof import VerifyOptions, VerifyReport, verify

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.request import Request
    from tarpit_builder.sources.debian import Archive

RESULTS = "bench"
"""Folder in ``dist/`` for what was measured; `invoke report` shows it."""


def run(request: Request, archive: Archive, console: Console) -> VerifyReport:
    """Count the instructions that the kernel of *request* spends on packets.

    Its notes are the tables, one for each backend of iptables.

    :raises TarpitError: as a build and its proof do.
    """
    plan = planning.make(request, archive)
    userland = plan.kernel.userland
    userland.demand_provable(given=False, in_tree="")
    built = building.carry_out(plan, console)
    with prove.staged(plan, console, built.packages(), built) as (subject, workshop):
        modules = peers.module(workshop, userland) if isinstance(userland, SuiteUserland) else ()
        judged = replace(
            subject,
            packages=(*subject.packages, *modules),
            tools=replace(subject.tools, peer=peers.MODULE if modules else ""),
        )
        report = verify(judged, VerifyOptions(only=("cost",), jobs=1), workshop.engine, console)
    with paths.replacing(paths.dist_dir() / RESULTS / f"packets-{plan.name}.json") as stage:
        stage.write_text(evidence.document(report))
    return report
