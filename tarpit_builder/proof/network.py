"""The guest's network, set up by ioctl: works alike on every kernel, with or without iproute2.

=======  ========================  ============================  =============================
card     the guest's addresses     its gateways (this process)   what lies behind
=======  ========================  ============================  =============================
eth0     10.1.0.1, 2001:db8:1::1   10.1.0.254, 2001:db8:1::fe    everything else (default)
eth1     10.2.0.1, 2001:db8:2::1   10.2.0.254, 2001:db8:2::fe    203.0.113.0/24,
                                                                 2001:db8:203::/64
=======  ========================  ============================  =============================

Not unique local addresses (fc00::/7): kernels before 2.6.23 take them for no addresses at all.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass

from tarpit_builder.proof.guest import Guest, GuestSocket

SIOCADDRT, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR = 0x890B, 0x8913, 0x8914, 0x8916
SIOCSIFNETMASK, SIOCSIFMTU, SIOCGIFINDEX = 0x891C, 0x8922, 0x8933
SIOCSARP = 0x8955
ATF_COM, ATF_PERM = 2, 4
IFF_UP = 1
RTF_UP, RTF_GATEWAY = 1, 2


@dataclass(frozen=True, slots=True)
class Side:
    """One card's addresses."""

    card: int
    guest4: str
    gateway4: str
    guest6: str
    gateway6: str

    def guest(self, family: int) -> str:
        """The guest's address."""
        return self.guest6 if family == 6 else self.guest4

    def gateway(self, family: int) -> str:
        """The neighbour through which everything comes and goes."""
        return self.gateway6 if family == 6 else self.gateway4


SIDES = (
    Side(0, "10.1.0.1", "10.1.0.254", "2001:db8:1::1", "2001:db8:1::fe"),
    Side(1, "10.2.0.1", "10.2.0.254", "2001:db8:2::1", "2001:db8:2::fe"),
)
BEHIND = (
    (("0.0.0.0", 0), ("::", 0)),  # noqa: S104  (a route, nothing is bound to it)
    (("203.0.113.0", 24), ("2001:db8:203::", 64)),
)
"""Networks behind each card's gateway, with the lengths of their prefixes."""
CLIENT = {4: "198.51.100.7", 6: "2001:db8:100::7"}
"""Where probes come from: behind eth0's gateway."""
UNUSED = {4: "203.0.113.9", 6: "2001:db8:203::9"}
"""An address of the subnet behind eth1, which nobody uses."""


def _name(interface: str) -> bytes:
    return interface.encode().ljust(16, b"\0")


