"""What xt-tarpit-status says of hosts in trouble, and that doing what it says helps.

The hosts are made of a suite's real kernels, DKMS, kmod and dpkg; ``hosts.sh`` makes them.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tarpit_builder import suites
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe
from tarpit_builder.sources.debian import Mirrors
from tests.packaging.conftest import Build

pytestmark = pytest.mark.docker

SCRIPT = Path(__file__).parent / "hosts.sh"
SUITES = ["trixie", pytest.param("bookworm", marks=pytest.mark.slow)]


class Look:
    """One look at a host, in the three forms."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.data: dict[str, Any] = json.loads(self.read("json"))
        assert [self.status(form) for form in ("json", "short", "long")] == [self.data["code"]] * 3
        assert all(self.read(f"{form}.errors") == "" for form in ("json", "short", "long"))

    def read(self, form: str) -> str:
        # JSON is UTF-8 whatever names are; the other forms show a name's bytes as they are.
        errors = "strict" if form == "json" else "surrogateescape"
        return (self.folder / f"{self.name}.{form}").read_text(encoding="utf-8", errors=errors)

    def status(self, form: str) -> int:
        return int(self.read(f"{form}.status"))

    @property
    def short(self) -> list[str]:
        return self.read("short").splitlines()

    @property
    def found(self) -> dict[str, str]:
        """What counts: code → severity."""
        return {
            finding["code"]: finding["severity"]
            for finding in self.data["findings"]
            if finding["severity"] != "ok"
        }

    def remedy(self, code: str) -> str:
        [finding] = [item for item in self.data["findings"] if item["code"] == code]
        return str(finding["remedy"])

    def kernel(self, version: str) -> dict[str, Any]:
        [kernel] = [item for item in self.data["kernels"] if item["version"] == version]
        return dict(kernel)


