"""The machine at hand: build trees that lie ready, of whatever distribution."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder import kernels, names, paths, prove
from tarpit_builder import plan as planning
from tarpit_builder.build import BuildResult, build
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input
from tarpit_builder.errors import InfrastructureError, SourceError, TarpitError, UserError
from tarpit_builder.kernels import headers, host, machine, prepared, programs
from tarpit_builder.kernels.source import for_modules
from tarpit_builder.kernels.toolchain import image
from tarpit_builder.packaging import rootfs
from tarpit_builder.proof import VerifyOptions
from tarpit_builder.request import Request
from tarpit_builder.sources import DebianSource, buildtree, fetch_kernel
from tarpit_builder.sources.debian import Archive
from tests.test_explain import invoke

FEDORA = "6.11.4-301.fc41.x86_64"
DEBIAN = "6.1.0-56-amd64"
MAKEFILE = "VERSION = 6\nPATCHLEVEL = {patch}\nSUBLEVEL = 4\nEXTRAVERSION =\n" + "#\n" * 5000
CONFIG = {
    "CONFIG_X86_64": "y",
    "CONFIG_MODULES": "y",
    "CONFIG_NET": "y",
    "CONFIG_INET": "y",
    "CONFIG_NETFILTER": "y",
    "CONFIG_NETFILTER_XTABLES": "m",
    "CONFIG_NFT_COMPAT": "m",
    "CONFIG_MODVERSIONS": "y",
    "CONFIG_GCC_VERSION": "140201",
    "CONFIG_CC_VERSION_TEXT": '"gcc (GCC) 14.2.1 20240912 (Red Hat 14.2.1-3)"',
}
SYMVERS = "0x12345678\txt_register_target\tnet/netfilter/x_tables\tEXPORT_SYMBOL\t\n"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program as the compiler of this machine makes it."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "main.c").write_text('#include <stdio.h>\nint main(void) { return puts("x") < 0; }\n')
    subprocess.run(["gcc", "-o", folder / "main", folder / "main.c"], check=True)
    return (folder / "main").read_bytes()


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    """*files* below *root*; what begins with ``->`` is a link."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(0o755 if content[:1] == b"\x7f" else 0o644)


def settings(changes: Mapping[str, str] | None = None) -> str:
    values = {**CONFIG, **(changes or {})}
    return "".join(f"{name}={value}\n" for name, value in values.items() if value)


def devel(root: Path, program: bytes, release: str = FEDORA, **changes: str) -> Path:
    """A tree as of a kernel-devel package, in a folder and with the link to it."""
    place = f"usr/src/kernels/{release}"
    files: dict[str, str | bytes] = {
        "Makefile": MAKEFILE.format(patch=release.split(".")[1]),
        ".config": settings(changes),
        "Module.symvers": SYMVERS,
        "include/generated/autoconf.h": "",
        "include/generated/utsrelease.h": f'#define UTS_RELEASE "{release}"\n',
        "include/linux/kernel.h": "",
        "scripts/basic/fixdep": program,
        "scripts/mod/modpost": program,
    }
    write(root, {f"{place}/{name}": content for name, content in files.items()})
    write(root, {f"lib/modules/{release}/build": f"->/{place}"})
    return root / place


