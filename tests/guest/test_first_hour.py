"""A user's first hour: what README says, to the letter, on a booted host.

Debian's mirror is out of the guest's reach, so what README installs from there is in apt's cache.
Two things differ from the letter: the kernel is a cloud kernel, whose headers README has a word
about, and where a test says so the prebuilt module takes the place of DKMS.
"""

from __future__ import annotations

import pytest

from tarpit_builder.build import BuildResult
from tests.guest import readme
from tests.guest.booted import Guest
from tests.guest.conftest import Boot
from tests.guest.image import Recipe, make
from tests.guest.network import Fate, Network
from tests.packaging.conftest import LATER, Build

pytestmark = [pytest.mark.boot, pytest.mark.docker, pytest.mark.network]

SUITES = ["trixie", "bookworm", "forky"]

HEADERS, SOURCE, PREBUILT = (
    "linux-headers-amd64",
    "./xt-tarpit-dkms_*.deb",
    "./xt-tarpit-modules-*.deb",
)
TOOLS = ("iptables-persistent", "inetutils-telnet", "nmap")

CHANGING = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/root", "/boot"),
    *("/var/log", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd"),
    *("/var/lib/private", "/etc/iptables/rules.v4", "/etc/iptables/rules.v6"),
)
"""Where a host that nobody touches changes as well, or where the tests themselves write."""

LIST = (
    f"find / -xdev \\( {' -o '.join(f'-path {path}' for path in CHANGING)} \\) -prune"
    " -o ! \\( -type d -path '/usr/share/man*' \\) -printf '%p %y %m %l\\n' | LC_ALL=C sort;"
    " find /etc /usr/lib/modules -type f ! -name 'rules.v[46]' ! -name ld.so.cache"
    " -exec md5sum {} + | LC_ALL=C sort"
)
"""Every file with its mode, and the contents of those that configure something.

The image has no manual pages, so a folder for some is new, and dpkg leaves it for its other owners.
"""

PACKAGES = "dpkg-query -W -f '${binary:Package}\\n'"


def give(guest: Guest, result: BuildResult, folder: str) -> None:
    """Put the packages of *result* where README's commands are typed."""
    guest.copy_in({f"{folder}/{path.name}": path for path in result.packages()})


def type_in(guest: Guest, block: readme.Block, folder: str, *, prebuilt: bool) -> str:
    """What the commands of *block* print; each of them has to succeed."""
    script = block.script.replace(HEADERS, "linux-headers-cloud-amd64")
    if prebuilt:
        script = script.replace("linux-headers-cloud-amd64 ", "").replace(SOURCE, PREBUILT)
    return guest.ok(f"set -e\ncd {folder}\n{script}", seconds=900)


def expect_hold(guest: Guest) -> Network:
    """Somebody outside is held by every port but SSH's, and sees that with well-known tools."""
    outside = Network(guest)
    outside.listen(22)
    assert outside.fates((22, 23, 3306)) == {
        22: {Fate.ACCEPTED},
        23: {Fate.HELD},
        3306: {Fate.HELD},
    }
    said = outside.run("sh -c '(echo hello; sleep 4) | telnet 192.0.2.1 3306'").stdout
    assert "Connected to 192.0.2.1" in said
    said = outside.run("nmap -n -Pn -p 23,80,3306 192.0.2.1", seconds=120).stdout
    assert [line.split()[1] for line in said.splitlines() if "/tcp" in line] == ["open"] * 3
    said = outside.run("nmap -6 -n -Pn -p 3306 2001:db8::1", seconds=120).stdout
    assert "3306/tcp open" in said
    return outside


def live(guest: Guest, now: BuildResult, later: BuildResult, *, prebuilt: bool) -> None:
    """Install, use, reboot, upgrade, look, uninstall: nothing is left."""
    use, uninstall = readme.first_hour()
    guest.copy_in({"/etc/apt/apt.conf.d/90unattended": 'APT::Get::Assume-Yes "true";\n'})
    before, had = guest.ok(LIST).splitlines(), set(guest.ok(PACKAGES).split())
    give(guest, now, "/root/now")
    for block in use:
        type_in(guest, block, "/root/now", prebuilt=prebuilt)
    expect_hold(guest)

    guest.reboot()
    outside = expect_hold(guest)
    client = outside.connect(3306)
    assert client.fate() is Fate.HELD

    give(guest, later, "/root/later")
    module = "stat -c %i /sys/module/xt_TARPIT"
    loaded = guest.ok(module)
    type_in(guest, use[0], "/root/later", prebuilt=prebuilt)
    assert LATER in guest.ok("dpkg-query -W -f '${Version}' xt-tarpit-common")
    assert guest.ok(module) == loaded
    assert client.fate() is Fate.HELD
    client.stop()
    status = guest.run("xt-tarpit-status")
    assert (status.status, "a reload is due" in status.stdout) == (1, True), status.output
    reload = "systemctl stop xt-tarpit; modprobe -r xt_TARPIT; systemctl start xt-tarpit"
    assert f"do: reboot, or {reload};" in status.stdout
    guest.ok(reload)
    status = guest.run("xt-tarpit-status")
    assert status.status == 0, status.output
    assert outside.fates([3306]) == {3306: {Fate.HELD}}

    for block in uninstall:
        type_in(guest, block, "/root/now", prebuilt=prebuilt)
    # "Take XT-TARPIT out of rules.v4 and rules.v6", and what README's first block brought.
    guest.ok("sed -i /XT-TARPIT/d /etc/iptables/rules.v[46]")
    guest.ok("systemctl restart netfilter-persistent")
    if not prebuilt:
        # By name: autoremove keeps what others suggest, as tar does xz-utils.
        brought = set(guest.ok(PACKAGES).split()) - had
        guest.ok(f"apt-get purge {' '.join(sorted(brought))}", seconds=300)
    expect_nothing_left(guest, before)


def expect_nothing_left(guest: Guest, before: list[str]) -> None:
    """The host is as it was *before*."""
    after = guest.ok(LIST).splitlines()
    gone, new = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    assert not gone + new, "\n".join(["gone:", *gone, "new:", *new])
    traces = {
        "rules": "iptables-save; ip6tables-save; nft list ruleset 2>/dev/null",
        "modules": "lsmod; dkms status 2>/dev/null || true",
        "units": "systemctl list-units --all --plain; systemctl list-timers --all",
        "diversions": "dpkg-divert --list",
        "packages": "dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n'",
        "indexes": "cat /lib/modules/*/modules.dep /lib/modules/*/modules.alias",
    }
    for what, command in traces.items():
        # The tests' own channel into the guest is a device, and so a unit.
        said = guest.ok(command).replace("tarpit.agent", "")
        left = [line for line in said.splitlines() if "tarpit" in line.lower()]
        assert not left, f"{what}: {left}"


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_with_the_prebuilt_module(suite: str, boot: Boot, built: Build, built_later: Build) -> None:
    guest = boot(make(Recipe.of(suite, packages=TOOLS, kernels=1)))
    live(guest, built(suite), built_later(suite), prebuilt=True)


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm", "forky"])
def test_with_dkms(suite: str, boot: Boot, built: Build, built_later: Build) -> None:
    pool = ("linux-headers-cloud-amd64", "dkms")
    guest = boot(make(Recipe.of(suite, packages=TOOLS, pool=pool, kernels=1)), memory=2048)
    live(guest, built(suite), built_later(suite), prebuilt=False)