class Hosts:
    """All the looks of one suite."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.old, self.new = (folder / "kernels").read_text().split()

    def look(self, name: str) -> Look:
        return Look(self.folder, name)

    def apt(self, name: str) -> list[str]:
        return (self.folder / f"{name}.apt").read_text().splitlines()


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory, built: Build, engine: Engine) -> Any:
    """Makes the hosts of a suite, once."""

    @cache
    def made(suite: str) -> Hosts:
        mirrors = Mirrors.choose(None)
        sources = mirrors.apt_sources(suites.known()[suite])
        bare = Recipe("bare", suite, "amd64", sources, mirrors.main)
        out = tmp_path_factory.mktemp(f"hosts-{suite}")
        run = engine.run(
            engine.ensure_image(bare, Console()),
            ["sh", "/test/hosts.sh"],
            inputs=[
                Input("/packages", [Files({path.name: path for path in built(suite).packages()})]),
                Input("/test", [Files({"hosts.sh": SCRIPT})]),
            ],
            output=out,
            limits=Limits(seconds=1500),
            sealed=False,
        )
        assert run.status == 0, "\n".join(run.lines[-40:])
        assert run.lines[-1] == "done"
        return Hosts(out)

    return made


@pytest.fixture(params=SUITES)
def host(request: pytest.FixtureRequest, hosts: Any) -> Hosts:
    """The hosts of each suite."""
    made: Hosts = hosts(request.param)
    return made


def test_the_next_kernel_lacks_its_headers_and_its_metapackage(host: Hosts) -> None:
    look = host.look("older-runs")
    assert look.found == {"headers-missing": "warning", "headers-not-followed": "warning"}
    assert look.kernel(host.old)["origin"] == "dkms"
    assert look.kernel(host.old)["running"] is True
    assert look.kernel(host.old)["dkms"] == "installed"
    assert [look.kernel(version)["device"] for version in (host.old, host.new)] == [True, False]
    new = look.kernel(host.new)
    assert (new["newest"], new["origin"], new["headers"], new["module"]) == (
        True,
        "none",
        False,
        None,
    )
    follows = f"linux-headers-{host.new} linux-headers-cloud-amd64"
    assert look.remedy("headers-missing") == f"apt install {follows}"
    assert look.remedy("headers-not-followed") == "apt install linux-headers-cloud-amd64"


def test_the_first_line_is_for_monitoring(host: Hosts) -> None:
    first = host.look("older-runs").read("long").splitlines()[0]
    assert re.fullmatch(
        r"TARPIT WARNING - [^|]+\(and 1 more\) \| rules=0 packets=0c bytes=0c", first
    )
    assert host.look("remedied").read("long").startswith("TARPIT OK - module installed for ")


def test_what_it_says_helps(host: Hosts) -> None:
    for name in ("remedied", "remedied-rebooted"):
        look = host.look(name)
        assert look.found == {}
        assert look.short == []
        assert look.kernel(host.new)["dkms"] == "installed"
    assert host.look("remedied").data["followers"] == {"linux-image-cloud-amd64": True}


def test_apt_ends_with_it_while_something_is_wrong(host: Hosts) -> None:
    told = [line for line in host.apt("two-kernels")[-3:] if line.startswith("xt-tarpit: ")]
    assert len(told) == 2
    assert f"the newest kernel, {host.new}, has no module" in told[0]
    for silent in ("extension", "remedy", "after-removal"):
        assert not [line for line in host.apt(silent) if line.startswith("xt-tarpit: the ")]
    assert not [line for line in host.apt("after-removal") if "xt-tarpit-status" in line]


def test_a_container_is_not_asked_for_its_hosts_kernel(host: Hosts) -> None:
    report = json.loads((host.folder / "container.json").read_text())
    assert report["host"]["contained"] == "container"
    assert [kernel["version"] for kernel in report["kernels"]] == [host.old, host.new]


def test_the_running_kernel_has_no_module(host: Hosts) -> None:
    look = host.look("newer-runs")
    assert look.found["headers-missing"] == "warning"
    assert look.short[0].startswith(f"xt-tarpit: the running kernel {host.new} has no module")


def test_it_is_critical_when_a_saved_set_relies_on_it(host: Hosts) -> None:
    look = host.look("saved-set")
    assert look.found["headers-missing"] == "critical"
    assert look.found["saved-set"] == "warning"
    assert look.data["saved"] == [{"kind": "set", "file": "/etc/iptables/rules.v4", "rules": 2}]
    assert len(look.short) == 3


def test_one_kernel_alone(host: Hosts) -> None:
    assert host.look("only-old").found == {}
    assert [k["version"] for k in host.look("only-old").data["kernels"]] == [host.old]
    new = host.look("only-new")
    assert set(new.found) == {"headers-missing", "headers-not-followed"}
    assert host.look("only-none").found == {"kernel-not-installed": "unknown"}


def test_names_are_told_as_they_are(host: Hosts) -> None:
    look = host.look("names")
    files = [item["file"] for item in look.data["saved"]]
    assert files[1] == '/etc/network/if-up.d/a"b\\c\td\ne\ufffd\u00e9\a|'
    assert any(k["version"] == '9.9.9-"odd\\name\ufffd\u00e9' for k in look.data["kernels"])
    assert len(look.short) == 3
    assert look.short[2] == "xt-tarpit: 3 more: xt-tarpit-status"


def test_who_is_not_root_is_told_what_was_not_seen(host: Hosts) -> None:
    look = host.look("not-root")
    assert look.data["host"]["root"] is False
    assert look.remedy("saved-unseen") == "sudo xt-tarpit-status"
    assert look.data["saved"] == []
    assert "/etc/iptables/rules.v4" in look.read("long")


def test_without_kmod_it_is_unknown(host: Hosts) -> None:
    look = host.look("without-kmod")
    assert look.found == {"module-unknown": "unknown"}
    assert "apt install kmod" in look.remedy("module-unknown")
    assert look.short == []


# -- Secure Boot -----------------------------------------------------------------------------------


def test_without_secure_boot_no_signature_is_asked_for(host: Hosts) -> None:
    look = host.look("secure-boot-off")
    assert look.data["secure_boot"] == {"state": "off", "lockdown": "none", "signed_only": False}
    assert look.found == {}


def test_the_key_that_dkms_signed_with_is_looked_for(host: Hosts) -> None:
    look = host.look("not-enrolled")
    assert look.data["secure_boot"] == {
        "state": "on",
        "lockdown": "integrity",
        "signed_only": True,
        "enrolled": "no",
    }
    assert look.found == {"signer-not-enrolled": "critical"}
    assert look.remedy("signer-not-enrolled").startswith("mokutil --import /var/lib/dkms/mok.pub;")
    assert look.kernel(host.new)["signer"] == "DKMS module signing key"
    pending = host.look("pending")
    assert pending.remedy("signer-not-enrolled").startswith("an enrolment is pending: reboot")
    enrolled = host.look("enrolled")
    assert enrolled.data["secure_boot"]["enrolled"] == "yes"
    assert enrolled.found == {}


def test_a_revoked_key_is_as_bad_as_the_kernel_takes_it(host: Hosts) -> None:
    """It is enrolled as well, which does not help it where the kernel heeds revocations."""
    for name, severity in (
        ("revoked", "warning"),  # as Debian configures its kernels
        ("revoked-and-heeded", "critical"),
        ("revoked-and-nobody-knows", "unknown"),
    ):
        look = host.look(name)
        assert look.data["secure_boot"]["enrolled"] == "revoked"
        assert look.found == {"signer-revoked": severity}


@pytest.mark.parametrize("name", ["cannot-tell", "key-of-the-same-name"])
def test_a_key_that_may_be_there_is_unknown(host: Hosts, name: str) -> None:
    look = host.look(name)
    assert look.data["secure_boot"]["enrolled"] == "unknown"
    assert look.found == {"signer-unknown": "unknown"}


def test_an_unsigned_module_is_refused(host: Hosts) -> None:
    look = host.look("not-signed")
    assert look.kernel(host.new)["signer"] is None
    assert look.found == {"module-not-signed": "critical"}


# -- the module ------------------------------------------------------------------------------------


def test_the_loaded_module_is_the_installed_one(host: Hosts) -> None:
    look = host.look("loaded")
    assert look.data["module"]["reload_due"] is False
    assert look.found == {}
    assert host.look("loaded-not-root").found == {}


def test_a_reload_is_due(host: Hosts) -> None:
    look = host.look("reload-due")
    assert look.data["module"]["reload_due"] is True
    assert look.found == {"reload-due": "warning"}
    # The module is used by rules that are not in our chains: stopping the service is not enough.
    assert "remove the rules that name TARPIT" in look.remedy("reload-due")


def test_rules_that_root_cannot_read_are_unknown(host: Hosts) -> None:
    look = host.look("rules-unseen")
    assert look.data["firewall"]["unseen"] == "ipv4 legacy"
    assert look.found["rules-unseen"] == "unknown"


def test_a_module_that_depmod_missed(host: Hosts) -> None:
    look = host.look("not-indexed")
    assert look.found == {"module-not-indexed": "warning"}
    assert look.remedy("module-not-indexed") == f"depmod {host.new}"
    assert host.look("indexed").found == {}


def test_another_tarpit_in_the_way(host: Hosts) -> None:
    assert host.look("both").found == {}
    assert host.look("both").kernel(host.new)["origin"] == "dkms"
    wins = host.look("another-wins")
    assert wins.found == {"another-module-wins": "warning"}
    assert wins.kernel(host.new)["origin"] == "xtables-addons"
    assert "reinstall xt-tarpit-common" in wins.remedy("another-module-wins")
    assert host.look("another-only").found == {"another-module": "warning"}


def test_another_extension_in_the_way(host: Hosts) -> None:
    missing = host.look("extension-missing")
    assert missing.found["extension-missing"] == "critical"
    assert host.look("another-extension").found["another-extension"] == "warning"
    assert host.look("another-extension").data["extension"]["ours"] is False


def test_what_dkms_could_not_build(host: Hosts) -> None:
    not_built = host.look("not-built")
    assert not_built.found == {"dkms-not-built": "warning"}
    assert not_built.kernel(host.new)["dkms"] == "none"
    for name in ("dkms-failed", "dkms-failed-only"):
        failed = host.look(name)
        assert failed.found == {"dkms-failed": "warning"}
        assert failed.kernel(host.new)["dkms"] == "failed"
        assert re.match(
            r"the reason is in /var/lib/dkms/xt-tarpit/\S+/build/make\.log; then: dkms install ",
            failed.remedy("dkms-failed"),
        )


def test_a_prebuilt_module_needs_something_that_follows_the_kernel(host: Hosts) -> None:
    look = host.look("prebuilt")
    assert look.kernel(host.new)["origin"] == "prebuilt"
    assert look.found["modules-not-followed"] == "warning"
    assert "xt-tarpit-modules-cloud-amd64" in look.remedy("modules-not-followed")
    # An older kernel without a module is nobody's trouble until it is booted.
    [older] = [item for item in look.data["findings"] if item["code"] == "module-missing"]
    assert (older["severity"], older["subject"]) == ("ok", f"kernel {host.old}")
