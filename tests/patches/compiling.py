"""The object that a patched tree makes of TARPIT, and what it would need of the kernel.

The room that builds knows the container, the compiler and the configuration; all that this one
takes from there is in :func:`compiled`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits
from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.kernels import toolchain
from tarpit_builder.kernels.source import (
    DEFAULT_CONFIG,
    KERNEL_ARCHITECTURES,
    SCRIPTS,
    for_modules,
    layer_input,
)
from tarpit_builder.kernels.toolchain import image
from tarpit_builder.patching.diff import ENCODING, Patch
from tarpit_builder.patching.rules import Form
from tarpit_builder.sources import (
    FetchedTree,
    GitRepository,
    KernelSource,
    LocalTree,
    SourceOptions,
    Tarball,
    fetch_kernel,
)
from tarpit_builder.sources.debian import Mirrors
from tarpit_builder.sources.local import release_of
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.trust import TrustFile
from tarpit_builder.versions import KernelVersion, VersionRange

SCRIPT = Path(__file__).with_name("compile.sh")
_EXPORT = re.compile(
    rb"^\s*EXPORT_(?:UNUSED_|PER_CPU_)?SYMBOL(?:_GPL\w*)?\s*\(\s*(\w+)", re.MULTILINE
)
_SAID = re.compile(r"\S*_TARPIT\.[ch]:\d+(?::\d+)?: (?:fatal )?(?:error|warning): .*")
_DOWNLOADED = VersionRange.parse("2.6.19-2.6.26", KernelVersion)
_OF_THE_MODULE = {"__this_module"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the run said, line by line, and the symbols that the object *needs*, if there is one."""

    lines: tuple[str, ...]
    needs: frozenset[str]

    @property
    def complaints(self) -> list[str]:
        """What the compiler says about TARPIT's files, or the run's end if there is no object."""
        said = [line for line in self.lines if _SAID.match(line)]
        return said or ([] if self.needs else list(self.lines[-20:]))


def source(version: KernelVersion) -> FetchedTree | None:
    """The verified tree of *version*: from the environment's clones, the cache, or kernel.org.

    From there only what the tests of the builds download anyway.  A folder that the environment
    names is taken at its word.
    """
    store = Store(paths.cache_dir(), offline=not (version.is_series and version in _DOWNLOADED))
    console = Console(quiet=True)
    for folder in map(Path, os.environ.get("TARPIT_KERNEL_TREES", "").split()):
        if release_of(folder) == version:
            trust = TrustFile(paths.cache_dir() / "tests.lock")
            options = SourceOptions(trust_on_first_use=True, trust=trust)
            return fetch_kernel(LocalTree(folder), store, console, options=options)
    clones = os.environ.get("TARPIT_KERNEL_GIT", "").split()
    places: list[KernelSource] = [GitRepository(clone, version) for clone in clones]
    for place in [*places, Tarball(version)]:
        try:
            return fetch_kernel(place, store, console)
        except (NetworkError, SourceError, UserError):  # it is not there
            continue
    return None


def exported(tree: FetchedTree) -> frozenset[str]:
    """The symbols that some file of *tree* exports to modules."""
    found: set[bytes] = set()
    with tree.stream() as entries:
        for _, entry in entries:
            if entry.path.endswith((".c", ".S", ".h")) and b"EXPORT_" in entry.data:
                found.update(_EXPORT.findall(entry.data))
    return frozenset(name.decode() for name in found)


def compiled(
    tree: FetchedTree,
    version: KernelVersion,
    arch: str,
    patch: Patch,
    form: Form,
    settings: str = "",
) -> Compiled:
    """What the sealed container of the builds makes of *tree* with *patch* in it."""
    fragment = DEFAULT_CONFIG.read_bytes() + f"{settings}{form.option}=m\n".encode()
    request = Files({"patch": str(patch).encode(ENCODING), "fragment": fragment})
    environment = {
        "KARCH": KERNEL_ARCHITECTURES[arch],
        "JOBS": "1",
        "SUFFIX": "",
        "OPTION": form.option,
        "OBJECT": form.source.removesuffix(".c") + ".o",
    }
    layer = toolchain.for_kernel(version, arch, image=False)
    lines = _run(tree, layer, request, environment)
    needs = {line.removeprefix("needs ") for line in lines if line.startswith("needs ")}
    return Compiled(tuple(lines), frozenset(needs - _OF_THE_MODULE))


def _run(
    tree: FetchedTree, layer: toolchain.Layer, request: Files, environment: Mapping[str, str]
) -> Sequence[str]:
    """What the script says."""
    engine = Engine.connect()
    scripts = {path.name: path for path in [*sorted(SCRIPTS.iterdir()), SCRIPT]}
    done = engine.run(
        engine.ensure_image(image(Mirrors.choose(None)), Console(quiet=True)),
        ["sh", f"/scripts/{SCRIPT.name}"],
        inputs=[
            for_modules(tree),
            Input("/request", [request]),
            layer_input(layer),
            Input("/scripts", [Files(scripts)]),
        ],
        output=None,
        environment=environment,
        limits=Limits(),
    )
    return done.lines
