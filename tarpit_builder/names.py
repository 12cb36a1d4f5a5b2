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
EXPERIMENTAL = ("experimental", "rc-buggy")
EXAMPLES = (
    "write debian:bookworm for a suite's kernel, 6.1.0-56-amd64 for one as `uname -r` prints it, "
    "2.6.24 for a release of kernel.org, or running; `invoke kernels` lists what there is"
)
_PACKAGE = re.compile(r"linux-(?:image|headers)-(?P<rest>\S+)")


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
    if before == "debian" and colon and after not in NEWEST:
        return f"debian:{_suite(after)}"
    if _is_suite(lower):
        return f"debian:{lower}"
    _refuse(name, after if before == "debian" and colon else lower)
    return lower if lower in {"debian", "running"} else name


def architecture(text: str) -> str:
    """*text* of ``--arch`` by Debian's name."""
    return ARCHITECTURES.get(text.strip().lower(), text.strip())


def _is_suite(name: str) -> bool:
    stem = name.partition("-")[0]
    return name in suites.known() or stem in suites.ALIASES


def _suite(name: str) -> str:
    """The codename for *name* where that is a number; anything else as it is.

    :raises UserError: if it is a suite that cannot be built for.
    """
    if name in EXPERIMENTAL:
        raise UserError(
            "kernels of Debian's experimental are not built: the suite has no compiler and no "
            "user land of its own",
            hint="the nearest is unstable: --kernel debian:sid",
        )
    numbers = {suite.number: suite for suite in suites.known().values() if suite.base == suite.name}
    number, dash, pocket = name.partition("-")
    if number in numbers:
        return numbers[number].name + dash + pocket
    major = re.fullmatch(r"(\d+)\.\d+", number)
    if major and major[1] in numbers:
        suite = numbers[major[1]].name
        raise UserError(
            f"debian:{name} is a point release, and mirrors have only the last of them",
            hint=f"--kernel debian:{suite} is what Debian {major[1]} installs today; an exact "
            "kernel is named as `uname -r` prints it",
        )
    return name


def _refuse(name: str, lower: str) -> None:
    if lower in NEWEST:
        raise UserError(
            f"{name!r} may be any of several kernels",
            hint="--kernel debian:stable is the current one of Debian stable, debian:sid that of "
            "unstable, running that of this machine; `invoke kernels` lists all",
        )
    if lower in EXPERIMENTAL:
        _suite(lower)
    if re.fullmatch(r"v?\d+(\.\d+)?", lower):
        _refuse_number(name, lower.removeprefix("v"))
        return
    if re.match(r"(ubuntu|fedora|rhel|centos|rocky|alma|suse|opensuse|arch|alpine)\b", lower):
        raise UserError(
            f"{name!r} is not one of Debian's kernels, nor a release of kernel.org",
            hint="for other distributions build on the machine itself, where its headers are: "
            "copy dkms/ there and run `make -C dkms`",
        )
    if lower not in {"debian", "running"} and not re.match(r"(v|linux-v?)?\d", lower):
        near = suggest(lower, [*suites.known(), *suites.ALIASES])
        hint = f"did you mean --kernel debian:{' or debian:'.join(near)}?" if near else EXAMPLES
        raise UserError(f"{name!r} is not the name of a kernel", hint=hint)


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
