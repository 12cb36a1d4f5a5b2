"""The steps of a build, each a script of ``containers/upstream/`` in a sealed run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tarpit_builder import packaging, paths
from tarpit_builder.build import TAIL, with_log
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe, Tar, locked
from tarpit_builder.errors import BuildError, UserError
from tarpit_builder.sources import MODULE_BUILD, FetchedTree
from tarpit_builder.upstream import inputs, packages, rules
from tarpit_builder.upstream.plan import IptablesPlan, UpstreamPlan
from tarpit_builder.upstream.toolchain import Layer

SCRIPTS = paths.PROJECT / "containers" / "upstream"
DEFAULT_CONFIG = SCRIPTS / "default.config"
REFUSED = "refused: "  # how a script says that the request, not the build, is wrong


@dataclass(frozen=True, slots=True)
class Work:
    """What the steps of one build share."""

    engine: Engine
    plan: UpstreamPlan
    console: Console
    log: Path
    jobs: int


def module(work: Work, tree: FetchedTree, files: inputs.KernelFiles, output: Path) -> None:
    """The module, in *output*, with its kernel's release and configuration."""
    plan = work.plan
    request = _request(files)
    if patch := rules.patch(plan.kernel):
        request["patch"] = patch
    with work.console.stage(f"{plan.rule.module} for {plan.name}") as stage:
        run(
            work,
            "module.sh",
            plan.kernel_recipe,
            [
                _module_tree(tree),
                Input("/src", [packages.module_source(plan.rule.module)]),
                Input("/request", [Files(request)]),
            ],
            plan.layer,
            output,
            {
                "KARCH": plan.karch,
                "SUFFIX": plan.suffix,
                "MODULE": plan.rule.module,
                "TARPIT_VERSION": plan.version,
            },
        )
        stage.done((output / "release").read_text().strip())


def image(
    work: Work,
    layer: Layer,
    tree: FetchedTree,
    files: inputs.KernelFiles,
    *,
    patch: Path | None = None,
    settings: str = "",
) -> Path:
    """A whole kernel: ``bzImage``, ``release``, ``config`` and its ``modules/``, if it has any.

    It is kept in the cache.

    :param patch: the in-tree form of TARPIT, to be built in.
    :param settings: lines for the configuration beside the default ones.
    """
    plan = work.plan
    request = _request(files, settings)
    if patch:
        request["patch"] = patch
    parts = [
        plan.karch,
        plan.suffix,
        work.engine.ensure_image(plan.kernel_recipe, work.console)
        if plan.request.image
        else plan.kernel_recipe.tag,
        tree.tree,
        *(f"{name} {content(_bytes(given))}" for name, given in sorted(request.items())),
        content(*layer.files().values()),
        _scripts("lib.sh", "configure.sh", "image.sh"),
    ]

    def make(output: Path) -> None:
        with work.console.stage(f"kernel image {plan.name}") as stage:
            run(
                work,
                "image.sh",
                plan.kernel_recipe,
                [
                    Input("/kernel", [Tar(tree.tar)], digest([tree.tree, "whole"])),
                    Input("/request", [Files(request)]),
                ],
                layer,
                output,
                {"KARCH": plan.karch, "SUFFIX": plan.suffix},
            )
            stage.done((output / "release").read_text().strip())

    return _cached(f"image-{plan.kernel}-{plan.arch}", parts, make)


def iptables(work: Work, wanted: IptablesPlan, tree: FetchedTree, headers: FetchedTree) -> Path:
    """A static iptables: ``sbin/`` and ``man/``, kept in the cache."""
    plan = work.plan
    patch = rules.patch(wanted.version)
    parts = [
        plan.arch,
        plan.recipe.tag,
        tree.tree,
        headers.tree,
        content(*wanted.layer.files().values()),
        content(*((patch.read_bytes(),) if patch else ())),
        _scripts("lib.sh", "iptables.sh"),
    ]

    def make(output: Path) -> None:
        with work.console.stage(f"iptables {wanted.version} ({plan.arch})"):
            run(
                work,
                "iptables.sh",
                plan.recipe,
                [
                    Input("/iptables", [Tar(tree.tar)], digest([tree.tree, "whole"])),
                    _module_tree(headers),
                    Input("/request", [Files({"patch": patch} if patch else {})]),
                ],
                wanted.layer,
                output,
                {"KARCH": plan.karch},
            )

    return _cached(f"iptables-{wanted.version}", parts, make)


