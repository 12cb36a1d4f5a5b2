"""Kernels of Debian's archive: a suite's, one by its ABI, or the one that this machine runs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tarpit_builder import architectures, suites
from tarpit_builder.errors import UserError
from tarpit_builder.kernels.headers import Headers
from tarpit_builder.kernels.kernel import Choice, Kernel, Origin
from tarpit_builder.kernels.suite import Suite
from tarpit_builder.request import Request
from tarpit_builder.versions import suggest

if TYPE_CHECKING:
    from tarpit_builder.sources.catalogue import Catalogue
    from tarpit_builder.sources.debian import Archive, DebianKernel

ABI = re.compile(r"\d[\w.+~]*-[\w.+~-]*")
FLAVOURS = re.compile(r"[a-z0-9]*")


class Debian(Origin):
    """Debian."""

    architectures = architectures.built_for()
    takes = frozenset({"flavour"})
    shares_image = False

    def owns(self, name: str) -> bool:
        """Any name: what Debian does not have, it has a word on."""
        return True

    def find(self, request: Request, archive: Archive) -> Kernel:
        """``debian:SUITE``, ``debian`` (stable), an ABI such as ``6.1.0-56-amd64``, or ``running``.

        :raises UserError: if there is none; the message suggests near ones.
        """
        found = resolve(request, archive)
        headers = Headers(found, archive)
        return Kernel(
            request=Request(found.abi, found.arch),
            name=found.abi,
            tree=headers,
            userland=Suite(headers),
            choices=(Choice("kernel", found.abi, _why(request, found)),),
            facts={
                "kernel": found.abi,
                "arch": found.arch,
                "flavour": found.flavour or "default",
                "suite": found.suite.name,
            },
        )

    def expand(self, name: str, take: str, catalogue: Catalogue) -> tuple[str, ...]:
        """*name* itself, if it is an ABI or the name of a suite that is known.

        :raises UserError: if there is no such suite.
        """
        if name == "debian" or name.startswith("debian:"):
            suite = name.partition(":")[2]
            known = (*suites.known(), *suites.ALIASES)
            if suite not in known:
                near = suggest(suite, known)
                raise UserError(
                    f"there is no Debian suite {suite!r}",
                    hint=f"did you mean {' or '.join(near)}?"
                    if near
                    else f"there are {', '.join(known)}",
                )
            return (name,)
        return (name,) if architectures.of_kernel(name) and ABI.fullmatch(name) else ()

    def refusal(self, option: str, kernel: str) -> UserError:
        """Options that only releases of kernel.org take."""
        return UserError(
            f"{option} is for releases of kernel.org, and {kernel} is not one",
            hint=f"leave {option} out, or name a release such as --kernel 2.6.24",
        )


def resolve(request: Request, archive: Archive) -> DebianKernel:
    """What the archive has for *request*.

    :raises UserError: if that is nothing.
    """
    if request.arch not in Debian.architectures:
        raise UserError(
            f"architecture {request.arch!r} is not supported for Debian's kernels",
            hint=f"supported: {', '.join(Debian.architectures)}",
        )
    if not FLAVOURS.fullmatch(request.flavour):
        raise UserError(
            f"{request.flavour!r} is no kernel flavour", hint="try cloud or rt, or leave it out"
        )
    name = request.kernel
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
        return archive.exact(
            _with_flavour(name, request), architectures.of_kernel(name) or request.arch
        )
    except UserError as error:
        if request.kernel != "running":
            raise
        raise UserError(
            f"this machine runs {name}, for which Debian's mirrors have no headers (any more)",
            hint="name the kernel that it will boot next, such as --kernel debian:stable; where "
            "its headers are installed, xt-tarpit-dkms builds for it",
        ) from error


def _with_flavour(abi: str, request: Request) -> str:
    """*abi* with the flavour of *request* where the ABI does not say one itself."""
    names = architectures.known()[request.arch]
    if not request.flavour or names.flavour(abi) in {None, request.flavour}:
        return abi
    return abi.removesuffix(names.kernel("")) + names.kernel(request.flavour)


def _why(request: Request, kernel: DebianKernel) -> str:
    if request.kernel == "running":
        return f"this machine runs it; its headers are in {kernel.suite.name}"
    if request.kernel.startswith("debian"):
        meta = f"linux-headers-{architectures.known()[kernel.arch].kernel('')}"
        return f"what {meta} of {kernel.suite.name} installs today" + (
            f", flavour {kernel.flavour}" if kernel.flavour else ""
        )
    return f"asked for by name; found in {kernel.suite.name}"
