"""Secure Boot on: which modules load, and what xt-tarpit-status says until they do.

A machine with OVMF, shim, GRUB and a suite's own kernel; keys come to it as they do to users, by
``mokutil`` and the dialogue at the console.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tarpit_builder.build import BuildResult
from tarpit_builder.console import Console
from tarpit_builder.signing import sign
from tests.guest.booted import Guest
from tests.guest.conftest import Boot
from tests.guest.firmware import DOWN, ENTER, PACKAGES, Firmware
from tests.guest.image import Image, Recipe, archive, make
from tests.guest.network import Fate, Network
from tests.packaging.conftest import Build
from tests.signing.kit import Pair, pair

pytestmark = [pytest.mark.boot, pytest.mark.docker, pytest.mark.network]

REJECTED = "Key was rejected by service"
PASSWORD = "once only"
DKMS_CERTIFICATE = "/var/lib/dkms/mok.pub"


@pytest.fixture
def ours(tmp_path: Path) -> Pair:
    """The key of whoever distributes the packages."""
    return pair(tmp_path, "Modules of example")


def machine(suite: str) -> Image:
    """A machine of *suite* that can have Secure Boot."""
    return make(Recipe.of(suite, packages=PACKAGES, kernels=1))


def signed(built: BuildResult, by: Pair) -> Path:
    """A folder with the package set *built*, signed *by* somebody."""
    console, certificate = Console(), by.certificate
    chosen = sign.choose(built.folder.parent, [built.folder.name])
    how = sign.by_key(str(by.key), certificate)
    [made] = sign.sign(chosen, certificate, how, archive(), console)
    return Path(shutil.copytree(made.folder, by.key.with_suffix(".packages")))


def copy_in(guest: Guest, folder: Path, where: str) -> None:
    """Have the prebuilt module of *folder*, and what belongs to it, in the folder *where*."""
    debs = [path for path in folder.glob("*.deb") if "-dkms_" not in path.name]
    guest.copy_in({f"{where}/{path.name}": path for path in debs})


def unpack(guest: Guest, where: str) -> str:
    """The module in a package of the folder *where* of the guest."""
    guest.ok(f"for deb in {where}/*modules*.deb; do dpkg-deb -x $deb {where}/x; done")
    return guest.ok(f"find {where}/x -name xt_TARPIT.ko").strip()


def status(guest: Guest) -> dict[str, Any]:
    """The report in JSON, with "found" as what counts of it: code → severity."""
    report: dict[str, Any] = json.loads(guest.run("xt-tarpit-status --json").stdout)
    report["found"] = {
        item["code"]: item["severity"] for item in report["findings"] if item["severity"] != "ok"
    }
    return report


def remedy(report: dict[str, Any], code: str) -> str:
    [found] = [item["remedy"] for item in report["findings"] if item["code"] == code]
    return str(found)


def has_secure_boot(guest: Guest) -> None:
    assert "SecureBoot enabled" in guest.ok("mokutil --sb-state")
    assert "[integrity]" in guest.ok("cat /sys/kernel/security/lockdown")


def takes_none_but_ours(guest: Guest, built: BuildResult, stranger: Path) -> None:
    copy_in(guest, built.folder, "/unsigned")
    copy_in(guest, stranger, "/foreign")
    for where in ("/unsigned", "/foreign"):
        refused = guest.run(f"modprobe x_tables; insmod {unpack(guest, where)}")
        assert (refused.status, REJECTED in refused.stderr) == (1, True), where
    guest.ok("modprobe xt_TARPIT && modprobe tarpit")
    guest.ok("iptables -A INPUT -p tcp --dport 23 -j TARPIT")
    assert Network(guest).fate(23) is Fate.HELD


def test_enrolled_key_loads_and_no_other(
    boot: Boot, built: Build, ours: Pair, tmp_path: Path
) -> None:
    image = machine("trixie")
    firmware = Firmware(image, tmp_path)
    firmware.enroll(ours.crt)
    guest = boot(image, firmware=firmware)
    has_secure_boot(guest)
    stranger = signed(built("trixie"), pair(tmp_path, "A stranger"))
    copy_in(guest, stranger, "/foreign")
    folder = signed(built("trixie"), ours)
    copy_in(guest, folder, "/ours")
    guest.ok("apt-get install -yq /ours/*.deb", seconds=300)
    report = status(guest)
    assert (report["found"], report["secure_boot"]["enrolled"]) == ({}, "yes")
    takes_none_but_ours(guest, built("trixie"), stranger)


# -- as a user goes about it -----------------------------------------------------------------------


def confirm(guest: Guest, menu: str) -> None:
    """Reboot, and say yes at the console to what mokutil asked for."""
    guest.shut_down()
    guest.at_the_console(
        [
            ("Press any key to perform MOK management", ENTER),
            (menu, DOWN + ENTER),
            ("View key 0", DOWN + ENTER),
            ("Yes", DOWN + ENTER),
            ("Password", PASSWORD.encode() + ENTER),
            ("Reboot", ENTER),
        ]
    )
    guest.start()


def ask(guest: Guest, command: str) -> None:
    """Run mokutil's *command* with the password that it would ask for."""
    hashed = f"mokutil --generate-hash='{PASSWORD}' >/root/hash"
    guest.ok(f"{hashed} && {command} --hash-file /root/hash")


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_from_not_enrolled_and_back(
    suite: str, boot: Boot, built: Build, ours: Pair, tmp_path: Path
) -> None:
    image = machine(suite)
    guest = boot(image, firmware=Firmware(image, tmp_path))
    has_secure_boot(guest)
    copy_in(guest, signed(built(suite), ours), "/ours")
    said = guest.ok("apt-get install -yq /ours/*.deb", seconds=300)
    certificate = f"/usr/lib/xt-tarpit/{guest.kernel}/certificate.der"
    assert f"mokutil --import {certificate}" in said
    report = status(guest)
    assert report["found"] == {"signer-not-enrolled": "critical"}
    assert REJECTED in guest.run("modprobe xt_TARPIT").stderr

    command, _, then = remedy(report, "signer-not-enrolled").partition("; ")
    assert then == "reboot and confirm it on the console"
    ask(guest, command)
    assert remedy(status(guest), "signer-not-enrolled").startswith("an enrolment is pending")
    confirm(guest, "Enroll MOK")
    has_secure_boot(guest)
    assert (status(guest)["found"], status(guest)["secure_boot"]["enrolled"]) == ({}, "yes")
    stranger = signed(built(suite), pair(tmp_path, "A stranger"))
    takes_none_but_ours(guest, built(suite), stranger)

    # The one way back that Debian's kernels heed.
    ask(guest, f"mokutil --delete {certificate}")
    confirm(guest, "Delete MOK")
    assert REJECTED in guest.run("modprobe xt_TARPIT").stderr
    assert status(guest)["found"] == {"signer-not-enrolled": "critical"}


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bookworm"])
def test_the_machines_own_key(suite: str, boot: Boot, built: Build, tmp_path: Path) -> None:
    """DKMS makes a key and signs with it; enrolled once, it is good for what is built later."""
    tools = ("linux-headers-cloud-amd64", "dkms")
    image = make(Recipe.of(suite, packages=(*PACKAGES, *tools), kernels=1))
    guest = boot(image, firmware=Firmware(image, tmp_path), memory=2048)
    has_secure_boot(guest)
    debs = [path for path in built(suite).packages() if "-modules-" not in path.name]
    guest.copy_in({f"/ours/{path.name}": path for path in debs})
    guest.ok("apt-get install -yq /ours/*.deb", seconds=600)
    assert "DKMS module signing key" in guest.ok("modinfo -F signer xt_TARPIT")
    report = status(guest)
    assert report["found"] == {"signer-not-enrolled": "critical"}
    assert REJECTED in guest.run("modprobe xt_TARPIT").stderr

    command, _, _ = remedy(report, "signer-not-enrolled").partition("; ")
    assert command == f"mokutil --import {DKMS_CERTIFICATE}"
    ask(guest, command)
    confirm(guest, "Enroll MOK")
    has_secure_boot(guest)
    assert status(guest)["found"] == {}
    stranger = signed(built(suite), pair(tmp_path, "A stranger"))
    takes_none_but_ours(guest, built(suite), stranger)

    guest.ok("iptables -F; modprobe -r tarpit xt_TARPIT")
    guest.ok(
        "dkms remove --all xt-tarpit/$(dkms status | sed -n 's,^xt-tarpit/\\([^,]*\\).*,\\1,p')"
    )
    assert guest.run("modprobe xt_TARPIT").status
    guest.ok("apt-get install -yq --reinstall /ours/*dkms*.deb", seconds=600)
    assert status(guest)["found"] == {}
    guest.ok("modprobe xt_TARPIT && modprobe tarpit")


@pytest.mark.slow
def test_what_debians_kernels_do_not_look_at(boot: Boot, built: Build, tmp_path: Path) -> None:
    """A date that has passed, and a list of revoked certificates."""
    old = pair(tmp_path, "Long ago", begins=datetime(2019, 1, 1, tzinfo=UTC))
    image = machine("trixie")
    firmware = Firmware(image, tmp_path)
    firmware.enroll(old.crt)
    firmware.enroll(old.crt, "dbx")
    guest = boot(image, firmware=firmware)
    copy_in(guest, signed(built("trixie"), old), "/ours")
    guest.ok("apt-get install -yq /ours/*.deb", seconds=300)
    for loaded in (False, True):
        report = status(guest)
        assert report["module"]["loaded"] is loaded
        assert report["found"] == {"signer-revoked": "warning"}
        [note] = [item for item in report["findings"] if item["code"] == "signer-expired"]
        assert note["severity"] == "ok"
        guest.ok("modprobe xt_TARPIT")
