"""Kernels of other distributions are found by the names that these give them."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarpit_builder import kernels, plan, report, suites, supported
from tarpit_builder.console import Console
from tarpit_builder.errors import SourceError, ToolMissingError, UserError
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tests.mirror import FakeArchive, Signer, package, serve

UBUNTU, GA, HWE, AWS = "6.8.0-60.63", "6.8.0-60-generic", "6.11.0-26-generic", "6.8.0-1029-aws"
PVE, RPI = "6.8.12-4-pve", "6.12.25+rpt-rpi-v8"
COMPILERS = {
    GA: "x86_64-linux-gnu-gcc-13 (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0",
    PVE: "gcc (Debian 12.2.0-14+deb12u1) 12.2.0",
}


def meta(name: str, target: str) -> dict[str, str]:
    """A metapackage that installs *target*."""
    return package(name, "1", depends=target)


def headers(
    root: Path, name: str, abi: str, depends: str = "", compression: str = "zstd"
) -> dict[str, str]:
    """A package of headers that says, in its configuration alone, which compiler made the kernel.

    Its file is below *root*.
    """
    work = root / "work" / name
    source = work / f"usr/src/linux-headers-{abi}"
    source.mkdir(parents=True)
    text = COMPILERS.get(abi, "gcc-14 (Ubuntu 14.2.0-4ubuntu2) 14.2.0")
    (source / ".config").write_text(f'#\nCONFIG_CC_VERSION_TEXT="{text}"\nCONFIG_CC_IS_GCC=y\n')
    (work / "DEBIAN").mkdir()
    stanza = package(name, "1", depends=depends)
    fields = f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@example.org>\n"
    (work / "DEBIAN/control").write_text(f"{fields}Description: x\n")
    file = root / stanza["Filename"]
    file.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "-b", work, file],
        check=True,
        capture_output=True,
    )
    content = file.read_bytes()
    return stanza | {"Size": str(len(content)), "SHA256": hashlib.sha256(content).hexdigest()}


def _ubuntu(fake: FakeArchive) -> None:
    root = fake.root / "ubuntu"
    fake.suite("noble", [], archive="ubuntu")
    fake.suite(
        "noble-updates",
        [
            headers(root, f"linux-headers-{GA}", GA, "linux-headers-6.8.0-60, libc6 (>= 2.38)"),
            package("linux-headers-6.8.0-60", "1", arch="all"),
            package(f"linux-image-{GA}", "1", depends=f"linux-modules-{GA}"),
            package(f"linux-modules-{GA}", "1"),
            package(f"linux-modules-extra-{GA}", "1"),
            meta("linux-headers-generic", f"linux-headers-{GA}"),
            meta("linux-headers-virtual", "linux-headers-generic"),
            headers(root, f"linux-headers-{HWE}", HWE, "linux-hwe-6.11-headers-6.11.0-26"),
            package("linux-hwe-6.11-headers-6.11.0-26", "1", arch="all"),
            meta("linux-headers-generic-hwe-24.04", f"linux-headers-{HWE}"),
        ],
        archive="ubuntu",
    )
    fake.suite(
        "noble-security",
        [
            headers(root, f"linux-headers-{AWS}", AWS, "linux-aws-headers-6.8.0-1029"),
            package("linux-aws-headers-6.8.0-1029", "1", arch="all"),
            meta("linux-headers-aws", f"linux-headers-{AWS}"),
        ],
        archive="ubuntu",
    )
    root = fake.root / "jammy"
    jammy = headers(root, f"linux-headers-{GA}", GA, "linux-hwe-6.8-headers-6.8.0-60")
    jammy["Filename"] = f"../jammy/{jammy['Filename']}"
    fake.suite(
        "jammy",
        [jammy, package("linux-hwe-6.8-headers-6.8.0-60", "1", arch="all")],
        archive="ubuntu",
    )
    for pocket in ("jammy-updates", "jammy-security"):
        fake.suite(pocket, [], archive="ubuntu")


def _proxmox(fake: FakeArchive) -> None:
    fake.suite(
        "bookworm",
        [
            headers(fake.root / "pve", f"proxmox-headers-{PVE}", PVE, compression="xz"),
            meta("proxmox-headers-6.8", f"proxmox-headers-{PVE}"),
            meta("proxmox-default-headers", "proxmox-headers-6.8"),
            package(f"proxmox-kernel-{PVE}", "1"),
            package(f"proxmox-kernel-{PVE}-signed", "1"),
        ],
        archive="pve",
        component="pve-no-subscription",
        suffix=".gz",
    )


def _raspios(fake: FakeArchive, *, programs: bool = True) -> None:
    depends = "linux-headers-6.12.25+rpt-common-rpi (= 1), linux-kbuild-6.12.25+rpt, gcc-12"
    fake.suite(
        "bookworm",
        [
            package(f"linux-headers-{RPI}", "1", arch="arm64", depends=depends),
            package("linux-headers-6.12.25+rpt-common-rpi", "1", arch="all"),
            package("linux-kbuild-6.12.25+rpt", "1", arch="arm64"),
            package(f"linux-image-{RPI}", "1", arch="arm64"),
            *([package("linux-kbuild-6.12.25+rpt", "1")] if programs else []),
            meta("linux-headers-rpi-v8", f"linux-headers-{RPI}") | {"Architecture": "arm64"},
        ],
        archive="rpi",
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, signer: Signer) -> Iterator[str]:
    """Archives with the layout and the names of all of them, on the wire."""
    fake = FakeArchive(tmp_path_factory.mktemp("www"), signer)
    _ubuntu(fake)
    _proxmox(fake)
    _raspios(fake)
    with serve(fake.root) as where:
        yield where


@pytest.fixture
def archive(url: str, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Debian's archive, which that of another distribution is reached from."""
    for name, folder in (("UBUNTU", "ubuntu"), ("PROXMOX", "pve"), ("RASPIOS", "rpi")):
        monkeypatch.setenv(f"TARPIT_{name}_MIRROR", f"{url}/{folder}")
        monkeypatch.setenv(f"TARPIT_{name}_KEYRING", str(signer.keyring))
    monkeypatch.setenv("TARPIT_DEBIAN_MIRROR", "http://debian.example/debian")
    monkeypatch.setenv("TARPIT_DEBIAN_SECURITY_MIRROR", "http://debian.example/debian-security")
    return Archive(Store(tmp_path / "cache"), Mirrors(), Console(quiet=True))