def guest(work: Work, wanted: IptablesPlan, agent: Path) -> Path:
    """What else a guest has: ``init``, made from *agent*, and ``modprobe``; kept in the cache."""
    plan = work.plan
    parts = [
        plan.recipe.tag,
        plan.arch,
        content(agent.read_bytes()),
        _scripts("guest.sh", "modprobe.c"),
    ]

    def make(output: Path) -> None:
        given = [Input("/request", [Files({"agent.c": agent})])]
        run(work, "guest.sh", plan.recipe, given, Layer(wanted.layer.compiler), output, {})

    return _cached(f"guest-{plan.arch}", parts, make)


def _cached(name: str, parts: Iterable[str], make: Callable[[Path], None]) -> Path:
    """The folder that *make* fills, made once for the same *parts*."""
    key = digest(parts)
    final = paths.cache_dir() / "upstream" / f"{name}-{key[:24]}"
    with locked(f"upstream-{key[:16]}"):
        if not final.is_dir():
            with paths.staged_dir(final) as stage:
                make(stage)
    return final


def _scripts(*names: str) -> str:
    return content(*((SCRIPTS / name).read_bytes() for name in names))


def _bytes(given: Path | bytes) -> bytes:
    return given if isinstance(given, bytes) else given.read_bytes()


def _module_tree(tree: FetchedTree) -> Input:
    archive = Tar(partial(tree.tar, only=MODULE_BUILD))
    return Input("/kernel", [archive], digest([tree.tree, *MODULE_BUILD]))


def _request(files: inputs.KernelFiles, settings: str = "") -> dict[str, Path | bytes]:
    request: dict[str, Path | bytes] = {}
    if files.config is not None:
        request["config"] = files.config + settings.encode()
    else:
        request["fragment"] = DEFAULT_CONFIG.read_bytes() + settings.encode()
    if files.symvers is not None:
        request["symvers"] = files.symvers
    return request


def run(
    work: Work,
    script: str,
    recipe: Recipe,
    given: list[Input],
    layer: Layer,
    output: Path,
    environment: Mapping[str, str],
) -> None:
    """Run one of the scripts of ``containers/upstream/`` and judge how it ended."""
    scripts = Files({path.name: path for path in sorted(SCRIPTS.iterdir())})
    image = work.engine.ensure_image(recipe, work.console)
    with work.log.open("a", encoding="utf-8") as log:

        def note(line: str) -> None:
            log.write(f"[{time.monotonic() - began:8.2f}] {line}\n")

        began = time.monotonic()
        note(f"== {script}")
        try:
            result = work.engine.run(
                image,
                ["sh", f"/scripts/{script}"],
                inputs=[
                    *given,
                    Input("/layer", [Files(layer.files())]),
                    Input("/scripts", [scripts]),
                ],
                output=output,
                environment={
                    **environment,
                    "JOBS": str(work.jobs),
                    "SOURCE_DATE_EPOCH": str(packaging.source_date_epoch()),
                },
                limits=Limits(),
                on_line=note,
            )
        except BuildError as error:
            raise with_log(error, work.log, work.plan.name) from error
    refusals = [line for line in result.lines if line.startswith(REFUSED)]
    if result.status and refusals:
        message, _, hint = refusals[-1].removeprefix(REFUSED).partition("|")
        raise UserError(message, hint=hint)
    if result.status:
        failure = BuildError(
            f"building for {work.plan.name} failed (status {result.status})",
            hint="another toolchain fix or compile probe may be needed for this kernel",
            tail=result.lines[-TAIL:],
        )
        raise with_log(failure, work.log, work.plan.name)


def content(*parts: bytes) -> str:
    """One digest for *parts*; that of a single part is its plain SHA-256."""
    if len(parts) == 1:
        return hashlib.sha256(parts[0]).hexdigest()
    return digest(hashlib.sha256(part).hexdigest() for part in parts)


def digest(parts: Iterable[str]) -> str:
    """One digest for *parts*."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
