"""From a plan for a kernel of kernel.org to packages in ``dist/``, or to nothing at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tarpit_builder import paths
from tarpit_builder.build import FORMAT, LOG, MANIFEST, BuildResult, finished
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, locked
from tarpit_builder.leftovers import scratch
from tarpit_builder.machine import cores
from tarpit_builder.plan import mirror_choices
from tarpit_builder.sources import FetchedTree
from tarpit_builder.sources.debian import Mirrors
from tarpit_builder.suites import known
from tarpit_builder.upstream import inputs, packages, rules, steps, toolchain
from tarpit_builder.upstream import plan as planning
from tarpit_builder.upstream.plan import UpstreamPlan, UpstreamRequest
from tarpit_builder.upstream.steps import Work, content, digest
from tarpit_builder.upstream.trees import Trees

TOOLCHAIN = "toolchain.txt"


def plan_for(
    request: UpstreamRequest, mirrors: Mirrors, trees: Trees | None = None
) -> UpstreamPlan:
    """The plan for *request*, with its image from *mirrors* and its sources from *trees*.

    :raises UserError: if the request cannot be met, or names a tree that is not there.
    """
    suite = known()[toolchain.suite()]
    made = planning.make(request, mirrors.apt_sources(suite), mirrors.main)
    if trees is None:
        return replace(made, choices=(*made.choices, *mirror_choices(mirrors)))
    return replace(
        made,
        choices=(*made.choices, *trees.outlook(made), *mirror_choices(mirrors)),
        options=(*trees.words(), *mirrors.words()),
    )


def build(
    request: UpstreamRequest,
    trees: Trees,
    console: Console,
    *,
    mirrors: Mirrors | None = None,
    dist: Path | None = None,
    force: bool = False,
    jobs: int = 0,
) -> BuildResult:
    """Build the packages for *request*, unless the same build is in *dist* already.

    :param jobs: processes at once; 0 for ``$TARPIT_JOBS``, else as many as there are processors.
    :raises TarpitError: of the kind of what went wrong; *dist* is then as it was.
    """
    plan = plan_for(request, mirrors or Mirrors.choose(None), trees)
    files = inputs.read(request)
    for warning in (*plan.warnings, *files.warnings):
        console.warn(warning)
    tree = trees.kernel(plan.kernel, console)
    tools = trees.for_iptables(plan, console, tree)
    # What is theirs may change under its name; ours is in the plan, and need not be there yet.
    theirs = Engine.connect().ensure_image(plan.kernel_recipe, console) if request.image else ""
    key = _key(plan, files, [tree, *tools], theirs)
    folder = (dist or paths.dist_dir()) / plan.name
    with locked(f"dist-{digest([str(folder)])[:16]}"):
        if not force and (manifest := finished(folder, key)) is not None:
            return BuildResult(folder, manifest, fresh=False, period=True)
        with paths.staged_dir(folder) as stage:
            work = Work(Engine.connect(), plan, console, stage / LOG, jobs or cores())
            with scratch("results") as results:
                steps.module(work, tree, files, results)
                if plan.iptables:
                    made = steps.iptables(work, plan.iptables, *tools)
                    shutil.copytree(made, results / "iptables")
                if plan.image_layer:
                    made = steps.image(work, plan.image_layer, tree, files)
                    shutil.copytree(made, results / "image")
                _collect(plan, results, stage)
            manifest = _manifest(work, key, [tree, *tools], stage)
            (stage / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return BuildResult(folder, manifest, fresh=True, period=True)


def _key(
    plan: UpstreamPlan, files: inputs.KernelFiles, trees: Iterable[FetchedTree], image: str
) -> str:
    """A digest of everything that the result depends on.

    :param image: id of the image that the kernel's part runs in, if it is the user's own.
    """
    return digest(
        [
            plan.key(),
            image,
            *(tree.tree for tree in trees),
            content(files.config or steps.DEFAULT_CONFIG.read_bytes(), files.symvers or b""),
            content(*packages.everything(plan)),
            content(*(path.read_bytes() for path in sorted(steps.SCRIPTS.iterdir()))),
            content(*(path.read_bytes() for path in _patches(plan))),
        ]
    )


def _collect(plan: UpstreamPlan, results: Path, stage: Path) -> None:
    """Put what the user gets from *results* into *stage*."""
    release = (results / "release").read_text().strip()
    shutil.copyfile(results / f"{plan.rule.module}.ko", stage / f"{plan.rule.module}.ko")
    shutil.copyfile(results / "config", stage / f"config-{release}")
    shutil.copyfile(results / TOOLCHAIN, stage / TOOLCHAIN)
    for patch in _patches(plan):
        shutil.copyfile(patch, stage / patch.name)
    if (results / "patched").is_dir():
        shutil.copytree(results / "patched", stage / "patched")
    if plan.image_layer:
        shutil.copyfile(results / "image" / "bzImage", stage / f"vmlinuz-{release}")
        if (results / "image" / "modules").is_dir():
            shutil.copytree(results / "image" / "modules", stage / "modules")
    for deb in packages.make(plan, results):
        (stage / deb.file_name).write_bytes(deb.build())


def _manifest(work: Work, key: str, trees: Iterable[FetchedTree], stage: Path) -> dict[str, Any]:
    unique = {tree.tree: tree for tree in trees}
    return {
        "format": FORMAT,
        "key": key,
        "command": work.plan.command,
        "plan": work.plan.facts(),
        "sources": [tree.manifest() for tree in unique.values()],
        "module": {
            name: content(source if isinstance(source, bytes) else source.read_bytes())
            for name, source in sorted(
                packages.module_source(work.plan.rule.module).members.items()
            )
        },
        "image": {
            "tag": work.plan.image,
            "id": work.engine.ensure_image(work.plan.kernel_recipe, work.console),
            "engine": work.engine.describe(),
        },
        "toolchain": (stage / TOOLCHAIN).read_text().splitlines(),
        "outputs": [
            {
                "file": str(path.relative_to(stage)),
                "size": path.stat().st_size,
                "sha256": content(path.read_bytes()),
            }
            for path in sorted(stage.rglob("*"))
            if path.is_file() and path.name not in {MANIFEST, LOG}
        ],
    }


def _patches(plan: UpstreamPlan) -> list[Path]:
    """The patches of *plan*, for the kernel and for iptables, where they exist."""
    found = [rules.patch(plan.kernel), plan.iptables and rules.patch(plan.iptables.version)]
    return [path for path in found if path]