def spread(root: Path, program: bytes, style: str = "debian") -> Path:
    """A tree in several places that refer to each other, in one of three styles."""
    common, kbuild = "usr/src/linux-headers-6.1.0-56-common", "usr/lib/linux-kbuild-6.1"
    tree = f"usr/src/linux-headers-{DEBIAN}"
    ready: dict[str, str | bytes] = {
        ".config": settings({"CONFIG_GCC_VERSION": "120200"}),
        "Module.symvers": SYMVERS,
        "include/generated/autoconf.h": "",
        "include/generated/utsrelease.h": f'#define UTS_RELEASE "{DEBIAN}"\n',
    }
    whole: dict[str, str | bytes] = {
        f"{common}/Makefile": MAKEFILE.format(patch=1),
        f"{common}/include/linux/kernel.h": "/* one */\n",
        f"{kbuild}/scripts/basic/fixdep": program,
        f"{kbuild}/scripts/mod/modpost": program,
    }
    if style == "debian":
        ready |= {
            "Makefile": f"KBUILD_OUTPUT=/{tree}\ninclude /{common}/Makefile\n",
            "scripts": "->../../lib/linux-kbuild-6.1/scripts",
        }
        whole[f"{common}/scripts"] = "->../../lib/linux-kbuild-6.1/scripts"
    elif style == "ubuntu":
        ready |= {
            "Makefile": "->../linux-headers-6.1.0-56-common/Makefile",
            "include/linux": "->../../linux-headers-6.1.0-56-common/include/linux",
            "rust": "->../linux-lib-rust-6.1/rust",
            "scripts/basic/fixdep": program,
            "scripts/mod/modpost": program,
        }
    else:
        tree = "usr/src/linux-6.1-obj/x86_64/default"
        ready["Makefile"] = (
            "export KBUILD_OUTPUT = .\ninclude ../../../" + common[8:] + "/Makefile\n"
        )
        ready["scripts"] = f"->/{kbuild}/scripts"
    write(root, whole)
    write(root, {f"{tree}/{name}": content for name, content in ready.items()})
    write(root, {f"lib/modules/{DEBIAN}/build": f"->/{tree}"})
    return root / "lib/modules" / DEBIAN / "build"


def plan(archive: Archive, tree: Path, kernel: str = "", **options: str) -> planning.Plan:
    name = kernel or machine.name_of(str(tree))
    return planning.make(Request(name, kernel_tree=str(tree), **options), archive)  # type: ignore[arg-type]


# -- the tree ------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["debian", "ubuntu", "opensuse"])
def test_a_tree_in_several_places_is_taken_whole(
    style: str, program: bytes, tmp_path: Path
) -> None:
    """make finds everything in a copy of it, and nothing outside."""
    folder = spread(tmp_path / "root", program, style)
    tree = buildtree.find(folder)
    assert tree.root == tmp_path / "root"
    with tree.tar(tree.digest()) as stream, tarfile.open(fileobj=stream) as archive:
        members = {member.name: member for member in archive.getmembers()}
    where = tree.place
    for name in ("Makefile", ".config", "include/generated/autoconf.h"):
        assert str(where / name) in members
    assert "usr/src/linux-headers-6.1.0-56-common/include/linux/kernel.h" in members
    links = [member for member in members.values() if member.issym()]
    assert not any(link.linkname.startswith("/") for link in links)
    assert not any(link.name.endswith("rust") for link in links)  # it leads nowhere
    for link in links:
        assert os.path.normpath(Path(link.name).parent / link.linkname) in members
    if style == "debian":
        assert (
            tree.stub
            == (
                f"KBUILD_OUTPUT=/kernel/usr/src/linux-headers-{DEBIAN}\n"
                "include /kernel/usr/src/linux-headers-6.1.0-56-common/Makefile\n"
            ).encode()
        )
    assert prepared.read(tree).release == DEBIAN


def test_the_digest_covers_every_place_and_not_where_the_tree_lies(
    program: bytes, tmp_path: Path
) -> None:
    one, two = (spread(tmp_path / name, program) for name in ("one", "two"))
    before = buildtree.find(one).digest()
    assert buildtree.find(two).digest() == before
    header = tmp_path / "two/usr/src/linux-headers-6.1.0-56-common/include/linux/kernel.h"
    header.write_text("/* two */\n")
    assert buildtree.find(two).digest() != before
    with pytest.raises(SourceError, match="changed while it was used"):
        buildtree.find(two).tar(before)


def test_a_source_to_begin_with_is_none_that_lies_ready(tmp_path: Path) -> None:
    write(tmp_path / "linux", {"Makefile": MAKEFILE.format(patch=1), "init/main.c": ""})
    write(tmp_path / "linux", {"include/linux/kernel.h": "", ".config": settings()})
    assert not machine.is_ready(str(tmp_path / "linux"))
    assert machine.name_of(str(tmp_path / "linux")) == "6.1.4"


