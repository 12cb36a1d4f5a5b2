"""Clients of a guest: they live in it too, in a network namespace of their own."""

from __future__ import annotations

import itertools
import re
import time
from enum import Enum

from tests.guest.booted import Guest, GuestError, Result

SERVER = {4: "192.0.2.1", 6: "2001:db8::1"}
"""The guest's own addresses, as clients see them."""
CLIENT = {4: "192.0.2.2", 6: "2001:db8::2"}
BITS = {4: 24, 6: 64}
PATIENCE = 5.0  # seconds after which a SYN without an answer counts as dropped

_numbers = itertools.count(1)


class Fate(Enum):
    """What becomes of a client."""

    HELD = "is connected, and its data stays where it is: the window is zero"
    ACCEPTED = "is connected, and its data arrives"
    DROPPED = "gets no answer"
    REFUSED = "is refused"
    ENDED = "was connected, but is no more"


class Client:
    """A program that connects, sends a little and stays, until :meth:`stop`."""

    def __init__(self, network: Network, port: int, family: int) -> None:
        """Start it; nothing is waited for."""
        self._guest = network.guest
        self._network = network
        number = next(_numbers)
        self.unit = f"client-{number}"
        self.port, self.source = port, 40000 + number
        self._guest.spawn(
            self.unit,
            "(head -c 100 /dev/zero; exec sleep infinity) | "
            f"{{ {network.prefix} nc -p {self.source} {SERVER[family]} {port}; kill 0; }}",
        )

    def socket(self) -> str:
        """What ``ss`` says of its socket now, in one line; nothing if it has none."""
        found = self._network.run(f"ss -Hntoi state all sport = :{self.source}").stdout
        return " ".join(found.split())

    @property
    def ended(self) -> bool:
        """Whether the program has ended."""
        return self._guest.run(f"systemctl is-active --quiet {self.unit}").status != 0

    def fate(self, seconds: float = 20) -> Fate:
        """What became of it, watched until that is clear.

        :raises GuestError: if that is not clear after *seconds*.
        """
        deadline = time.monotonic() + seconds
        began, connected = 0.0, False
        while True:
            line = self.socket()
            began = began or (time.monotonic() if line else 0.0)
            state, _, rest = line.partition(" ")
            if state == "ESTAB":
                connected = True
                queued = int(rest.split()[1])
                if not queued and "bytes_acked" in rest:
                    return Fate.ACCEPTED
                if queued and re.search(r"\bpersist\b|snd_wnd:0\b", rest):
                    return Fate.HELD
            elif state == "SYN-SENT" and time.monotonic() - began > PATIENCE:
                return Fate.DROPPED
            elif not line and self.ended:
                return Fate.ENDED if connected else Fate.REFUSED
            if time.monotonic() > deadline:
                raise GuestError(f"what became of a client of port {self.port}? {line}")
            time.sleep(0.3)

    def stop(self) -> None:
        """End it."""
        self._guest.run(f"systemctl stop {self.unit}")


class Network:
    """A namespace that is tied to the guest's own by a pair of virtual cards.

    It is gone after a reboot: make another then.
    """

    def __init__(self, guest: Guest, name: str = "outside") -> None:
        """Make it, with addresses of both families at both ends."""
        self.guest = guest
        self.prefix = f"ip netns exec {name}"
        guest.ok(
            f"""set -e
            ip netns add {name}
            ip link add {name} type veth peer name eth0 netns {name}
            ip addr add {SERVER[4]}/{BITS[4]} dev {name}
            ip addr add {SERVER[6]}/{BITS[6]} dev {name} nodad
            ip link set {name} up
            ip -n {name} addr add {CLIENT[4]}/{BITS[4]} dev eth0
            ip -n {name} addr add {CLIENT[6]}/{BITS[6]} dev eth0 nodad
            ip -n {name} link set lo up
            ip -n {name} link set eth0 up"""
        )

    def run(self, command: str, *, seconds: float = 60) -> Result:
        """Run *command* in the namespace; its status is not looked at."""
        return self.guest.run(f"{self.prefix} {command}", seconds=seconds)

    def connect(self, port: int, family: int = 4) -> Client:
        """A client that connects to *port* of the guest."""
        return Client(self, port, family)

    def fate(self, port: int, family: int = 4) -> Fate:
        """What becomes of a client of *port* that comes now; it is gone afterwards."""
        client = self.connect(port, family)
        try:
            return client.fate()
        finally:
            client.stop()

    def listen(self, port: int) -> None:
        """Start a server in the guest that reads whatever comes to *port*, of both families."""
        self.guest.spawn(f"server-{port}", f"while :; do nc -6 -l -p {port} >/dev/null; done")
        self.guest.wait(f"ss -Hltn sport = :{port} | grep -q .")
