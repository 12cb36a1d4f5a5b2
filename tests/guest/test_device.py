"""``docs/device.md`` and the part BOOT of ``tarpit(4)``, followed on a booted host."""

from __future__ import annotations

import pytest

from tarpit_builder.packaging import contents
from tests.guest.booted import Guest
from tests.guest.conftest import Boot, install
from tests.guest.image import Recipe, make
from tests.guest.network import Fate, Network
from tests.guest.recipes import DEVICE, examples, follow
from tests.packaging.conftest import Build

pytestmark = [pytest.mark.boot, pytest.mark.network, pytest.mark.docker]

HELD = (Fate.HELD, Fate.HELD)
REFUSED = (Fate.REFUSED, Fate.REFUSED)
ROUTED = {4: "198.51.100.9", 6: "2001:db8:77::9"}
CLAIMED = {4: "192.0.2.222", 6: "2001:db8:1::77"}


def by_nftables(guest: Guest, outside: Network) -> None:
    follow(guest, "nftables", page=DEVICE, word="device")
    assert outside.told_apart([23, 24]) == {23: HELD, 24: REFUSED}
    guest.ok("nft delete table netdev tarpit")


def by_tc(guest: Guest, outside: Network) -> None:
    follow(guest, "tc", page=DEVICE, word="device")
    assert outside.told_apart([23, 24]) == {23: HELD, 24: REFUSED}
    guest.ok("tc qdisc del dev eth0 clsact")


def by_route(guest: Guest, outside: Network) -> None:
    guest.ok("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    outside.run("ip route add 198.51.100.0/24 via 192.0.2.1")
    outside.run("ip route add 2001:db8:77::/64 via 2001:db8::1")
    follow(guest, "A route", page=DEVICE, word="device")
    # Something that tracks, so that there is what is to be avoided.
    guest.ok("nft add chain inet tarpit post '{ type filter hook postrouting priority 0; }'")
    guest.ok("nft add rule inet tarpit post ct state established accept")
    assert outside.told_apart([80], servers=ROUTED) == {80: HELD}
    for host in range(10, 14):
        outside.run(f"nc -z -w 2 2001:db8:77::{host} 80")
    neighbours = guest.ok("ip -6 neigh show dev tarpit0 nud all").split("\n")
    assert [line.split()[0] for line in neighbours if line and "ff02:" not in line] == ["fe80::1"]
    assert guest.ok("cat /proc/sys/net/netfilter/nf_conntrack_count") == "0\n"
    guest.ok("nft delete table inet tarpit && ip route del 198.51.100.0/24 dev tarpit0")


def unused_addresses(guest: Guest, outside: Network) -> None:
    follow(guest, "nftables", page=DEVICE, word="device")
    follow(guest, "Unused addresses", page=DEVICE, word="device")
    outside.run("ip addr add 2001:db8:1::2/64 dev eth0 nodad")
    assert outside.told_apart([80], servers=CLAIMED) == {80: HELD}
    assert outside.told_apart([23, 24]) == {23: HELD, 24: REFUSED}
    mac = guest.ok("cat /sys/class/net/eth0/address").strip()
    for address in CLAIMED.values():
        assert mac in outside.run(f"ip neigh show {address}").stdout
    assert outside.run("nc -z -w 2 192.0.2.199 80").status != 0
    assert outside.run("ip neigh show 192.0.2.199").stdout.split()[-1] in ("FAILED", "INCOMPLETE")
    guest.ok("nft delete table netdev tarpit && ip link del tarpit0")


def after_a_boot(guest: Guest, outside: Network) -> None:
    rules, unit, stanza = examples(contents.DKMS / "tarpit.4", "BOOT")
    guest.copy_in({"/etc/tarpit.nft": rules, "/etc/systemd/system/tarpit0.service": unit})
    guest.ok("systemctl daemon-reload && systemctl start nftables")
    guest.ok("systemctl enable --now tarpit0", seconds=120)
    assert outside.told_apart([23, 24]) == {23: HELD, 24: REFUSED}
    for verb in ("restart", "reload"):
        guest.ok(f"systemctl {verb} nftables", seconds=120)
        guest.wait("nft list table netdev tarpit")
        assert outside.fate(23) is Fate.HELD
    guest.ok("systemctl stop tarpit0")
    assert outside.fate(23) is Fate.REFUSED
    assert guest.run("ip link show tarpit0").status != 0

    # On a kernel without the module, the firewall is there all the same.
    guest.ok("modprobe -r tarpit && echo 'install tarpit /bin/false' >/etc/modprobe.d/none.conf")
    guest.ok("systemctl restart nftables", seconds=120)
    assert guest.run("systemctl start tarpit0", seconds=120).status != 0
    states = guest.run("systemctl is-active nftables tarpit0").stdout.split()
    assert states == ["active", "failed"]
    guest.ok("rm /etc/modprobe.d/none.conf && systemctl disable tarpit0")

    guest.ok(f"cat >>/etc/network/interfaces <<'EOT'\n{stanza}\nEOT")
    guest.ok("ifup tarpit0")
    assert outside.told_apart([80], [4], servers=ROUTED) == {80: (Fate.HELD,)}
    guest.ok("ifdown tarpit0")
    assert guest.run("ip link show tarpit0").status != 0


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_what_the_documents_say_of_the_device(suite: str, boot: Boot, built: Build) -> None:
    guest = boot(make(Recipe.of(suite, packages=("ethtool", "ifupdown"))))
    install(guest, built(suite))
    outside = Network(guest, "eth0")
    follow(guest, "", page=DEVICE, word="device")
    follow(guest, "Which way", page=DEVICE, word="device")
    assert "stall   : on" in guest.ok("ethtool --show-priv-flags tarpit0")
    guest.ok("ethtool --set-priv-flags tarpit0 stall off")
    by_nftables(guest, outside)
    by_tc(guest, outside)
    by_route(guest, outside)
    unused_addresses(guest, outside)
    after_a_boot(guest, outside)
