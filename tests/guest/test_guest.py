"""The guest itself: what the other tests rely on."""

from __future__ import annotations

import pytest

from tests.guest.booted import GuestError
from tests.guest.conftest import Boot
from tests.guest.image import Recipe, make
from tests.guest.network import Fate, Network

pytestmark = [pytest.mark.boot, pytest.mark.network]


@pytest.mark.parametrize(
    "suite",
    [
        "trixie",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("bookworm", "forky")),
    ],
)
def test_a_guest_obeys_reboots_and_tells_what_becomes_of_clients(suite: str, boot: Boot) -> None:
    image = make(Recipe.of(suite))
    first, second = image.recipe.kernels
    guest = boot(image)
    assert guest.ok("uname -r").strip() == first
    assert guest.ok("systemctl is-system-running").strip() == "running"
    assert guest.run("echo out; echo err >&2; exit 7").status == 7
    assert guest.run("sleep 60", seconds=1).status == 124
    with pytest.raises(GuestError, match="`false` ended with 1"):
        guest.ok("false")
    guest.copy_in({"/srv/given": bytes(range(256)) * 4096})

    guest.reboot(second)
    assert guest.ok("uname -r").strip() == second
    assert guest.copy_out("/srv/given") == bytes(range(256)) * 4096

    outside = Network(guest)
    outside.listen(80)
    for family, iptables in ((4, "iptables"), (6, "ip6tables")):
        guest.ok(f"{iptables} -A INPUT -p tcp --dport 81 -j DROP")
        fates = {port: outside.fate(port, family) for port in (80, 81, 82)}
        assert fates == {80: Fate.ACCEPTED, 81: Fate.DROPPED, 82: Fate.REFUSED}
