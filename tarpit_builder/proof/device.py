"""The device under proof, ``tarpit0``: made, and fed with frames, by nothing but stock tools."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tarpit_builder.proof.guest import Guest

MODULE = "tarpit"
TABLE = "netdev tarpit"
PROTOCOLS = {4: "ip", 6: "ip6"}
CARDS = ("eth0", "eth1")


def loading(guest: Guest, file: str = "") -> tuple[str, ...]:
    """The command that loads the module, or that in *file* in its place."""
    if not file:
        return "modprobe", MODULE
    # Not by modprobe: many a file has what it depends on.
    return "insmod", f"/lib/modules/{guest.release}/updates/{file}.ko"


def load(guest: Guest, file: str = "") -> bool:
    """Load the module, or that in *file* in its place; whether there is one."""
    command = loading(guest, file)
    if not file:
        return not guest.attempt(*command).status
    if MODULE in guest.modules():
        guest.rmmod(MODULE)
    guest.run(*command)
    return True


def is_there(guest: Guest) -> bool:
    """Whether there is a module, whatever the kernel says of it."""
    return not guest.attempt("modprobe", "--show-depends", MODULE).status


def can_forward(guest: Guest) -> bool:
    """Whether the kernel can forward frames from where they come in."""
    guest.attempt("modprobe", "nft_fwd_netdev")  # which says nothing where it is part of the image
    table = "netdev can_forward"
    commands = (f"add table {table}", f"add chain {table} x", f"add rule {table} x fwd to lo")
    can = not guest.attempt("nft", "-f", "-", stdin="\n".join(commands) + "\n").status
    guest.attempt("nft", "delete", "table", *table.split())
    return can


def ingress(chain: str, interface: str) -> tuple[str, str]:
    """A *chain* for all that comes in by *interface*."""
    return (
        f"add table {TABLE}",
        f"add chain {TABLE} {chain} {{ type filter hook ingress device {interface} priority 0; }}",
    )


def name_of(mode: str) -> str:
    """The device that answers in *mode*, no longer than 15 characters."""
    return f"tarpit-{mode}"


def making(name: str, mode: str) -> list[tuple[str, ...]]:
    """The commands that make a device called *name*, in *mode*, which is up."""
    flags = [] if mode == "tarpit" else [setting(name, mode)]
    return [("ip", "link", "add", name, "type", MODULE), *flags, ("ip", "link", "set", name, "up")]


def setting(name: str, mode: str) -> tuple[str, ...]:
    """The command that has *name* answer in *mode*."""
    return "ethtool", "--set-priv-flags", name, mode, "on"


class Device:
    """One device for each mode, and rules of nftables that forward frames to them."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.made: set[str] = set()

    def make(self, name: str, mode: str = "tarpit") -> None:
        """A device called *name*, which is up; there may have been one."""
        self.remove(name)
        self.made.add(name)
        for command in making(name, mode):
            self._guest.run(*command)

    def set_mode(self, name: str, mode: str) -> None:
        """Have *name* answer in *mode*."""
        self._guest.run(*setting(name, mode))

    def remove(self, name: str) -> None:
        """Take a device away, if there is one of that name."""
        self._guest.attempt("ip", "link", "del", name)
        self.made.discard(name)

    def answer(
        self, mode: str, *, match: Sequence[str] = (), families: tuple[int, ...] = ()
    ) -> None:
        """Have all TCP answered that comes in by the interfaces that *match* admits."""
        mode = mode or "tarpit"
        name = name_of(mode)
        if name not in self.made:
            self.make(name, mode)
        only = f"meta protocol {PROTOCOLS[families[0]]} " if len(families) == 1 else ""
        only += f"tcp dport {match[-1]}" if "--dport" in match else "meta l4proto tcp"
        for card in admitted(match):
            self.nft(*ingress(card, card), f"add rule {TABLE} {card} {only} fwd to {name}")

    def nft(self, *commands: str, netns: str = "") -> None:
        """Run nft."""
        self._guest.run("nft", "-f", "-", stdin="\n".join(commands) + "\n", netns=netns)

    def clear(self) -> None:
        """Forward nothing any more; the devices stay."""
        self._guest.attempt("nft", "delete", "table", *TABLE.split())

    def close(self) -> None:
        """Take all away."""
        self.clear()
        for name in tuple(self.made):
            self.remove(name)

    def counted(self, name: str) -> dict[str, int]:
        """What ``ethtool -S`` says."""
        lines = self._guest.run("ethtool", "-S", name).splitlines()[1:]
        pairs = (line.split(":") for line in lines)
        return {key.strip(): int(value) for key, value in pairs}

    def statistics(self, name: str) -> dict[str, int]:
        """What ``ip -s link`` shows, in the kernel's words."""
        (shown,) = json.loads(self._guest.run("ip", "-s", "-j", "link", "show", name))
        found: dict[str, Any] = shown["stats64"]
        return {f"{way}_{key}": value for way in ("rx", "tx") for key, value in found[way].items()}


def admitted(match: Sequence[str]) -> tuple[str, ...]:
    """The interfaces that a match, in the words of iptables, admits."""
    if not match:
        return CARDS
    named = match[match.index("-i") + 1]
    if match[0] == "!":
        return tuple(card for card in CARDS if card != named)
    return (named,)
