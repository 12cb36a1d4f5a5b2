"""Distributions with an apt archive, and their suites, from the tables in ``rules/``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tarpit_builder import architectures
from tarpit_builder.errors import UserError
from tarpit_builder.versions import suggest

RULES = Path(__file__).parent / "rules"
DEBIAN = "debian"
ALIASES = ("stable", "oldstable", "oldoldstable", "testing", "unstable")
"""Names that Debian's archive itself resolves to a codename."""

OTHER_NAMES = {"rc-buggy": "experimental"}
"""Suites that have a second name."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One suite; the meaning of each field is written in ``rules/suites.toml``."""

    name: str
    number: str
    base: str
    pockets: tuple[str, ...]
    module_dir: str
    abi: str
    distribution: str = DEBIAN

    @property
    def of(self) -> Distribution:
        """The distribution that it is of."""
        return distributions()[self.distribution]

    @property
    def userland(self) -> Suite:
        """The suite whose compiler and userland its kernels run on: itself, or another's."""
        return known(self.of.base)[self.base]

    @property
    def suffix(self) -> str:
        """What the versions of packages for it end in, ``+deb13``."""
        return f"+{self.of.suffix}{self.number}"

    @property
    def repository(self) -> str:
        """What a repository of packages for it calls the suite.

        Distributions share codenames: the packages for Proxmox VE 8 are not those for bookworm.
        """
        it = self.of
        return self.base if it.base == it.name else f"{it.suffix}-{self.base}"

    @property
    def request(self) -> str:
        """What ``--kernel`` calls it."""
        return f"{self.distribution}:{self.name}"


