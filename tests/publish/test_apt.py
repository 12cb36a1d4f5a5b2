"""What the repository promises, as the real apt of each suite sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tarpit_builder import suites
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe
from tarpit_builder.packaging.deb import Deb
from tarpit_builder.publish import RepositoryOptions, publish, repository
from tarpit_builder.publish.keys import Key
from tarpit_builder.sources.debian import Mirrors
from tests.publish.kit import kernel_debs, modules_deb, result, small_deb, state

pytestmark = [pytest.mark.docker, pytest.mark.network]

QUIET = Console(quiet=True)
HERE = Path(__file__).parent
SUITES = [
    "trixie",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("bullseye", "bookworm", "forky", "sid")
    ),
]


def run(
    suite: str, script: str, environment: Mapping[str, str], states: Sequence[Input]
) -> list[str]:
    """Run *script* as root on a clean *suite*; the lines in which it says what was right."""
    engine, mirrors = Engine.connect(), Mirrors.choose(None)
    # Debian's own index may be past its end where the mirror is a frozen one.
    recipe = Recipe(
        "bare", suite, "amd64", mirrors.apt_sources(suites.known()[suite]), mirrors.main,
        {"allow_expired": True},
    )  # fmt: skip
    proof = Files({name: HERE / name for name in (script, "server.pl")})
    outcome = engine.run(
        engine.ensure_image(recipe, QUIET),
        ["sh", f"/proof/{script}"],
        inputs=[*states, Input("/proof", [proof])],
        environment={"SUITE": suite, **environment},
        limits=Limits(seconds=600),
        sealed=False,
    )
    assert outcome.status == 0, "\n".join(outcome.lines[-60:])
    return [line for line in outcome.lines if line.startswith("ok: ")]


@pytest.mark.parametrize("suite", SUITES)
def test_client_that_an_update_overtakes(
    suite: str, dist: Path, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, expired = tmp_path / "repo", tmp_path / "expired"
    options = RepositoryOptions(url="http://127.0.0.1:8000")
    number = suites.known()[suite].number
    states: list[Input] = []
    for version in ("1.0.0", "1.0.1", "1.0.2"):
        deb = small_deb("xt-tarpit-dkms", f"{version}+deb{number}", text=version)
        result(dist, "kernel", suite, deb)
        if not states:
            with monkeypatch.context() as patch:
                patch.setattr(repository, "_now", lambda: datetime(2026, 1, 1, tzinfo=UTC))
                publish(dist, expired, key, QUIET, options=options)
        publish(dist, top, key, QUIET, options=options)
        states.append(Input(f"/state-{len(states) + 1}", [state(top)]))
    said = run(suite, "overtaken.sh", {}, [*states, Input("/expired", [state(expired)])])
    assert said == [
        "ok: 2 requests",  # InRelease and one index; the other is empty, and apt knows that
        "ok: overtaken at 4 moments",
        "ok: an expired state is refused",
        "ok: nobody goes back",
    ]


@pytest.mark.parametrize("suite", SUITES)
def test_metapackage_brings_the_modules_of_a_new_kernel(
    suite: str, dist: Path, tmp_path: Path, key: Key
) -> None:
    top = tmp_path / "repo"
    options = RepositoryOptions(url="file:///srv/tarpit")
    common = Deb(
        control="Package: xt-tarpit-common\nVersion: 1.0.0\nArchitecture: amd64\n"
        "Maintainer: Tests <tests@example.org>\n"
        "Recommends: xt-tarpit-dkms | xt-tarpit-modules\nDescription: stand-in\n for the tests\n",
        files={},
        epoch=1,
    )
    states: list[Input] = []
    old, new = "6.12.57+deb13-amd64", "6.12.118+deb13-amd64"
    for abi, kernel in ((old, "6.12.57-1"), (new, "6.12.118-1")):
        debs = (modules_deb(abi, kernel), *kernel_debs(abi, kernel), common)
        result(dist, abi, suite, *debs, small_deb("xt-tarpit-dkms", "1.0.0"), kernel=kernel)
        publish(dist, top, key, QUIET, options=options)
        states.append(Input(f"/repo-{len(states) + 1}", [state(top)]))
    said = run(suite, "follows.sh", {"OLD": old, "NEW": new}, states)
    assert said[-1] == "ok: removed"