def test_of_a_source_that_a_kernel_was_built_in_only_what_modules_need(
    program: bytes, tmp_path: Path
) -> None:
    place = devel(tmp_path, program)
    write(place, {"init/main.c": "", "kernel/fork.c": "", "kernel/fork.o": "", ".git/HEAD": ""})
    build = tmp_path / "lib/modules" / FEDORA / "build"
    assert machine.is_ready(str(build))
    tree = buildtree.find(build)
    with tree.tar(tree.digest()) as stream, tarfile.open(fileobj=stream) as archive:
        found = {Path(name).name for name in archive.getnames()}
    assert {"Makefile", "fixdep", "Module.symvers", "kernel.h"} <= found
    assert not {"fork.c", "fork.o", "main.c", "HEAD"} & found


# -- what it says --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "major"),
    [
        ("gcc version 4.8.5 20150623 (Red Hat 4.8.5-44) (GCC)", 4),
        ("gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40", 12),
        ("x86_64-linux-gnu-gcc-13 (Ubuntu 13.3.0-6ubuntu2) 13.3.0, GNU ld 2.42", 13),
    ],
)
def test_the_compiler_of_a_kernel_that_does_not_configure_it(
    said: str, major: int, program: bytes, tmp_path: Path
) -> None:
    place = devel(tmp_path, program, CONFIG_GCC_VERSION="", CONFIG_CC_VERSION_TEXT="")
    write(place, {"include/generated/compile.h": f'#define LINUX_COMPILER\t\t"{said}"\n'})
    assert prepared.read(buildtree.find(place)).gcc == major


def test_what_programs_need_is_read_from_themselves(program: bytes, tmp_path: Path) -> None:
    def needs(content: bytes) -> programs.Needs:
        (tmp_path / "it").write_bytes(content)
        return programs.needs([tmp_path / "it"])

    found = needs(program)
    assert found.glibc >= (2, 2)
    assert not found.foreign
    newest = f"GLIBC_{found.text}".encode()
    assert needs(program.replace(newest, b"GLIBC_2.99")).glibc == (2, 99)
    assert needs(b"#!/bin/sh\n") == programs.Needs()
    assert "is a program for" in needs(program[:18] + b"\xb7" + program[19:]).foreign  # AArch64
    assert "is damaged" in needs(program[:3000]).foreign
    loader = program.replace(b"/lib64/ld-linux-x86-64.so.2", b"/lib64/ld-musl0-x86-64.so.2")
    assert "is loaded by" in needs(loader).foreign
    assert "needs libq.so.6" in needs(program.replace(b"libc.so.6", b"libq.so.6")).foreign


@pytest.mark.parametrize(
    ("gcc", "glibc", "preferred", "suite", "package"),
    [
        (12, (2, 34), "", "bookworm", "gcc-12"),
        (12, (2, 38), "", "trixie", "gcc-12"),
        (14, (2, 38), "", "trixie", "gcc-14"),
        (16, (2, 38), "", "forky", "gcc-16"),
        (16, (2, 38), "sid", "sid", "gcc-16"),
        (9, (2, 14), "", "bullseye", "gcc-9"),
        (4, (2, 14), "", "bookworm", "gcc-12"),
    ],
)
def test_the_image_has_the_kernels_compiler_and_a_library_for_its_programs(
    gcc: int,
    glibc: tuple[int, ...],
    preferred: str,
    suite: str,
    package: str,
    program: bytes,
    archive: Archive,
    tmp_path: Path,
) -> None:
    tree = buildtree.find(devel(tmp_path / "root", program))
    facts = prepared.read(tree)
    facts = replace(facts, gcc=gcc, needs=programs.Needs(glibc))
    bench = prepared.workbench(tree, facts, archive, preferred)
    assert (bench.recipe.suite, bench.package) == (suite, package)
    assert not bench.rebuild


def test_programs_that_run_nowhere_are_compiled_anew_where_their_sources_are(
    program: bytes, archive: Archive, tmp_path: Path
) -> None:
    place = devel(tmp_path / "root", program[:18] + b"\xb7" + program[19:])
    with pytest.raises(UserError, match=r"do not run in an image here: fixdep is a program for"):
        plan(archive, place)
    write(place, {"scripts/basic/fixdep.c": "", "scripts/mod/modpost.c": ""})
    made = plan(archive, place)
    assert "compiled anew" in next(one.reason for one in made.choices if one.topic == "image")


