"""What a build prints about packages that are for another machine."""

from __future__ import annotations

from pathlib import Path

from tarpit_builder import plan, report
from tarpit_builder.build import BuildResult
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive
from tests.conftest import CLOUD

NAMES = (
    "iptables_1.4.0+tarpit1.0.0_i386.deb",
    "xt-tarpit-dkms_1.0.0_all.deb",
    "xt-tarpit-modules-2.6.24_1.0.0_i386.deb",
)


def summary(kernel: str, names: tuple[str, ...], archive: Archive) -> str:
    """What is said of a build for *kernel* that left *names*."""
    userland = plan.make(Request(kernel), archive).kernel.userland
    outputs = [{"file": name, "size": 1000, "sha256": "0" * 64} for name in names]
    manifest = {"outputs": outputs}
    install = userland.install(manifest)
    return report.build_summary(BuildResult(Path("/dist/it"), manifest, True, install))


def test_packages_of_a_system_of_2008_are_installed_with_dpkg(archive: Archive) -> None:
    said = summary("2.6.24", NAMES, archive)
    assert "apt install" not in said
    assert "dpkg -i xt-tarpit-modules-2.6.24_1.0.0_i386.deb iptables_1.4.0" in said


def test_the_source_for_dkms_is_instead_of_the_module(archive: Archive) -> None:
    said = summary("2.6.24", NAMES, archive)
    (line,) = [line for line in said.splitlines() if "has DKMS" in line]
    assert "xt-tarpit-dkms_1.0.0_all.deb in place of the module" in line


def test_packages_of_today_are_installed_with_apt(archive: Archive) -> None:
    said = summary(CLOUD, (), archive)
    common = "sudo apt install ./xt-tarpit-common_*.deb"
    assert f"{common} ./xt-tarpit-dkms_*.deb linux-headers-cloud-amd64\n" in said
    assert f"{common} ./xt-tarpit-modules-{CLOUD}_*.deb\n" in said


def test_no_headers_are_named_where_no_package_has_them(archive: Archive) -> None:
    names = ("xt-tarpit-modules-6.12.19-mine_1.0.0+deb12_amd64.deb",)
    said = summary("6.12.19", names, archive)
    assert "linux-headers" not in said
    assert "./xt-tarpit-common_*.deb ./xt-tarpit-modules-6.12.19-mine_*.deb\n" in said
