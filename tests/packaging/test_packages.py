"""The packages themselves: checked by lintian, installed by apt, beside xtables-addons.

What runs always is trixie and bookworm, one order of installation each; ``-m docker`` with
``slow`` is the rest.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tarpit_builder import paths, suites
from tarpit_builder import plan as planning
from tarpit_builder.build import BuildResult
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.packaging import changelog as history
from tarpit_builder.packaging import modern
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tests.packaging.conftest import Build

pytestmark = pytest.mark.docker

HERE = Path(__file__).parent
ALWAYS = ("trixie",)
SUITES = [
    pytest.param(suite, marks=() if suite in ALWAYS else pytest.mark.slow)
    for suite in ("trixie", "bookworm", "bullseye", "forky", "sid")
]
ALWAYS_LIVED = (("trixie", "ours-first"), ("bookworm", "theirs-first"))
LIVES = [
    pytest.param(suite, order, marks=() if (suite, order) in ALWAYS_LIVED else pytest.mark.slow)
    for suite in ("trixie", "bookworm", "bullseye", "forky", "sid")
    for order in ("ours-first", "theirs-first", "unfit-kernel")
]


ALWAYS_UPGRADED = (("trixie", "dkms"),)
UPGRADES = [
    # Neither forky nor sid has a kernel that is older than its newest.
    pytest.param(suite, way, marks=() if (suite, way) in ALWAYS_UPGRADED else pytest.mark.slow)
    for suite in ("trixie", "bookworm", "bullseye")
    for way in ("dkms", "prebuilt")
]


def archive() -> Archive:
    return Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console())


def userland_of(result: BuildResult, suite: str) -> SuiteUserland:
    plan = planning.make(Request(f"debian:{suite}", flavour="cloud"), archive())
    assert plan.name == result.folder.name
    assert isinstance(plan.kernel.userland, SuiteUserland)
    return plan.kernel.userland


def folder(path: Path) -> Files:
    return Files({item.name: item for item in path.iterdir() if item.is_file()})


def bare(suite: str) -> Recipe:
    mirrors = Mirrors.choose(None)
    sources = mirrors.apt_sources(suites.known()[suite])
    return Recipe("bare", suite, "amd64", sources, mirrors.main)


def scripts(name: str) -> Input:
    """The script *name*, and what it sources, below /test."""
    return Input("/test", [Files({file: HERE / file for file in (name, "apt.sh")})])


def debs(result: BuildResult) -> Files:
    return Files({path.name: path for path in result.packages()})


@pytest.mark.parametrize("suite", SUITES)
def test_lintian_of_the_suite_finds_nothing(suite: str, built: Build, engine: Engine) -> None:
    result = built(suite)
    image = engine.ensure_image(userland_of(result, suite).recipe, Console())
    run = engine.run(
        image,
        ["sh", "/scripts/check-packages.sh"],
        inputs=[
            Input("/packages", [folder(result.folder)]),
            Input("/scripts", [modern.build_scripts()]),
        ],
    )
    assert run.status == 0, "\n".join(run.lines)


@pytest.mark.parametrize(("suite", "order"), LIVES)
def test_apt_never_ends_half_way(
    suite: str, order: str, built: Build, built_later: Build, engine: Engine
) -> None:
    result = built(suite)
    inputs = [
        Input("/packages", [debs(result)]),
        scripts("lifecycle.sh"),
    ]
    if order == "ours-first":
        inputs.append(Input("/upgrade", [debs(built_later(suite))]))
    run = engine.run(
        engine.ensure_image(bare(suite), Console()),
        ["sh", "/test/lifecycle.sh", result.folder.name, order],
        inputs=inputs,
        limits=Limits(seconds=1500),
        sealed=False,
    )
    assert run.status == 0, "\n".join(run.lines[-60:])
    assert run.lines[-1] == "done"


@pytest.mark.parametrize(("suite", "way"), UPGRADES)
def test_a_kernel_upgrade_keeps_tarpit(
    suite: str, way: str, built: Build, built_for: Build, engine: Engine
) -> None:
    image = engine.ensure_image(bare(suite), Console())
    script = scripts("upgrade.sh")
    found = engine.run(image, ["sh", "/test/upgrade.sh", "older"], inputs=[script], sealed=False)
    assert found.status == 0, "\n".join(found.lines)
    members = dict(debs(built(suite)).members)
    if way == "prebuilt":
        members |= debs(built_for(found.lines[-1])).members
    run = engine.run(
        image,
        ["sh", "/test/upgrade.sh", way],
        inputs=[Input("/packages", [Files(members)]), script],
        limits=Limits(seconds=1500),
        sealed=False,
    )
    assert run.status == 0, "\n".join(run.lines[-60:])
    assert run.lines[-1] == "done"


@pytest.mark.parametrize("suite", SUITES)
def test_a_host_in_trouble_stays_closed_and_apt_whole(
    suite: str, built: Build, engine: Engine
) -> None:
    result = built(suite)
    run = engine.run(
        engine.ensure_image(bare(suite), Console()),
        ["sh", "/test/adversity.sh", result.folder.name],
        inputs=[
            Input("/packages", [debs(result)]),
            scripts("adversity.sh"),
        ],
        limits=Limits(seconds=1500),
        sealed=False,
        capabilities=("NET_ADMIN", "SYS_ADMIN"),
    )
    assert run.status == 0, "\n".join(run.lines[-60:])
    assert run.lines[-1] == "done"


def test_one_processor_builds_the_same_bytes(built: Build, engine: Engine, tmp_path: Path) -> None:
    result = built("trixie")
    userland = userland_of(result, "trixie")
    run = engine.run(
        engine.ensure_image(userland.recipe, Console()),
        ["taskset", "-c", "0", "sh", "/scripts/build-packages.sh"],
        inputs=[
            userland.tree.input(Console()),
            Input("/src", [userland.source()]),
            Input("/scripts", [modern.build_scripts()]),
        ],
        output=tmp_path,
        environment={
            **userland.environment(),
            "SOURCE_DATE_EPOCH": str(history.source_date_epoch()),
        },
    )
    assert run.status == 0, "\n".join(run.lines[-20:])
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()
    }
    assert digests == {item["file"]: item["sha256"] for item in result.manifest["outputs"]}


def test_the_extension_is_hardened(built: Build, engine: Engine) -> None:
    result = built("trixie")
    run = engine.run(
        engine.ensure_image(userland_of(result, "trixie").recipe, Console()),
        [
            "sh",
            "-euc",
            "dpkg-deb -x /packages/xt-tarpit-common_*.deb root && "
            "readelf -dlW root/usr/lib/*/xtables/libxt_TARPIT.so",
        ],
        inputs=[Input("/packages", [debs(result)])],
    )
    assert run.status == 0, run.lines
    text = "\n".join(run.lines)
    assert "GNU_RELRO" in text
    assert "BIND_NOW" in text or "NOW" in text.split("FLAGS_1")[1]
    assert "TEXTREL" not in text
