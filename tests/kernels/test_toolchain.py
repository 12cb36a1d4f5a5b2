"""The toolchain layer: arguments arrive as they should, patches fit the trees they are for."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tarpit_builder.kernels import toolchain
from tarpit_builder.kernels.source import SCRIPTS
from tarpit_builder.sources import FetchedTree
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.kernels.conftest import RELEASES

REWRITE = (("-m elf_i386", "-Wl,-m,elf_i386"), ("-d", "-Wl,-d"))


def arguments(script: str, *given: str) -> list[str]:
    """What the program behind *script* is called with."""
    done = subprocess.run(
        ["sh", "-s", "--", *given], input=script, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-c", "a b.c"], ["-c", "a b.c"]),
        (["-m", "elf_i386", "-o", "x"], ["-Wl,-m,elf_i386", "-o", "x"]),
        (["-nostdlib", "-m", "elf_i386"], ["-nostdlib", "-Wl,-m,elf_i386"]),
        (["-d", "-m"], ["-Wl,-d", "-m"]),
        (["-m", "-d", "x"], ["-m", "-Wl,-d", "x"]),
        (["-m", "-m", "elf_i386"], ["-m", "-Wl,-m,elf_i386"]),
        (["-m", "other"], ["-m", "other"]),
        (["-dM", "-m32", "-E"], ["-dM", "-m32", "-E"]),
        (['-DX="a\'b"', "*", "", "$HOME"], ['-DX="a\'b"', "*", "", "$HOME"]),
        ([], []),
    ],
)
def test_the_wrapper_rewrites_what_it_knows_and_nothing_else(
    given: list[str], expected: list[str]
) -> None:
    script = toolchain.wrapper(["printf", "%s\\n", "first"], REWRITE)
    assert arguments(script, *given) == ["first", *expected]


def test_the_wrapper_without_rules_passes_everything_on() -> None:
    script = toolchain.wrapper(["printf", "%s\\n", "-DX=a b"])
    assert arguments(script, "-m", "elf_i386") == ["-DX=a b", "-m", "elf_i386"]


def test_fixes_apply_where_the_table_says() -> None:
    def names(release: str, arch: str, *, image: bool) -> set[str]:
        return set(toolchain.for_kernel(KernelVersion.parse(release), arch, image=image).names)

    assert "gcc-4" in names("2.6.21", "amd64", image=False)
    assert "gcc-4" not in names("2.6.22", "amd64", image=False)
    assert "plain-calls" in names("2.6.24.7", "amd64", image=False)
    assert "plain-calls" not in names("2.6.24.7", "i386", image=False)
    assert "timeconst" not in names("2.6.25", "i386", image=False)
    assert "timeconst" in names("2.6.25", "i386", image=True)
    assert names("2.6.23", "i386", image=True) >= {"do-irq-2.6.23", "i386-compiler"}
    assert "cross-tools" in names("4.9", "arm64", image=False)
    assert not names("4.9", "arm64", image=True) & {"plain-calls", "no-vectors"}


def test_another_architecture_has_a_compiler_of_its_own_and_the_builds_programs_ours() -> None:
    files = toolchain.for_kernel(KernelVersion.parse("4.9"), "arm64", image=False).files()
    assert b"exec aarch64-linux-gnu-gcc-12 " in files["cc"]
    assert b"exec gcc-12 " in files["hostcc"]
    assert "CROSS_COMPILE=aarch64-linux-gnu-" in files["make"].decode().splitlines()


TICKETS = "typedef u16 __ticket_t;\n"
CLASSES = "#if PF_MAX > 44\n#error New address family defined, please update\n#endif\n"
BUILD_INCLUDE = "make-cmd = $(call escsq,$(subst \\#,\\\\\\#,$(cmd_$(1))))\n"


@pytest.mark.parametrize(
    ("release", "file", "content", "gone", "there"),
    [
        ("4.14", "security/selinux/include/classmap.h", CLASSES, "#error", "#if PF_MAX > 44"),
        ("4.14", "tools/build/Build.include", BUILD_INCLUDE, "\\\\#", "$(pound),$$(pound)"),
    ],
)
def test_trees_are_edited_where_they_differ_too_much_for_a_patch(
    release: str, file: str, content: str, gone: str, there: str, tmp_path: Path
) -> None:
    (original := tmp_path / "kernel" / file).parent.mkdir(parents=True)
    original.write_text(content)
    _in_layer(release, tmp_path, 'farm "$0/kernel" "$0/linux"; toolchain "$0/linux"')
    edited = (tmp_path / "linux" / file).read_text()
    assert gone not in edited
    assert there in edited
    assert original.read_text() == content


@pytest.mark.parametrize("tree", ["", TICKETS])
def test_headers_of_a_vendor_get_the_settings_that_they_cannot_do_without(
    tree: str, tmp_path: Path
) -> None:
    """RHEL 7 is looked for in the tree, as it calls itself 3.10."""
    header = tmp_path / "kernel/include/asm-generic/qspinlock_types.h"
    header.parent.mkdir(parents=True)
    header.write_text(tree)
    (tmp_path / "request").mkdir()
    (tmp_path / "request/fragment").write_text("CONFIG_NR_CPUS=8\n")
    (tmp_path / "build/linux").mkdir(parents=True)
    text = (SCRIPTS / "configure.sh").read_text()
    body = text[text.index("configure() {") :]
    for place in "/layer/", "/kernel/", "/request/", "/build/":
        body = body.replace(place, f"{tmp_path}{place}")
    told = f"SUFFIX=\nlinux={tmp_path}/build/linux"
    _in_layer("3.10", tmp_path, f"run_kconfig() {{ :; }}\n{told}\n{body}\nconfigure")
    settings = (tmp_path / "build/fragment").read_text().splitlines()
    assert ("CONFIG_NR_CPUS=128" in settings) is bool(tree)


def _in_layer(release: str, place: Path, script: str) -> None:
    """Run *script* after lib.sh, with the layer for *release* in the folder *place*, its ``$0``."""
    layer = toolchain.for_kernel(KernelVersion.parse(release), "amd64", image=False)
    for name, content in layer.files().items():
        (file := place / "layer" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    library = (SCRIPTS / "lib.sh").read_text().replace("/layer/", f"{place}/layer/")
    subprocess.run(["sh", "-euc", f"{library}\n{script}", place], check=True)


def test_layers_are_files_that_a_run_can_read() -> None:
    layer = toolchain.for_kernel(KernelVersion.parse("2.6.25"), "i386", image=True)
    files = layer.files()
    assert {"cc", "hostcc", "make", "finish"} <= set(files)
    assert [name for name in files if name.endswith(".patch")] == [
        "patches/00-makefile-rules.patch",
        "patches/01-timeconst.patch",
    ]
    assert "LD=ld -m elf_i386" in files["make"].decode().splitlines()
    iptables = toolchain.for_iptables(IptablesVersion.parse("1.3.8"), "amd64", whole=True).files()
    assert b"musl-gcc" in iptables["cc"]
    assert any("static" in name for name in iptables)


@pytest.mark.parametrize(
    ("loader", "applied"),
    [
        (None, True),
        ("\t\tcase R_X86_64_PC32:\n", True),
        ("\t\tcase R_X86_64_PC32:\n\t\tcase R_X86_64_PLT32:\n", False),
    ],
)
def test_calls_are_marked_as_the_trees_own_loader_knows(
    loader: str | None, applied: bool, tmp_path: Path
) -> None:
    """Whatever the version: stable releases and vendors have backported it, or not."""
    if loader is not None:
        (file := tmp_path / "kernel/arch/x86/kernel/module.c").parent.mkdir(parents=True)
        file.write_text(loader)
    layer = toolchain.for_kernel(KernelVersion.parse("4.14"), "amd64", image=False)
    (tmp_path / "layer").mkdir()
    (tmp_path / "layer/finish").write_bytes(layer.files()["finish"])
    text = (SCRIPTS / "lib.sh").read_text().replace("/layer/", f"{tmp_path}/layer/")
    script = (
        f'set -eu\nlinux={tmp_path}/kernel\nperl() {{ echo "$@"; }}\n{text}finish xt_TARPIT.ko\n'
    )
    expected = ["/scripts/plain-calls.pl", "xt_TARPIT.ko"] if applied else []
    assert " ".join(arguments(script)).split() == expected


@pytest.mark.parametrize(
    ("test", "applied"),
    [
        ("\tif (!defined(@val)) {\n", True),
        ("#\tif (!defined(@val)) {\n\tif (!(@val)) {\n", False),
        ("\t@val = defined($cv) ? @$cv : compute_values($hz);\n", False),
    ],
)
def test_a_patch_is_left_out_where_the_tree_was_mended_in_another_way(
    test: str, applied: bool, tmp_path: Path
) -> None:
    layer = toolchain.for_kernel(KernelVersion.parse("3.4.39"), "amd64", image=True)
    for name, content in layer.files().items():
        (file := tmp_path / "layer" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (file := tmp_path / "linux/kernel/timeconst.pl").parent.mkdir(parents=True)
    file.write_text(test)
    text = (SCRIPTS / "lib.sh").read_text().replace("/layer/", f"{tmp_path}/layer/")
    script = f'set -eu\n{text}\napply() {{ echo "$1"; }}\ntoolchain {tmp_path}/linux\n'
    assert ("timeconst" in "".join(arguments(script))) == applied


@pytest.mark.parametrize("release", RELEASES)
def test_toolchain_patches_fit_every_release_of_their_range(
    release: str, kernel_tree: Callable[[str], FetchedTree], tmp_path: Path
) -> None:
    tree = kernel_tree(release)
    wanted = ("Makefile", "kernel/timeconst.pl", "arch/*/kernel/irq*.c")
    tree.unpack(tmp_path / "linux", only=wanted)
    for arch in ("amd64", "i386"):
        layer = toolchain.for_kernel(KernelVersion.parse(release), arch, image=True)
        for fix in layer.fixes:
            if fix.patch:
                _dry_run(toolchain.PATCHES / fix.patch, tmp_path / "linux")


def test_the_iptables_patch_fits(
    iptables_tree: Callable[[str], FetchedTree], tmp_path: Path
) -> None:
    iptables_tree("1.3.8").unpack(tmp_path / "iptables")
    _dry_run(toolchain.PATCHES / "iptables-1.3.8-static.patch", tmp_path / "iptables")


def _dry_run(patch: Path, tree: Path) -> None:
    done = subprocess.run(
        ["patch", "-p1", "-F0", "-N", "--dry-run", "-d", str(tree), "-i", str(patch)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
