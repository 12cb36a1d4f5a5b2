"""A real kernel, its mutants, and what boots them; made once for all tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder import plan as planning
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Recipe, locked, tree
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.packaging import contents
from tarpit_builder.proof.initramfs import Assembly, BootFiles, UserLand, digest
from tarpit_builder.proof.lab import Tools
from tarpit_builder.request import Request
from tarpit_builder.sealed import Workshop
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store

HERE = Path(__file__).parent
KERNEL = Request("debian:trixie", flavour="cloud")


MUTANTS = sorted((HERE / "mutants").glob("*.patch"))
OF_DEVICE = {patch.stem for patch in MUTANTS if "+++ b/tarpit.c" in patch.read_text()}
FATAL = {"panics", "hangs"}
"""Mutants that also show what becomes of a run whose machine dies."""


def tools_with(module: str) -> Tools:
    """A guest's, with a mutant or the ``original`` in place of the module of the packages."""
    return Tools(file="original", device=module) if module in OF_DEVICE else Tools(file=module)


@dataclass(frozen=True, slots=True)
class Bench:
    """A kernel that boots with the module and mutants of it at hand."""

    boot: BootFiles
    kernel_packages: tuple[Path, ...]
    modules: Path
    land: UserLand
    engine: Engine


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A real kernel with all modules that the collected tests are about."""
    console = Console()
    archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), console)
    userland = planning.make(KERNEL, archive).kernel.userland
    assert isinstance(userland, SuiteUserland)
    abi = userland.tree.kernel.abi
    engine = Engine.connect()
    log = tmp_path_factory.mktemp("kernel") / "log"
    subject = userland.subject(Workshop(engine, abi, console, log, 1), (), None, "")
    modules = build_modules(
        engine, userland.recipe, abi, userland.tree.input(console), needed(request.session)
    )
    under_proof = sorted([*modules.glob("*.ko"), *modules.glob("*.so")])
    work = tmp_path_factory.mktemp("boot")
    boot = Assembly(engine, console, subject.land).debian(
        subject.kernel_packages, under_proof, work
    )
    return Bench(boot, subject.kernel_packages, modules, subject.land, engine)


def needed(session: pytest.Session) -> list[Path]:
    """The mutants that the collected tests need; to compile one takes seconds."""
    values = [
        value
        for item in session.items
        if hasattr(item, "callspec")
        for value in item.callspec.params.values()
    ]
    return [
        patch for patch in MUTANTS if patch in values or patch.stem in values or patch.stem in FATAL
    ]


def build_modules(
    engine: Engine, recipe: Recipe, abi: str, headers: Input, mutants: list[Path]
) -> Path:
    """A folder with the module, *mutants* of it and the extension; kept for the next session."""
    script = HERE / "build-mutants.sh"
    sources = sorted(path for path in contents.DKMS.rglob("*") if path.is_file())
    key = digest([recipe.tag, abi, script, *sources, *(p.name for p in mutants), *mutants])
    final = paths.cache_dir() / "proof" / f"mutants-{key}"
    with locked(f"mutants-{key}"):
        if not final.exists():
            with paths.staged_dir(final) as stage:
                result = engine.run(
                    engine.ensure_image(recipe, Console()),
                    ["sh", f"/scripts/{script.name}", abi, str(recipe.variables["compiler"])],
                    inputs=[
                        headers,
                        Input("/src", [tree(contents.DKMS)]),
                        Input("/mutants", [Files({path.name: path for path in mutants})]),
                        Input("/scripts", [Files({script.name: script})]),
                    ],
                    output=stage,
                )
                assert result.status == 0, result.lines[-20:]
    return final
