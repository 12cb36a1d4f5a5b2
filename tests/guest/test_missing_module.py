"""A missing module never opens the firewall: what is saved, and what boots without TARPIT."""

from __future__ import annotations

import pytest

from tests.guest.booted import Guest
from tests.guest.conftest import Boot, install
from tests.guest.image import Recipe, make
from tests.guest.network import Fate, Network
from tests.packaging.conftest import Build

pytestmark = [pytest.mark.boot, pytest.mark.docker, pytest.mark.network]

SUITES = ["trixie", "bookworm", "forky"]

OPEN, SHUT, CAUGHT = 80, 81, 23
"""Ports that the rules accept, drop, and send to the tarpit; a server listens to each."""

RULES = """\
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
{declared}-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p {icmp} -j ACCEPT
-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT
-A INPUT -p tcp -m tcp --dport 23 -j {target}
-A INPUT -j DROP
COMMIT
"""
DECLARED = ":XT-TARPIT - [0:0]\n-A XT-TARPIT -j DROP\n"

NFTABLES = """\
#!/usr/sbin/nft -f
flush ruleset
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		iif lo accept
		ct state established,related accept
		meta l4proto { icmp, ipv6-icmp } accept
		tcp dport 80 accept
	}
}
"""


def save(guest: Guest, *, declared: str, target: str) -> None:
    """Put the rules where netfilter-persistent finds them at boot."""
    guest.copy_in(
        {
            f"/etc/iptables/rules.{family}": RULES.format(
                declared=declared, target=target, icmp=icmp
            )
            for family, icmp in (("v4", "icmp"), ("v6", "ipv6-icmp"))
        }
    )


def outside_of(guest: Guest) -> Network:
    """Somebody to knock, and servers that would answer if the firewall let them."""
    outside = Network(guest)
    for port in (OPEN, SHUT, CAUGHT):
        outside.listen(port)
    return outside


def expect(outside: Network, caught: Fate, *, shut: Fate = Fate.DROPPED) -> None:
    """What becomes of clients of each port, in both families."""
    wanted = {OPEN: {Fate.ACCEPTED}, SHUT: {shut}, CAUGHT: {caught}}
    fates = outside.fates(wanted)
    assert fates == wanted, outside.guest.ok("iptables-save; ip6tables-save; nft list ruleset")


def expect_failed_unit(guest: Guest) -> None:
    """The unit failed, and its log tells why and what to do."""
    assert guest.run("systemctl is-failed xt-tarpit").stdout.strip() == "failed"
    log = guest.ok("journalctl -b -o cat -u xt-tarpit")
    assert f"kernel {guest.kernel} has no module xt_TARPIT" in log
    assert "dropped instead; xt-tarpit-status tells the remedy" in log


def answered(guest: Guest, iptables: str) -> int:
    """How many packets the chain's TARPIT rule has counted."""
    for line in guest.ok(f"{iptables} -nvxL XT-TARPIT").splitlines():
        if " TARPIT " in line:
            return int(line.split()[0])
    raise AssertionError(f"{iptables}: no TARPIT in the chain")


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_netfilter_persistent(suite: str, boot: Boot, built: Build, built_later: Build) -> None:
    image = make(Recipe.of(suite, packages=("iptables-persistent",)))
    with_module, without = image.recipe.kernels
    guest = boot(image)
    install(guest, built(suite))
    assert guest.run("systemctl is-enabled xt-tarpit").stdout.strip() == "disabled"
    save(guest, declared=DECLARED, target="XT-TARPIT")
    guest.ok("systemctl enable netfilter-persistent && systemctl restart netfilter-persistent")
    guest.ok("systemctl enable --now xt-tarpit")
    outside = outside_of(guest)
    expect(outside, Fate.HELD)
    assert all(answered(guest, program) >= 3 for program in ("iptables", "ip6tables"))

    # Saving is safe, and changes nothing.
    guest.ok("netfilter-persistent save")
    expect(outside, Fate.HELD)
    for family in ("v4", "v6"):
        saved = guest.ok(f"cat /etc/iptables/rules.{family}")
        assert "-A INPUT -p tcp -m tcp --dport 23 -j XT-TARPIT\n" in saved
        assert "-A XT-TARPIT -j DROP\n" in saved
        assert "-j TARPIT" not in saved

    # So is an upgrade of the packages: a client that is held stays held, by the same module.
    module = "stat -c %i /sys/module/xt_TARPIT"
    client, before = outside.connect(CAUGHT), guest.ok(module)
    assert client.fate() is Fate.HELD
    install(guest, built_later(suite), "/root/later")
    assert guest.ok(module) == before
    assert client.fate() is Fate.HELD
    expect(outside, Fate.HELD)

    guest.reboot(without)
    assert guest.run("modprobe xt_TARPIT").status
    expect_failed_unit(guest)
    expect(outside_of(guest), Fate.DROPPED)

    guest.reboot(with_module)
    assert guest.ok("systemctl is-active xt-tarpit").strip() == "active"
    outside = outside_of(guest)
    expect(outside, Fate.HELD)
    guest.ok("systemctl reload xt-tarpit")
    expect(outside, Fate.HELD)
    guest.ok("systemctl stop xt-tarpit")
    expect(outside, Fate.DROPPED)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_what_we_warn_of(suite: str, boot: Boot, built: Build) -> None:
    """TARPIT itself in a saved set: as long as this opens the firewall, the chain is needed."""
    image = make(Recipe.of(suite, packages=("iptables-persistent",)))
    guest = boot(image, kernel=image.recipe.kernels[1])
    install(guest, built(suite))
    save(guest, declared="", target="TARPIT")
    assert guest.run("systemctl restart netfilter-persistent").status
    for iptables in ("iptables", "ip6tables"):
        assert guest.ok(f"{iptables} -S INPUT") == "-P INPUT ACCEPT\n"
    expect(outside_of(guest), Fate.ACCEPTED, shut=Fate.ACCEPTED)


