"""From a request to a plan, with the reason of every choice; pure but for what is handed in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tarpit_builder import __version__, suites
from tarpit_builder.container import Recipe
from tarpit_builder.errors import UserError

if TYPE_CHECKING:
    from tarpit_builder.sources.debian import Archive, DebianKernel
    from tarpit_builder.sources.mirrors import Mirrors

ARCHITECTURES = ("amd64",)
FLAVOURS = re.compile(r"[a-z]*")


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for; *kernel* as typed, *flavour* ``""`` for the ordinary one."""

    kernel: str
    arch: str = "amd64"
    flavour: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """One line of ``invoke explain``: what was chosen, and why."""

    topic: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """Everything that a build does, decided before it starts."""

    request: Request
    kernel: DebianKernel
    recipe: Recipe
    version: str
    choices: tuple[Choice, ...]
    options: tuple[str, ...] = ()
    """What else the command needs to be the same, such as a mirror."""

    @property
    def name(self) -> str:
        """The folder of the result below ``dist/``: the kernel's ABI, its ``uname -r``."""
        return self.kernel.abi

    @property
    def command(self) -> str:
        """The command that makes the same again."""
        arch = [] if self.kernel.arch == ARCHITECTURES[0] else ["--arch", self.kernel.arch]
        return shlex.join(["invoke", "build", "--kernel", self.kernel.abi, *arch, *self.options])

    def facts(self) -> dict[str, Any]:
        """The plan as plain data, for the manifest."""
        return {
            "kernel": self.kernel.abi,
            "kernel-package-version": self.kernel.version,
            "arch": self.kernel.arch,
            "flavour": self.kernel.flavour or "default",
            "suite": self.kernel.suite.name,
            "compiler": self.kernel.compiler,
            "version": self.version,
            "choices": [asdict(choice) for choice in self.choices],
        }

    def key(self) -> str:
        """A digest of every input that the plan names; sources and scripts come on top."""
        facts = self.facts()
        del facts["choices"]
        facts["headers"] = [package.sha256 for package in self.kernel.packages]
        # Which mirror the packages came by says nothing about them: two machines agree on the key.
        facts["recipe"] = replace(self.recipe, apt_sources=(), mirror="").tag
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def resolve(request: Request, archive: Archive) -> DebianKernel:
    """The kernel that *request* means.

    ``debian:SUITE``, ``debian`` (stable), an ABI such as ``6.1.0-56-amd64``, or ``running``.

    :raises UserError: if there is none; the message suggests near ones.
    """
    if request.arch not in ARCHITECTURES:
        raise UserError(
            f"architecture {request.arch!r} is not supported for Debian's kernels",
            hint=f"supported: {', '.join(ARCHITECTURES)}",
        )
    if not FLAVOURS.fullmatch(request.flavour):
        raise UserError(
            f"{request.flavour!r} is no kernel flavour", hint="try cloud or rt, or leave it out"
        )
    name = request.kernel.strip()
    if name == "running":
        name = os.uname().release
        if "-" not in name:
            raise UserError(
                f"the running kernel {name} is not one of Debian's",
                hint="name a Debian kernel, such as --kernel debian:stable",
            )
    if name == "debian" or name.startswith("debian:"):
        suite = archive.codename(name.partition(":")[2] or "stable")
        return archive.newest(suites.known()[suite], request.flavour, request.arch)
    try:
        return archive.exact(_with_flavour(name, request), request.arch)
    except UserError as error:
        if request.kernel.strip() != "running":
            raise
        raise UserError(
            f"this machine runs {name}, for which Debian's mirrors have no headers (any more)",
            hint="name the kernel that it will boot next, such as --kernel debian:stable; where "
            "its headers are installed, xt-tarpit-dkms builds for it",
        ) from error


def _with_flavour(abi: str, request: Request) -> str:
    """*abi* with the flavour of *request* where the ABI does not say one itself."""
    stem = abi.removesuffix(f"-{request.arch}")
    if not request.flavour or stem == abi or stem.endswith(f"-{request.flavour}"):
        return abi
    return f"{stem}-{request.flavour}-{request.arch}"


def make(request: Request, kernel: DebianKernel, archive: Archive) -> BuildPlan:
    """The plan for *kernel*."""
    suite = kernel.suite
    base = suites.known()[suite.base]
    recipe = Recipe(
        template="build",
        suite=base.name,
        arch=kernel.arch,
        apt_sources=archive.mirrors.apt_sources(suite),
        mirror=archive.mirrors.main,
        variables={"compiler": kernel.compiler, "allow_expired": bool(kernel.expired)},
    )
    version = f"{__version__}+deb{suite.number}"
    choices = (
        Choice("kernel", kernel.abi, _why_kernel(request, kernel)),
        Choice(
            "headers",
            f"{len(kernel.packages)} packages, {kernel.version}",
            "Debian's own for exactly this kernel, verified as apt does",
        ),
        *(
            Choice(
                "  source",
                package.url,
                f"SHA-256 {package.sha256[:16]}… in the index of {package.suite}, which a key of "
                "Debian's archive signs",
            )
            for package in kernel.packages
        ),
        Choice(
            "compiler",
            kernel.compiler,
            f"built this kernel, as {kernel.packages[0].name} says",
        ),
        Choice("image", recipe.tag, f"userland of {base.name}, so that the packages fit it"),
        Choice(
            "module", "xt_TARPIT, from dkms/", "one source for all; probes adapt it to the headers"
        ),
        Choice(
            "extension",
            f"libxt_TARPIT.so for the iptables of {base.name}",
            "serves the legacy and the nft front end",
        ),
        Choice(
            "packages",
            f"xt-tarpit-dkms, -common, -modules-{kernel.abi} {version}",
            "source for DKMS, the extension, and a prebuilt module for hosts without a compiler",
        ),
        *mirror_choices(archive.mirrors),
    )
    return BuildPlan(request, kernel, recipe, version, choices, archive.mirrors.words())


def mirror_choices(mirrors: Mirrors) -> tuple[Choice, ...]:
    """Where Debian's packages come from."""
    return (
        Choice("mirror", mirrors.main, mirrors.why),
        Choice("  security", mirrors.security, mirrors.why_security),
    )


def _why_kernel(request: Request, kernel: DebianKernel) -> str:
    if request.kernel == "running":
        return f"this machine runs it; its headers are in {kernel.suite.name}"
    if request.kernel.startswith("debian"):
        return f"what linux-headers-{kernel.arch} of {kernel.suite.name} installs today" + (
            f", flavour {kernel.flavour}" if kernel.flavour else ""
        )
    return f"asked for by name; found in {kernel.suite.name}"
