"""A real kernel, its mutants, and what boots them; made once for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tarpit_builder import packaging, paths, suites
from tarpit_builder import plan as planning
from tarpit_builder.build import header_input
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, tree
from tarpit_builder.plan import Request
from tarpit_builder.proof.initramfs import Assembly, BootFiles, UserLand
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store

HERE = Path(__file__).parent
KERNEL = Request("debian:bookworm", flavour="cloud")


@dataclass(frozen=True, slots=True)
class Bench:
    """A kernel that boots with the module and all of its mutants at hand."""

    boot: BootFiles
    kernel_packages: tuple[Path, ...]
    modules: Path
    land: UserLand
    engine: Engine


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Build the mutants against a real kernel's headers and assemble what boots them."""
    console = Console()
    archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), console)
    kernel = planning.resolve(KERNEL, archive)
    plan = planning.make(KERNEL, kernel, archive)
    engine = Engine.connect()
    with console.stage("kernel and headers") as stage:
        headers = [archive.store.get(package.blob(), stage) for package in kernel.packages]
        images = [archive.store.get(package.blob(), stage) for package in kernel.image]
    named = tmp_path_factory.mktemp("kernel")
    packages = []
    for package, path in zip(kernel.image, images, strict=True):
        link = named / package.blob().name
        link.symlink_to(path)
        packages.append(link)
    modules = tmp_path_factory.mktemp("mutants")
    patches = {path.name: path for path in sorted((HERE / "mutants").glob("*.patch"))}
    result = engine.run(
        engine.ensure_image(plan.recipe, console),
        ["sh", "/scripts/build-mutants.sh", kernel.abi],
        inputs=[
            header_input(kernel.packages, headers),
            Input("/src", [tree(packaging.DKMS)]),
            Input("/mutants", [Files(patches)]),
            Input("/scripts", [Files({"build-mutants.sh": HERE / "build-mutants.sh"})]),
        ],
        output=modules,
        on_line=lambda line: print("built", line),
    )
    assert result.status == 0, result.lines[-20:]
    base = suites.known()[kernel.suite.base]
    land = UserLand(
        suite=base.name,
        arch=kernel.arch,
        mirror=archive.mirrors.main,
        apt_sources=archive.mirrors.apt_sources(base),
    )
    under_proof = sorted([*modules.glob("*.ko"), *modules.glob("*.so")])
    work = tmp_path_factory.mktemp("boot")
    boot = Assembly(engine, console, land).debian(packages, under_proof, work)
    yield Bench(boot, tuple(packages), modules, land, engine)
