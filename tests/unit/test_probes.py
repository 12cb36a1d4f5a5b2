"""``dkms/compat/probe.sh``: what a compiler says of a kernel tree, and what that does not mean."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tarpit_builder import paths

SCRIPT = paths.PROJECT / "dkms/compat/probe.sh"

HEADER = "static inline int three(int a, int b, int c) { return a + b + c; }\n"
PROBES = {
    "baseline_passes": "static inline int probe_baseline_passes(void) { return 0; }",
    "baseline_fails": "static inline int probe_baseline_fails(void) { return baseline_fails(); }",
    "three": "static inline int probe_three(void) { return three(1, 2, 3); }",
    "four": "static inline int probe_four(void) { return four(); }",
}
ARITY = "/* Needs: three */\nstatic inline int probe_arity(void) { return three(1, 2); }"

COMPILERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} IS NOT INSTALLED"),
    )
    for name in ("gcc", "clang-14")
]

CLANG = """\
{at}/baseline_fails.c:1:58: error: implicit declaration of function 'baseline_fails' is invalid
{at}/arity.c:2:59: error: too few arguments to function call, expected 3, have 2
static inline int probe_arity(void) {{ return three(1, 2); }}
                                             ~~~~~     ^
{header}:1:19: note: '{called}' declared here
{at}/four.c:1:50: error: implicit declaration of function 'four' is invalid in C99
"""
"""What clang 14 says of them, word for word but for the paths."""


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """A folder of probes, below a kernel of one header."""
    folder = tmp_path / "probes"
    folder.mkdir()
    (tmp_path / "header.h").write_text(HEADER)
    for name, text in PROBES.items():
        (folder / f"{name}.c").write_text(text + "\n")
    return folder


def run(probes: Path, *compiler: str) -> subprocess.CompletedProcess[str]:
    """The probes, as Kbuild runs them; the result is beside them in ``found.h``."""
    return subprocess.run(
        ["sh", SCRIPT, probes.parent / "found.h", probes, *compiler],
        capture_output=True,
        text=True,
        check=False,
    )


def flags(probes: Path) -> list[str]:
    """What Kbuild adds, after a header that all probes see."""
    return [
        *("-include", str(probes.parent / "header.h"), "-Werror-implicit-function-declaration"),
        "-fdiagnostics-color=never",
    ]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_what_is_there_is_found_and_what_is_not_is_named(probes: Path, compiler: str) -> None:
    (probes / "arity.c").write_text(ARITY + "\n")
    done = run(probes, compiler, *flags(probes))
    assert done.returncode == 0, done.stderr
    assert (probes.parent / "found.h").read_text().splitlines() == [
        "/* no arity */",
        "/* no four */",
        "#define TARPIT_HAVE_THREE 1",
    ]


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("colour", ["always", "never"])
def test_coloured_messages_are_not_asked_for(probes: Path, compiler: str, colour: str) -> None:
    done = run(probes, compiler, f"-fdiagnostics-color={colour}", *flags(probes))
    assert done.returncode == 0, done.stderr


def test_clang_names_the_function_in_a_note(probes: Path) -> None:
    (probes / "arity.c").write_text(ARITY + "\n")
    stub = probes.parent / "cc"

    def says(called: str) -> None:
        text = CLANG.format(at=probes, header=probes.parent / "header.h", called=called)
        (probes.parent / "said").write_text(text)
        stub.write_text('#!/bin/sh\ncat "${0%/*}/said" >&2\nexit 1\n')

    says("three")
    done = run(probes, "sh", str(stub))
    assert done.returncode == 0, done.stderr
    assert "/* no arity */" in (probes.parent / "found.h").read_text()
    says("another")
    done = run(probes, "sh", str(stub))
    assert done.returncode != 0
    assert "probe arity fails for a reason of its own: too few arguments" in done.stderr


def test_an_error_of_another_kind_is_never_an_answer(probes: Path) -> None:
    (probes / "five.c").write_text("static inline int probe_five(void) { return 1 }\n")
    done = run(probes, "gcc", *flags(probes))
    assert done.returncode != 0
    assert "probe five fails for a reason of its own" in done.stderr
    assert not (probes.parent / "found.h").exists()


def test_what_is_called_and_not_exported_is_named(tmp_path: Path) -> None:
    """The compiler is content with it, and modpost only warns before 6.3."""
    texts = {
        "module": "int here(void), there(void);\nint all(void) { return here() + there(); }\n",
        "other": "char there, __ksymtab_there;\n",
    }
    for name, text in texts.items():
        source = tmp_path / f"{name}.c"
        source.write_text(text)
        subprocess.run(["gcc", "-c", "-fno-pie", source, "-o", tmp_path / f"{name}.ko"], check=True)
    symvers = tmp_path / "Module.symvers"

    def check(text: str, *names: str) -> subprocess.CompletedProcess[str]:
        symvers.write_text(text)
        modules = [tmp_path / f"{name}.ko" for name in ("module", *names)]
        script = SCRIPT.with_name("exported.sh")
        return subprocess.run(
            ["sh", script, symvers, *modules], capture_output=True, text=True, check=False
        )

    here, there = (f"0x0\t{name}\tvmlinux\tEXPORT_SYMBOL\t\n" for name in ("here", "there"))
    assert check(here + there).returncode == 0
    assert check("").returncode == 0
    done = check(here)
    assert done.returncode == 1
    assert done.stderr == "TARPIT: the kernel does not export there\n"
    assert check(here, "other").returncode == 0


def test_a_compiler_that_refuses_nothing_is_refused(probes: Path) -> None:
    done = run(probes, "true")
    assert done.returncode != 0
    assert "accepts what it must refuse" in done.stderr


def test_kbuild_keeps_flags_away_that_hide_errors() -> None:
    text = (paths.PROJECT / "dkms/Kbuild").read_text()
    match = re.search(r"\$\(filter-out ([^,]+),\$\(c_flags\)\)", text)
    assert match
    hidden = match[1].replace("\\", " ").split()
    assert hidden == ["-w", "-Wfatal-errors", "-fmax-errors=%", "-ferror-limit=%"]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_error_is_asked_for(probes: Path, compiler: str) -> None:
    """clang stops at the 20th, and what is behind that would count as found."""
    for number in range(100, 140):
        text = f"static inline int probe_f{number}(void) {{ return f{number}(); }}\n"
        (probes / f"f{number}.c").write_text(text)
    done = run(probes, compiler, *flags(probes))
    assert done.returncode == 0, done.stderr
    found = (probes.parent / "found.h").read_text()
    assert found.count("/* no f1") == 40
    assert "HAVE_F1" not in found


@pytest.mark.parametrize(
    "said",
    [
        "fatal error: too many errors emitted, stopping now [-ferror-limit=]",
        "compilation terminated due to -fmax-errors=1.",
    ],
)
def test_a_list_of_errors_that_was_cut_is_no_answer(probes: Path, said: str) -> None:
    stub = probes.parent / "cc"
    first = f"{probes}/baseline_fails.c:1:58: error: 'baseline_fails' undeclared"
    stub.write_text(f'#!/bin/sh\nprintf "%s\\n" "{first}" "{said}" >&2\nexit 1\n')
    done = run(probes, "sh", str(stub))
    assert done.returncode != 0
    assert "does not list all errors" in done.stderr