class Configurator:
    """Interfaces, addresses and routes of one namespace."""

    def __init__(self, guest: Guest, *, netns: str = "") -> None:
        self._guest = guest
        self._order = guest.c.mark
        self._four = guest.socket(socket.AF_INET, socket.SOCK_DGRAM, netns=netns)
        self._six: GuestSocket | None = None
        try:
            self._six = guest.socket(socket.AF_INET6, socket.SOCK_DGRAM, netns=netns)
        except OSError as error:
            if error.errno != errno.EAFNOSUPPORT:
                raise

    @property
    def has_ipv6(self) -> bool:
        """Whether this kernel has IPv6 at all."""
        return self._six is not None

    def index(self, interface: str) -> int:
        """Number of *interface*."""
        answer = self._four.ioctl(SIOCGIFINDEX, _name(interface) + bytes(24))
        return int(struct.unpack_from(f"{self._order}i", answer, 16)[0])

    def up(self, interface: str, *, up: bool = True) -> None:
        """Bring *interface* up, or down."""
        answer = self._four.ioctl(SIOCGIFFLAGS, _name(interface) + bytes(24))
        flags = struct.unpack_from(f"{self._order}H", answer, 16)[0]
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        self._four.ioctl(SIOCSIFFLAGS, _name(interface) + struct.pack(f"{self._order}H22x", flags))

    def mtu(self, interface: str, size: int) -> None:
        """Set the largest packet that *interface* carries."""
        self._four.ioctl(SIOCSIFMTU, _name(interface) + struct.pack(f"{self._order}i20x", size))

    def address(self, interface: str, address: str, prefix: int) -> None:
        """Give *interface* an address."""
        if ":" in address:
            assert self._six
            raw = socket.inet_pton(socket.AF_INET6, address)
            request = raw + struct.pack(f"{self._order}Ii", prefix, self.index(interface))
            self._six.ioctl(SIOCSIFADDR, request)
            return
        mask = socket.inet_ntoa(struct.pack(">I", 0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF))
        for what, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, mask)):
            self._four.ioctl(what, _name(interface) + self._inet(value) + bytes(8))

    def neighbour(self, interface: str, address: str, mac: str) -> None:
        """Tell *interface* once and for all who has an IPv4 *address*."""
        hardware = (
            struct.pack(f"{self._order}H", 1) + bytes.fromhex(mac.replace(":", "")) + bytes(8)
        )
        request = (
            self._inet(address) + hardware + struct.pack(f"{self._order}I", ATF_COM | ATF_PERM)
        )
        self._four.ioctl(SIOCSARP, request + self._inet("255.255.255.255") + _name(interface))

    def _inet(self, address: str) -> bytes:
        return self._guest.sockaddr(address, 0)

    def route(self, network: str, prefix: int, gateway: str, interface: str) -> None:
        """Send what is for *network* to *gateway*."""
        flags = RTF_UP | RTF_GATEWAY
        wide = self._guest.c.bits == 64
        if ":" in network:
            assert self._six
            addresses = [socket.inet_pton(socket.AF_INET6, a) for a in (network, "::", gateway)]
            long = "4xQ" if wide else "I"  # struct in6_rtmsg
            rest = struct.pack(
                f"{self._order}IHHI{long}Ii", 0, prefix, 0, 1, 0, flags, self.index(interface)
            )
            self._six.ioctl(SIOCADDRT, b"".join(addresses) + rest)
            return
        mask = socket.inet_ntoa(struct.pack(">I", 0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF))
        body = b"".join(self._inet(value) for value in (network, gateway, mask))
        if wide:
            request = bytes(8) + body + struct.pack(f"{self._order}H62x", flags)
        else:
            request = bytes(4) + body + struct.pack(f"{self._order}H34x", flags)
        self._four.ioctl(SIOCADDRT, request)


def configure(guest: Guest) -> Configurator:
    """Set the guest up as the module's table says."""
    net = Configurator(guest)
    guest.sysctl("net.ipv4.ip_forward", 1)
    for which in ("all", "default"):
        guest.sysctl(f"net.ipv4.conf.{which}.rp_filter", 0)
    if net.has_ipv6:
        for which in ("all", "default"):
            _quieten(guest, which)
        guest.sysctl("net.ipv6.conf.all.forwarding", 1)
    net.up("lo")
    for side in SIDES[: len(guest.machine.cards)]:
        _side(guest, net, side)
    return net


def _quieten(guest: Guest, interface: str) -> None:
    """No duplicate address detection (it takes seconds), no talk about routers."""
    for name in ("accept_dad", "dad_transmits", "router_solicitations", "accept_ra"):
        with suppress(FileNotFoundError):  # accept_dad is younger than 2.6.19
            guest.sysctl(f"net.ipv6.conf.{interface}.{name}", 0)


def _side(guest: Guest, net: Configurator, side: Side) -> None:
    interface = f"eth{side.card}"
    if net.has_ipv6:
        _quieten(guest, interface)  # it was registered before the defaults were set
    net.up(interface)
    for address, length in ((side.guest4, 24), (side.guest6, 64)):
        if length == 24 or net.has_ipv6:
            net.address(interface, address, length)
    for network, length in BEHIND[side.card]:
        family = 6 if ":" in network else 4
        if family == 4 or net.has_ipv6:
            net.route(network, length, side.gateway(family), interface)
