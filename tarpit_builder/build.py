"""From a plan to packages in ``dist/``, or to nothing at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import builder, digests, paths
from tarpit_builder import plan as planning
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, locked
from tarpit_builder.machine import cores
from tarpit_builder.packaging import contents
from tarpit_builder.plan import Plan
from tarpit_builder.sealed import Workshop

if TYPE_CHECKING:
    from tarpit_builder.request import Request
    from tarpit_builder.sources.debian import Archive

MANIFEST = "manifest.json"
LOG = "build.log"
TOOLCHAIN = "toolchain.txt"
FORMAT = 1  # of the manifest


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build: its folder, its manifest, and whether it had to be made now.

    *install* are lines that say how to install it, with ``{folder}`` for the folder.
    """

    folder: Path
    manifest: Mapping[str, Any]
    fresh: bool
    install: tuple[str, ...] = ()

    def packages(self) -> tuple[Path, ...]:
        """The binary packages."""
        return tuple(
            self.folder / item["file"]
            for item in self.manifest["outputs"]
            if item["file"].endswith(".deb")
        )


def build(
    request: Request,
    archive: Archive,
    console: Console,
    *,
    dist: Path | None = None,
    force: bool = False,
) -> BuildResult:
    """Build the packages for *request*, unless the same build is in *dist* already.

    Two builds of the same kernel at once take turns, and the second finds the first's result.

    :raises TarpitError: of the kind of what went wrong; *dist* is then as it was.
    """
    return carry_out(planning.make(request, archive), console, dist=dist, force=force)


def carry_out(
    plan: Plan,
    console: Console,
    *,
    dist: Path | None = None,
    force: bool = False,
    anew: Path | None = None,
) -> BuildResult:
    """The same for a *plan*.

    :param anew: a folder for the results of single steps, none of which is then taken from the
        cache.
    """
    for warning in plan.warnings:
        console.warn(warning)
    kernel = plan.kernel
    fetched = (*kernel.tree.fetch(console), *kernel.userland.fetch(console))
    key = digests.digest([plan.key(), *fetched])
    folder = (dist or paths.dist_dir()) / plan.name
    with holding(folder):
        if not force and (manifest := finished(folder, key)) is not None:
            return BuildResult(
                folder, manifest, fresh=False, install=kernel.userland.install(manifest)
            )
        began = datetime.now(UTC)
        with paths.staged_dir(folder) as stage:
            workshop = Workshop(Engine.connect(), plan.name, console, stage / LOG, cores(), anew)
            kernel.userland.build(workshop, stage)
            manifest = _manifest(plan, key, workshop, stage) | {
                "builder": builder.facts(),
                "started": f"{began:%Y-%m-%dT%H:%M:%SZ}",
                "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            }
            (stage / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return BuildResult(folder, manifest, fresh=True, install=kernel.userland.install(manifest))


def holding(folder: Path) -> AbstractContextManager[None]:
    """The lock of whoever writes into the result *folder*."""
    return locked(f"dist-{digests.digest([str(folder)])[:16]}")


def finished(folder: Path, key: str | None = None) -> Mapping[str, Any] | None:
    """The manifest of the result in *folder*, if it is whole and, with *key*, of that build."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT or key not in {None, manifest["key"]}:
            return None
        for item in manifest["outputs"]:
            if digests.file(folder / item["file"]) != item["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest


def result(folder: Path, plan: Plan) -> BuildResult | None:
    """What is in *folder*, if that is a whole package set for the kernel of *plan*."""
    manifest = finished(folder)
    if manifest is None or manifest["plan"].get("kernel") != plan.facts().get("kernel"):
        return None
    return BuildResult(folder, manifest, fresh=False)


def outputs(stage: Path) -> list[dict[str, Any]]:
    """What a manifest lists: every file in *stage* that is a result, with size and digest."""
    return [
        {
            "file": str(path.relative_to(stage)),
            "size": path.stat().st_size,
            "sha256": digests.file(path),
        }
        for path in sorted(stage.rglob("*"))
        if path.is_file() and path.name not in {MANIFEST, LOG}
    ]


def _manifest(plan: Plan, key: str, workshop: Workshop, stage: Path) -> dict[str, Any]:
    userland, engine = plan.kernel.userland, workshop.engine
    recipe = userland.recipes[0]
    toolchain = stage / TOOLCHAIN
    sources: list[dict[str, object]] = []
    for source in (*plan.kernel.tree.manifest(), *userland.manifest()):
        if source not in sources:
            sources.append(source)
    return {
        "format": FORMAT,
        "key": key,
        "command": plan.command,
        "maintainer": contents.maintainer(),
        "homepage": contents.homepage(),
        "plan": plan.facts(),
        "sources": sources,
        "module": digests.members(userland.source().members),
        "image": {
            "tag": recipe.foreign or recipe.tag,
            "id": engine.ensure_image(recipe, workshop.console),
            "engine": engine.describe(),
        },
        "toolchain": toolchain.read_text().splitlines() if toolchain.is_file() else [],
        "outputs": outputs(stage),
    }