@dataclass(frozen=True, slots=True)
class Distribution:
    """One distribution; the meaning of each field is written in ``rules/distributions.toml``."""

    name: str
    title: str
    default: str
    former: tuple[str, ...]
    mirrors: Mapping[str, str]
    archived: str
    keyrings: tuple[str, ...]
    keyring_from: str
    components: tuple[str, ...]
    architectures: tuple[str, ...]
    suffix: str
    usual: Mapping[str, str]
    newest: str
    abi: str
    headers: tuple[str, ...]
    parts: tuple[str, ...]
    image_packages: tuple[str, ...]
    modules: tuple[str, ...]
    flavours: Mapping[str, str]
    also: tuple[str, ...] = ()
    origin: str = ""
    base: str = ""
    image: str = ""
    programs: str = ""
    one_name: bool = False
    recommends: tuple[str, ...] = ()

    @property
    def suites(self) -> Mapping[str, Suite]:
        """Its suites by name."""
        return known(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """What people call it in ``--kernel``."""
        return (self.name, *self.also)

    def mirror(self, arch: str) -> str:
        """Its own archive, for *arch*."""
        return self.mirrors.get(arch) or self.mirrors["any"]

    def metapackage(self, suite: Suite, flavour: str, arch: str) -> str:
        """What installs the headers of *suite*'s newest kernel; *flavour* is ``""`` or one's name.

        A flavour may be a short name, such as ``hwe``.
        """
        kernel = architectures.known()[arch].kernel(flavour)
        values = {"number": suite.number, "kernel": kernel}
        usual = self.usual.get(arch) or self.usual["any"]
        if not flavour or flavour == self.flavours.get("default"):
            return usual.format(**values)
        flavour = self.flavours.get(flavour, flavour).format(**values)
        return self.newest.format(flavour=flavour, **values)

    def flavour_of(self, metapackage: str, arch: str) -> str:
        """Which flavour the headers of *metapackage* are of; ``""`` if it is no such package."""
        if "{kernel}" in self.newest:
            known = architectures.known()[arch]
            ends = {self.newest.format(kernel=end): end for end in known.kernels}
            return known.flavour(ends[metapackage]) or "" if metapackage in ends else ""
        flavour = r"(?P<flavour>[a-z0-9][a-z0-9.-]*)"
        pattern = re.escape(self.newest).replace(r"\{flavour\}", flavour)
        match = re.fullmatch(pattern, metapackage)
        return match["flavour"] if match and not self.is_abi(match["flavour"]) else ""

    def is_abi(self, text: str) -> bool:
        """Whether *text* looks like the name of one of its kernels."""
        return re.fullmatch(self.abi, text) is not None

    def abi_of(self, package: str) -> str:
        """The kernel that the header package *package* is for; ``""`` if it is no such package."""
        for template in self.headers:
            stem = template.removesuffix("{abi}")
            if package.startswith(stem) and self.is_abi(package.removeprefix(stem)):
                return package.removeprefix(stem)
        return ""

    def flavour(self, abi: str, arch: str) -> str:
        """Which flavour the kernel *abi* is of; ``""`` is the ordinary one."""
        match = re.fullmatch(self.abi, abi)
        if match is None or "flavour" not in match.groupdict():
            return architectures.known()[arch].flavour(abi) or ""
        found = match["flavour"]
        return "" if found == self.flavours.get("default") else found

    def made_for(self, abi: str, arch: str) -> bool:
        """Whether the kernel *abi* is for *arch*, as far as its name says."""
        return "?P<flavour>" in self.abi or architectures.known()[arch].flavour(abi) is not None

    def likely(self, abi: str) -> tuple[Suite, ...]:
        """The suites that may have the kernel *abi*: those whose own look like it, or else all."""
        found = tuple(suite for suite in self.suites.values() if re.search(suite.abi, abi))
        return found or tuple(self.suites.values())

    def suite_names(self) -> tuple[str, ...]:
        """What people may call its suites, for suggestions."""
        aliases = ALIASES if self.name == DEBIAN else ()
        return (*self.suites, *(suite.number for suite in self.suites.values()), *aliases)

    @property
    def table(self) -> str:
        """The file below ``rules/`` that has its suites."""
        return "suites.toml" if self.name == DEBIAN else "distributions.toml"


@cache
def distributions() -> dict[str, Distribution]:
    """All distributions by name; Debian is the first."""
    return {name: _distribution(name, row) for name, row in _table("distributions").items()}


@cache
def known(distribution: str = DEBIAN) -> dict[str, Suite]:
    """The suites of *distribution* by name; of Debian's, the oldest is first."""
    table = _table("distributions")[distribution].get("suites") or _table("suites")
    return {
        name: Suite(
            name=name,
            number=row["number"],
            base=row.get("base", name),
            pockets=tuple(row["pockets"]),
            module_dir=row["module_dir"],
            abi=row["abi"],
            distribution=distribution,
        )
        for name, row in table.items()
    }


def find(distribution: str, name: str) -> Suite | None:
    """The suite *name* of *distribution*, both as a manifest has them; None if it is not known."""
    return known(distribution).get(name) if distribution in distributions() else None


def _distribution(name: str, row: Mapping[str, Any]) -> Distribution:
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in row.items()
        if key not in {"suites", "mirror", "usual", "flavours"}
    }
    usual = row["usual"]
    return Distribution(
        name=name,
        mirrors=row["mirror"],
        usual=usual if isinstance(usual, Mapping) else {"any": usual},
        flavours=row.get("flavours", {}),
        **{
            "origin": row["title"],
            "base": name,
            "architectures": architectures.built_for(),
            **values,
        },
    )


@cache
def _table(name: str) -> dict[str, Any]:
    return tomllib.loads((RULES / f"{name}.toml").read_text())


def userland(name: str, other: str, meaning: str) -> Suite:
    """The suite of Debian that ``--userland`` *name* means.

    :param other: what else the option takes, and *meaning* what that stands for.
    :raises UserError: if there is none, or no packages are made for it.
    """
    suites = {one: suite for one, suite in known().items() if suite.base == one}
    if name not in suites:
        near = suggest(name, [*suites, other])
        raise UserError(
            f"--userland {name}: no suite of Debian that packages are made for",
            hint=f"did you mean {' or '.join(near)}?"
            if near
            else f"there are {', '.join(suites)}, and {other} for {meaning}",
        )
    return suites[name]
