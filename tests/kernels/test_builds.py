"""Every release is built for with today's compiler, and what comes out is what was asked for."""

from __future__ import annotations

import re
import shlex
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from tarpit_builder.build import BuildResult, build
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input
from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.kernels import toolchain
from tarpit_builder.kernels.period import families
from tarpit_builder.kernels.source import DEFAULT_CONFIG
from tarpit_builder.kernels.toolchain import image
from tarpit_builder.packaging import changelog, modern
from tarpit_builder.patching import apply as patching
from tarpit_builder.plan import make as plan_for
from tarpit_builder.proof import UserLand, VerifyOptions
from tarpit_builder.prove import prove
from tarpit_builder.request import Request
from tarpit_builder.sources import MODULE_BUILD, DebianSource, FetchedTree, fetch_kernel
from tarpit_builder.sources.buildtree import WHOLE_SOURCE
from tarpit_builder.sources.debian import Archive
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.kernels.conftest import CELLS, IPTABLES, RELEASES
from tests.results import warnings

pytestmark = pytest.mark.docker

R_X86_64_PLT32 = 4
SHT_RELA = 4
ELF_MACHINE = {"amd64": 62, "arm64": 183}
ELF_CLASS = {"amd64": 2, "i386": 1}
LATER = tuple(pytest.param(version, marks=pytest.mark.slow) for version in ("1.4.1", "1.4.21"))
SIXTY_FOUR = "\nCONFIG_X86_64=y\nCONFIG_64BIT=y\n"


def request(kernel: str, arch: str = "amd64", **more: object) -> Request:
    return Request(kernel, arch, **more)  # type: ignore[arg-type]


def relocations(module: bytes) -> Iterator[int]:
    """The types of all relocations of a 64-bit object file."""
    (sections,) = struct.unpack_from("<Q", module, 40)
    size, count = struct.unpack_from("<HH", module, 58)
    for number in range(count):
        kind, offset, length = struct.unpack_from("<4xI16xQQ", module, sections + number * size)
        if kind == SHT_RELA:
            for entry in range(offset, offset + length, 24):
                yield struct.unpack_from("<I", module, entry + 8)[0]


@pytest.mark.parametrize(("release", "arch"), CELLS)
def test_a_module_and_packages_for_every_release(
    release: str,
    arch: str,
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    iptables_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
) -> None:
    kernel_tree(release)
    for version in IPTABLES:
        iptables_tree(version)
    console = Console(quiet=True)
    result = build(request(release, arch), real, console, dist=tmp_path)
    assert warnings(result.folder) == []
    name = "ipt_TARPIT" if release < "2.6.22" else "xt_TARPIT"
    module = (result.folder / f"{name}.ko").read_bytes()
    assert module[4] == ELF_CLASS[arch]
    assert re.search(rb"vermagic=(\S+) SMP mod_unload ", module)[1].decode() == release  # type: ignore[index]
    if arch == "amd64":
        assert R_X86_64_PLT32 not in set(relocations(module))
    names = {path.name.split("_")[0] for path in result.packages()}
    assert names == {f"xt-tarpit-modules-{release}", "xt-tarpit-dkms", "iptables"}
    _packages_are_readable(result, tmp_path / "root")
    assert (tmp_path / f"root/lib/modules/{release}/extra/{name}.ko").read_bytes() == module
    assert list((result.folder / "patched").rglob(f"{name}.c"))
    assert not build(request(release, arch), real, console, dist=tmp_path).fresh


def _packages_are_readable(result: BuildResult, root: Path) -> None:
    for package in result.packages():
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        members = subprocess.run(
            ["ar", "t", package], capture_output=True, text=True, check=True
        ).stdout.split()
        assert members == ["debian-binary", "control.tar.gz", "data.tar.gz"]


