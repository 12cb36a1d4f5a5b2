"""From a plan to packages in ``dist/``, or to nothing at all."""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from tarpit_builder import packaging, paths
from tarpit_builder import plan as planning
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Tar, locked
from tarpit_builder.errors import BuildError, SourceError
from tarpit_builder.plan import BuildPlan, Request
from tarpit_builder.sources.debian import Archive, Package

MANIFEST = "manifest.json"
LOG = "build.log"
FORMAT = 1  # of the manifest
TAIL = 15  # lines of a failed build that are shown


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build: its folder, its manifest, and whether it had to be made now.

    With *period*, its packages are for a system of the kernel's own age, other than this one.
    """

    folder: Path
    manifest: Mapping[str, Any]
    fresh: bool
    period: bool = False

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
    kernel = planning.resolve(request, archive)
    plan = planning.make(request, kernel, archive)
    if kernel.expired:
        console.warn(
            f"the mirror's index of {kernel.suite.name} expired on {kernel.expired}: "
            "newer kernels may exist that it does not show"
        )
    source = packaging.source_files(package_set(plan))
    scripts = packaging.build_scripts()
    key = _digest([plan.key(), _content(source), _content(scripts)])
    folder = (dist or paths.dist_dir()) / plan.name
    with locked(f"dist-{_digest([str(folder)])[:16]}"):
        if not force and (manifest := finished(folder, key)) is not None:
            return BuildResult(folder, manifest, fresh=False)
        paths.remove_leftovers(folder)
        engine = Engine.connect()
        headers = _fetch(plan, archive, console)
        image = engine.ensure_image(plan.recipe, console)
        with paths.staged_dir(folder) as stage:
            _run(engine, image, plan, headers, source, scripts, stage, console)
            manifest = _manifest(plan, key, engine, image, source, stage)
            (stage / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return BuildResult(folder, manifest, fresh=True)


def finished(folder: Path, key: str | None = None) -> Mapping[str, Any] | None:
    """The manifest of the result in *folder*, if it is whole and, with *key*, of that build."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT or key not in {None, manifest["key"]}:
            return None
        for item in manifest["outputs"]:
            if _sha256(folder / item["file"]) != item["sha256"]:
                return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest


def header_input(packages: Iterable[Package], files: Iterable[Path]) -> Input:
    """Header packages, unpacked below ``/kernel``; the volume is kept for the next build."""
    key = _digest([package.sha256 for package in packages])
    return Input("/kernel", [Tar(partial(deb_data, path)) for path in files], key)


def deb_data(path: Path) -> IO[bytes]:
    """The uncompressed data.tar of the Debian package at *path*.

    :raises SourceError: if it is no Debian package or compressed in an unknown way.
    """
    from debian.arfile import ArError, ArFile

    try:
        with path.open("rb") as file:
            archive = ArFile(fileobj=file)
            member = archive.getmember("data.tar.xz")
            spool = tempfile.TemporaryFile(prefix="tarpit-deb-")  # noqa: SIM115  (handed on)
            with lzma.open(member) as data:
                shutil.copyfileobj(data, spool, 1 << 20)
    except (ArError, KeyError, lzma.LZMAError, EOFError) as error:
        raise SourceError(
            f"{path.name} is not a Debian package that can be read ({error})",
            hint="`invoke cache --verify` looks for damage",
        ) from error
    spool.seek(0)
    return spool


def environment(plan: BuildPlan) -> dict[str, str]:
    """What the packaging script is told."""
    return {
        "KERNEL_ABI": plan.kernel.abi,
        "CC_PACKAGE": plan.kernel.compiler,
        "SOURCE_DATE_EPOCH": str(packaging.source_date_epoch()),
    }


def package_set(plan: BuildPlan) -> packaging.PackageSet:
    """What the packages of *plan* are made for."""
    return packaging.PackageSet(
        version=plan.version,
        suite=plan.kernel.suite.base,
        arch=plan.kernel.arch,
        abi=plan.kernel.abi,
        kernel_version=plan.kernel.version,
        module_dir=plan.kernel.suite.module_dir,
    )


def _fetch(plan: BuildPlan, archive: Archive, console: Console) -> Input:
    packages = plan.kernel.packages
    files = []
    absent = [package for package in packages if not archive.store.has(package.blob())]
    if not absent:
        files = [archive.store.path(package.blob()) for package in packages]
    else:
        with console.stage(f"headers {plan.kernel.abi}") as stage:
            files = [archive.store.get(package.blob(), stage) for package in packages]
    return header_input(packages, files)


def _run(
    engine: Engine,
    image: str,
    plan: BuildPlan,
    headers: Input,
    source: Files,
    scripts: Files,
    stage: Path,
    console: Console,
) -> None:
    log = stage / LOG
    with console.stage(f"build for {plan.name}") as step, log.open("w", encoding="utf-8") as out:

        def note(line: str) -> None:
            out.write(f"[{time.monotonic() - step.started:8.2f}] {line}\n")
            step.note(line.strip())

        try:
            result = engine.run(
                image,
                ["sh", "/scripts/build-packages.sh"],
                inputs=[headers, Input("/src", [source]), Input("/scripts", [scripts])],
                output=stage,
                environment=environment(plan),
                limits=Limits(),
                on_line=note,
            )
        except BuildError as error:
            out.flush()
            raise with_log(error, log, plan.name) from error
        if result.status != 0:
            out.flush()
            raise with_log(
                BuildError(
                    f"building for {plan.name} failed (status {result.status})",
                    hint="the module may need a new compile probe for this kernel",
                    tail=result.lines[-TAIL:],
                ),
                log,
                plan.name,
            )
        step.done(f"{len(list(stage.glob('*.deb')))} packages")


def with_log(error: BuildError, log: Path, name: str) -> BuildError:
    """*error* with the *log* of build *name* kept where the failed result's folder is not."""
    stamp = time.strftime("%Y%m%dT%H%M%S")
    kept = paths.make_dir(paths.cache_dir() / "logs") / f"{name}-{stamp}.log"
    shutil.copyfile(log, kept)
    return BuildError(error.message, hint=f"the full log is {kept}; {error.hint}", tail=error.tail)


def _manifest(
    plan: BuildPlan, key: str, engine: Engine, image: str, source: Files, stage: Path
) -> dict[str, Any]:
    toolchain = stage / "toolchain.txt"
    return {
        "format": FORMAT,
        "key": key,
        "command": plan.command,
        "maintainer": packaging.maintainer(),
        "plan": plan.facts(),
        "sources": [
            {
                "package": package.name,
                "version": package.version,
                "url": package.url,
                "size": package.size,
                "sha256": package.sha256,
            }
            for package in plan.kernel.packages
        ],
        "module": {
            name: hashlib.sha256(_bytes(content)).hexdigest()
            for name, content in sorted(source.members.items())
        },
        "image": {"tag": plan.recipe.tag, "id": image, "engine": engine.describe()},
        "toolchain": toolchain.read_text().splitlines() if toolchain.is_file() else [],
        "outputs": [
            {"file": path.name, "size": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(stage.iterdir())
            if path.is_file() and path.name not in {MANIFEST, LOG}
        ],
    }


def _content(files: Files) -> str:
    return _digest(
        f"{name} {hashlib.sha256(_bytes(content)).hexdigest()}"
        for name, content in sorted(files.members.items())
    )


def _bytes(content: Path | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
