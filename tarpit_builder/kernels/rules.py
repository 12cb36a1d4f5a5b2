"""The tables of ``rules/``: which release gets what, and the reason.  No decisions but look-ups."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tarpit_builder import paths
from tarpit_builder.errors import UserError
from tarpit_builder.patching import rules as patching
from tarpit_builder.versions import AnyVersion, IptablesVersion, KernelVersion, VersionRange

RULES = Path(__file__).resolve().parent.parent / "rules"


@dataclass(frozen=True, slots=True)
class KernelRule:
    """A row of ``kernels.toml`` that something is built for."""

    releases: VersionRange[KernelVersion]
    module: str
    reason: str
    iptables: IptablesVersion | None
    pairing: str
    userland: str
    no_suite: str


@dataclass(frozen=True, slots=True)
class IptablesRule:
    """A row of ``iptables.toml`` that something is built for."""

    releases: VersionRange[IptablesVersion]
    reason: str
    kernels: VersionRange[KernelVersion] | None
    headers: KernelVersion | None
    warning: str
    warned: VersionRange[KernelVersion] | None

    @property
    def alone(self) -> bool:
        """Whether the extension can be built on its own."""
        return self.kernels is not None

    def whole_for(self, kernel: KernelVersion) -> bool:
        """Whether *kernel* gets the whole of iptables, unless only the extension is asked for."""
        return self.kernels is None or kernel in self.kernels

    def warning_for(self, kernel: KernelVersion) -> str:
        """What to say about this release together with *kernel*, or nothing."""
        return self.warning if self.warned and kernel in self.warned else ""


@dataclass(frozen=True, slots=True)
class DebugRule:
    """A table of ``debug.toml``: the kernels that it can be built into; *config* does that.

    *instrument* are make's variables that have the module tell which of it was executed; *leaks*
    says that the kernel finds what is not freed, *on_request* that it finds no mistakes and has to
    be named; *memory*, in MiB, *cpus*, *boot_seconds* and the kernel's *arguments* are what a guest
    with it takes.
    """

    releases: VersionRange[KernelVersion]
    architectures: tuple[str, ...]
    config: str
    instrument: str
    leaks: bool
    on_request: bool
    memory: int
    cpus: int
    boot_seconds: float
    arguments: str
    reason: str


def debug_kinds() -> tuple[str, ...]:
    """What ``--debug`` stands for: every kind that finds mistakes."""
    rows = table("debug.toml")
    return tuple(kind for kind, row in rows.items() if not row.get("on_request"))


def debug(kind: str) -> DebugRule:
    """What ``--debug`` *kind* means.

    :raises UserError: if it means nothing.
    """
    kinds = table("debug.toml")
    if kind not in kinds:
        raise UserError(f"--debug {kind}: not known", hint=f"there are {', '.join(kinds)}")
    row = kinds[kind]
    return DebugRule(
        releases=VersionRange.parse(row["releases"], KernelVersion),
        architectures=tuple(row["architectures"]),
        config=row["config"],
        instrument=row.get("instrument", ""),
        leaks=row.get("leaks", False),
        on_request=row.get("on_request", False),
        memory=row["memory"],
        cpus=row.get("cpus", 1),
        boot_seconds=row["boot_seconds"],
        arguments=row["arguments"],
        reason=row["reason"],
    )


def kernel(version: KernelVersion) -> KernelRule:
    """How *version* is built for.

    :raises UserError: if it is not.
    """
    row = _row("kernels.toml", "kernel", version)
    _refuse(f"Linux {version} is not built for", row)
    return KernelRule(
        releases=VersionRange.parse(row["releases"], KernelVersion),
        module=row["module"],
        reason=row["reason"],
        iptables=None if row["iptables"] == "none" else IptablesVersion.parse(row["iptables"]),
        pairing=row["pairing"],
        userland=row["userland"],
        no_suite=row.get("no_suite", ""),
    )


def iptables(version: IptablesVersion) -> IptablesRule:
    """What is done about *version*.

    :raises UserError: if it is not built here.
    """
    row = _row("iptables.toml", "iptables", version)
    _refuse(f"iptables {version} is not built", row)
    warning = row.get("warning", {})
    return IptablesRule(
        releases=VersionRange.parse(row["releases"], IptablesVersion),
        reason=row["reason"],
        kernels=VersionRange.parse(row["kernels"], KernelVersion) if "kernels" in row else None,
        headers=KernelVersion.parse(row["headers"]) if "headers" in row else None,
        warning=warning.get("text", ""),
        warned=VersionRange.parse(warning["kernels"], KernelVersion) if warning else None,
    )


def patch(version: KernelVersion | IptablesVersion) -> Path | None:
    """The patch that puts TARPIT into the tree of *version*, if there is one that must fit.

    :raises InfrastructureError: if the table of patches is damaged.
    """
    try:
        entry = patching.load().choose(version)
    except UserError:
        return None
    path = paths.PROJECT / "patches" / entry.path
    return path if path.is_file() and not entry.tree else None


@cache
def table(name: str) -> Mapping[str, Any]:
    """The table *name* of ``rules/``."""
    return tomllib.loads((RULES / name).read_text())


def _row(name: str, kind: str, version: AnyVersion) -> dict[str, Any]:
    row: dict[str, Any]
    for row in table(name)[kind]:
        if version in VersionRange.parse(row["releases"], type(version)):
            return row
    raise UserError(
        f"{version.what} {version} never existed, or rules/{name} does not know it",
        hint="check the number, or add a row with the reason for it",
    )


def _refuse(what: str, row: Mapping[str, Any]) -> None:
    if reason := row.get("refused"):
        raise UserError(f"{what}: {reason}", hint=row["hint"])