def running(monkeypatch: pytest.MonkeyPatch, abi: str, codename: str) -> None:
    real = os.uname()
    fields = (real.sysname, real.nodename, abi, real.version, real.machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(fields))
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": codename})


@pytest.mark.parametrize(
    ("name", "flavour", "abi", "parts", "compiler"),
    [
        ("ubuntu:24.04", "", GA, ["linux-headers-6.8.0-60"], "gcc-13"),
        ("noble", "virtual", GA, ["linux-headers-6.8.0-60"], "gcc-13"),
        ("ubuntu:noble", "hwe", HWE, ["linux-hwe-6.11-headers-6.11.0-26"], "gcc-14"),
        ("ubuntu:noble", "generic-hwe-24.04", HWE, ["linux-hwe-6.11-headers-6.11.0-26"], "gcc-14"),
        ("ubuntu:noble", "aws", AWS, ["linux-aws-headers-6.8.0-1029"], "gcc-14"),
        (AWS, "", AWS, ["linux-aws-headers-6.8.0-1029"], "gcc-14"),
        (f"{GA}/jammy", "", GA, ["linux-hwe-6.8-headers-6.8.0-60"], "gcc-13"),
        (f"{GA}/22.04", "", GA, ["linux-hwe-6.8-headers-6.8.0-60"], "gcc-13"),
        ("proxmox:8", "", PVE, [], "gcc-12"),
        ("pve:bookworm", "6.8", PVE, [], "gcc-12"),
        (PVE, "", PVE, [], "gcc-12"),
    ],
)
def test_a_kernel_by_each_of_its_names(
    archive: Archive, name: str, flavour: str, abi: str, parts: list[str], compiler: str
) -> None:
    made = plan.make(Request(name, flavour=flavour), archive)
    facts = made.facts()
    assert (facts["kernel"], facts["compiler"]) == (abi, compiler)
    names = [str(item["package"]) for item in made.kernel.tree.manifest()]
    assert names[1:] == parts
    again = plan.make(Request(made.command.rpartition(" ")[2]), archive)
    assert again.key() == made.key()


