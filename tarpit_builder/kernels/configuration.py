"""What the user hands in for a kernel of theirs, looked at before a container is started."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import architectures
from tarpit_builder.errors import UserError
from tarpit_builder.request import Request
from tarpit_builder.versions import KernelVersion

LARGEST = 16 << 20  # bytes; Module.symvers of a distribution's kernel has less than one MiB
HEADER = re.compile(
    r"^# Linux kernel version: (?P<version>\d+(?:\.\d+)+(?:-rc\d+)?)(?P<rest>\S*)", re.MULTILINE
)
SYMBOL = re.compile(r"0x[0-9a-f]{8,16}\t\S+\t\S+(\t\S+)?")
TABLES = "CONFIG_IP_NF_IPTABLES"
COMPAT = "CONFIG_NFT_COMPAT"
NEEDED = {
    "CONFIG_MODULES": ("y",),
    "CONFIG_NET": ("y",),
    "CONFIG_INET": ("y",),
    "CONFIG_NETFILTER": ("y",),
    "CONFIG_NETFILTER_XTABLES": ("y", "m"),
    TABLES: ("y", "m"),
}
"""Settings without which no module of ours can work."""


@dataclass(frozen=True, slots=True)
class KernelFiles:
    """The content of ``.config`` and ``Module.symvers``, where given, and what to say of them."""

    config: bytes | None = None
    symvers: bytes | None = None
    warnings: tuple[str, ...] = ()


def read(request: Request) -> KernelFiles:
    """The files that *request* names.

    :raises UserError: if one cannot be read, is damaged, or is not of this kernel.
    """
    config = _read(request.config, "--config") if request.config else None
    symvers = _read(request.symvers, "--symvers") if request.symvers else None
    warnings: tuple[str, ...] = ()
    found: dict[str, str] = {}
    if config is not None:
        found, warnings = check_config(config, request)
    if symvers is not None:
        check_symvers(symvers, versions=found.get("CONFIG_MODVERSIONS") == "y")
    elif found.get("CONFIG_MODVERSIONS") == "y":
        warnings += (
            "this kernel checks symbol versions (CONFIG_MODVERSIONS), and the module has none "
            "without --symvers: it loads only by force",
        )
    return KernelFiles(
        config.encode() if config is not None else None,
        symvers.encode() if symvers is not None else None,
        warnings,
    )


def check_config(text: str, request: Request) -> tuple[dict[str, str], tuple[str, ...]]:
    """The settings in *text*, and warnings.

    :raises UserError: if it is no configuration of the kernel of *request*, or lacks netfilter.
    """
    found = settings(text)
    if not found:
        raise UserError(
            "--config has no CONFIG_ line in it: it is no kernel configuration",
            hint="take /boot/config-RELEASE, or `zcat /proc/config.gz`, from the machine",
        )
    warnings = _check_header(text, request)
    arch = architectures.of_config(found)
    if arch != request.arch:
        raise UserError(
            f"--config is of {arch}, not {request.arch}",
            hint=f"add --arch {arch}, or take the configuration of a kernel for {request.arch}"
            if arch in architectures.sources()
            else "kernels of kernel.org are built for "
            f"{', '.join(architectures.sources())}: take the configuration of one of those",
        )
    demand_netfilter(found, "--config")
    return found, warnings


def settings(text: str) -> dict[str, str]:
    """What a configuration *text* sets, by name."""
    pairs = (line.split("=", 1) for line in text.splitlines() if line.startswith("CONFIG_"))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def demand_netfilter(found: Mapping[str, str], what: str) -> None:
    """See that a kernel of the settings *found*, which are those of *what*, can have TARPIT.

    :raises UserError: naming what it lacks.
    """
    for name, values in NEEDED.items():
        if name == TABLES and found.get(COMPAT) in values:
            continue  # RHEL 10 and others have the nft front end only
        if found.get(name) not in values:
            raise UserError(
                f"{what} has no {name}: TARPIT cannot work in that kernel",
                hint=f"set {name} in it and rebuild that kernel",
            )


def _check_header(text: str, request: Request) -> tuple[str, ...]:
    """What to say about the release that a configuration names in its head, if it does."""
    header = HEADER.search(text)
    if header is None:
        return ()
    kernel = KernelVersion.parse(request.kernel)
    theirs = KernelVersion.parse(header["version"])
    if theirs.series != kernel.series:
        raise UserError(
            f"--config is of Linux {theirs}, not {kernel}",
            hint=f"add --kernel {theirs}, or take the configuration of that kernel",
        )
    if theirs != kernel:
        return (
            f"--config is of Linux {theirs}: a module for {kernel} will not load there unless "
            f"its kernel calls itself {kernel}; --kernel {theirs} builds for that",
        )
    if header["rest"] and not request.release:
        release = f"{theirs}{header['rest']}"
        return (
            f"--config is of a kernel that calls itself {release}, and the module will be for "
            f"{kernel}; --release {release} (what `uname -r` says there) builds for that",
        )
    return ()


def check_symvers(text: str, *, versions: bool, what: str = "--symvers") -> None:
    """See that *text* is a ``Module.symvers`` of a kernel with or without symbol *versions*.

    :param what: where it comes from.
    :raises UserError: if it is not.
    """
    lines = text.splitlines()
    bad = next((line for line in lines if not SYMBOL.match(line)), None)
    if not lines or bad is not None:
        raise UserError(
            f"{what} is no Module.symvers: {(bad or 'empty')[:60]!r}",
            hint="take Module.symvers from the folder that the kernel was built in, or its headers",
        )
    symbols = {line.split("\t")[1]: int(line.split("\t")[0], 16) for line in lines}
    if "xt_register_target" not in symbols:
        raise UserError(
            f"{what} has no xt_register_target: that kernel has no x_tables",
            hint="take Module.symvers of the kernel that the module is for, modules included",
        )
    if versions != any(symbols.values()):
        raise UserError(
            "Module.symvers is of another kernel: "
            + ("it has no checksums" if versions else "it has checksums")
            + f", and --config has CONFIG_MODVERSIONS {'on' if versions else 'off'}",
            hint="take both files from the kernel that the module is for",
        )


def _read(path: Path, option: str) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(
                f"{option} {path} is larger than {LARGEST >> 20} MiB", hint="is it the right file?"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{option} {path} cannot be read: {error.strerror}", hint="name a file that is there"
        ) from error
    if b"\0" in data:
        raise UserError(f"{option} {path} is no text", hint="unpack it first, as with zcat")
    if b"\r" in data:
        raise UserError(
            f"{option} {path} has DOS line endings", hint=f"convert it: sed -i 's/\\r$//' {path}"
        )
    return data.decode("utf-8", errors="replace")
