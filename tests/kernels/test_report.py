"""What a build prints about packages that are for another machine."""

from __future__ import annotations

from pathlib import Path

from tarpit_builder import report
from tarpit_builder.build import BuildResult

NAMES = (
    "iptables_1.4.0+tarpit1.0.0_i386.deb",
    "xt-tarpit-dkms_1.0.0_all.deb",
    "xt-tarpit-modules-2.6.24_1.0.0_i386.deb",
)


TODAY = (
    "xt-tarpit-common_1.0.0_amd64.deb",
    "xt-tarpit-dkms_1.0.0_all.deb",
    "xt-tarpit-modules-6.12.1-amd64_1.0.0_amd64.deb",
)


def summary(names: tuple[str, ...] = NAMES, *, period: bool = True) -> str:
    outputs = [{"file": name, "size": 1000, "sha256": "0" * 64} for name in names]
    manifest = {"outputs": outputs, "plan": {"kernel": "6.12.1-cloud-amd64"}}
    return report.build_summary(
        BuildResult(Path("/dist/2.6.24-i386"), manifest, fresh=True, period=period)
    )


def test_packages_of_a_system_of_2008_are_installed_with_dpkg() -> None:
    said = summary()
    assert "apt install" not in said
    assert "dpkg -i xt-tarpit-modules-2.6.24_1.0.0_i386.deb iptables_1.4.0" in said


def test_the_source_for_dkms_is_instead_of_the_module() -> None:
    (line,) = [line for line in summary().splitlines() if "has DKMS" in line]
    assert "xt-tarpit-dkms_1.0.0_all.deb in place of the module" in line


def test_packages_of_today_are_installed_with_apt() -> None:
    said = summary(TODAY, period=False)
    common = "sudo apt install ./xt-tarpit-common_*.deb"
    assert f"{common} ./xt-tarpit-dkms_*.deb linux-headers-cloud-amd64\n" in said
    assert f"{common} ./xt-tarpit-modules-6.12.1-cloud-amd64_*.deb\n" in said