def use(guest: Guest, backend: str) -> None:
    """Let ``iptables`` be that of *backend*."""
    for program in ("iptables", "ip6tables"):
        guest.ok(f"update-alternatives --set {program} /usr/sbin/{program}-{backend}")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nft", "legacy"])
@pytest.mark.parametrize("suite", ["trixie", "bookworm", "forky"])
def test_nftables(suite: str, backend: str, boot: Boot, built: Build) -> None:
    image = make(Recipe.of(suite))
    with_module, without = image.recipe.kernels
    guest = boot(image)
    use(guest, backend)
    install(guest, built(suite))
    guest.copy_in({"/etc/nftables.conf": NFTABLES})
    guest.ok(
        "cp /usr/share/doc/xt-tarpit-common/examples/chain.v4-nftables /etc/xt-tarpit/chain.v4"
        " && cp /etc/xt-tarpit/chain.v4 /etc/xt-tarpit/chain.v6"
    )
    guest.ok("systemctl enable --now nftables && systemctl enable --now xt-tarpit")
    outside = outside_of(guest)
    expect(outside, Fate.HELD)

    guest.ok("systemctl reload nftables")
    expect(outside, Fate.HELD)
    # By hand: `flush ruleset` takes iptables-nft's rules along, and nobody tells the unit.
    guest.ok("nft -f /etc/nftables.conf")
    expect(outside, Fate.DROPPED if backend == "nft" else Fate.HELD)
    guest.ok("systemctl reload xt-tarpit")
    expect(outside, Fate.HELD)

    guest.reboot(without)
    expect_failed_unit(guest)
    assert guest.ok("systemctl is-active nftables").strip() == "active"
    expect(outside_of(guest), Fate.DROPPED)

    guest.reboot(with_module)
    expect(outside_of(guest), Fate.HELD)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_a_kernel_without_ipv6(backend: str, boot: Boot, built: Build) -> None:
    """IPv4 is armed, and that there is nothing to arm for IPv6 is no failure."""
    image = make(Recipe.of("trixie"))
    guest = boot(image, options="ipv6.disable=1")
    assert guest.run("test -e /proc/net/if_inet6").status
    use(guest, backend)
    install(guest, built("trixie"))
    guest.ok("systemctl enable --now xt-tarpit")
    guest.ok(f"iptables -A INPUT -p tcp --dport {CAUGHT} -j XT-TARPIT")
    outside = Network(guest, families=(4,))
    expect_armed_for_ipv4(outside)
    for command in ("systemctl reload xt-tarpit", "systemctl restart xt-tarpit"):
        guest.ok(command)
        expect_armed_for_ipv4(outside)
    guest.ok("xt-tarpit-chain check")
    guest.ok("systemctl stop xt-tarpit")
    assert outside.fates([CAUGHT]) == {CAUGHT: {Fate.DROPPED}}

    guest.reboot()
    guest.ok(f"iptables -A INPUT -p tcp --dport {CAUGHT} -j XT-TARPIT")
    expect_armed_for_ipv4(Network(guest, families=(4,)))

    # Why it fails without the module is said as everywhere.
    guest.reboot(image.recipe.kernels[1])
    expect_failed_unit(guest)
    assert "-A XT-TARPIT -j DROP" in guest.ok("iptables -S XT-TARPIT")


def expect_armed_for_ipv4(outside: Network) -> None:
    """The unit is active, clients are held, and nobody has anything to complain of."""
    guest = outside.guest
    assert guest.ok("systemctl is-active xt-tarpit").strip() == "active"
    assert guest.run("systemctl is-system-running").stdout.strip() == "running"
    said = guest.run("journalctl -b -q -o cat -t xt-tarpit-chain").output
    assert said == ""
    assert outside.fates([CAUGHT]) == {CAUGHT: {Fate.HELD}}
    assert answered(guest, "iptables") >= 1
    short = guest.run("xt-tarpit-status --short")
    assert (short.status, short.output) == (0, "")
    metrics = guest.ok("/usr/libexec/xt-tarpit/rules")
    assert "ipv4" in metrics
    assert "ipv6" not in metrics
