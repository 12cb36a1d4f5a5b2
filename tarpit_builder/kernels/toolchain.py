"""The toolchain layer: today's compiler made to build yesterday's kernels."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tarpit_builder import architectures, paths, suites
from tarpit_builder.container import Recipe
from tarpit_builder.kernels import rules
from tarpit_builder.sources.mirrors import Mirrors
from tarpit_builder.versions import IptablesVersion, KernelVersion, VersionRange

PATCHES = paths.PROJECT / "patches" / "toolchain"


@dataclass(frozen=True, slots=True)
class Fix:
    """A row of ``toolchain.toml``; the meaning of each field is written there."""

    name: str
    why: str
    cc: tuple[str, ...] = ()
    hostcc: tuple[str, ...] = ()
    make: tuple[tuple[str, str], ...] = ()
    rewrite: tuple[tuple[str, str], ...] = ()
    patch: str = ""
    edit: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    finish: str = ""
    unless: tuple[str, ...] = ()
    where: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """Everything between a pristine tree and the compiler: *compiler* and the *fixes* for it."""

    compiler: tuple[str, ...]
    fixes: tuple[Fix, ...] = ()
    host: str = ""
    """The compiler of programs of the build itself, where *compiler* is for another machine."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fixes."""
        return tuple(fix.name for fix in self.fixes)

    def make_arguments(self) -> list[str]:
        """Variables for make's command line; ``/layer`` is where :meth:`files` are."""
        arguments = [f"{key}={value}" for fix in self.fixes for key, value in fix.make]
        return [*arguments, "CC=sh /layer/cc", "HOSTCC=sh /layer/hostcc"]

    def files(self) -> dict[str, bytes]:
        """The layer as files: two compilers, make's arguments, patches and last steps in order."""
        files = {
            "make": "".join(f"{line}\n" for line in self.make_arguments()).encode(),
            "finish": "".join(
                "\t".join([fix.finish, *fix.unless]) + "\n" for fix in self.fixes if fix.finish
            ).encode(),
            "settings": "".join(
                "\t".join([*fix.where, setting]) + "\n"
                for fix in self.fixes
                for setting in fix.settings
            ).encode(),
            "edits": "".join("\t".join(fix.edit) + "\n" for fix in self.fixes if fix.edit).encode(),
        }
        rewrite = [pair for fix in self.fixes for pair in fix.rewrite]
        cc = [*self.compiler, *(word for fix in self.fixes for word in fix.cc)]
        files["cc"] = wrapper(cc, rewrite).encode()
        hostcc = [
            self.host or self.compiler[0],
            *(word for fix in self.fixes for word in fix.hostcc),
        ]
        files["hostcc"] = wrapper(hostcc).encode()
        patches = [fix for fix in self.fixes if fix.patch]
        for number, fix in enumerate(patches):
            name = f"patches/{number:02}-{fix.patch}"
            files[name] = (PATCHES / fix.patch).read_bytes()
            if fix.where:
                files[f"{name.removesuffix('.patch')}.where"] = (
                    "\t".join(fix.where) + "\n"
                ).encode()
        return files


def suite() -> str:
    """The Debian suite of the building image."""
    return str(rules.table("toolchain.toml")["suite"]["name"])


def compiler() -> str:
    """The Debian package of the compiler, and its command."""
    return str(rules.table("toolchain.toml")["suite"]["compiler"])


def image(
    mirrors: Mirrors, arch: str = architectures.BUILD, *, of: str = "", native: str = ""
) -> Recipe:
    """The image that compiles kernels for *arch*, by Debian's name, and the programs they take.

    Its own compiler makes the code of amd64 and i386, a cross-compiler that of others.

    :param of: the suite of Debian that it is made of, and *native* its compiler: ours.
    """
    suite_ = suites.known()[of or suite()]
    return Recipe(
        template="upstream",
        suite=suite_.name,
        arch=architectures.BUILD,
        apt_sources=mirrors.apt_sources(suite_),
        mirror=mirrors.main,
        variables={"compiler": native or compiler(), "cross": cross(arch)},
    )


