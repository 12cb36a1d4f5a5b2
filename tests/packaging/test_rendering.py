"""What the templates make, without building it."""

from __future__ import annotations

import getpass
import itertools
import re
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from debian.changelog import Changelog
from debian.deb822 import Deb822

from tarpit_builder import __version__, paths, suites
from tarpit_builder.errors import UserError
from tarpit_builder.packaging import changelog as history
from tarpit_builder.packaging import contents, modern
from tarpit_builder.packaging.modern import PackageSet

ABI = "6.12.117+deb13-cloud-amd64"
DKMS = "xt-tarpit-dkms"
MODULES = f"xt-tarpit-modules-{ABI}"


def package_set(suite: str = "trixie", abi: str = ABI) -> PackageSet:
    known = suites.known()[suite]
    return PackageSet(
        version=f"{__version__}+deb{known.number}",
        suite=suite,
        arch="amd64",
        abi=abi,
        kernel_version="6.12.117-1",
        module_dir=known.module_dir,
    )


def text(packages: PackageSet, source: str, name: str) -> str:
    content = modern.source_files(packages).members[f"{source}-{packages.version}/{name}"]
    return content.decode() if isinstance(content, bytes) else content.read_text()


def stanzas(packages: PackageSet, source: str) -> list[Deb822]:
    lines = text(packages, source, "debian/control").splitlines()
    return list(Deb822.iter_paragraphs(lines))


def test_the_package_versions_of_the_suites_sort_in_their_order() -> None:
    names = ("bullseye", "bookworm", "trixie", "forky", "sid")
    versions = [package_set(name).version for name in names]
    for older, newer in itertools.pairwise(versions):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


def test_the_version_splits_into_release_and_suite() -> None:
    packages = package_set("sid")
    assert (packages.release, packages.suffix, packages.series) == (
        __version__,
        "+deb15~sid",
        "15",
    )


def test_what_does_not_depend_on_the_kernel_is_the_same_for_every_kernel() -> None:
    def main(abi: str) -> dict[str, Path | bytes]:
        members = modern.source_files(package_set(abi=abi)).members
        return {name: members[name] for name in members if name.startswith("xt-tarpit-1")}

    assert main(ABI) == main("7.3.4+deb13-amd64") != {}


def test_a_module_package_depends_on_exactly_its_kernel() -> None:
    _, module = stanzas(package_set(), MODULES)
    assert module["Package"] == MODULES
    depends = [item.strip() for item in module["Depends"].split(",")]
    assert depends[0] == f"linux-image-{ABI} | linux-image-{ABI}-unsigned"
    assert module["Provides"] == "xt-tarpit-modules (= ${binary:Version})"


def test_nothing_keeps_xtables_addons_away() -> None:
    for source in ("xt-tarpit", MODULES):
        for stanza in stanzas(package_set(), source):
            assert not {"Conflicts", "Breaks", "Replaces"} & set(stanza)


def test_the_changelogs_are_the_projects_own() -> None:
    for source in ("xt-tarpit", MODULES):
        log = Changelog(text(package_set(), source, "debian/changelog"), strict=True)
        assert (log.package, str(log.version)) == (source, f"{__version__}+deb13")
        assert log.distributions == "trixie"
        assert max(map(len, log[0].changes())) <= 80


@pytest.mark.parametrize(
    ("suite", "folder"),
    [("bookworm", "/lib/depmod.d"), ("trixie", "/usr/lib/depmod.d")],
)
def test_depmod_is_told_which_module_wins(suite: str, folder: str) -> None:
    packages = package_set(suite)
    assert text(packages, "xt-tarpit", "debian/xt-tarpit-common.install").split()[1] == folder
    rules = text(packages, "xt-tarpit", "debian/xt-tarpit.conf")
    assert re.findall(r"^override.*", rules, re.MULTILINE) == [
        "override xt-TARPIT * updates/dkms",
        "override tarpit * updates/dkms",
        "override xt_TARPIT * updates/xt-tarpit",
        "override tarpit * updates/xt-tarpit",
    ]


