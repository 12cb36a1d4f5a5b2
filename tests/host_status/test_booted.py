"""xt-tarpit-status and the metrics on a booted host: what only a running kernel can show."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.guest.booted import Guest
from tests.guest.conftest import Boot
from tests.guest.image import Recipe, make
from tests.guest.network import Fate, Network
from tests.packaging.conftest import LATER, Build

pytestmark = [pytest.mark.boot, pytest.mark.network, pytest.mark.docker]

SUITES = ["trixie", "bookworm"]
INSTALL = (
    "apt-get install -yq --allow-downgrades {}/xt-tarpit-common_*.deb {}/xt-tarpit-modules-*.deb"
)
EXPORTER = "prometheus-node-exporter"


def status(guest: Guest, user: str = "root") -> dict[str, Any]:
    """The report in JSON, with "found" as what counts of it: code → severity."""
    result = guest.run(f"runuser -u {user} -- /usr/sbin/xt-tarpit-status --json")
    assert result.stderr == ""
    report: dict[str, Any] = json.loads(result.stdout)
    assert report["code"] == result.status
    # What is judged here is the running kernel; bookworm's other one is newer and has no module.
    others = {f"kernel {k['version']}" for k in report["kernels"] if not k["running"]}
    report["found"] = {
        item["code"]: item["severity"]
        for item in report["findings"]
        if item["severity"] != "ok" and item["subject"] not in others
    }
    return report


def remedy(report: dict[str, Any], code: str) -> str:
    [found] = [item["remedy"] for item in report["findings"] if item["code"] == code]
    return str(found)


def copy_packages(guest: Guest, built: Build, suite: str, folder: str) -> None:
    guest.copy_in({f"{folder}/{path.name}": path for path in built(suite).packages()})


def asking_loads_no_module(guest: Guest) -> None:
    before = guest.ok("cut -d ' ' -f 1 /proc/modules | sort")
    report = status(guest)
    assert guest.ok("cut -d ' ' -f 1 /proc/modules | sort") == before
    assert (report["found"], report["rules"]) == ({}, [])
    assert report["module"] == {"loaded": False}


def rules_of_each_backend_are_told_with_their_counters(guest: Guest, outside: Network) -> None:
    for rule in (
        "iptables-nft -A INPUT -p tcp --dport 23 -j TARPIT",
        "ip6tables-nft -A INPUT -p tcp --dport 24 -j TARPIT --honeypot",
        "iptables-legacy -t mangle -A INPUT -p tcp --dport 25 -j TARPIT --reset",
        "ip6tables-legacy -t mangle -A INPUT -p tcp --dport 26 -j TARPIT",
    ):
        guest.ok(rule)
    assert outside.fate(23) is Fate.HELD
    assert outside.fate(25) is Fate.REFUSED
    assert outside.fate(26, 6) is Fate.HELD
    report = status(guest)
    assert report["found"] == {}
    told = [
        (rule["family"], rule["backend"], rule["table"], rule["mode"], rule["packets"] > 0)
        for rule in report["rules"]
    ]
    assert sorted(told) == [
        ("ipv4", "legacy", "mangle", "reset", True),
        ("ipv4", "nft", "filter", "tarpit", True),
        ("ipv6", "legacy", "mangle", "tarpit", True),
        ("ipv6", "nft", "filter", "honeypot", False),
    ]
    # The kernel counts one use for each rule: none escapes us.
    assert report["module"]["uses"] == 4
    # Whom it holds goes on to probe the closed window: what is told lies between two looks.
    before = counters(guest)
    [first] = [r for r in status(guest)["rules"] if r["table"] == "filter" and r["packets"]]
    after = counters(guest)
    assert before["packets"] <= first["packets"] <= after["packets"]
    assert before["bytes"] <= first["bytes"] <= after["bytes"]


def counters(guest: Guest) -> dict[str, int]:
    """What iptables itself says of the rule for IPv4 in INPUT."""
    line = guest.ok("iptables-nft -nvxL INPUT | awk '/TARPIT/ { print $1, $2 }'")
    packets, octets = map(int, line.split())
    return {"packets": packets, "bytes": octets}


def who_is_not_root_is_told_how_many(guest: Guest) -> None:
    report = status(guest, "nobody")
    assert (report["found"], report["rules"]) == ({}, [])
    assert report["module"]["uses"] == 4
    assert report["firewall"]["unseen"] == "ipv4 legacy, ipv6 legacy, ipv4 nft, ipv6 nft"
    assert remedy(report, "rules-unseen") == "sudo xt-tarpit-status"


def rules_of_another_namespace_are_counted(guest: Guest) -> None:
    guest.ok("ip netns add elsewhere")
    guest.ok("ip netns exec elsewhere iptables-nft -A INPUT -p tcp -j TARPIT")
    report = status(guest)
    [note] = [item for item in report["findings"] if item["code"] == "rules-elsewhere"]
    assert note["text"].endswith("use the module: 1")
    assert report["found"] == {}
    guest.ok("ip netns del elsewhere")


def samples_of(text: str) -> dict[str, float]:
    """The samples of ours in Prometheus' text format."""
    found = re.findall(r"^(xt_tarpit\S+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def devices_are_told_with_what_they_did(guest: Guest) -> None:
    before = status(guest)
    assert before["counters"]["synack"] > 0
    assert before["counters"]["hold"] > 0
    assert before["devices"] == []
    guest.ok("ip link add tarpit0 type tarpit")
    report = status(guest)
    assert report["found"] == {"device-down": "warning"}
    guest.ok(remedy(report, "device-down"))
    guest.ok("ethtool --set-priv-flags tarpit0 stall on")
    guest.ok("ip route add 198.51.100.0/24 dev tarpit0")
    guest.run("timeout 5 nc -w 2 198.51.100.7 80 </dev/null")
    report = status(guest, "nobody")
    assert report["found"] == {}
    # The module that the device has in use is not one rule more.
    assert report["module"]["uses"] == before["module"]["uses"]
    assert [kernel["device"] for kernel in report["kernels"] if kernel["running"]] == [True]
    [device] = report["devices"]
    assert (device["name"], device["state"], device["mode"]) == ("tarpit0", "up", "stall")
    assert device["sent"] == device["answered"] + device["dropped"]
    [synack] = [item for item in report["outcomes"] if item["outcome"] == "synack"]
    assert (synack["device"], synack["packets"]) == ("tarpit0", 1)

    text = guest.run("xt-tarpit-status").stdout
    assert re.search(
        r"^  tarpit0 is up, mode stall\n.* packets sent to it, .*\n.*synack 1", text, re.M
    )
    guest.ok("mkdir -p /tmp/metrics && /usr/libexec/xt-tarpit/metrics /tmp/metrics")
    samples = samples_of(guest.ok("cat /tmp/metrics/xt-tarpit.prom"))
    assert samples['xt_tarpit_device_info{device="tarpit0",mode="stall"}'] == 1
    assert samples['xt_tarpit_device_answers_total{device="tarpit0",kind="synack"}'] == 1
    assert samples['xt_tarpit_answers_total{kind="synack"}'] >= before["counters"]["synack"]

    # Without its tool, its mode is unknown and that is said.
    guest.ok("chmod -x $(command -v ethtool)")
    report = status(guest)
    assert (report["found"], report["devices"][0]["mode"]) == ({}, "unknown")
    assert remedy(report, "device-mode-unseen") == "apt install ethtool"
    guest.ok("chmod +x /usr/sbin/ethtool")
    guest.ok("modprobe -r tarpit")
    assert status(guest)["devices"] == []


def an_older_extension_works_with_this_module(guest: Guest, outside: Network) -> None:
    """That of xtables-addons knows revision 0 only, as ours did at first."""
    guest.ok(
        "cp -r /usr/lib/*/xtables /old && mv /old/libxt_TARPIT.so.distrib /old/libxt_TARPIT.so"
    )
    old = "XTABLES_LIBDIR=/old"
    fates = {33: ("", Fate.HELD), 34: ("--honeypot", Fate.ACCEPTED), 35: ("--reset", Fate.REFUSED)}
    for backend in ("nft", "legacy"):
        rules = [f"-p tcp --dport {port} -j TARPIT {mode}" for port, (mode, _) in fates.items()]
        for rule in rules:
            guest.ok(f"{old} iptables-{backend} -A INPUT {rule}")
        told = {port: {fate} for port, (_, fate) in fates.items()}
        assert outside.fates(fates, [4]) == told, backend
        stall = f"{old} iptables-{backend} -A INPUT -p tcp --dport 36 -j TARPIT --stall"
        assert 'unknown option "--stall"' in guest.run(stall).stderr
        # As the manual says of what is seen with the new one.
        shown = guest.ok(f"iptables-{backend} -S INPUT | grep 'dport 3[345]'")
        assert shown.count("[unsupported revision]") == (3 if backend == "legacy" else 0)
        for rule in rules:
            guest.ok(f"{old} iptables-{backend} -D INPUT {rule}")


def node_exporter_reads_the_metrics(guest: Guest) -> None:
    guest.ok("systemctl enable --now xt-tarpit")
    guest.ok("systemctl start xt-tarpit-metrics.service")
    path = f"/var/lib/prometheus/{EXPORTER.removeprefix('prometheus-')}/xt-tarpit.prom"
    assert guest.ok(f"stat -c '%a %U' {path}").split() == ["644", "root"]
    scrape = r"printf 'GET /metrics HTTP/1.0\r\n\r\n' | nc -N 127.0.0.1 9100"
    text = guest.wait(f"{scrape} | grep -a xt_tarpit_module_loaded && {scrape}", seconds=60)
    assert re.search(r"^node_textfile_scrape_error 0$", text, re.MULTILINE)
    samples = samples_of(text)
    # In the order that the exporter sorts labels in.
    label = '{{backend="nft",chain="{}",family="ipv4",{}table="filter"}}'
    assert samples["xt_tarpit_module_loaded"] == 1
    assert samples["xt_tarpit_chain_armed" + label.format("XT-TARPIT", "")] == 1
    held = samples["xt_tarpit_packets_total" + label.format("INPUT", 'mode="tarpit",')]
    assert held > 0
    # The service may see them as well as root does.
    assert samples['xt_tarpit_answers_total{kind="synack"}'] > 0
    assert "# TYPE xt_tarpit_packets_total counter" in text
    # Not enabled by the package, and it works when somebody does.
    assert guest.run("systemctl is-enabled xt-tarpit-metrics.timer").stdout == "disabled\n"
    guest.ok(f"rm {path} && systemctl enable --now xt-tarpit-metrics.timer")
    guest.wait(f"test -e {path}", seconds=90)
    guest.ok("systemctl disable --now xt-tarpit-metrics.timer")


def an_upgrade_says_that_a_reload_is_due(guest: Guest) -> None:
    for program in ("iptables-nft", "ip6tables-nft"):
        guest.ok(f"{program} -F INPUT")
    for program in ("iptables-legacy", "ip6tables-legacy"):
        guest.ok(f"{program} -t mangle -F INPUT")
    guest.ok("iptables -A INPUT -p tcp --dport 23 -j XT-TARPIT")
    assert status(guest)["found"] == {}
    output = guest.ok(INSTALL.format("/later", "/later"), seconds=300)
    assert "the loaded module is not the installed one" in output.splitlines()[-1]
    report = status(guest)
    assert report["found"] == {"reload-due": "warning"}
    assert report["chains"][0]["state"] == "armed"
    told = remedy(report, "reload-due")
    match = re.match(r"reboot, or ([^;]+); ([^;]+); ([^;]+); clients", told)
    assert match, told
    guest.ok(" && ".join(match.groups()))
    report = status(guest)
    assert report["found"] == {}
    assert report["module"]["version"] == LATER


def without_the_module_it_is_critical(guest: Guest) -> None:
    report = status(guest)
    assert report["found"] == {"module-missing": "critical", "service-failed": "critical"}
    assert {chain["state"] for chain in report["chains"]} == {"drop"}
    assert report["code"] == 2
    short = guest.run("xt-tarpit-status --short")
    assert short.status == 2
    assert 2 <= len(short.stdout.splitlines()) <= 3
    first = guest.run("xt-tarpit-status").stdout.splitlines()[0]
    assert re.match(r"TARPIT CRITICAL - [^|]+\| rules=0 packets=0c bytes=0c$", first)


@pytest.mark.slow
@pytest.mark.parametrize("suite", SUITES)
def test_a_host_over_its_life(suite: str, boot: Boot, built: Build, built_later: Build) -> None:
    image = make(Recipe.of(suite, packages=(EXPORTER, "ethtool", "xtables-addons-common")))
    guest = boot(image)
    copy_packages(guest, built, suite, "/now")
    copy_packages(guest, built_later, suite, "/later")
    guest.ok(INSTALL.format("/now", "/now"), seconds=300)
    asking_loads_no_module(guest)
    outside = Network(guest)
    rules_of_each_backend_are_told_with_their_counters(guest, outside)
    who_is_not_root_is_told_how_many(guest)
    rules_of_another_namespace_are_counted(guest)
    devices_are_told_with_what_they_did(guest)
    an_older_extension_works_with_this_module(guest, outside)
    node_exporter_reads_the_metrics(guest)
    an_upgrade_says_that_a_reload_is_due(guest)
    guest.reboot(image.recipe.kernels[1])
    without_the_module_it_is_critical(guest)
