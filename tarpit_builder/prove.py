"""From a kernel's name to its proof: build what is proven, boot it, judge it by the contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import build as building
from tarpit_builder import evidence, tried
from tarpit_builder import plan as planning
from tarpit_builder.container import Engine
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules
from tarpit_builder.kernels.kernel import IN_TREE
from tarpit_builder.leftovers import scratch
from tarpit_builder.machine import cores
from tarpit_builder.proof import Subject, VerifyOptions, VerifyReport, verify
from tarpit_builder.proof.qemu import emulator
from tarpit_builder.request import EVERY
from tarpit_builder.sealed import Workshop

if TYPE_CHECKING:
    from tarpit_builder.build import BuildResult
    from tarpit_builder.console import Console
    from tarpit_builder.fuzzing import FuzzOptions, FuzzReport
    from tarpit_builder.plan import Plan
    from tarpit_builder.request import Request
    from tarpit_builder.sources.debian import Archive

OWN_PACKAGES = "leave out --packages to prove what `invoke build` makes"


def prove(
    request: Request,
    options: VerifyOptions,
    archive: Archive,
    console: Console,
    *,
    packages: Path | None = None,
    in_tree: str = "",
) -> VerifyReport:
    """Boot the kernel of *request* and judge the packages by the contract.

    If our own packages pass, ``verify.json`` beside their manifest says so; *packages* may be ours
    too, such as a signed package set.

    :param packages: a folder of packages, or one, to be judged in place of our own.
    :param in_tree: ``m`` or ``y`` to have TARPIT in the kernel's own tree, by the patch, as a
        module or in the image, in place of the module from outside.
    :raises UserError: if *request* cannot be met, or *packages* are not there.
    :raises SourceError: if there are headers for the kernel but not the kernel.
    :raises InfrastructureError: if nothing can be booted.
    """
    options.check()
    if in_tree not in {"", *IN_TREE}:
        known = ", ".join(f"{key} for {what}" for key, what in IN_TREE.items())
        raise UserError(f"--in-tree {in_tree}: not known", hint=known)
    plan = planning.make(request, archive)
    kernel = plan.kernel
    kernel.userland.demand_provable(given=packages is not None, in_tree=in_tree)
    emulator(kernel.arch)
    given = _given(packages) if packages else ()
    built = building.result(packages, plan) if packages else building.carry_out(plan, console)
    found = built.packages() if built else given
    with staged(plan, console, found, built, in_tree) as (subject, workshop):
        report = verify(subject, options, workshop.engine, console)
    if built and not in_tree:
        evidence.record(built, report)
        if request.debug and options.full:
            tried.note("debug", f"Linux {report.kernel}", report.summary().partition(": ")[2])
    return report


def fuzz(request: Request, options: FuzzOptions, archive: Archive, console: Console) -> FuzzReport:
    """Build for the kernel of *request*, boot it, and send the module hostile frames.

    With KASAN in it and guided by KCOV, unless *request* says otherwise; ``none`` is the kernel
    as it is.

    :raises UserError: if *request* cannot be met, or *options* are wrong.
    :raises InfrastructureError: if nothing can be booted.
    """
    from tarpit_builder import fuzzing

    options.check()
    asked = request.but(debug={"": "kasan", "none": ""}.get(request.debug, request.debug))
    plan = planning.make(asked, archive)
    plan.kernel.userland.demand_provable(given=False, in_tree="")
    emulator(plan.kernel.arch)
    built = building.carry_out(plan, console)
    with staged(plan, console, built.packages(), built) as (subject, workshop):
        report = fuzzing.fuzz(subject, options, workshop.engine, console)
    if not options.replay:
        tried.note("fuzz", f"Linux {report.kernel}", report.figures())
    return report


def debug_kinds(
    request: Request, options: VerifyOptions
) -> Iterator[tuple[Request, VerifyOptions]]:
    """*request* itself, or, if it asks for all kinds of debug kernels, one for each.

    Files that *options* name then get the kind into their names, ``log-kasan.txt``.
    """
    if request.debug != EVERY:
        yield request, options
        return
    for kind in rules.debug_kinds():
        yield request.but(debug=kind), options.marked(kind)


@contextmanager
def staged(
    plan: Plan,
    console: Console,
    packages: tuple[Path, ...],
    built: BuildResult | None,
    in_tree: str = "",
) -> Iterator[tuple[Subject, Workshop]]:
    """The kernel of *plan* with *packages*, which are *built* by us or somebody's own.

    The workshop's log lies in a folder that lasts as long.

    :raises TarpitError: if the kernel cannot be had or made.
    """
    with scratch("guest") as folder:
        workshop = Workshop(Engine.connect(), plan.name, console, folder / "log", cores())
        where = built.folder if built else None
        subject = plan.kernel.userland.subject(workshop, packages, where, in_tree)
        yield subject, workshop


def _given(where: Path) -> tuple[Path, ...]:
    if not where.exists():
        raise UserError(f"{where} does not exist", hint=OWN_PACKAGES)
    candidates = sorted(where.iterdir()) if where.is_dir() else [where]
    found = tuple(path for path in candidates if path.suffix in {".deb", ".ko", ".so"})
    if not found:
        raise UserError(f"{where} holds no packages (.deb) and no modules (.ko)", hint=OWN_PACKAGES)
    return found
