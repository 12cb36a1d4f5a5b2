"""Clients of a guest: they live in it too, in a network namespace of their own."""

from __future__ import annotations

import itertools
import re
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tests.guest.booted import Guest, GuestError, Result

SERVER = {4: "192.0.2.1", 6: "2001:db8::1"}
"""The guest's own addresses, as clients see them."""
CLIENT = {4: "192.0.2.2", 6: "2001:db8::2"}
BITS = {4: 24, 6: 64}
SYNS = 2  # how often a client repeats its SYN before it counts as dropped

_sources = itertools.count(40001)


class Fate(Enum):
    """What becomes of a client."""

    HELD = "is connected, and its data stays where it is: the window is zero"
    ACCEPTED = "is connected, and its data arrives"
    DROPPED = "gets no answer"
    REFUSED = "is refused, or was let go"


@dataclass(frozen=True, slots=True)
class Client:
    """A program that connects, sends a little and stays, until :meth:`stop`.

    Its address and source port tell it from others.
    """

    network: Network
    port: int
    family: int
    source: int
    server: str = ""  # by default the guest

    @property
    def command(self) -> str:
        """What to run; it leaves a file when it ends."""
        server = self.server or SERVER[self.family]
        return (
            "(head -c 100 /dev/zero; exec sleep infinity) | "
            f"{{ nc -p {self.source} {server} {self.port}; : >{self._ended}; }}"
        )

    @property
    def unit(self) -> str:
        """The unit that it runs in."""
        return f"client-{self.source}"

    @property
    def _ended(self) -> str:
        return f"/run/client-{self.source}.ended"

    def socket(self) -> str:
        """What ``ss`` says of its socket now, in one line; nothing if it has none."""
        found = self.network.run(f"ss -Hntoi state all sport = :{self.source}").stdout
        return " ".join(found.split())

    def fate(self, seconds: float = 30) -> Fate:
        """What became of it, watched until that is clear.

        :raises GuestError: if that is not clear after *seconds*.
        """
        return self.network.watch([self], seconds)[0]

    def stop(self) -> None:
        """End it."""
        self.network.guest.run(f"systemctl stop {self.unit}")


def judge(line: str, ended: bool) -> Fate | None:
    """What ``ss``' *line* about a client's socket says of it; None if it is too early to tell.

    *ended* says that the client is no more.
    """
    state, _, rest = line.partition(" ")
    if state == "ESTAB":
        queued = int(rest.split()[1])
        # The first is that of the SYN: whoever has sent nothing yet has an empty queue as well.
        acknowledged = re.search(r"bytes_acked:(\d+)", rest)
        if not queued and acknowledged and int(acknowledged[1]) > 1:
            return Fate.ACCEPTED
        if queued and re.search(r"timer:\(persist|snd_wnd:0\b", rest):
            return Fate.HELD
    if state == "SYN-SENT" and (timer := re.search(r"timer:\(on,[^,]*,(\d+)\)", rest)):
        return Fate.DROPPED if int(timer.group(1)) >= SYNS else None
    return Fate.REFUSED if ended else None


class Network:
    """A namespace that is tied to the guest's own by a pair of virtual cards.

    It is gone after a reboot: make another then.  Where the guest has one family of addresses only,
    *families* names it.
    """

    def __init__(
        self, guest: Guest, name: str = "outside", *, families: tuple[int, ...] = (4, 6)
    ) -> None:
        """Make it, with addresses of *families* at both ends."""
        self.guest = guest
        self.families = families
        self.prefix = f"ip netns exec {name}"
        addresses = "".join(
            f"""
            ip addr add {SERVER[family]}/{BITS[family]} dev {name} {nodad}
            ip -n {name} addr add {CLIENT[family]}/{BITS[family]} dev eth0 {nodad}"""
            for family, nodad in ((4, ""), (6, "nodad"))
            if family in families
        )
        guest.ok(
            f"""set -e
            ip netns add {name}
            ip link add {name} type veth peer name eth0 netns {name}
            {addresses}
            ip link set {name} up
            ip -n {name} link set lo up
            ip -n {name} link set eth0 up"""
        )

    def run(self, command: str, *, seconds: float = 60) -> Result:
        """Run *command* in the namespace; its status is not looked at."""
        return self.guest.run(f"{self.prefix} {command}", seconds=seconds)

    def connect(self, port: int, family: int = 4) -> Client:
        """A client that connects to *port* of the guest and stays; nothing is waited for."""
        client = Client(self, port, family, next(_sources))
        self.guest.spawn(client.unit, f"{self.prefix} sh -c {shlex.quote(client.command)}")
        return client

    def fates(
        self, ports: Iterable[int], families: Iterable[int] | None = None
    ) -> dict[int, set[Fate]]:
        """What becomes of clients that come now, by port, in each of *families*."""
        return {port: set(fates) for port, fates in self.told_apart(ports, families).items()}

    def told_apart(
        self,
        ports: Iterable[int],
        families: Iterable[int] | None = None,
        servers: Mapping[int, str] | None = None,
    ) -> dict[int, tuple[Fate, ...]]:
        """The same, with a fate for each of *families* in their order; all clients come at once.

        *servers* are hosts other than the guest, by family.
        """
        clients = [
            Client(self, port, family, next(_sources), (servers or SERVER)[family])
            for port, family in itertools.product(ports, families or self.families)
        ]
        unit = f"clients-{clients[0].source}"
        script = "".join(f"{{ {client.command}; }} &\n" for client in clients) + "wait\n"
        self.guest.spawn(unit, f"{self.prefix} sh -c {shlex.quote(script)}")
        try:
            fates: dict[int, tuple[Fate, ...]] = {}
            for client, fate in zip(clients, self.watch(clients), strict=True):
                fates[client.port] = (*fates.get(client.port, ()), fate)
            return fates
        finally:
            self.guest.run(f"systemctl stop {unit}")

    def fate(self, port: int, family: int = 4) -> Fate:
        """What becomes of a client of *port* that comes now; it is gone afterwards."""
        (fate,) = self.fates([port], [family])[port]
        return fate

    def watch(self, clients: Sequence[Client], seconds: float = 30) -> list[Fate]:
        """What became of *clients*.

        :raises GuestError: if that is not clear after *seconds*.
        """
        deadline = time.monotonic() + seconds
        while True:
            # In this order: a client that has no socket and had ended before will never have one.
            ended = self.guest.run("cd /run; ls | grep '^client-.*ended$'").stdout.split()
            lines = self.run("ss -Hntoi state all").stdout.replace("\n\t", " ").splitlines()
            fates = []
            for client in clients:
                mine = [line for line in lines if re.search(rf":{client.source}\s", line)]
                line = " ".join(mine[0].split()) if mine else ""
                fates.append(judge(line, f"client-{client.source}.ended" in ended))
            known = [fate for fate in fates if fate is not None]
            if len(known) == len(clients):
                return known
            if time.monotonic() > deadline:
                unclear = [c.port for c, fate in zip(clients, fates, strict=True) if fate is None]
                raise GuestError(f"what became of clients of ports {unclear}? {lines}")
            time.sleep(0.3)

    def listen(self, port: int) -> None:
        """Start a server in the guest that reads whatever comes to *port*, of all families."""
        family = max(self.families)
        self.guest.spawn(
            f"server-{port}", f"while :; do nc -{family} -l -p {port} >/dev/null; done"
        )
        self.guest.wait(f"ss -Hltn sport = :{port} | grep -q .")