def test_a_raspberry_pi_has_headers_as_debian_has(archive: Archive) -> None:
    facts = plan.make(Request("raspios:bookworm", arch="arm64", flavour="v8"), archive).facts()
    assert (facts["kernel"], facts["compiler"], facts["version"].partition("+")[2]) == (
        RPI,
        "gcc-12-aarch64-linux-gnu",
        "rpios12",
    )
    assert plan.make(Request(RPI, arch="arm64"), archive).kernel.name == RPI


@pytest.mark.parametrize(
    ("name", "suffix", "base", "packages", "recommends"),
    [
        (GA, "ubuntu24.04", "noble", f"linux-image-{GA}", "linux-headers-generic"),
        (f"{GA}/jammy", "ubuntu22.04", "jammy", f"linux-image-{GA}", "linux-headers-generic"),
        (PVE, "pve8", "bookworm", f"proxmox-kernel-{PVE}-signed", "proxmox-default-headers"),
    ],
)
def test_packages_are_made_for_the_userland_that_the_distribution_has(
    archive: Archive, name: str, suffix: str, base: str, packages: str, recommends: str
) -> None:
    userland = plan.make(Request(name), archive).kernel.userland
    assert isinstance(userland, SuiteUserland)
    assert userland.packages.version.endswith(f"+{suffix}")
    assert userland.packages.kernel_packages[0] == packages
    assert userland.packages.headers[0] == recommends
    assert (userland.recipe.suite, userland.packages.suite) == (base, base)
    sources = " ".join(userland.recipe.apt_sources)
    assert ("main restricted universe" in sources) == name.startswith(GA)
    assert ("/pve" in sources) is False


