"""Kernels of an apt archive: a suite's, one by its ABI, or the one that this machine runs.

Debian's and those of the distributions that :mod:`~tarpit_builder.suites` knows; what differs
between them is in ``rules/distributions.toml``.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tarpit_builder import architectures, suites
from tarpit_builder.errors import UserError
from tarpit_builder.kernels.headers import Headers
from tarpit_builder.kernels.kernel import Choice, Kernel, Origin
from tarpit_builder.kernels.release import KernelOrg
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.request import Request
from tarpit_builder.sources import linux_source
from tarpit_builder.versions import KernelVersion, suggest

if TYPE_CHECKING:
    from tarpit_builder.sources.catalogue import Catalogue
    from tarpit_builder.sources.debian import Archive, DebianKernel

ABI = re.compile(r"\d[\w.+~]*-[\w.+~-]*")
FLAVOURS = re.compile(r"(?:[a-z0-9][a-z0-9.-]*)?")


class Apt(Origin):
    """One distribution."""

    takes = frozenset({"flavour", "debug"})
    shares_image = False

    def __init__(self, distribution: suites.Distribution) -> None:
        self.distribution = distribution
        self.architectures = distribution.architectures

    def owns(self, name: str, tree: str = "") -> bool:
        """A suite of it, a kernel that looks like its own, or the one that runs, if it does.

        Debian has a word on whatever nobody else owns.
        """
        it = self.distribution
        if it.name == suites.DEBIAN or name.partition(":")[0] == it.name:
            return True
        return it.is_abi(os.uname().release if name == "running" else name.partition("/")[0])

    def archive(self, request: Request, archive: Archive) -> Archive:
        """The distribution's own."""
        return archive.of(self.distribution, request.arch)

    def find(self, request: Request, archive: Archive) -> Kernel:
        """``debian:SUITE``, ``debian`` (stable), an ABI such as ``6.1.0-56-amd64``, or ``running``.

        An ABI that several suites have is told apart as apt does it, ``6.8.0-60-generic/jammy``.

        :raises UserError: if there is none; the message suggests near ones.
        """
        archive = self.archive(request, archive)
        found = self._resolve(request, archive)
        if request.debug:
            return _from_source(request.debug, found, archive)
        headers = Headers(found, archive)
        exact = found.abi
        if self.distribution.one_name and self.distribution.likely(exact)[0] != found.suite:
            exact += f"/{found.suite.name}"
        facts = {
            "kernel": found.abi,
            "arch": found.arch,
            "flavour": found.flavour or "default",
            "suite": found.suite.name,
        }
        if self.distribution.name != suites.DEBIAN:
            facts["distribution"] = self.distribution.name
        return Kernel(
            request=Request(exact, found.arch),
            name=exact.replace("/", "-"),
            tree=headers,
            userland=SuiteUserland(headers),
            choices=(Choice("kernel", found.abi, _why(request, found)),),
            facts=facts,
        )

    def expand(self, name: str, take: str, catalogue: Catalogue) -> tuple[str, ...]:
        """*name* itself, if it is an ABI or the name of a suite that is known.

        :raises UserError: if there is no such suite.
        """
        it = self.distribution
        if name == it.name or name.startswith(f"{it.name}:"):
            suite = name.partition(":")[2]
            known = it.suite_names()
            if suite not in known:
                near = suggest(suite, known)
                raise UserError(
                    f"there is no {it.title} suite {suite!r}",
                    hint=f"did you mean {' or '.join(near)}?"
                    if near
                    else f"there are {', '.join(known)}",
                )
            return (name,)
        abi = name.partition("/")[0]
        if it.name == suites.DEBIAN:
            return (name,) if architectures.of_kernel(name) and ABI.fullmatch(name) else ()
        return (name,) if it.is_abi(abi) else ()

    def refusal(self, option: str, kernel: str) -> UserError:
        """Options that only releases of kernel.org take."""
        return UserError(
            f"{option} is for releases of kernel.org, and {kernel} is not one",
            hint=f"leave {option} out, or name a release such as --kernel 2.6.24",
        )

    def _resolve(self, request: Request, archive: Archive) -> DebianKernel:
        """What the archive has for *request*.

        :raises UserError: if that is nothing.
        """
        it = self.distribution
        if request.arch not in self.architectures:
            raise UserError(
                f"architecture {request.arch!r} is not supported for {it.title}'s kernels",
                hint=f"supported: {', '.join(self.architectures)}",
            )
        if not FLAVOURS.fullmatch(request.flavour):
            raise UserError(
                f"{request.flavour!r} is no kernel flavour",
                hint="try cloud or rt, or leave it out"
                if it.name == suites.DEBIAN
                else "leave it out, or name one that the suite has, in lower case",
            )
        name, _, suite = request.kernel.partition("/")
        if suite and suite not in it.suites:
            suite = archive.codename(_by_number(it, suite))
        if name == "running":
            name, suite = _running(it)
        if name == it.name or name.startswith(f"{it.name}:"):
            suite = archive.codename(name.partition(":")[2] or it.default)
            return archive.newest(it.suites[suite], request.flavour, request.arch)
        try:
            arch = architectures.of_kernel(name) or request.arch
            return archive.exact(_with_flavour(it, name, request), arch, suite)
        except UserError as error:
            if request.kernel != "running":
                raise
            raise UserError(
                f"this machine runs {name}, for which {it.title}'s mirrors have no headers "
                "(any more)",
                hint="name the kernel that it will boot next, such as --kernel "
                f"{it.name}:{suite or it.default}; where its headers are installed, --kernel-tree "
                f"/lib/modules/{name}/build builds for it, and so does xt-tarpit-dkms",
            ) from error


