"""The mirror is that of this machine's apt, whatever form its sources have, if it can be used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tarpit_builder import suites
from tarpit_builder.container import Recipe
from tarpit_builder.sources import mirrors
from tarpit_builder.sources.mirrors import Mirrors, apt_proxy

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MAIN, SECURITY = "http://mirror.example/debian", "http://mirror.example/debian-security"
DEB822 = f"""
Types: deb deb-src
URIs: {MAIN}/
Suites: bookworm bookworm-updates
Components: main contrib non-free-firmware
Signed-By: {KEYRING}

Types: deb
URIs: {SECURITY}/
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}
"""

Apt = Callable[..., Mirrors]

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="there is no apt here")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where apt finds its settings, in place of ``/``."""
    for folder in ("etc/apt/sources.list.d", "etc/apt/apt.conf.d", "var/lib/apt/lists/partial"):
        (tmp_path / folder).mkdir(parents=True)
    settings = tmp_path / "apt.conf"
    settings.write_text(f'Dir "{tmp_path}";\nAPT::Architecture "amd64";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    for name in ("TARPIT_DEBIAN_MIRROR", "TARPIT_DEBIAN_SECURITY_MIRROR", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def apt(root: Path) -> Apt:
    """Write apt's sources, then choose."""

    def choose(listed: str = "", mirror: str = "", **stanzas: str) -> Mirrors:
        (root / "etc/apt/sources.list").write_text(listed)
        for name, text in stanzas.items():
            (root / f"etc/apt/sources.list.d/{name}.sources").write_text(text)
        return Mirrors.choose(mirror)

    return choose


def fetched(root: Path, place: str, suite: str, origin: str) -> None:
    """Leave behind what ``apt-get update`` does of *suite* at *place*, a host and its path."""
    stem = root / f"var/lib/apt/lists/{place.replace('/', '_')}_dists_{suite}_"
    packages = f"{'0' * 64} 0 main/binary-amd64/Packages\n"
    Path(f"{stem}InRelease").write_text(
        f"Origin: {origin}\nLabel: {origin}\nSuite: {suite}\nCodename: {suite}\n"
        f"Date: Sat, 01 Nov 2025 00:00:00 UTC\nArchitectures: amd64\nComponents: main\n"
        f"SHA256:\n {packages}"
    )
    Path(f"{stem}main_binary-amd64_Packages").touch()


@pytest.mark.parametrize(
    "listed",
    [
        f"deb {MAIN} bookworm main\ndeb {SECURITY} bookworm-security main",
        f"deb {MAIN}/ bookworm main contrib\ndeb {SECURITY}/ bookworm-security main contrib",
        f"deb [arch=amd64,i386 signed-by={KEYRING}] {MAIN} trixie main\n"
        f"deb [ signed-by={KEYRING} trusted=no ] {SECURITY} trixie-security main # ours",
        f"# deb http://other.example/debian sid main\ndeb-src http://other.example/debian sid main"
        f"\ndeb {MAIN} stable main\ndeb {SECURITY} stable-security main",
        f"deb cdrom:[Debian 12 _Bookworm_ NETINST]/ bookworm main\ndeb {MAIN} bookworm main\n"
        f"deb {SECURITY} bookworm-security main",
        f"deb {SECURITY} bullseye-security main\ndeb {MAIN} bullseye-backports main",
        f"deb {SECURITY} bullseye/updates main\ndeb {MAIN} sid main",
    ],
    ids=["plain", "slashes", "options", "comments", "cdrom", "backports", "former-security"],
)
def test_one_line_forms(apt: Apt, listed: str) -> None:
    assert apt(listed) == Mirrors(MAIN, SECURITY)
    assert Mirrors.choose("").why == "apt is set to it on this machine"


def test_stanzas(apt: Apt) -> None:
    assert apt(debian=DEB822) == Mirrors(MAIN, SECURITY)


def test_stanza_that_is_not_enabled(apt: Apt) -> None:
    disabled = DEB822.replace("Types: deb", "Enabled: no\nTypes: deb").replace("mirror.", "off.")
    assert apt(a=disabled, debian=DEB822) == Mirrors(MAIN, SECURITY)


def test_first_of_several_addresses_that_can_be_used(apt: Apt) -> None:
    several = DEB822.replace(f"URIs: {MAIN}/", f"URIs: file:/srv/debian {MAIN} http://c.example/d")
    assert apt(debian=several) == Mirrors(MAIN, SECURITY)


@pytest.mark.parametrize("scheme", ["mirror+file:", "mirror+file://"])
def test_list_of_mirrors(apt: Apt, root: Path, scheme: str) -> None:
    listed = root / "etc/apt/debian.list"
    listed.write_text(
        "# ours\nhttp://far.example/debian\tpriority:3\n\n"
        f"{MAIN}/\tpriority:1 type:deb\nhttp://farthest.example/debian\n"
    )
    security = root / "etc/apt/security.list"
    security.write_text(f"{SECURITY}\n")
    text = DEB822.replace(f"{SECURITY}/", f"{scheme}{security}")
    assert apt(debian=text.replace(f"{MAIN}/", f"{scheme}{listed}")) == Mirrors(MAIN, SECURITY)


@pytest.mark.parametrize(
    ("uri", "flaw"),
    [
        ("file:/srv/debian", "file:///srv/debian here, and containers cannot use file:"),
        ("http://localhost:3142/debian", "which in a container is the container itself"),
        ("http://127.0.0.1/debian", "which in a container is the container itself"),
        ("http://[::1]/debian", "which in a container is the container itself"),
        ("https://me:secret@mirror.example/debian", "with a password"),
        ("https://mirror.example/debian", "trusts no certificate"),
        ("mirror+https://mirror.example/list", "containers cannot use mirror+https:"),
        ("mirror+file:/nowhere/debian.list", "containers cannot use mirror+file:"),
        ("cdrom:[Debian 12]/", "containers cannot use cdrom:"),
    ],
)
def test_mirror_that_containers_cannot_use(apt: Apt, uri: str, flaw: str) -> None:
    chosen = apt(f"deb {uri} bookworm main")
    assert chosen == Mirrors()
    assert flaw in chosen.why
    assert "secret" not in chosen.why


def test_ubuntu_is_not_debian(apt: Apt, root: Path) -> None:
    listed = (
        "deb http://ubuntu.example/ubuntu noble main universe\n"
        "deb http://ubuntu.example/ubuntu noble-security main\n"
    )
    chosen = apt(listed)
    assert chosen == Mirrors(mirrors.MAIN, mirrors.SECURITY)
    assert chosen.why == "apt is set to no Debian mirror on this machine"
    assert chosen.why_security == "apt is set to no security mirror on this machine"


def test_derivative_with_debians_names_is_known_by_its_origin(apt: Apt, root: Path) -> None:
    listed = "deb http://pi.example/raspbian bookworm main\n"
    fetched(root, "pi.example/raspbian", "bookworm", "Raspbian")
    assert apt(listed) == Mirrors()
    fetched(root, "mirror.example/debian", "bookworm", "Debian")
    assert apt(f"{listed}deb {MAIN} bookworm main").main == MAIN


def test_others_repositories_for_debian_do_not_win(apt: Apt, root: Path) -> None:
    listed = (
        "deb http://tools.example/apt bookworm main\n"
        "deb http://docker.example/debian bookworm stable\n"
        "deb http://pg.example/apt bookworm-pgdg main\ndeb http://flat.example/debian ./\n"
    )
    # Without lists, Debian's mirror is the one with several suites; with them, the origin tells.
    assert apt(f"{listed}deb {MAIN} bookworm main\ndeb {MAIN} bookworm-updates main").main == MAIN
    fetched(root, "mirror.example/debian", "bookworm", "Debian")
    assert apt(f"{listed}deb {MAIN} bookworm main").main == MAIN


def test_release_that_is_no_longer_served_is_no_default(apt: Apt) -> None:
    assert apt("deb http://archive.example/debian buster main") == Mirrors()


def test_sources_that_apt_itself_cannot_read(apt: Apt) -> None:
    chosen = apt("debian please")
    assert (chosen, bool(chosen.why)) == (Mirrors(), True)


def test_machine_without_apt(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    assert Mirrors.choose("") == Mirrors()
    assert apt_proxy() == ""


def test_what_is_named_wins(apt: Apt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARPIT_DEBIAN_MIRROR", "http://named.example/debian/")
    chosen = apt(debian=DEB822)
    assert chosen == Mirrors("http://named.example/debian", SECURITY)
    assert chosen.why == "TARPIT_DEBIAN_MIRROR names it"
    asked = apt(mirror="http://asked.example/debian/", debian=DEB822)
    assert asked.main == "http://asked.example/debian"
    assert "--mirror" in asked.why
    monkeypatch.setenv("TARPIT_DEBIAN_SECURITY_MIRROR", "http://named.example/security")
    assert Mirrors.choose("").security == "http://named.example/security"


def test_proxy_of_apt_is_known(apt: Apt, root: Path) -> None:
    assert apt_proxy() == ""
    place = root / "etc/apt/apt.conf.d/proxy"
    place.write_text('Acquire::http::Proxy "http://proxy.example:3142";\n')
    assert apt_proxy() == "http://proxy.example:3142"
    place.write_text('Acquire::http::Proxy "DIRECT";\n')
    assert apt_proxy() == ""


# -- the archive as it was -------------------------------------------------------------------------

DAY = "20261130T000000Z"


@pytest.mark.parametrize("host", ["http://snapshot.debian.org", "http://192.0.2.1:8000/cache"])
def test_security_updates_are_of_the_same_moment(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TARPIT_DEBIAN_SECURITY_MIRROR", raising=False)
    found = Mirrors.choose(f"{host}/archive/debian/{DAY}/")
    assert found.main == f"{host}/archive/debian/{DAY}"
    assert found.security == f"{host}/archive/debian-security/{DAY}"
    assert mirrors.moment(found.security) == DAY
    assert mirrors.moment(Mirrors.choose("http://192.0.2.1/debian").security) == ""


def test_images_of_two_moments_are_two_and_of_two_mirrors_one() -> None:
    def identity(mirror: str) -> str:
        found = Mirrors(main=mirror, security=mirror)
        suite = suites.known()["trixie"]
        return Recipe("bare", "trixie", "amd64", found.apt_sources(suite), found.main).identity

    day, other = (f"http://192.0.2.1/archive/debian/{d}" for d in (DAY, "20261201T000000Z"))
    assert identity(day) == identity(day.replace("192.0.2.1", "198.51.100.1"))
    assert len({identity(day), identity(other), identity("http://192.0.2.1/debian")}) == 3
    assert identity("http://192.0.2.1/debian") == identity("http://198.51.100.1/debian")