def test_programs_that_are_not_for_the_machine_that_builds(
    tmp_path: Path, signer: Signer, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeArchive(tmp_path / "www", signer)
    _raspios(fake, programs=False)
    with serve(fake.root) as url:
        monkeypatch.setenv("TARPIT_RASPIOS_MIRROR", f"{url}/rpi")
        with pytest.raises(
            SourceError, match=r"no linux-kbuild-6\.12.* for amd64.*debian:bookworm"
        ):
            plan.make(Request("raspios:bookworm", arch="arm64"), archive)


def test_what_it_takes_to_boot(archive: Archive) -> None:
    noble = suites.find("ubuntu", "noble")
    ubuntu = archive.of(suites.distributions()["ubuntu"], "amd64")
    assert noble
    image = [package.name for package in ubuntu.newest(noble, "", "amd64").image]
    assert image == [f"linux-image-{GA}", f"linux-modules-{GA}", f"linux-modules-extra-{GA}"]
    pve = archive.of(suites.distributions()["proxmox"], "amd64")
    assert [package.name for package in pve.exact(PVE, "amd64").image] == [
        f"proxmox-kernel-{PVE}-signed"
    ]


@pytest.mark.parametrize(
    ("abi", "codename", "suite"),
    [(GA, "noble", "noble"), (GA, "jammy", "jammy"), (PVE, "bookworm", "bookworm")],
)
def test_the_running_kernel_is_of_the_suite_that_runs(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, abi: str, codename: str, suite: str
) -> None:
    running(monkeypatch, abi, codename)
    facts = plan.make(Request("running"), archive).facts()
    assert (facts["kernel"], facts["suite"]) == (abi, suite)


def test_the_metapackage_is_what_follows_the_kernel(archive: Archive) -> None:
    def headers_of(name: str, flavour: str = "") -> str:
        userland = plan.make(Request(name, flavour=flavour), archive).kernel.userland
        return userland.install({})[1].rpartition(" ")[2]

    assert headers_of(GA) == "linux-headers-generic"
    assert headers_of(HWE) == "linux-headers-generic-hwe-24.04"
    assert headers_of(AWS) == "linux-headers-aws"
    assert headers_of(PVE) == "proxmox-default-headers"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("ubuntu:nobel"), "did you mean noble"),
        (Request("ubuntu:25.04"), "no Ubuntu suite is called '25.04'"),
        (Request("ubuntu:plucky"), r"has left Ubuntu.s mirrors.*old-releases\.ubuntu\.com/ubuntu"),
        (Request("ubuntu:resolute"), r"no suite resolute.*old ones at http://old-releases"),
        (Request("ubuntu:noble", flavour="gpc"), "flavours there: aws, .*generic"),
        (Request(GA, flavour="aws"), "is not a kernel of flavour 'aws'"),
        (Request("6.8.0-61-generic"), "no Ubuntu suite has headers.*did you mean 6.8.0-60-generic"),
        (Request(f"{GA}/jamy"), "did you mean jammy"),
        (Request("ubuntu:noble", arch="i386"), "architecture 'i386' is not supported for Ubuntu"),
        (Request("proxmox:7"), "no Proxmox VE suite is called '7'"),
        (Request("raspios:trixie"), "architecture 'amd64' is not supported for Raspberry Pi OS"),
        (Request("ubuntu:noble", iptables="1.4.0"), "--iptables is for releases of kernel.org"),
    ],
)
def test_wrong_requests_end_in_one_line_with_a_next_step(
    archive: Archive, request_: Request, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan.make(request_, archive)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_the_running_kernel_that_left_the_mirrors(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(monkeypatch, "6.8.0-31-generic", "noble")
    with pytest.raises(UserError, match=r"this machine runs 6\.8.*--kernel ubuntu:noble"):
        plan.make(Request("running"), archive)


def test_a_keyring_that_does_not_match_is_told(
    archive: Archive, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TARPIT_UBUNTU_KEYRING")
    other = Signer(tmp_path / "other")
    other.stop()
    mirrors = Mirrors.choose(f"{url}/ubuntu", keyring=str(other.keyring))
    with pytest.raises(SourceError, match=r"not signed by a key of .*No public key.*--keyring"):
        plan.make(Request("ubuntu:noble"), Archive(archive.store, mirrors, Console(quiet=True)))
    empty = tmp_path / "empty.gpg"
    empty.write_text("nothing")
    mirrors = Mirrors.choose(f"{url}/ubuntu", keyring=str(empty))
    with pytest.raises(UserError, match="holds no OpenPGP key"):
        plan.make(Request("ubuntu:noble"), Archive(archive.store, mirrors, Console(quiet=True)))
    with pytest.raises(UserError, match=r"--keyring .*there is no such file"):
        Mirrors.choose("", keyring=str(tmp_path / "absent"))


def test_no_keyring_at_all_is_told_before_anything_is_fetched(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARPIT_PROXMOX_KEYRING", "/nonexistent")
    monkeypatch.setenv("TARPIT_PROXMOX_MIRROR", "http://127.0.0.1:9/")
    with pytest.raises(ToolMissingError, match=r"Proxmox VE archive keyring.*--keyring"):
        plan.make(Request("proxmox:8"), archive)


def test_mirror_and_keyring_are_part_of_the_command(
    archive: Archive, url: str, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TARPIT_UBUNTU_KEYRING")
    armoured = signer.home / "keyring.asc"
    armoured.write_bytes(
        subprocess.run(
            ["gpg", "--homedir", signer.home, "--armor", "--export"],
            check=True,
            capture_output=True,
        ).stdout
    )
    mirrors = Mirrors.choose(f"{url}/ubuntu/", default="http://x/", keyring=str(armoured))
    made = plan.make(Request(GA), Archive(archive.store, mirrors, Console(quiet=True)))
    assert made.command == (
        f"invoke build --kernel {GA} --mirror {url}/ubuntu --keyring {armoured}"
    )
    userland = made.kernel.userland
    assert isinstance(userland, SuiteUserland)
    assert userland.recipe.keyring == str(armoured)
    # Debian's mirror of invoke.yaml is nobody else's.
    other = Mirrors.choose("", default="http://x/").serving(
        suites.distributions()["ubuntu"], "arm64"
    )
    assert other.named == ""


def test_a_distribution_is_listed_when_asked_for(archive: Archive) -> None:
    other, arch = supported.archive("ubuntu", "", archive)
    lines = report.kernels_table(other, arch, everything=True).splitlines()
    assert any(line.startswith("ubuntu:noble ") and GA in line for line in lines)
    assert any(HWE in line for line in lines)
    assert any(line.startswith("ubuntu:resolute ") and "(any more)" in line for line in lines)
    with pytest.raises(UserError, match="is not the name of a distribution"):
        supported.archive("2.6.24", "", archive)
    with pytest.raises(UserError, match="supported: arm64"):
        supported.archive("raspios", "amd64", archive)


def test_every_distribution_is_written_down_completely() -> None:
    for name, one in suites.distributions().items():
        assert one.default in (*one.suites, "stable"), name
        assert not set(one.former) & set(one.suites), name
        for suite in one.suites.values():
            assert suite.userland.name == suite.base
            assert kernels.origin(suite.request).architectures == one.architectures
