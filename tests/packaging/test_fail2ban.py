"""The action for fail2ban, with the fail2ban and the iptables of each suite.

Whether what is banned is held takes a kernel with the module: ``tests/guest/test_integrations.py``.
"""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

from tarpit_builder import paths, suites
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Recipe
from tarpit_builder.sources.debian import Mirrors
from tests.guest import probe
from tests.guest.recipes import blocks

pytestmark = [pytest.mark.docker, pytest.mark.network]

SCRIPT = Path(__file__).parent / "fail2ban.sh"
ACTION = paths.PROJECT / "dkms" / "host" / "fail2ban" / "xt-tarpit.conf"


@pytest.mark.parametrize(
    "suite",
    [
        "bookworm",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("bullseye", "trixie", "forky")),
    ],
)
def test_every_suite_bans_repairs_and_unbans(suite: str, engine: Engine) -> None:
    mirrors = Mirrors.choose(None)
    sources = mirrors.apt_sources(suites.known()[suite])
    recipe = Recipe("bare", suite, "amd64", sources, mirrors.main)
    client = docker.from_env(timeout=600)
    container = client.containers.create(
        engine.ensure_image(recipe, Console()),
        ["sh", "-c", SCRIPT.read_text()],
        environment={
            "ACTION": ACTION.read_text(),
            "FILTER": probe.FILTER,
            "JAIL": probe.JAIL,
            "JAIL_LOCAL": dict(blocks("fail2ban"))["/etc/fail2ban/jail.local"],
        },
        user="0:0",
        cap_add=["NET_ADMIN"],
        sysctls={"net.ipv6.conf.all.disable_ipv6": "0"},
    )
    try:
        container.start()
        status = container.wait(timeout=600)["StatusCode"]
        lines = container.logs().decode().splitlines()
    finally:
        container.remove(force=True)
    assert (status, lines[-1:]) == (0, ["done"]), "\n".join(lines[-60:])
