"""Packages that follow the newest kernel, as ``linux-image-amd64`` does.

A host without a compiler takes prebuilt modules, whose packages are named after one kernel each.
``xt-tarpit-modules-amd64`` (and ``-cloud-``, ``-rt-``; with ``backports-`` before that for kernels
from backports, which share a suite's repository) depends on the one of the newest kernel, so that
``apt full-upgrade`` brings the module along with the kernel.

There is no source to build them from: they are derived, whenever a repository is published, from
the modules packages in it, and hold nothing but their dependency.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path

from tarpit_builder import architectures
from tarpit_builder.packaging import changelog, contents, modern
from tarpit_builder.packaging.deb import Deb
from tarpit_builder.publish.incoming import File, digest

STEM = contents.MODULES
BACKPORT = "~bpo"
"""What the version of every package in Debian's backports has."""


@dataclass(frozen=True, slots=True)
class KernelLine:
    """Kernels that follow each other: one suite's, of one flavour (``""`` is the ordinary one)."""

    suite: str
    arch: str
    flavour: str
    backport: bool

    @property
    def suffix(self) -> str:
        """What Debian's metapackage of these kernels is called after ``linux-image-``."""
        return architectures.known()[self.arch].kernel(self.flavour)

    @property
    def package(self) -> str:
        """The name of ours."""
        return f"{STEM}-backports-{self.suffix}" if self.backport else f"{STEM}-{self.suffix}"


@dataclass(frozen=True, slots=True)
class Modules:
    """A modules package: the *file*, the *abi* it is for, and the version of that kernel."""

    file: File
    abi: str
    kernel: str


def is_metapackage(file: File) -> bool:
    """Whether *file* is one of ours rather than a package of modules."""
    name = file.name.partition("_")[0]
    return re.fullmatch(rf"{STEM}-[^0-9].*", name) is not None


def undated(files: Mapping[str, File]) -> tuple[str, ...]:
    """Modules packages of Debian kernels in *files* that do not say which version they are for.

    Built before they recorded it, they cannot be ranked: no metapackage depends on them.
    """
    return tuple(
        sorted(
            file.name
            for file in files.values()
            if (found := _modules(file)) and found[0].suite != "upstream" and not file.kernel
        )
    )


def make(files: Mapping[str, File], folder: Path) -> dict[str, File]:
    """The metapackages for the modules packages in *files*, written to *folder*; by pool place."""
    found: dict[KernelLine, list[Modules]] = defaultdict(list)
    for file in files.values():
        if file.kernel and (pair := _modules(file)):
            found[pair[0]].append(pair[1])
    made = {}
    for kind, candidates in found.items():
        deb = _deb(kind, max(candidates, key=cmp_to_key(_older)))
        path = folder / kind.suite / deb.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(deb.build())
        file = File(kind.suite, path.name, digest(path), path)
        made[file.pool] = file
    return made


def version(modules: Modules) -> str:
    """The version of a metapackage that depends on *modules*.

    It grows with the kernel, as that of ``linux-image-amd64``, and for the same kernel with our
    own.  What joins them, ``+0``, sorts before all that Debian appends to a kernel's version
    (``+deb11u1``, ``+b1``, ``.1``) and after ``~``; so 6.1.55-1 is superseded by 6.1.55-1+deb12u1.
    """
    return f"{modules.kernel}+0tarpit{modules.file.version}"


def _modules(file: File) -> tuple[KernelLine, Modules] | None:
    """What *file* is, if it is a package of modules for one of Debian's kernels."""
    abi = file.name.partition("_")[0].removeprefix(f"{STEM}-")
    if not architectures.of_kernel(abi):
        return None
    architecture = architectures.known().get(file.architecture)  # a source package has none
    flavour = architecture.flavour(abi) if architecture else None
    if flavour is None:
        return None
    kind = KernelLine(file.suite, file.architecture, flavour, BACKPORT in file.kernel)
    return kind, Modules(file, abi, file.kernel)


def _older(one: Modules, other: Modules) -> int:
    """Negative if *one* is for an older kernel, or of an older version for the same."""
    from debian.debian_support import version_compare

    return int(
        version_compare(one.kernel, other.kernel)
        or version_compare(one.abi, other.abi)
        or version_compare(one.file.version, other.file.version)
    )


def _deb(kind: KernelLine, newest: Modules) -> Deb:
    description = contents.description(
        "newest",
        {"suffix": kind.suffix, "origin": " from backports" if kind.backport else ""},
    )
    control = f"""\
Package: {kind.package}
Version: {version(newest)}
Section: kernel
Priority: optional
Architecture: {kind.arch}
Maintainer: {contents.maintainer()}
Depends: {STEM}-{newest.abi} (>= {newest.file.version})
Description: {description}
"""
    name = f"/usr/share/doc/{kind.package}/copyright"
    return Deb(
        control=control,
        files={name: (modern.copyright_text().encode(), 0o644)},
        epoch=changelog.source_date_epoch(),
    )
