"""What people call kernels and architectures, in the spelling that the rest of the code reads.

Only what can mean one thing is translated; what is not understood is passed on as it is, or
refused here where there is something better to say than that it was not found.
"""

from __future__ import annotations

import re

from tarpit_builder import suites
from tarpit_builder.errors import UserError
from tarpit_builder.versions import KernelVersion, suggest

ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "i686": "i386",
    "aarch64": "arm64",
    "i586": "i386",
    "x86": "i386",
}
"""What ``uname -m`` and others say, and Debian's name for it."""

NEWEST = ("latest", "newest", "current", "mainline", "head")
EXAMPLES = (
    "write debian:bookworm for a suite's kernel, 6.1.0-56-amd64 for one as `uname -r` prints it, "
    "2.6.24 for a release of kernel.org, or running; `invoke kernels` lists what there is"
)
_PACKAGE = re.compile(r"(?:linux|proxmox|pve)-(?:image|headers|kernel)-(?P<rest>\S+)")


def kernel(text: str) -> str:
    """*text* of ``--kernel``: ``bookworm``, ``Debian:12`` and ``debian:bookworm`` are one suite,
    and the package ``linux-image-6.1.0-56-amd64`` is the kernel ``6.1.0-56-amd64``.

    :raises UserError: if it names no kernel, but what is meant can be guessed.
    """
    name = text.strip()
    lower = name.lower()
    if package := _PACKAGE.fullmatch(name):
        if package["rest"][0].isdigit():
            return package["rest"]
        raise UserError(
            f"{name} follows the kernel of a suite, and does not say of which",
            hint="--kernel debian:SUITE is what it installs there, with --flavour where it has one",
        )
    before, colon, after = lower.partition(":")
    if (distribution := _distribution(before)) and after not in NEWEST:
        return f"{distribution.name}:{_suite(distribution, after)}" if colon else distribution.name
    if suite := _of_suite(suites.OTHER_NAMES.get(lower, lower)):
        return suite
    _refuse(name, after if distribution and colon else lower)
    return lower if lower == "running" else name


def architecture(text: str) -> str:
    """*text* of ``--arch`` by Debian's name."""
    return ARCHITECTURES.get(text.strip().lower(), text.strip())


def _distribution(name: str) -> suites.Distribution | None:
    """The distribution that people call *name*."""
    known = suites.distributions().values()
    return next((one for one in known if name in one.names), None)


def _of_suite(name: str) -> str:
    """What ``--kernel`` calls the suite *name*, of the first distribution that has one; or ""."""
    if name.partition("-")[0] in suites.ALIASES:
        return f"debian:{name}"
    known = suites.distributions().values()
    return next((one.suites[name].request for one in known if name in one.suites), "")


def _suite(distribution: suites.Distribution, name: str) -> str:
    """The codename for *name* where that is a number; anything else as it is.

    :raises UserError: if it is a suite that cannot be built for.
    """
    if name in suites.OTHER_NAMES:
        return suites.OTHER_NAMES[name]
    numbers = {suite.number: suite for suite in distribution.suites.values()}
    numbers |= {one.number: one for one in distribution.suites.values() if one.base == one.name}
    number, dash, pocket = name.partition("-")
    if number in numbers:
        return numbers[number].name + dash + pocket
    major = number.rpartition(".")[0]
    if re.fullmatch(r"[\d.]+", number) and major in numbers:
        suite = numbers[major]
        title = f"{distribution.title} {major}"
        raise UserError(
            f"{distribution.name}:{name} is a point release, and mirrors have only the last of "
            "them",
            hint=f"--kernel {suite.request} is what {title} installs today; an exact kernel is "
            "named as `uname -r` prints it",
        )
    return name


def _refuse(name: str, lower: str) -> None:
    if lower in NEWEST:
        raise UserError(
            f"{name!r} may be any of several kernels",
            hint="--kernel debian:stable is the current one of Debian stable, debian:sid that of "
            "unstable, running that of this machine; `invoke kernels` lists all",
        )
    if re.fullmatch(r"v?\d+(\.\d+)?", lower):
        _refuse_number(name, lower.removeprefix("v"))
        return
    if re.match(r"(fedora|rhel|centos|rocky|alma|suse|opensuse|arch|alpine)\b", lower):
        raise UserError(
            f"{name!r} is not one of a known distribution's kernels, nor a release of kernel.org",
            hint="for other distributions name the build tree of the kernel, such as --kernel-tree "
            "/lib/modules/X/build; or, on the machine itself, run `make -C dkms`",
        )
    if lower != "running" and not re.match(r"(v|linux-v?)?\d", lower):
        raise UserError(f"{name!r} is not the name of a kernel", hint=_hint(lower))


def _hint(name: str) -> str:
    """What may be meant by *name*, which is neither a distribution nor a suite."""
    before, colon, after = name.partition(":")
    known = suites.distributions().values()
    if colon and (near := suggest(before, [word for one in known for word in one.names])):
        return f"did you mean --kernel {' or '.join(f'{one}:{after}' for one in near)}?"
    requests = {name: f"debian:{name}" for name in suites.ALIASES}
    for one in known:
        requests |= {n: s.request for n, s in one.suites.items() if n not in requests}
    if near := suggest(name, requests):
        return f"did you mean --kernel {' or '.join(requests[one] for one in near)}?"
    return EXAMPLES


def _refuse_number(name: str, number: str) -> None:
    """Refuse what is neither a release of kernel.org, such as 6.12, nor a suite by itself."""
    debian = {suite.number: suite.name for suite in suites.known().values()}
    if number in debian:
        raise UserError(
            f"{name!r} is not a kernel", hint=f"for Debian {number}: --kernel debian:{number}"
        )
    try:
        KernelVersion.parse(number)
    except UserError:
        raise UserError(
            f"{name!r} is a line of releases, and not one of them",
            hint="name a release, such as --kernel 2.6.24; `invoke kernels` lists them",
        ) from None