@pytest.mark.parametrize("version", [*IPTABLES, "1.4.8", *LATER])
def test_iptables_is_static_and_has_the_target(
    version: str,
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    iptables_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
) -> None:
    kernel_tree("2.6.23")
    iptables_tree(version)
    wanted = request("2.6.23", iptables=version)
    result = build(wanted, real, Console(quiet=True), dist=tmp_path)
    _packages_are_readable(result, tmp_path / "root")
    program = tmp_path / "root/sbin/iptables"
    header = subprocess.run(
        ["readelf", "-l", program], capture_output=True, text=True, check=True
    ).stdout
    assert "INTERP" not in header
    said = subprocess.run(
        [program, "-j", "TARPIT", "--help"], capture_output=True, text=True, check=False
    )
    assert "TARPIT" in said.stdout, said.stderr
    assert version in said.stdout
    page = "iptables-extensions" if version == "1.4.21" else ""
    names = ["iptables", *(["ip6tables"] if 6 in families(IptablesVersion.parse(version)) else [])]
    for name in names:
        manual = (tmp_path / f"root/usr/share/man/man8/{page or name}.8").read_text()
        assert "\n.SS TARPIT" in manual
        # Both families in one program, under each of its names.
        said = subprocess.run(
            [f"{program.parent}/{name}", "-j", "TARPIT", "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "--honeypot" in said.stdout, said.stderr


@pytest.fixture
def debians_iptables(real: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The release of iptables that bookworm is made from, as a mirror has its tarball."""
    version = "1.8.9"
    url = f"{real.mirrors.main}/pool/main/i/iptables/iptables_{version}.orig.tar.xz"
    try:
        answer = requests.get(url, timeout=60)
        answer.raise_for_status()
    except requests.RequestException as error:
        pytest.skip(f"iptables {version} was not exercised: {error}")
    folder = tmp_path / "mirror"
    folder.mkdir()
    (folder / f"iptables-{version}.tar.xz").write_bytes(answer.content)
    monkeypatch.setenv("TARPIT_IPTABLES_MIRROR", folder.as_uri())
    return version


@pytest.mark.parametrize("arch", toolchain.period_architectures())
def test_an_extension_alone_is_loaded_by_its_iptables(
    arch: str,
    debians_iptables: str,
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
) -> None:
    kernel_tree("2.6.24")
    wanted = request("2.6.24", arch, iptables=debians_iptables, extension=True)
    result = build(wanted, real, Console(quiet=True), dist=tmp_path)
    (package,) = (path for path in result.packages() if "extension" in path.name)
    assert package.name == f"xt-tarpit-extension_{changelog.version()}+iptables1.8.9_{arch}.deb"
    extension = result.folder / "libxt_TARPIT.so"
    assert extension.read_bytes()[4] == ELF_CLASS[arch]
    _packages_are_readable(result, tmp_path / "root")
    assert (tmp_path / "root/lib/xtables/libxt_TARPIT.so").read_bytes() == extension.read_bytes()
    if arch != "amd64":
        return
    engine = Engine.connect()
    recipe = UserLand("bookworm", mirror=real.mirrors.main).recipe()
    libraries = "/land/usr/lib/x86_64-linux-gnu"
    script = (
        f"LD_LIBRARY_PATH={libraries} XTABLES_LIBDIR=/given:{libraries}/xtables "
        "/land/usr/sbin/iptables-legacy"
    )
    run = engine.run(
        engine.ensure_image(recipe, Console(quiet=True)),
        ["sh", "-c", f"{script} --version; {script} -j TARPIT --help"],
        inputs=[Input("/given", [Files({extension.name: extension})])],
    )
    said = "\n".join(run.lines)
    assert f"v{debians_iptables}" in said
    assert "--honeypot" in said


@pytest.fixture(scope="session")
def longterm(real: Archive) -> Request:
    """A kernel of one's own: the longterm release that Debian packs the source of."""
    try:
        source = DebianSource("linux-source-6.1", "bookworm", real)
        tree = fetch_kernel(source, real.store, Console(quiet=True))
    except NetworkError as error:
        pytest.skip(f"linux-source-6.1 was not exercised: {error.message}")
    return request(str(tree.version), kernel_tree="linux-source-6.1")


@pytest.mark.parametrize("arch", ["amd64", pytest.param("arm64", marks=pytest.mark.slow)])
def test_a_kernel_of_ones_own_gets_the_ordinary_packages(
    arch: str, longterm: Request, real: Archive, tmp_path: Path
) -> None:
    longterm = replace(longterm, arch=arch)
    result = build(longterm, real, Console(quiet=True), dist=tmp_path)
    assert warnings(result.folder) == []
    release = longterm.kernel
    names = {path.name.split("_")[0] for path in result.packages()}
    assert names == {f"xt-tarpit-modules-{release}", "xt-tarpit-dkms", "xt-tarpit-common"}
    (modules,) = (path for path in result.packages() if "modules" in path.name)
    told = subprocess.run(
        ["dpkg-deb", "--field", modules, "Depends", "Built-Using", "Description"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Nobody but its owner knows how the kernel's own package is called.
    assert "linux-image" not in told
    assert "Built-Using" not in told
    assert f"built for Linux {release}" in " ".join(told.split())
    subprocess.run(["dpkg-deb", "--extract", modules, tmp_path / "root"], check=True)
    module = tmp_path / f"root/usr/lib/xt-tarpit/{release}/xt_TARPIT.ko"
    assert module.with_name("tarpit.ko").is_file()
    assert f"vermagic={release} SMP mod_unload ".encode() in module.read_bytes()
    assert struct.unpack_from("<H", module.read_bytes(), 18)[0] == ELF_MACHINE[arch]
    userland = plan_for(longterm, real).kernel.userland
    engine = Engine.connect()
    run = engine.run(
        engine.ensure_image(userland.recipes[-1], Console(quiet=True)),
        ["sh", "/scripts/check-packages.sh"],
        inputs=[
            Input("/packages", [Files({one.name: one for one in result.folder.iterdir()})]),
            Input("/scripts", [modern.build_scripts()]),
        ],
    )
    assert run.status == 0, "\n".join(run.lines)


@pytest.mark.slow
@pytest.mark.boot
def test_a_kernel_of_ones_own_is_booted_and_proven(
    longterm: Request, real: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path))
    report = prove(longterm, VerifyOptions(full=True), real, Console(quiet=True))
    assert report.exit_code == 0, report.table()


def test_symbol_versions_of_another_kernel_are_refused(
    real: Archive, kernel_tree: Callable[[str], FetchedTree], tmp_path: Path
) -> None:
    kernel_tree("2.6.24")
    console = Console(quiet=True)
    plain = build(request("2.6.24", iptables="none"), real, console, dist=tmp_path / "plain")
    config = tmp_path / "config"
    text = (plain.folder / "config-2.6.24").read_text()
    config.write_text(
        text.replace("# CONFIG_MODVERSIONS is not set", "CONFIG_MODVERSIONS=y"), encoding="utf-8"
    )
    symvers = tmp_path / "Module.symvers"
    needed = subprocess.run(
        ["nm", "--undefined-only", "--format=just-symbols", plain.folder / "xt_TARPIT.ko"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    symbols = sorted({"xt_register_target", *needed})
    symvers.write_text(
        "".join(f"0x12345678\t{name}\tnet/netfilter/x_tables\tEXPORT_SYMBOL\n" for name in symbols)
    )
    wanted = request("2.6.24", iptables="none", config=config, symvers=symvers)
    with pytest.raises(UserError, match=r"Module\.symvers is of another kernel") as caught:
        build(wanted, real, console, dist=tmp_path / "dist")
    assert not (tmp_path / "dist/2.6.24-amd64").exists()
    # The message says what it should have been; with that it is accepted.
    ours = re.search(r"not ([0-9a-f]+)\)", caught.value.message)
    assert ours
    symvers.write_text(symvers.read_text().replace("12345678", ours[1].rjust(8, "0")))
    result = build(wanted, real, console, dist=tmp_path / "dist")
    module = (result.folder / "xt_TARPIT.ko").read_bytes()
    versions = struct.pack("<Q", int(ours[1], 16)) + b"xt_register_targets\0"
    assert versions in module


@pytest.mark.parametrize("own", [None, "", "-1", "-custom"])
def test_the_release_of_the_users_kernel_is_in_the_module(
    own: str | None, real: Archive, kernel_tree: Callable[[str], FetchedTree], tmp_path: Path
) -> None:
    kernel_tree("2.6.24")
    config = None
    if own is not None:
        config = tmp_path / "config"
        text = (DEFAULT_CONFIG.read_text() + SIXTY_FOUR).strip()
        config.write_text(f'{text}\nCONFIG_LOCALVERSION="{own}"\nCONFIG_LOCALVERSION_AUTO=y\n')
    wanted = request("2.6.24", iptables="none", release="2.6.24-1-amd64", config=config)
    result = build(wanted, real, Console(quiet=True), dist=tmp_path)
    assert b"vermagic=2.6.24-1-amd64 SMP" in (result.folder / "xt_TARPIT.ko").read_bytes()
    assert (result.folder / "xt-tarpit-modules-2.6.24-1-amd64_1.0.0_amd64.deb").is_file()


def _patched(tree: Path) -> None:
    patching.apply(tree, None)


def _half_patched(tree: Path) -> None:
    _patched(tree)
    (tree / "net/netfilter/xt_TARPIT.c").unlink()


def _with_line_ends_of_dos(tree: Path) -> None:
    for path in (tree / "net/netfilter/Kconfig", tree / "include/linux/netfilter/Kbuild"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("spoil", [_patched, _half_patched, _with_line_ends_of_dos])
def test_a_tree_that_is_not_as_it_was_released_is_refused(
    spoil: Callable[[Path], None],
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TARPIT_LOCK", str(tmp_path / "sources.lock"))
    folder = tmp_path / "linux-2.6.24"
    kernel_tree("2.6.24").unpack(folder, (*MODULE_BUILD, WHOLE_SOURCE))
    spoil(folder)
    wanted = request("2.6.24", iptables="none", kernel_tree=str(folder))
    with pytest.raises(SourceError, match="cannot be verified"):
        build(wanted, real, Console(quiet=True), dist=tmp_path / "dist")
    wanted = replace(wanted, trust_on_first_use=True)
    with pytest.raises(UserError, match="patch does not apply to this tree"):
        build(wanted, real, Console(quiet=True), dist=tmp_path / "dist")
    assert not (tmp_path / "dist/2.6.24-amd64-iptables-none").exists()


@pytest.fixture
def users_image(real: Archive, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """An image of the user's own, whose ``gcc`` takes old code as it is and says *greeting*."""
    recipe = image(real.mirrors)
    base = Engine.connect().ensure_image(recipe, Console(quiet=True))
    name = f"localhost/tarpit-test/period-{tmp_path.name}"
    made = [name]

    def make(greeting: str) -> str:
        options = toolchain.for_kernel(KernelVersion.parse("2.6.24"), "amd64", image=True)
        words = ["-no-pie", *(word for fix in options.fixes for word in fix.cc)]
        (tmp_path / "gcc").write_text(
            f'#!/bin/sh\n[ "$*" != --version ] || exec echo {greeting}\n'
            f'exec gcc-12 {shlex.join(words)} "$@"\n'
        )
        (tmp_path / "gcc").chmod(0o755)
        (tmp_path / "Dockerfile").write_text(f"FROM {base}\nCOPY gcc /usr/local/bin/gcc\n")
        said = subprocess.run(
            ["docker", "build", "-q", "-t", name, tmp_path],
            capture_output=True,
            text=True,
            check=True,
        )
        plan = plan_for(request("2.6.24", image=said.stdout.strip()), real)
        made.append(plan.kernel.userland.recipes[0].tag)
        return name

    yield make
    subprocess.run(["docker", "rmi", "-f", *made], capture_output=True, check=False)


def test_an_image_of_the_users_own_is_used_and_followed(
    users_image: Callable[[str], str],
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
) -> None:
    kernel_tree("2.6.24")

    def made(greeting: str) -> BuildResult:
        wanted = request("2.6.24", iptables="none", image=users_image(greeting))
        return build(wanted, real, Console(quiet=True), dist=tmp_path / "dist")

    first = made("gcc-4.1.2")
    assert first.manifest["toolchain"][0] == "gcc-4.1.2"
    assert b"vermagic=2.6.24 SMP" in (first.folder / "xt_TARPIT.ko").read_bytes()
    assert not made("gcc-4.1.2").fresh
    assert made("gcc-4.2.4").manifest["toolchain"][0] == "gcc-4.2.4"


def test_an_image_that_is_nowhere_is_one_line(
    real: Archive, kernel_tree: Callable[[str], FetchedTree], tmp_path: Path
) -> None:
    kernel_tree("2.6.24")
    wanted = request("2.6.24", iptables="none", image="localhost/tarpit-test/nowhere")
    with pytest.raises(UserError, match="there is no image") as caught:
        build(wanted, real, Console(quiet=True), dist=tmp_path)
    assert caught.value.hint


def test_an_image_without_a_shell_is_one_line(
    real: Archive, kernel_tree: Callable[[str], FetchedTree], tmp_path: Path
) -> None:
    kernel_tree("2.6.24")
    name = "localhost/tarpit-test/empty"
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    subprocess.run(["docker", "build", "-q", "-t", name, tmp_path], capture_output=True, check=True)
    try:
        with pytest.raises(UserError, match="the image that was named cannot be used") as caught:
            build(
                request("2.6.24", iptables="none", image=name),
                real,
                Console(quiet=True),
                dist=tmp_path / "dist",
            )
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)
    assert "\n" not in caught.value.message


@pytest.mark.boot
@pytest.mark.parametrize("arch", toolchain.period_architectures())
def test_a_release_is_booted_and_proven(
    arch: str,
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    iptables_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel_tree("2.6.24")
    iptables_tree("1.4.0")
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path))
    report = prove(request("2.6.24", arch), VerifyOptions(), real, Console(quiet=True))
    assert report.exit_code == 0, report.table()
    # The image that was booted is what --with-kernel gives away.
    wanted = request("2.6.24", arch, with_kernel=True)
    result = build(wanted, real, Console(quiet=True), dist=tmp_path / "whole")
    assert (result.folder / "vmlinuz-2.6.24").read_bytes()[0x202:0x206] == b"HdrS"


@pytest.mark.slow
@pytest.mark.boot
@pytest.mark.parametrize("iptables", IPTABLES)
@pytest.mark.parametrize("arch", toolchain.period_architectures())
@pytest.mark.parametrize("release", RELEASES)
def test_every_release_is_booted_and_proven(
    release: str,
    arch: str,
    iptables: str,
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    iptables_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel_tree(release)
    iptables_tree(iptables)
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path))
    report = prove(
        request(release, arch, iptables=iptables),
        VerifyOptions(full=True),
        real,
        Console(quiet=True),
    )
    assert report.exit_code == 0, report.table()


@pytest.mark.slow
@pytest.mark.boot
@pytest.mark.parametrize("how", ["m", "y"])
@pytest.mark.parametrize("release", ["2.6.21", "2.6.24"])
def test_the_patched_tree_is_booted_and_proven(
    release: str,
    how: str,
    real: Archive,
    kernel_tree: Callable[[str], FetchedTree],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel_tree(release)
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path))
    report = prove(request(release), VerifyOptions(), real, Console(quiet=True), in_tree=how)
    assert report.exit_code == 0, report.table()