def cross(arch: str) -> str:
    """The package of the compiler for *arch*, if the image's own does not make code for that."""
    return "" if arch in period_architectures() else architectures.compiler(compiler(), arch)


def period_architectures() -> tuple[str, ...]:
    """Those that an iptables of the kernel's own age is built for."""
    return tuple(rules.table("toolchain.toml")["iptables"]["cc"])


def for_kernel(version: KernelVersion, arch: str, *, image: bool) -> Layer:
    """The layer for *version* on *arch*; with *image* for a whole kernel, else for modules."""
    foreign = cross(arch)
    return Layer(
        (f"{architectures.c(arch).triplet}-{compiler()}" if foreign else compiler(),),
        tuple(_fix(row) for row in _applicable(version, arch) if image or row["for"] == "module"),
        host=compiler() if foreign else "",
    )


def for_period_image(version: KernelVersion, arch: str) -> Layer:
    """The layer for an image with a compiler of the kernel's age: what is marked ``period``."""
    return Layer(
        ("gcc",),
        tuple(_fix(row) for row in _applicable(version, arch) if row.get("period")),
    )


def for_iptables(version: IptablesVersion, arch: str, *, whole: bool) -> Layer:
    """The layer for the *whole* of an iptables for *arch*, or an extension for it alone."""
    section = rules.table("toolchain.toml")["iptables"]
    return Layer(
        tuple(section["cc"][arch]),
        tuple(
            _fix(row)
            for row in section["fix"]
            if version in VersionRange.parse(row["releases"], IptablesVersion)
            and (whole or not row.get("whole"))
        ),
    )


def wrapper(command: Iterable[str], rewrite: Iterable[tuple[str, str]] = ()) -> str:
    """A shell script that runs *command* with its arguments, some of them rewritten.

    :param rewrite: an argument, or two in a row with a blank between, and what is put in its place.
    """
    pairs = dict(rewrite)
    first = shlex.join(command)
    if not pairs:
        return f'#!/bin/sh\nexec {first} "$@"\n'
    branches: dict[bool, list[str]] = {True: [], False: []}
    for old, new in pairs.items():
        branches[" " in old].append(
            f'\t{shlex.quote(old)}) set -- "$@" {shlex.quote(new)}; held=; continue ;;'
        )
    for word in sorted({old.split()[0] for old in pairs if " " in old}):
        branches[False].append(f"\t{shlex.quote(word)}) held=$argument; continue ;;")
    return "\n".join(
        [
            "#!/bin/sh",
            "held=",
            "for argument; do",
            "\tshift",
            '\tcase "$held $argument" in',
            *branches[True],
            "\tesac",
            '\t[ -z "$held" ] || set -- "$@" "$held"',
            "\theld=",
            "\tcase $argument in",
            *branches[False],
            "\tesac",
            '\tset -- "$@" "$argument"',
            "done",
            '[ -z "$held" ] || set -- "$@" "$held"',
            f'exec {first} "$@"',
            "",
        ]
    )


def _applicable(version: KernelVersion, arch: str) -> Iterator[Mapping[str, Any]]:
    """The fixes for *version* on *arch*, as they stand in the table; `arch` is one or several."""
    for row in rules.table("toolchain.toml")["fix"]:
        said = row.get("arch", arch)
        if version in VersionRange.parse(row["releases"], KernelVersion) and (
            arch in ([said] if isinstance(said, str) else said)
        ):
            yield row


def _fix(row: Mapping[str, Any]) -> Fix:
    return Fix(
        name=row["name"],
        why=row["why"],
        cc=tuple(row.get("cc", ())),
        hostcc=tuple(row.get("hostcc", ())),
        make=tuple(row.get("make", {}).items()),
        rewrite=tuple(row.get("rewrite", {}).items()),
        patch=row.get("patch", ""),
        edit=tuple(row["edit"][key] for key in ("file", "sed")) if "edit" in row else (),
        finish=row.get("finish", ""),
        settings=tuple(row.get("settings", ())),
        unless=_line_of_a_file(row, "unless"),
        where=_line_of_a_file(row, "where"),
    )


def _line_of_a_file(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return (row[key]["file"], row[key]["pattern"]) if key in row else ()