def test_a_module_source_has_what_compiling_takes_and_no_more() -> None:
    members = modern.source_files(package_set()).members
    tree = f"{MODULES}-{__version__}+deb13/"
    names = {name.removeprefix(tree) for name in members if name.startswith(tree)}
    assert {"Kbuild", "xt_TARPIT.c", "tarpit.c", "compat/compat.h", "debian/rules"} <= names
    assert not any(name.startswith(("libxt_", "examples/")) for name in names)


def test_dkms_skips_what_it_cannot_build_in_every_version_of_dkms() -> None:
    conf = text(package_set(), "xt-tarpit", "debian/xt-tarpit-dkms.dkms")
    assert 'AUTOINSTALL="yes"' in conf
    for directive in ("KERNEL_MIN", "KERNEL_MAX", "CONFIG", "KERNEL"):
        assert re.search(rf"^BUILD_EXCLUSIVE_{directive}=", conf, re.MULTILINE)
    # Deprecated: each makes DKMS 3 print a warning.
    assert not re.search(r"^(CLEAN|REMAKE_INITRD|MODULES_CONF)", conf, re.MULTILINE)


@pytest.mark.parametrize(
    ("kernel", "config", "built"),
    [
        ("6.12.117+deb13-amd64", "CONFIG_NETFILTER_XTABLES=m\n", True),
        ("4.19.0-27-amd64", "CONFIG_NETFILTER_XTABLES=y\n", True),
        ("4.9.0-19-amd64", "CONFIG_NETFILTER_XTABLES=m\n", False),
        ("8.0.1-amd64", "CONFIG_NETFILTER_XTABLES=m\n", False),
        ("6.12.117+deb13-amd64", "# CONFIG_NETFILTER_XTABLES is not set\n", False),
        ("6.12.117+deb13-amd64", None, True),
    ],
)
def test_old_dkms_skips_by_its_regular_expression(
    tmp_path: Path, kernel: str, config: str | None, built: bool
) -> None:
    if config is not None:
        (tmp_path / ".config").write_text(config)
    script = (
        f'. "{contents.DKMS}/dkms.conf"; [[ "{kernel}" =~ $BUILD_EXCLUSIVE_KERNEL ]] && echo built'
    )
    result = subprocess.run(
        ["bash", "-c", script],
        env={"kernel_source_dir": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.stdout.strip() == "built") is built


@pytest.fixture
def git_of_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A git without configuration of its own; the file that would be the user's."""
    config = tmp_path / "gitconfig"
    config.write_text("")
    for name in ("DEBFULLNAME", "DEBEMAIL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    contents._git_config.cache_clear()
    yield config
    contents._git_config.cache_clear()


def test_without_debemail_the_maintainer_is_whom_git_knows(git_of_nobody: Path) -> None:
    git_of_nobody.write_text("[user]\n\tname = Jane Doe\n\temail = jane@example.org\n")
    assert contents.maintainer() == "Jane Doe <jane@example.org>"


def test_without_git_the_maintainer_is_the_user_at_this_host(git_of_nobody: Path) -> None:
    user = getpass.getuser()
    assert contents.maintainer() == f"{user} <{user}@{socket.gethostname()}>"


def test_a_home_page_is_named_only_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TARPIT_HOMEPAGE", raising=False)
    for source in ("xt-tarpit", MODULES):
        assert "Homepage" not in stanzas(package_set(), source)[0]
    monkeypatch.setenv("TARPIT_HOMEPAGE", "https://example.org/tarpit")
    for source in ("xt-tarpit", MODULES):
        assert stanzas(package_set(), source)[0]["Homepage"] == "https://example.org/tarpit"
    monkeypatch.setenv("TARPIT_HOMEPAGE", "example.org")
    with pytest.raises(UserError, match="not the address of a web page"):
        modern.source_files(package_set())


def test_no_package_claims_a_proof() -> None:
    for source in ("xt-tarpit", MODULES):
        assert "tested" not in text(package_set(), source, "debian/control")


def test_dkms_brings_the_headers_that_follow_the_kernel() -> None:
    dkms = next(s for s in stanzas(package_set(), "xt-tarpit") if s.get("Package") == DKMS)
    recommended = [item.strip() for item in dkms["Recommends"].split("|")]
    # apt installs the first that there is: that of the usual kernel, on every architecture.
    assert recommended[0] == "linux-headers-amd64"
    assert {"linux-headers-cloud-amd64", "linux-headers-arm64"} < set(recommended)


@pytest.mark.parametrize("program", ["xt-tarpit-chain", "new-kernel", "reload-due"])
def test_programs_of_the_host_arrive_executable(program: str) -> None:
    packages = package_set()
    source = modern.source_files(packages)
    with tarfile.open(fileobj=source.tar()) as archive:
        member = archive.getmember(f"xt-tarpit-{packages.version}/host/{program}")
    assert member.mode == 0o755


def test_units_are_installed_but_neither_enabled_nor_started() -> None:
    assert "ExecStart=/usr/sbin/xt-tarpit-chain start" in text(
        package_set(), "xt-tarpit", "debian/xt-tarpit-common.xt-tarpit.service"
    )
    rules = text(package_set(), "xt-tarpit", "debian/rules")
    for line in re.findall(r"^\tdh_installsystemd.*", rules, re.MULTILINE):
        assert {"--no-enable", "--no-start", "--no-stop-on-upgrade"} <= set(line.split())


def test_the_maintainer_is_whom_debians_tools_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBFULLNAME", "Jane Doe")
    monkeypatch.setenv("DEBEMAIL", "jane@example.org")
    assert stanzas(package_set(), "xt-tarpit")[0]["Maintainer"] == "Jane Doe <jane@example.org>"
    monkeypatch.setenv("DEBEMAIL", "nobody")
    with pytest.raises(UserError, match="do not make an address"):
        contents.maintainer()


def test_a_changelog_is_read_in_full() -> None:
    releases = history.parse_changelog(
        "# Changelog\n\nintro\n\n## 1.1.0 — 2027-03-04\n\n- One\n  more line.\n- Two.\n\n"
        "## 1.0.0 — 2026-11-22\n\n- First.\n"
    )
    assert [release.version for release in releases] == ["1.1.0", "1.0.0"]
    assert releases[0].changes == ("One more line.", "Two.")
    assert releases[1].date == date(2026, 11, 22)
    assert releases[1].epoch == 1795305600
    assert releases[1].stamp == "Sun, 22 Nov 2026 00:00:00 +0000"


@pytest.mark.parametrize("heading", ["## 1.0.0", "## 1.0.0 — 2026-02-30", "## 1.0.0 - 2026-11-22"])
def test_a_heading_that_is_no_release_is_refused(heading: str) -> None:
    with pytest.raises(UserError, match="heading that is no release"):
        history.parse_changelog(f"{heading}\n\n- x\n")


def test_the_changelog_must_start_with_the_projects_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("## 0.1.0 — 2026-01-01\n\n- x\n")
    monkeypatch.setattr(history, "CHANGELOG", changelog)
    history.releases.cache_clear()
    try:
        with pytest.raises(UserError, match=re.escape(f"__version__ is {__version__}")):
            history.source_date_epoch()
    finally:
        history.releases.cache_clear()


SHELL = [
    *modern.SCRIPTS.glob("*.sh"),
    *(
        path
        for folder in ("examples", "host")
        for path in contents.DKMS.glob(f"{folder}/**/*")
        if path.is_file() and path.read_bytes()[:2] == b"#!"
    ),
    *Path(__file__).parent.glob("*.sh"),
]


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_the_shell_scripts_are_clean(script: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, script], check=True)
