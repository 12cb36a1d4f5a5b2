"""README's commands about packages, in a clean root of each suite, with Debian's mirror."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarpit_builder import suites
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe
from tests.guest import readme
from tests.guest.image import archive
from tests.packaging.conftest import Build

pytestmark = [pytest.mark.docker, pytest.mark.network]

SCRIPT = Path(__file__).with_name("clean-root.sh")


def apt_commands(blocks: list[readme.Block]) -> bytes:
    """The commands of *blocks* that need neither a kernel of one's own nor systemd."""
    lines = [line for block in blocks for line in block.script.splitlines()]
    return "".join(f"{line}\n" for line in lines if line.startswith("apt ")).encode()


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm", "forky"])
def test_install_and_uninstall(suite: str, built: Build, engine: Engine) -> None:
    use, uninstall = readme.first_hour()
    found = archive()
    known = suites.known()[suite]
    expired = bool(found.newest(known, "", "amd64").expired)
    recipe = Recipe(
        "bare",
        suite,
        "amd64",
        found.mirrors.apt_sources(known),
        found.mirrors.main,
        variables={"allow_expired": expired},
    )
    settings = ['Acquire::Check-Valid-Until "false"'] if expired else []
    outcome = engine.run(
        engine.ensure_image(recipe, Console()),
        ["sh", "/script/clean-root.sh", *settings],
        inputs=[
            Input("/here", [Files({path.name: path for path in built(suite).packages()})]),
            Input("/script", [Files({SCRIPT.name: SCRIPT})]),
            Input(
                "/readme",
                [Files({"install": apt_commands(use), "uninstall": apt_commands(uninstall)})],
            ),
        ],
        limits=Limits(seconds=900),
        sealed=False,
    )
    assert outcome.status == 0, "\n".join(outcome.lines[-40:])
    assert outcome.lines[-1] == "ok: nothing is left over"
