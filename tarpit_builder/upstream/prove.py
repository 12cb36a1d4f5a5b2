"""``invoke verify`` for a kernel of kernel.org: a small image of it, booted with what was built."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tarpit_builder import evidence
from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.errors import UserError
from tarpit_builder.machine import cores
from tarpit_builder.proof import UserLand, VerifyReport, VerifyRequest, verify
from tarpit_builder.proof.initramfs import SCRIPTS as PROOF_SCRIPTS
from tarpit_builder.proof.lab import Tools
from tarpit_builder.prove import Options
from tarpit_builder.sources import FetchedTree
from tarpit_builder.sources.debian import Mirrors
from tarpit_builder.upstream import build as building
from tarpit_builder.upstream import inputs, rules, steps, toolchain
from tarpit_builder.upstream.plan import UpstreamRequest
from tarpit_builder.upstream.steps import Work
from tarpit_builder.upstream.trees import Trees
from tarpit_builder.versions import IptablesVersion

GROUPS = ("smoke", "wire", "honeypot", "reset", "storms")
"""Groups of checks that need no more user land than a static iptables."""

OPTIONS = {"ipt_TARPIT": "IP_NF_TARGET_TARPIT", "xt_TARPIT": "NETFILTER_XT_TARGET_TARPIT"}
"""What the patches call the setting for each module."""

BOOT_SECONDS = 180.0  # a loaded machine takes its time; an idle one boots these in a second


def prove(
    request: UpstreamRequest,
    options: Options,
    trees: Trees,
    console: Console,
    *,
    mirrors: Mirrors | None = None,
    jobs: int = 0,
    in_tree: str = "",
) -> VerifyReport:
    """Boot the kernel of *request* and judge module and iptables by the contract.

    :param in_tree: ``m`` or ``y`` to build TARPIT in the kernel's own tree, by the patch, as a
        module or into the image, in place of the module from outside.
    :raises UserError: if *request* is for a kernel of the user's own, or without iptables.
    :raises InfrastructureError: if nothing can be booted.
    """
    if request.config or request.image or request.iptables == "none":
        raise UserError(
            "a kernel of kernel.org is proven in the default configuration, with an iptables",
            hint="leave --config, --image and --iptables none out",
        )
    if in_tree not in {"", "m", "y"}:
        raise UserError(
            f"--in-tree {in_tree}: not known", hint="m for a module, y for a part of the image"
        )
    mirrors = mirrors or Mirrors.choose(None)
    plan = building.plan_for(request, mirrors)
    result = building.build(request, trees, console, mirrors=mirrors, jobs=jobs)
    with tempfile.TemporaryDirectory(prefix="tarpit-guest-") as name:
        scratch = Path(name)
        work = Work(Engine.connect(), plan, console, scratch / "log", jobs or cores())
        tree = trees.kernel(plan.kernel, console)
        image = _image(work, tree, in_tree)
        module = plan.rule.module
        modules = {f"/lib/modules/{module}.ko": result.folder / f"{module}.ko"}
        if in_tree:
            modules = {f"/lib/modules/{path.name}": path for path in image.glob("modules/*.ko")}
        assert plan.iptables
        programs = steps.iptables(work, plan.iptables, *trees.for_iptables(plan, console, tree))
        guest = steps.guest(work, plan.iptables, PROOF_SCRIPTS / "agent.c")
        wanted = VerifyRequest(
            land=UserLand(suite=toolchain.suite(), arch=plan.arch, mirror=mirrors.main),
            kernel_image=image / "bzImage",
            files={
                "/init": guest / "init",
                "/sbin/modprobe": guest / "modprobe",
                **modules,
                **_programs(programs / "sbin"),
            },
            only=tuple(options.only) or (GROUPS if options.full else ("smoke",)),
            backends=("legacy",),
            cpus=options.cpus,
            accel=options.accel,
            jobs=options.jobs,
            timeout=BOOT_SECONDS,
            pcap=options.pcap,
            json=options.json,
            junit=options.junit,
            console_log=options.log,
            tools=Tools(
                module=module,
                builtin=in_tree == "y",
                families=families(plan.iptables.version),
                wait=(),
                card="e1000",
            ),
        )
        report = verify(wanted, work.engine, console)
    if not in_tree:
        evidence.record(result, report)
    return report


def families(version: IptablesVersion) -> tuple[int, ...]:
    """The address families that the extension for *version* serves."""
    patch = rules.patch(version)
    both = patch is not None and "extensions/libip6t_TARPIT.c" in patch.read_text()
    return (4, 6) if both else (4,)


def _image(work: Work, tree: FetchedTree, in_tree: str) -> Path:
    """The folder with the kernel that is booted."""
    plan = work.plan
    layer = toolchain.for_kernel(plan.kernel, plan.arch, image=True)
    if not in_tree:
        return steps.image(work, layer, tree, inputs.KernelFiles())
    patch = rules.patch(plan.kernel)
    if patch is None:
        raise UserError(
            f"there is no in-tree patch for Linux {plan.kernel}",
            hint="`invoke patch` lists the releases that have one",
        )
    settings = f"CONFIG_{OPTIONS[plan.rule.module]}={in_tree}\n"
    return steps.image(work, layer, tree, inputs.KernelFiles(), patch=patch, settings=settings)


def _programs(folder: Path) -> Mapping[str, Path]:
    """The programs under their own names, and under those that the checks call."""
    files = {}
    for path in folder.iterdir():
        files[f"/sbin/{path.name}"] = path
        files[f"/sbin/{path.name.replace('tables', 'tables-legacy', 1)}"] = path
    return files