# -- what is wrong -------------------------------------------------------------------------------

WRONG: Mapping[str, tuple[Mapping[str, str | None], Mapping[str, str], str]] = {
    "no configuration": ({".config": None}, {}, "has no configuration"),
    "another architecture": ({}, {"CONFIG_X86_64": "", "CONFIG_ARM": "y"}, "nothing is packed for"),
    "a compiler that is too new": ({}, {"CONFIG_GCC_VERSION": "990100"}, "gcc 99, which no suite"),
    "clang": ({}, {"CONFIG_CC_IS_CLANG": "y"}, "here is only gcc"),
    "no netfilter": ({}, {"CONFIG_NETFILTER_XTABLES": ""}, "has no CONFIG_NETFILTER_XTABLES"),
    "no tables": ({}, {"CONFIG_NFT_COMPAT": ""}, "has no CONFIG_IP_NF_IPTABLES"),
    "no checksums": ({"Module.symvers": None}, {}, "checks the versions of symbols"),
    "other symvers": ({"Module.symvers": "x\n"}, {}, "is no Module.symvers"),
    "no release": ({"include/generated/utsrelease.h": None}, {}, "what its kernel calls itself"),
    "another version": (
        {"include/generated/utsrelease.h": '#define UTS_RELEASE "5.4.0-nas"\n'},
        {},
        "contradicts itself: its Makefile is of Linux 6.11.4, and its kernel calls itself 5.4.0",
    ),
    "no programs": ({"scripts/basic/fixdep": None}, {}, "fixdep is missing"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_tree_that_is_wrong_ends_in_one_line(
    what: str, program: bytes, archive: Archive, tmp_path: Path
) -> None:
    files, changes, message = WRONG[what]
    place = devel(tmp_path / "root", program, **changes)
    for name, content in files.items():
        (place / name).unlink()
        if content is not None:
            write(place, {name: content})
    with pytest.raises(UserError) as caught:
        plan(archive, place)
    assert message in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "dist").exists()


def test_parts_that_are_missing_are_named(program: bytes, tmp_path: Path) -> None:
    folder = spread(tmp_path, program)
    kbuild, common = tmp_path / "usr/lib", tmp_path / "usr/src/linux-headers-6.1.0-56-common"
    kbuild.rename(tmp_path / "aside")
    with pytest.raises(UserError, match=r"has no scripts: .*/usr/lib/linux-kbuild-6.1/scripts is"):
        buildtree.find(folder)
    common.rename(tmp_path / "too")
    with pytest.raises(UserError, match=r"leads to /usr/src/linux-headers-6.1.0-56-common/Makef"):
        buildtree.find(folder)
    with pytest.raises(UserError, match="nope is not there"):
        machine.name_of(str(tmp_path / "nope"))
    (rpm := tmp_path / "kernel-devel.rpm").touch()
    with pytest.raises(UserError, match="rpm is no folder"):
        machine.name_of(str(rpm))


def test_a_tree_in_the_place_of_another_kernel_is_refused(program: bytes, tmp_path: Path) -> None:
    devel(tmp_path, program)
    modules = tmp_path / "lib/modules"
    (modules / FEDORA).rename(modules / "6.11.9-1.fc41.x86_64")
    with pytest.raises(UserError, match="a module of it is refused by 6.11.9-1"):
        machine.name_of(str(modules / "6.11.9-1.fc41.x86_64/build"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": DEBIAN}, f"is the build tree of {FEDORA}, not of {DEBIAN}"),
        ({"kernel": "running"}, ", which this machine runs"),
        ({"arch": "arm64"}, "is of amd64, not arm64"),
        ({"iptables": "1.4.8"}, "--iptables means nothing for a build tree that lies ready"),
        ({"userland": "trixi"}, "--userland trixi"),
    ],
)
def test_what_contradicts_the_tree_is_refused(
    options: Mapping[str, str], message: str, program: bytes, archive: Archive, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        plan(archive, devel(tmp_path / "root", program), **options)
    assert message in caught.value.message


def test_on_the_command_line(program: bytes, tmp_path: Path, archive: Archive) -> None:
    """The kernel need not be named, and the line at the end makes the same plan."""
    devel(tmp_path / "root", program)
    build = f"lib/modules/{FEDORA}/build"
    first = invoke("explain", "--kernel-tree", build, cwd=tmp_path / "root")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].endswith(
        f"invoke build --kernel {FEDORA} --kernel-tree {tmp_path}/root/{build}"
    )
    assert first.stdout.rstrip().endswith(plan(archive, tmp_path / "root" / build).command)
    verified = invoke("verify", "--kernel-tree", build, cwd=tmp_path / "root")
    assert verified.returncode == 4
    assert f"no kernel to boot: its image, {tmp_path}/root/boot/vmlinuz-{FEDORA}" in verified.stderr
    assert verified.stderr.splitlines()[-1].startswith("error: there is a build tree")


# -- the machine ---------------------------------------------------------------------------------


def runs(monkeypatch: pytest.MonkeyPatch, release: str, root: Path) -> None:
    real = os.uname()
    fields = (real.sysname, real.nodename, release, real.version, real.machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(fields))
    monkeypatch.setattr(machine, "BUILD", f"{root}/lib/modules/{{release}}/build")


def test_the_running_kernel_of_any_distribution(
    program: bytes, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devel(tmp_path / "root", program)
    runs(monkeypatch, FEDORA, tmp_path / "root")
    made = planning.make(Request("running"), archive)
    assert made.facts()["kernel"] == FEDORA
    assert made.choices[0].reason == "this machine runs it"


@pytest.mark.parametrize("release", ["6.12.1-arch1-1", "6.18.44-fc", "6.6.58-0-lts", "6.9.1"])
def test_a_running_kernel_without_a_tree(
    release: str, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(monkeypatch, release, tmp_path)
    with pytest.raises(UserError, match=f"this machine runs {release}, which is in no archive"):
        planning.make(Request("running"), archive)


@pytest.mark.parametrize(
    ("release", "ours"),
    [(DEBIAN, False), ("6.8.0-60-generic", False), ("6.8.12-4-pve", False), (FEDORA, True)],
)
def test_kernels_of_an_archive_come_from_there(
    release: str, ours: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs(monkeypatch, release, tmp_path)
    assert isinstance(kernels.origin("running"), machine.MachineKernels) is ours
    assert names.kernel(release) == release


FOUND: Mapping[str, tuple[str, Mapping[str, str], str, str]] = {
    "Fedora": (FEDORA, {"ID": "fedora"}, "", "/usr/lib64/xtables"),
    "Arch": ("6.11.1-arch1-1", {"ID": "arch"}, "", "/usr/lib/xtables"),
    "openSUSE": ("6.11.5-1-default", {}, "", "/usr/lib64/xtables"),
    "Alpine": ("6.6.58-0-lts", {}, "", "/usr/lib/xtables"),
    "an unpacked Debian": (DEBIAN, {}, "bookworm", ""),
    "Debian": ("6.1.4-mine", {"ID": "debian", "VERSION_CODENAME": "trixie"}, "trixie", ""),
    "Ubuntu": ("6.1.4-mine", {"ID": "ubuntu", "VERSION_CODENAME": "noble"}, "noble", ""),
    "Mint": ("6.1.4-mine", {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "bookworm", ""),
    "LMDE": (
        "6.1.4-mine",
        {"ID": "linuxmint", "ID_LIKE": "debian", "DEBIAN_CODENAME": "trixie"},
        "trixie",
        "",
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_the_machine_gets(what: str, program: bytes, tmp_path: Path) -> None:
    release, identity, suite, xtables = FOUND[what]
    place = devel(tmp_path, program, release)
    text = "".join(f'{key}="{value}"\n' for key, value in identity.items())
    if identity:
        write(tmp_path, {"etc/os-release": f"NAME=x\n{text}"})
    tree = buildtree.find(place)
    system = host.system(tree, prepared.read(tree))
    assert (system.suite.name if system.suite else "", system.xtables) == (suite, xtables)
    assert host.system(tree, prepared.read(tree), "none").suite is None


def test_what_is_seen_on_the_machine_counts_more_than_a_table(
    program: bytes, tmp_path: Path
) -> None:
    place = devel(tmp_path / "root", program, "6.6.58-gentoo")
    write(tmp_path / "root", {"etc/os-release": "ID=gentoo\n", "usr/lib/xtables/libxt_tcp.so": ""})
    (tmp_path / "root/lib").rename(tmp_path / "root/usr/lib/x")
    (tmp_path / "root/lib").symlink_to("usr/lib")
    tree = buildtree.find(place)
    system = host.system(tree, prepared.read(tree))
    assert (system.modules, system.xtables) == ("/usr/lib/modules", "/usr/lib/xtables")


def test_a_tree_that_lies_anywhere_is_not_of_this_machine(program: bytes, tmp_path: Path) -> None:
    place = devel(tmp_path / "root", program).rename(tmp_path / "kernel-devel")
    tree = buildtree.find(place)
    assert tree.root == Path("/")
    assert str(tree.place) == "usr/src/kernels/kernel-devel"
    assert host.system(tree, prepared.read(tree)).xtables == "/usr/lib64/xtables"


def test_an_archive_holds_files_only_and_comes_out_the_same(tmp_path: Path) -> None:
    """Unpacking a folder over a link, such as /lib, would put it in the link's place."""
    made = rootfs.archive(rootfs.common())
    assert made == rootfs.archive(rootfs.common())
    (tmp_path / "a.tar.gz").write_bytes(made)
    root = tmp_path / "root"
    (root / "usr/lib/systemd").mkdir(parents=True)
    (root / "usr/bin").mkdir()
    (root / "usr/sbin").symlink_to("bin")
    subprocess.run(["tar", "-C", root, "-xf", tmp_path / "a.tar.gz"], check=True)
    assert (root / "usr/sbin").is_symlink()
    assert os.access(root / "usr/bin/xt-tarpit-chain", os.X_OK)
    assert (root / "usr/lib/systemd/system/xt-tarpit.service").is_file()


# -- the real thing ------------------------------------------------------------------------------

Headers = Callable[..., Path]


@pytest.fixture
def debian(real: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Headers:
    """Debian's own headers of a suite, unpacked as they lie on a machine; the link to them."""
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path / "dist"))

    def unpacked(suite: str, *, image: bool = False) -> Path:
        tree = kernels.find(Request(f"debian:{suite}"), real).tree
        assert isinstance(tree, headers.Headers)
        root, kernel = tmp_path / suite, tree.kernel
        for path in headers.obtain(
            (*kernel.packages, *(kernel.image if image else ())), suite, real, Console(quiet=True)
        ):
            subprocess.run(["dpkg-deb", "-x", path, root], check=True)
        (modules,) = root.glob(f"**/lib/modules/{kernel.abi}")
        return modules / "build"

    return unpacked


def make(archive: Archive, tree: Path, **options: str) -> BuildResult:
    request = Request(machine.name_of(str(tree)), kernel_tree=str(tree), **options)  # type: ignore[arg-type]
    return build(request, archive, Console(quiet=True))


@pytest.mark.docker
def test_a_module_for_a_system_without_dpkg(real: Archive, debian: Headers) -> None:
    """Trixie's programs need a newer C library than bookworm's image has; here they run."""
    tree = debian("trixie")
    result = make(real, tree, userland="none")
    with tarfile.open(next(result.folder.glob("xt-tarpit-1*.tar.gz"))) as archive:
        members = archive.getnames()
    for built in ("xt_TARPIT", "tarpit"):
        assert any(name.endswith(f"/updates/{built}.ko") for name in members)
    assert any(name.endswith("/xtables/libxt_TARPIT.so") for name in members)
    module = (result.folder / "xt_TARPIT.ko").read_bytes()
    assert f"vermagic={result.manifest['plan']['kernel']} ".encode() in module
    assert not make(real, tree, userland="none").fresh


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_packages_for_debians_own_headers(suite: str, real: Archive, debian: Headers) -> None:
    result = make(real, debian(suite))
    names = sorted(path.name.partition("_")[0] for path in result.packages())
    assert names[0:2] == ["xt-tarpit-common", "xt-tarpit-dkms"]
    assert names[2].startswith("xt-tarpit-modules-")


@pytest.mark.boot
@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("userland", ["", "none"])
def test_the_kernel_as_it_is_installed_is_proven(
    userland: str, real: Archive, debian: Headers
) -> None:
    tree = debian("bookworm", image=True)
    request = Request(machine.name_of(str(tree)), userland=userland, kernel_tree=str(tree))
    report = prove.prove(request, VerifyOptions(), real, Console(quiet=True))
    assert report.exit_code == 0, report.table()


DEVEL = """
set -eu
cp -r /kernel /build/linux
cd /build/linux
cp /request/config .config
echo 'CONFIG_LOCALVERSION="-301.fc99.x86_64"' >> .config
# Signing and type information take programs that the image does without.
for setting in SECURITY_LOCKDOWN_LSM MODULE_SIG IMA_APPRAISE_MODSIG DEBUG_INFO_BTF; do
    sed -i "/^CONFIG_$setting=/d" .config
    echo "# CONFIG_$setting is not set" >> .config
done
yes '' | make -s oldconfig > /build/log 2>&1 || { tail /build/log; exit 1; }
make -s -j2 modules_prepare > /build/log 2>&1 || { tail /build/log; exit 1; }
cp /request/symvers Module.symvers
# What kernel.spec leaves out.
find . -name '*.o' -delete
find . -name '*.c' ! -path './scripts/*' ! -path './tools/*' -delete
# Compiled on a system that is newer than any.
sed -i 's/GLIBC_2\\.34/GLIBC_2.99/g' scripts/basic/fixdep scripts/mod/modpost tools/objtool/objtool
cp -r . /out/
"""


@pytest.mark.docker
@pytest.mark.slow
def test_a_kernel_devel_whose_programs_do_not_run_here(
    real: Archive, debian: Headers, tmp_path: Path
) -> None:
    """Made of Debian's source and configuration by what Fedora's kernel.spec packs."""
    ready = buildtree.find(debian("bookworm"))
    source = fetch_kernel(
        DebianSource("linux-source-6.1", "bookworm", real), real.store, Console(quiet=True)
    )
    engine, out = Engine.connect(), tmp_path / "made"
    out.mkdir()
    given = {
        "config": ready.read(".config"),
        "symvers": ready.read("Module.symvers"),
        "x.sh": DEVEL.encode(),
    }
    done = engine.run(
        engine.ensure_image(image(real.mirrors), Console(quiet=True)),
        ["sh", "/request/x.sh"],
        inputs=[for_modules(source), Input("/request", [Files(given)])],
        output=out,
    )
    assert done.status == 0, done.lines[-10:]
    place = tmp_path / f"usr/src/kernels/{source.version}-301.fc99.x86_64"
    place.parent.mkdir(parents=True)
    out.rename(place)
    result = make(real, place)
    log = (result.folder / "build.log").read_text()
    for name in ("scripts/basic/fixdep", "scripts/mod/modpost", "tools/objtool/objtool"):
        assert f"compiled {name}" in log
    assert list(result.folder.glob("xt-tarpit-1*fc99*.tar.gz"))


def test_errors_have_the_codes_that_scripts_go_by(
    program: bytes, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = devel(tmp_path / "root", program)
    userland = plan(archive, place).kernel.userland
    with pytest.raises(SourceError):
        userland.demand_provable(given=False, in_tree="")
    modules = tmp_path / "root/lib/modules" / FEDORA
    write(tmp_path / "root", {f"boot/vmlinuz-{FEDORA}": "x"})
    (modules / "modules.order").write_text("")
    userland.demand_provable(given=False, in_tree="")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(InfrastructureError, match="chmod"):
        userland.demand_provable(given=False, in_tree="")
    with pytest.raises(TarpitError, match="--in-tree is for releases"):
        userland.demand_provable(given=False, in_tree="m")
    assert paths.dist_dir() == tmp_path / "dist"
