"""Architectures, from ``rules/architectures.toml``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

RULES = Path(__file__).parent / "rules"

BUILD = "amd64"
"""What builds run on: images, compilers and kbuild's programs are of this architecture."""


@dataclass(frozen=True, slots=True)
class C:
    """How C sees an architecture."""

    triplet: str
    bits: int
    order: Literal["little", "big"]
    libraries: str

    @property
    def mark(self) -> str:
        """The order of bytes, as :mod:`struct` writes it."""
        return "<" if self.order == "little" else ">"

    @property
    def long(self) -> str:
        """An ``unsigned long``, as :mod:`struct` writes it."""
        return "Q" if self.bits == 64 else "I"


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine that QEMU shows to kernels of an architecture."""

    emulator: str
    package: str
    machine: str
    cpu: str
    console: str
    arguments: str
    port: str
    devices: tuple[str, ...]
    card: str


@dataclass(frozen=True, slots=True)
class SourceRule:
    """How the releases of kernel.org are built for an architecture."""

    image: str
    tree: tuple[str, ...] = ()
    releases: str = ">=2.6.0"
    why: str = ""


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture; the meaning of each field is written in ``rules/architectures.toml``."""

    name: str
    kernels: tuple[str, ...]
    config: str = ""
    make: str = ""
    source: SourceRule | None = None
    c: C | None = None
    machine: Hardware | None = None

    def flavour(self, kernel: str) -> str | None:
        """What ``--flavour`` calls the kernel whose name ends in *kernel*; None if it is unknown.

        *kernel* may be a whole name, such as ``6.12.94+deb13-cloud-amd64``.
        """
        fitting = [end for end in self.kernels if f"-{kernel}".endswith(f"-{end}")]
        if not fitting:
            return None
        return self._flavour(max(fitting, key=len))

    def kernel(self, flavour: str) -> str:
        """How the names of kernels of *flavour* end: ``cloud-amd64``, ``686-pae``."""
        known = {self._flavour(end): end for end in self.kernels}
        return known.get(flavour, f"{flavour}-{self.kernels[0]}")

    def _flavour(self, end: str) -> str:
        usual = self.kernels[0]
        return re.sub(rf"^{re.escape(usual)}(?:-|$)|(?:^|-){re.escape(usual)}$", "", end)


@cache
def known() -> dict[str, Architecture]:
    """All architectures by name."""
    table = tomllib.loads((RULES / "architectures.toml").read_text())
    return {
        name: Architecture(
            name=name,
            kernels=tuple(row["kernels"]),
            config=row["config"],
            make=row.get("make", ""),
            source=SourceRule(**{**row["source"], "tree": tuple(row["source"].get("tree", ()))})
            if "source" in row
            else None,
            c=C(**{"libraries": row["c"]["triplet"], **row["c"]}) if "c" in row else None,
            machine=Hardware(**{**row["machine"], "devices": tuple(row["machine"]["devices"])})
            if "machine" in row
            else None,
        )
        for name, row in table.items()
    }


def built_for() -> tuple[str, ...]:
    """The architectures that packages are made for; the first is that of builds."""
    return tuple(name for name, row in known().items() if row.c)


def sources() -> dict[str, SourceRule]:
    """Those that releases of kernel.org are built for, and how."""
    return {name: row.source for name, row in known().items() if row.source}


def c(name: str) -> C:
    """How C sees the architecture *name*, which packages are made for."""
    found = known()[name].c
    assert found is not None
    return found


def compiler(package: str, arch: str) -> str:
    """The package of the compiler for *arch* that is the same as the native one of *package*."""
    return package if arch == BUILD else f"{package}-{c(arch).triplet.replace('_', '-')}"


def named_by(settings: Mapping[str, str]) -> str:
    """The architecture that a kernel's configuration with *settings* names; ``""`` if none."""
    return next((name for name, row in known().items() if settings.get(row.config) == "y"), "")


def of_config(settings: Mapping[str, str]) -> str:
    """The architecture of a kernel's configuration with *settings*.

    One of 2006 says no more of a PC than whether it has 64 bits.
    """
    return named_by(settings) or ("amd64" if settings.get("CONFIG_64BIT") == "y" else "i386")


def native(package: str, arch: str) -> str:
    """The native compiler's package that :func:`compiler` made *package* of."""
    return package.removesuffix(f"-{c(arch).triplet.replace('_', '-')}")


def of_kernel(name: str) -> str:
    """The architecture of Debian's kernel *name*, or ``""`` if it does not say one."""
    if not re.match(r"\d[\w.+~]*-", name):
        return ""
    return next((row.name for row in known().values() if row.flavour(name) is not None), "")