def _from_source(debug: str, kernel: DebianKernel, archive: Archive) -> Kernel:
    """The tree that *kernel* was built from, for *debug*; in the newest version of its suite.

    :raises UserError: if the distribution is not known to hand it out, or *kernel* is too old.
    """
    if kernel.suite.distribution != suites.DEBIAN:
        raise UserError(
            f"--debug is for kernels whose source is at hand, and {kernel.abi} has none here",
            hint="name a release, such as --kernel 6.12.19 --kernel-git URL, or debian:stable",
        )
    version = KernelVersion.of_name(kernel.version)
    package = f"linux-source-{version.series}"
    tree = linux_source.newest(package, kernel.suite.name, archive)
    request = Request(
        str(KernelVersion.of_name(tree.version)),
        kernel.arch,
        debug=debug,
        userland=kernel.suite.name,
        kernel_tree=f"{package}/{kernel.suite.name}",
    )
    return KernelOrg().find(request, archive)


def distributions() -> Iterable[Apt]:
    """An origin for each distribution that is known; Debian, which owns any name, is the last."""
    debian, *others = suites.distributions().values()
    return map(Apt, (*others, debian))


def _running(distribution: suites.Distribution) -> tuple[str, str]:
    """What this machine runs: the kernel, and the suite where that is of *distribution*."""
    abi = os.uname().release
    if "-" not in abi:
        raise UserError(
            f"the running kernel {abi} is not one of {distribution.title}'s",
            hint="name a Debian kernel, such as --kernel debian:stable",
        )
    try:
        codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        codename = ""
    here = distribution.name != suites.DEBIAN and codename in distribution.suites
    return abi, codename if here else ""


def _by_number(distribution: suites.Distribution, name: str) -> str:
    """The codename for *name*, where that is a number; anything else as it is."""
    numbers = {suite.number: suite.name for suite in distribution.suites.values()}
    return numbers.get(name, name)


def _with_flavour(distribution: suites.Distribution, abi: str, request: Request) -> str:
    """*abi* with the flavour of *request* where the ABI does not say one itself.

    :raises UserError: if it says another.
    """
    if distribution.name != suites.DEBIAN:
        flavour = distribution.flavours.get(request.flavour, request.flavour)
        if flavour and not abi.endswith(f"-{flavour}"):
            raise UserError(
                f"{abi} is not a kernel of flavour {flavour!r}",
                hint="leave --flavour out: the kernel's own name says it",
            )
        return abi
    names = architectures.known()[request.arch]
    if not request.flavour or names.flavour(abi) in {None, request.flavour}:
        return abi
    return abi.removesuffix(names.kernel("")) + names.kernel(request.flavour)


def _why(request: Request, kernel: DebianKernel) -> str:
    if request.kernel == "running":
        return f"this machine runs it; its headers are in {kernel.suite.name}"
    if request.kernel.partition(":")[0] == kernel.suite.distribution:
        usual = kernel.suite.of.metapackage(kernel.suite, "", kernel.arch)
        return f"what {usual if not request.flavour else kernel.metapackage} of " + (
            f"{kernel.suite.name} installs today"
            + (f", flavour {kernel.flavour}" if kernel.flavour else "")
        )
    return f"asked for by name; found in {kernel.suite.name}"
