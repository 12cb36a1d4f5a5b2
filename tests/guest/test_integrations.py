"""TARPIT beside what people run: ``docs/integrations.md`` with the real programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import pytest

from tests.guest import probe
from tests.guest.booted import Guest
from tests.guest.conftest import Boot
from tests.guest.image import Recipe, make
from tests.guest.network import CLIENT, Fate, Network
from tests.guest.recipes import commands, follow
from tests.packaging.conftest import Build

pytestmark = [pytest.mark.boot, pytest.mark.network, pytest.mark.docker]

Host = Callable[..., Guest]

OTHER = {4: "203.0.113.9", 6: "2001:db8:9::9"}

CONTAINER = r"""set -e
mkdir -p box/bin
nc=$(readlink -f "$(command -v nc)")
cp "$nc" box/bin/nc
for library in $(ldd "$nc" | grep -o '/[^ ]*'); do
    mkdir -p "box$(dirname "$library")"
    cp -L "$library" "box$library"
done
tar -C box -c . | docker import - box >/dev/null
docker run -d --name web --restart=always -p 5432:80 -p 8080:80 box /bin/nc -l -k -p 80
"""
"""A container of what the guest has: nothing can be pulled."""


@pytest.fixture
def host(boot: Boot, built: Build) -> Host:
    """Boots a suite with *packages* and ours installed."""

    def start(
        suite: str, packages: Iterable[str] = (), files: Mapping[str, str] | None = None
    ) -> Guest:
        recipe = Recipe.of(suite, packages=tuple(packages), files=files)
        guest = boot(make(recipe))
        guest.copy_in({f"/root/{path.name}": path for path in built(suite).packages()})
        guest.ok(
            "apt-get install -yq ./xt-tarpit-common_*.deb ./xt-tarpit-modules-*.deb", seconds=300
        )
        return guest

    return start


def fates(outside: Network, *ports: int) -> dict[int, tuple[Fate, ...]]:
    """What becomes of clients of *ports*, over IPv4 and IPv6."""
    return outside.told_apart(ports)


def both(fate: Fate) -> tuple[Fate, Fate]:
    """*fate* over IPv4 and IPv6."""
    return fate, fate


def pings(outside: Network, family: int) -> bool:
    """Whether the guest answers an echo request."""
    address = {4: "192.0.2.1", 6: "2001:db8::1"}[family]
    return outside.run(f"ping -c 1 -W 2 {address}").status == 0


def forget_neighbours(outside: Network) -> None:
    """Both ends have to find each other again."""
    outside.guest.ok("ip neigh flush all")
    outside.run("ip neigh flush all")


# -- fail2ban -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm", "forky"])
def test_fail2ban_bans_are_held_and_dropped_without_the_module(suite: str, host: Host) -> None:
    guest = host(suite, ("fail2ban",))
    guest.copy_in(
        {
            "/etc/fail2ban/jail.d/probe.local": probe.JAIL,
            "/etc/fail2ban/filter.d/probe.conf": probe.FILTER,
            "/var/log/probe.log": "",
        }
    )
    follow(guest, "fail2ban")
    guest.wait("fail2ban-client status probe")
    outside = Network(guest)
    outside.listen(80)
    assert fates(outside, 80) == {80: both(Fate.ACCEPTED)}

    fail(guest, *CLIENT.values())
    # The port that was attacked and one that nobody serves, and all but ICMPv6 of the address.
    assert fates(outside, 80, 9) == {80: both(Fate.HELD), 9: both(Fate.HELD)}
    forget_neighbours(outside)
    assert (pings(outside, 4), pings(outside, 6)) == (False, True)

    guest.ok("systemctl stop xt-tarpit")
    guest.wait("rmmod xt_TARPIT")
    assert fates(outside, 80) == {80: both(Fate.DROPPED)}
    guest.ok("systemctl start xt-tarpit")
    assert outside.fate(80) is Fate.HELD

    # Somebody's rule set takes the jump away; the next ban brings it back, and forgets none.
    guest.ok("iptables -F INPUT")
    assert outside.fate(80) is Fate.ACCEPTED
    fail(guest, OTHER[4])
    assert outside.fate(80) is Fate.HELD
    # All of it is gone: what comes back is complete, and drops until our service fills it.
    guest.ok("printf '*filter\\nCOMMIT\\n' | iptables-restore")
    fail(guest, "203.0.113.10")
    assert "-A XT-TARPIT -j DROP" in guest.ok("iptables -S XT-TARPIT")
    guest.ok("fail2ban-client set probe banip 192.0.2.2 && systemctl reload xt-tarpit")

    for family, address in CLIENT.items():
        guest.ok(f"fail2ban-client set probe unbanip {address}")
        program = {4: "iptables", 6: "ip6tables"}[family]
        assert address not in guest.ok(f"{program} -S f2b-probe")
    assert outside.fate(80, 6) is Fate.ACCEPTED
    guest.ok("systemctl stop fail2ban")
    for program in ("iptables", "ip6tables"):
        assert "f2b-probe" not in guest.ok(f"{program} -S")


def fail(guest: Guest, *addresses: str) -> None:
    """Let *addresses* fail to log in until they are banned."""
    for address in addresses:
        line = f'echo "$(date +%s) failed login from {address}" >>/var/log/probe.log'
        guest.ok(f"for _ in 1 2 3; do {line}; done")
    for address in addresses:
        guest.wait(f"fail2ban-client status probe | grep -qwF {address}")
        program = "ip6tables" if ":" in address else "iptables"
        guest.wait(f"{program} -S f2b-probe | grep -qF {address}")


# -- lists ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_lists_are_held_replaced_and_survive_a_reboot(host: Host) -> None:
    guest = host("trixie", ("ipset", "ipset-persistent"))
    follow(guest, "Address lists")
    outside = Network(guest)
    outside.listen(80)
    assert fates(outside, 80) == {80: both(Fate.HELD)}
    forget_neighbours(outside)
    assert pings(outside, 6)

    guest.ok("echo 203.0.113.0/24 >list.txt\nset -e\n" + commands("Address lists", "update"))
    assert outside.fate(80, 4) is Fate.ACCEPTED

    guest.ok("echo 192.0.2.2 >list.txt\nset -e\n" + commands("Address lists", "update"))
    guest.reboot()
    outside = Network(guest)
    assert fates(outside, 80) == {80: both(Fate.HELD)}
    guest.reboot(guest.image.recipe.kernels[1])
    assert fates(Network(guest), 80) == {80: both(Fate.DROPPED)}


CROWDSEC = {
    # A file that is there keeps the package from registering with the service on the Internet.
    "/etc/crowdsec/online_api_credentials.yaml": "# none\n",
    # The part that reads logs takes minutes to start on an emulated processor; decisions come from
    # the other one.
    "/etc/crowdsec/config.yaml.local": "crowdsec_service: {enable: false}\n"
    "db_config: {use_wal: true}\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_crowdsec_decisions_are_held(suite: str, host: Host) -> None:
    # In the image, where packages are configured at the speed of the machine that makes it.
    packages = (
        *("netfilter-persistent", "ipset", "ca-certificates"),
        *("crowdsec", "crowdsec-firewall-bouncer"),
    )
    guest = host(suite, packages, files=CROWDSEC)
    guest.wait("cscli lapi status", seconds=300)
    follow(guest, "CrowdSec")
    outside = Network(guest)
    outside.listen(80)
    assert fates(outside, 80) == {80: both(Fate.ACCEPTED)}

    for address in CLIENT.values():
        guest.ok(f"cscli decisions add --ip {address} --duration 1h")
    guest.wait(
        "ipset test crowdsec-blacklists 192.0.2.2 && ipset test crowdsec6-blacklists 2001:db8::2"
    )
    assert fates(outside, 80, 9) == {80: both(Fate.HELD), 9: both(Fate.HELD)}
    forget_neighbours(outside)
    assert pings(outside, 6)

    guest.ok("cscli decisions delete --ip 192.0.2.2")
    guest.wait("! ipset test crowdsec-blacklists 192.0.2.2")
    assert (outside.fate(80, 4), outside.fate(80, 6)) == (Fate.ACCEPTED, Fate.HELD)

    guest.reboot()
    guest.wait("ipset test crowdsec6-blacklists 2001:db8::2", seconds=120)
    assert Network(guest).fate(80, 6) is Fate.HELD
    units = ("netfilter-persistent", "xt-tarpit", "crowdsec-firewall-bouncer")
    began = [started(guest, unit) for unit in units]
    assert began == sorted(began), dict(zip(units, began, strict=True))


def started(guest: Guest, unit: str) -> int:
    """When *unit* became active, in microseconds since the boot."""
    return int(guest.ok(f"systemctl show -P ActiveEnterTimestampMonotonic {unit}"))


# -- Docker ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_published_ports_are_held_whatever_dockerd_does(host: Host) -> None:
    guest = host("trixie", ("docker.io", "docker-cli"))
    guest.ok(CONTAINER, seconds=120)
    outside = Network(guest, "eth0")
    assert fates(outside, 5432, 8080) == {5432: both(Fate.ACCEPTED), 8080: both(Fate.ACCEPTED)}
    follow(guest, "Docker")
    held = {5432: both(Fate.HELD), 8080: both(Fate.ACCEPTED)}
    assert fates(outside, 5432, 8080) == held
    # The network that the port is published for.
    guest.ok("ip route add 198.51.100.0/24 dev eth0")
    outside.run("ip addr add 198.51.100.7/24 dev eth0")
    outside.run("sh -c 'echo welcome | nc -q 1 -w 5 -s 198.51.100.7 192.0.2.1 5432'")
    guest.wait("docker logs web | grep -q welcome")

    guest.ok("systemctl restart docker", seconds=120)
    published(guest)
    assert fates(outside, 5432, 8080) == held
    guest.ok("systemctl reload xt-tarpit")
    assert fates(outside, 5432, 8080) == held

    # The order of a boot: our rules first.
    guest.ok(
        "systemctl stop docker docker.socket && nft flush ruleset && systemctl reload xt-tarpit"
    )
    guest.ok("systemctl start docker", seconds=120)
    published(guest)
    assert fates(outside, 5432, 8080) == held


def published(guest: Guest) -> None:
    """Wait until the container runs again."""
    guest.wait("iptables -t nat -S DOCKER | grep -q 5432 && ss -Hltn sport = :8080 | grep -q .")


# -- other rule sets -------------------------------------------------------------------------


@pytest.mark.slow
def test_nftables_marks_and_iptables_holds(host: Host) -> None:
    guest = host("trixie")
    follow(guest, "nftables")
    outside = Network(guest)
    outside.listen(22)
    # The client's IPv4 address is in the native set, so it is held everywhere.
    expected = {22: (Fate.HELD, Fate.ACCEPTED), 23: both(Fate.HELD), 445: (Fate.HELD, Fate.DROPPED)}
    assert fates(outside, 22, 23, 445) == expected

    # What `nft list ruleset` says of it cannot be loaded.
    listed = guest.ok("nft list ruleset | tee saved")
    assert re.search(r'xt target "TARPIT"', listed)
    assert guest.run("nft -c -f saved").status

    # Loaded by hand: ours is gone, the native rules drop.  Through the service: all is there.
    guest.ok("nft -f /etc/nftables.conf")
    assert "table ip mangle" not in guest.ok("nft list tables")
    assert fates(outside, 22, 23) == {22: (Fate.DROPPED, Fate.ACCEPTED), 23: both(Fate.DROPPED)}
    guest.ok("systemctl reload nftables")
    guest.wait("iptables -t mangle -C INPUT -j XT-TARPIT-INPUT")
    assert fates(outside, 22, 23, 445) == expected


@pytest.mark.slow
def test_ufw_holds_what_it_does_not_allow(host: Host) -> None:
    guest = host("trixie", ("ufw",))
    guest.ok("ufw allow 22/tcp && ufw --force enable")
    follow(guest, "ufw")
    outside = Network(guest)
    outside.listen(22)
    expected = {22: both(Fate.ACCEPTED), 23: both(Fate.HELD), 445: both(Fate.DROPPED)}
    assert fates(outside, 22, 23, 445) == expected
    forget_neighbours(outside)
    assert pings(outside, 6)
    for command in ("ufw reload", "ufw allow 80/tcp", "systemctl restart ufw"):
        guest.ok(command)
        guest.wait("iptables -S XT-TARPIT | grep -q TARPIT.--tarpit")
        assert fates(outside, 22, 23) == {22: both(Fate.ACCEPTED), 23: both(Fate.HELD)}, command
    guest.reboot()
    outside = Network(guest)
    assert fates(outside, 23) == {23: both(Fate.HELD)}
    guest.reboot(guest.image.recipe.kernels[1])
    outside = Network(guest)
    assert fates(outside, 23) == {23: both(Fate.DROPPED)}


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_firewalld_reloads_leave_the_tarpit(suite: str, host: Host) -> None:
    guest = host(suite, ("firewalld",))
    follow(guest, "firewalld")
    outside = Network(guest)
    outside.listen(22)
    guest.ok("firewall-cmd --permanent --add-service=ssh && firewall-cmd --reload", seconds=120)
    expected = {22: both(Fate.ACCEPTED), 23: both(Fate.HELD), 445: both(Fate.REFUSED)}
    assert fates(outside, 22, 23, 445) == expected
    for command in ("firewall-cmd --reload", "systemctl restart firewalld"):
        guest.ok(command, seconds=120)
        guest.wait("iptables -t mangle -C INPUT -j XT-TARPIT-INPUT")
        assert fates(outside, 22, 23) == {22: both(Fate.ACCEPTED), 23: both(Fate.HELD)}, command
