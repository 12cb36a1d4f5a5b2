"""From a plan for a kernel of kernel.org to packages in ``dist/``, or to nothing at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tarpit_builder import packaging, paths, sources
from tarpit_builder.build import FORMAT, LOG, MANIFEST, TAIL, BuildResult, finished, with_log
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe, Tar, locked
from tarpit_builder.errors import BuildError, UserError
from tarpit_builder.sources import MODULE_BUILD, FetchedTree, GitRepository, Options, Tarball
from tarpit_builder.sources.debian import Mirrors
from tarpit_builder.sources.store import Store
from tarpit_builder.suites import known
from tarpit_builder.upstream import inputs, packages, rules, toolchain
from tarpit_builder.upstream import plan as planning
from tarpit_builder.upstream.plan import IptablesPlan, UpstreamPlan, UpstreamRequest
from tarpit_builder.upstream.toolchain import Layer
from tarpit_builder.versions import IptablesVersion, KernelVersion

SCRIPTS = paths.PROJECT / "containers" / "upstream"
DEFAULT_CONFIG = SCRIPTS / "default.config"
TOOLCHAIN = "toolchain.txt"
REFUSED = "refused: "  # how a script says that the request, not the build, is wrong


@dataclass(frozen=True, slots=True)
class Trees:
    """Where source trees come from: release tarballs, unless a repository or folder is named."""

    store: Store
    kernel_git: str = ""
    ref: str = ""
    kernel_tree: str = ""
    iptables_git: str = ""
    options: Options = field(default_factory=Options)

    def kernel(self, version: KernelVersion, console: Console) -> FetchedTree:
        """The verified tree of the kernel that is built for.

        :raises UserError: if ``--kernel-tree`` or ``--ref`` is another release.
        """
        source = sources.kernel_source(
            version, git=self.kernel_git, ref=self.ref, tree=self.kernel_tree
        )
        tree = sources.fetch_kernel(source, self.store, console, options=self.options)
        if isinstance(tree.version, KernelVersion) and tree.version != version:
            raise UserError(
                f"{tree.origin} is Linux {tree.version}, not {version}",
                hint=f"add --kernel {tree.version}, or name another tree",
            )
        return tree

    def headers(self, version: KernelVersion, console: Console) -> FetchedTree:
        """The verified tree of another release, whose headers iptables needs."""
        source = sources.kernel_source(version, git=self.kernel_git)
        return sources.fetch_kernel(source, self.store, console, options=self.options)

    def iptables(self, version: IptablesVersion, console: Console) -> FetchedTree:
        """The verified tree of an iptables release."""
        source: GitRepository[IptablesVersion] | Tarball[IptablesVersion] = (
            GitRepository(self.iptables_git, version) if self.iptables_git else Tarball(version)
        )
        return sources.fetch_iptables(source, self.store, console, options=self.options)


@dataclass(frozen=True, slots=True)
class Work:
    """What the steps of one build share."""

    engine: Engine
    plan: UpstreamPlan
    console: Console
    log: Path
    jobs: int


def plan_for(request: UpstreamRequest, mirrors: Mirrors) -> UpstreamPlan:
    """The plan for *request*, with its image from *mirrors*."""
    suite = known()[toolchain.suite()]
    return planning.make(request, mirrors.apt_sources(suite), mirrors.main)


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
    plan = plan_for(request, mirrors or Mirrors.choose(None))
    files = inputs.read(request)
    for warning in (*plan.warnings, *files.warnings):
        console.warn(warning)
    tree = trees.kernel(plan.kernel, console)
    tools = iptables_trees(plan, trees, console, tree)
    # What is theirs may change under its name; ours is in the plan, and need not be there yet.
    theirs = Engine.connect().ensure_image(plan.kernel_recipe, console) if request.image else ""
    key = _key(plan, files, [tree, *tools], theirs)
    folder = (dist or paths.dist_dir()) / plan.name
    with locked(f"dist-{digest([str(folder)])[:16]}"):
        if not force and (manifest := finished(folder, key)) is not None:
            return BuildResult(folder, manifest, fresh=False, period=True)
        paths.remove_leftovers(folder)
        with paths.staged_dir(folder) as stage:
            work = Work(Engine.connect(), plan, console, stage / LOG, jobs or cores())
            with tempfile.TemporaryDirectory(prefix="tarpit-results-") as temporary:
                results = Path(temporary)
                _module(work, tree, files, results)
                if plan.iptables:
                    made = iptables(work, plan.iptables, *tools)
                    shutil.copytree(made, results / "iptables")
                if plan.image_layer:
                    image(work, plan.image_layer, tree, files, results / "image")
                _collect(plan, results, stage)
            manifest = _manifest(work, key, [tree, *tools], stage)
            (stage / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return BuildResult(folder, manifest, fresh=True, period=True)


def cores() -> int:
    """Processes at once: ``$TARPIT_JOBS``, else as many as there are processors."""
    said = os.environ.get("TARPIT_JOBS", "")
    return int(said) if said.isdigit() and int(said) else os.cpu_count() or 1


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
            content(files.config or DEFAULT_CONFIG.read_bytes(), files.symvers or b""),
            content(*packages.everything(plan)),
            content(*(path.read_bytes() for path in sorted(SCRIPTS.iterdir()))),
            content(*(path.read_bytes() for path in patches(plan) if path)),
        ]
    )


def patches(plan: UpstreamPlan) -> tuple[Path | None, Path | None]:
    """The patches of *plan*, for the kernel and for iptables, where they exist."""
    tables = rules.patch(plan.iptables.version) if plan.iptables else None
    return rules.patch(plan.kernel), tables


def image(
    work: Work,
    layer: Layer,
    tree: FetchedTree,
    files: inputs.KernelFiles,
    output: Path,
    *,
    patch: Path | None = None,
    settings: str = "",
) -> None:
    """A whole kernel, in *output*: ``bzImage``, ``release``, ``config`` and ``modules/``.

    :param patch: the in-tree form of TARPIT, to be built in.
    :param settings: lines for the configuration beside the default ones.
    """
    request = _request(files, settings)
    if patch:
        request["patch"] = patch
    with work.console.stage(f"kernel image {work.plan.name}") as stage:
        paths.make_dir(output)
        run(
            work,
            "image.sh",
            work.plan.kernel_recipe,
            [
                Input("/kernel", [Tar(tree.tar)], digest([tree.tree, "whole"])),
                Input("/request", [Files(request)]),
            ],
            layer,
            output,
            {"KARCH": work.plan.karch, "SUFFIX": work.plan.suffix},
        )
        stage.done((output / "release").read_text().strip())


def iptables(work: Work, wanted: IptablesPlan, tree: FetchedTree, headers: FetchedTree) -> Path:
    """The folder with a static iptables, from the cache if it was built before."""
    patch = patches(work.plan)[1]
    key = digest(
        [
            work.plan.arch,
            work.plan.recipe.tag,
            tree.tree,
            headers.tree,
            content(*wanted.layer.files().values()),
            content(*((patch.read_bytes(),) if patch else ())),
            content(*((SCRIPTS / name).read_bytes() for name in ("lib.sh", "iptables.sh"))),
        ]
    )
    final = paths.cache_dir() / "upstream" / f"iptables-{wanted.version}-{key[:24]}"
    with locked(f"iptables-{key[:16]}"):
        if final.is_dir():
            return final
        with (
            paths.staged_dir(final) as stage,
            work.console.stage(f"iptables {wanted.version} ({work.plan.arch})"),
        ):
            run(
                work,
                "iptables.sh",
                work.plan.recipe,
                [
                    Input("/iptables", [Tar(tree.tar)], digest([tree.tree, "whole"])),
                    _module_tree(headers),
                    Input("/request", [Files({"patch": patch} if patch else {})]),
                ],
                wanted.layer,
                stage,
                {"KARCH": work.plan.karch},
            )
    return final


def iptables_trees(
    plan: UpstreamPlan, trees: Trees, console: Console, kernel: FetchedTree | None = None
) -> tuple[FetchedTree, ...]:
    """The trees that :func:`iptables` takes; *kernel* is that of the plan, if it is here."""
    if plan.iptables is None:
        return ()
    headers = kernel
    if headers is None or plan.iptables.rule.headers != plan.kernel:
        headers = trees.headers(plan.iptables.rule.headers, console)
    return trees.iptables(plan.iptables.version, console), headers


def _module(work: Work, tree: FetchedTree, files: inputs.KernelFiles, results: Path) -> None:
    plan = work.plan
    request = _request(files)
    if patch := patches(plan)[0]:
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
            results,
            {
                "KARCH": plan.karch,
                "SUFFIX": plan.suffix,
                "MODULE": plan.rule.module,
                "TARPIT_VERSION": plan.version,
            },
        )
        stage.done((results / "release").read_text().strip())


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


def _collect(plan: UpstreamPlan, results: Path, stage: Path) -> None:
    """Put what the user gets from *results* into *stage*."""
    release = (results / "release").read_text().strip()
    shutil.copyfile(results / f"{plan.rule.module}.ko", stage / f"{plan.rule.module}.ko")
    shutil.copyfile(results / "config", stage / f"config-{release}")
    shutil.copyfile(results / TOOLCHAIN, stage / TOOLCHAIN)
    for patch in filter(None, patches(plan)):
        shutil.copyfile(patch, stage / patch.name)
    if (results / "patched").is_dir():
        shutil.copytree(results / "patched", stage / "patched")
    if plan.image_layer:
        shutil.copyfile(results / "image" / "bzImage", stage / f"vmlinuz-{release}")
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


def content(*parts: bytes) -> str:
    """One digest for *parts*; that of a single part is its plain SHA-256."""
    if len(parts) == 1:
        return hashlib.sha256(parts[0]).hexdigest()
    return digest(hashlib.sha256(part).hexdigest() for part in parts)


def digest(parts: Iterable[str]) -> str:
    """One digest for *parts*."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
