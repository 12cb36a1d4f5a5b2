"""Groups of checks, as the modules of :mod:`tarpit_builder.proof.checks` declare them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field

from tarpit_builder.errors import UserError
from tarpit_builder.proof.lab import Lab

CheckFunction = Callable[..., None]

BACKENDS = ("legacy", "nft")
"""The flavours of iptables."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the contract, with the function that judges it.

    A function with a ``family`` parameter is called for IPv4 and IPv6 in turn.
    """

    title: str
    section: str
    function: CheckFunction

    @property
    def per_family(self) -> bool:
        """Whether it is judged for each address family."""
        return "family" in inspect.signature(self.function).parameters


@dataclass(slots=True)
class Group:
    """Checks that share a machine and a preparation; what ``--only`` names.

    *backends* are the flavours of iptables that it is repeated for (one, where they make no
    difference to what is judged and time is dear); *icount* is QEMU's option of that name, for
    checks about time or cost, which get one processor; *cards* is the number of network cards;
    without *randomness* the kernel has no random numbers before it has gathered them;
    *extra* groups are only run when they are named; *fresh* ones want a machine that nobody used;
    *device* ones judge the device in place of the target; *ordinary* ones are not judged where the
    kernel looks for mistakes or the module counts; *provokes* are parts of kernel messages that
    its checks cause on purpose.
    """

    name: str
    title: str
    order: int
    backends: tuple[str, ...] = BACKENDS
    icount: str | None = None
    cards: int = 2
    memory: int = 512
    randomness: bool = True
    extra: bool = False
    fresh: bool = False
    device: bool = False
    ordinary: bool = False
    provokes: tuple[str, ...] = ()
    checks: list[Check] = field(default_factory=list)
    prepare: Callable[[Lab], None] | None = None

    def check(self, title: str, *, section: str = "1") -> Callable[[CheckFunction], CheckFunction]:
        """Declare a check of a section of the contract."""

        def declare(function: CheckFunction) -> CheckFunction:
            self.checks.append(Check(title, section, function))
            return function

        return declare

    def setup(self, function: Callable[[Lab], None]) -> Callable[[Lab], None]:
        """Declare what is done once before the group's checks."""
        self.prepare = function
        return function


def groups() -> list[Group]:
    """Every group, in the order in which they are run."""
    from tarpit_builder.proof import checks

    found: dict[str, Group] = {}
    for info in pkgutil.iter_modules(checks.__path__):
        module = importlib.import_module(f"{checks.__name__}.{info.name}")
        found |= {group.name: group for group in vars(module).values() if isinstance(group, Group)}
    return sorted(found.values(), key=lambda group: group.order)


def select(only: tuple[str, ...]) -> list[Group]:
    """The groups that *only* names, or all but the extra ones.

    :raises UserError: if a name is unknown.
    """
    everything = groups()
    if not only:
        return [group for group in everything if not group.extra]
    by_name = {group.name: group for group in everything}
    for name in only:
        if name not in by_name:
            import difflib

            near = difflib.get_close_matches(name, by_name, 1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UserError(
                f"there is no group of checks called {name!r}",
                hint=f"{meant}There are: {', '.join(by_name)}",
            )
    return [group for group in everything if group.name in only]
