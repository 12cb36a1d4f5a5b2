"""A guest with all ways to the module open: both kinds of iptables, the device, a bridge, tunnels.

Frames come in by *ports*: taps, and the first card, whose other end is the second one, in a
namespace of its own.  TCP ports, addresses and hardware addresses are those that
``containers/proof/fuzz.c`` knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress

from tarpit_builder.errors import InfrastructureError
from tarpit_builder.proof import device
from tarpit_builder.proof.lab import MODES, Lab

PORT = 1000
PORTS = ("tap0", "tap1", "tap2", "wire3")
TUNNELLED, BRIDGED, IN_PIECES, WIRE = PORTS
SLOWER = 30  # times, is the wire
VXLAN = "vxlan9"
CABLE = "cable"  # the namespace with its other end
CARD = "eth0"
CHAINS = ("INPUT", "FORWARD")
KCOV = "/sys/kernel/debug/kcov"
DONE = re.compile(r"^done (\d+) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
WAYS = {"legacy": 0, "nft": 1, "device": 2}
UNLOADS = "/run/unloads"
CHAOS = """
trap 'end=1' TERM
unload() {
	rmmod tarpit
	for try in 1 2 3 4 5 6 7 8 9 10; do
		rmmod xt_TARPIT && echo >> /run/unloads && return
		sleep 0.1
	done
}
while [ -z "$end" ]; do
	for name in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do $name -F; done
	nft flush table netdev tarpit
	unload
	. /run/load
	for name in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do
		$name-restore < /run/rules.$name
	done
	nft -f /run/device.nft
	ip netns add gone; ip link add away type dummy; ip link set away netns gone
	ip netns exec gone iptables-legacy -A INPUT -p tcp -j TARPIT
	ip netns exec gone ip6tables-nft -A FORWARD -p tcp -j TARPIT --stall
	ip link add gone0 type tarpit; ip link set gone0 netns gone
	ip netns del gone
	nft flush table netdev tarpit; nft -f /run/device.nft
	ip link set $1 nomaster; ip link set $1 master br9
	ip link set tarpit-reset mtu 1280; ip link set tarpit-reset down; ip link set tarpit-reset up
	ethtool --set-priv-flags tarpit-stall honeypot on
	ethtool --set-priv-flags tarpit-stall stall on
	cat /proc/net/stat/xt_TARPIT
done > /dev/null 2>&1
"""
"""What a host may do while packets come in: rules, namespaces, devices and modules go and come
again.  At its end all is there."""


def hardware(number: int) -> str:
    """The hardware address of the host's side of a port."""
    return f"02:00:00:00:0a:{number:02x}"


@dataclass(frozen=True, slots=True)
class FuzzRun:
    """What came of a run of the fuzzer: *old* genomes still reach something of their own.

    *wrong* maps genomes to what is wrong, again and again, *once* counts those that were not wrong
    a second time; *packets* are frames sent.
    """

    cases: int = 0
    packets: int = 0
    replies: int = 0
    places: int = 0
    edges: int = 0
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    wrong: dict[str, str] = field(default_factory=dict)
    once: int = 0

    @classmethod
    def parse(cls, text: str) -> FuzzRun:
        """Read what the fuzzer printed.

        :raises InfrastructureError: if it did not come to its end.
        """
        end = DONE.search(text)
        if end is None:
            raise InfrastructureError(
                "the fuzzer in the guest ended early",
                hint="--log FILE keeps the console; was it out of memory?",
            )
        words = [line.split(maxsplit=2) for line in text.splitlines()]
        cases, packets, replies, places, edges = map(int, end.groups())
        return cls(
            cases,
            packets,
            replies,
            places,
            edges,
            old=tuple(word[1] for word in words if word[0] == "old"),
            new=tuple(word[1] for word in words if word[0] == "new"),
            once=sum(word[0] == "once" for word in words),
            wrong={word[1]: word[2].strip() for word in words if word[0] == "wrong"},
        )


class World:
    """The guest of *lab*, set up."""

    def __init__(self, lab: Lab) -> None:
        """Set it up.

        :raises InfrastructureError: if the guest lacks something that this takes.
        """
        self.lab = lab
        self.guest = lab.guest
        self.has_device = self._tracks = False
        self.guided = not self.guest.attempt("sh", "-c", f"test -e {KCOV}").status
        self._links()
        self.has_tunnels = self._tunnels()
        for backend in ("legacy", "nft"):
            self._rules(backend)
        self._silence()
        self._devices()
        self._reload()
        for program in ("iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"):
            self.guest.write(f"/run/rules.{program}", self.guest.run(f"{program}-save"))

    def _ip(self, *commands: str) -> None:
        for command in commands:
            self.guest.run("ip", *command.split())

    def _links(self) -> None:
        guest = self.guest
        for module in ("tun", "br_netfilter"):
            guest.attempt("modprobe", module)  # where they are modules
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            guest.sysctl(name, 1)
        self._ip("link add beyond type dummy", "link set beyond up")
        self._ip("route add 10.10.0.0/16 dev beyond", "-6 route add fd10::/16 dev beyond")
        self._ip("link add br9 type bridge", "link set br9 up")
        for number, port in enumerate(PORTS):
            here = self._wire() if port == WIRE else port
            if port != WIRE:
                self._ip(f"tuntap add dev {port} mode tap vnet_hdr")
            self._ip(f"link set {here} address {hardware(number)} up")
            if port == BRIDGED:
                here = "br9"
                self._ip(f"link set {port} master br9", "link add port9 type dummy")
                self._ip("link set port9 master br9", "link set port9 up")
            else:
                self._ip(f"link add link {here} name {here}.5 type vlan id 5")
                self._ip(f"link set {here}.5 up")
            mac = f"02:00:00:00:09:{number:02x}"
            self._ip(
                f"address add 10.9.{number}.1/24 brd + dev {here}",
                f"-6 address add fd09:{number}::1/64 dev {here} nodad",
                f"neigh add 10.9.{number}.2 lladdr {mac} dev {here} nud permanent",
                f"-6 neigh add fd09:{number}::2 lladdr {mac} dev {here} nud permanent",
                f"route add 10.{64 + number}.0.0/16 via 10.9.{number}.2",
                f"-6 route add fd64:{number}::/32 via fd09:{number}::2",
            )
        for name in ("iptables", "ip6tables"):
            guest.sysctl(f"net.bridge.bridge-nf-call-{name}", 1)

    def _wire(self) -> str:
        """Have the cards be each other's far side; the one that is this host's."""
        here, there = self.lab.wires[:2]
        here.join(there)
        self._ip(
            f"netns add {CABLE}",
            f"link set eth{there.index} netns {CABLE}",
            f"-n {CABLE} link set eth{there.index} name {WIRE} addrgenmode none",
            f"-n {CABLE} link set {WIRE} promisc on up",  # or the card takes no answers
            f"link set {CARD} promisc on down",
            f"address flush dev {CARD}",
        )
        return CARD

    def _tunnels(self) -> bool:
        """One of each kind that ends here; whether the kernel has them all."""
        number = PORTS.index(TUNNELLED)
        local = f"local 10.9.{number}.1"
        links = (
            f"gre9 type gre {local} ttl 64",
            f"sit9 type sit mode any {local} ttl 64",
            f"{VXLAN} address {hardware(number)} type vxlan id {number} dstport 4789 {local}",
        )
        made = [not self.guest.attempt("ip", "link", "add", *link.split()).status for link in links]
        for link in compress(links, made):
            self._ip(f"link set {link.split()[0]} up")
        return all(made)

    def _rules(self, backend: str) -> None:
        """One rule for each mode."""
        lab, lab.backend = self.lab, backend
        first = PORT + 10 * WAYS[backend]
        for family in lab.families:
            for chain in CHAINS:
                for number, mode in enumerate(MODES):
                    lab.tarpit(
                        "" if mode == "tarpit" else mode,
                        chain=chain,
                        match=("--dport", str(first + number)),
                        families=(family,),
                    )

    def _silence(self) -> None:
        """Drop all other TCP, which the host itself would answer.

        The security table comes after the filter tables of both kinds.
        """
        self.lab.backend = "legacy"
        for family in self.lab.families:
            for chain in CHAINS:
                self.lab.rule(family, "-t", "security", "-A", chain, "-p", "tcp", "-j", "DROP")

    def _devices(self) -> None:
        guest = self.guest
        if not device.load(guest, self.lab.tools.device) or not device.can_forward(guest):
            return
        made = device.Device(guest)
        for mode in MODES:
            made.make(device.name_of(mode), mode)
        rules: list[str] = []
        for number, port in enumerate(PORTS):
            questions = (
                f"arp daddr ip 10.9.{number}.128/25",
                f"meta l4proto ipv6-icmp @th,64,112 0xfd09{number:04x}{0:020x}",
            )
            rules += self._forward(made, port, CARD if port == WIRE else port, questions)
        if self.has_tunnels:
            rules += self._forward(made, VXLAN, VXLAN)
        guest.write("/run/device.nft", "\n".join(rules) + "\n")
        guest.run("nft", "-f", "/run/device.nft")
        self.has_device = True

    @staticmethod
    def _forward(
        made: device.Device, chain: str, link: str, questions: tuple[str, ...] = ()
    ) -> list[str]:
        """The rules for what comes in by *link*, in a *chain* of its own."""
        made.nft(*device.ingress(f"in-{chain}", link))
        ports = {PORT + 10 * WAYS["device"] + n: mode for n, mode in enumerate(MODES)}
        wanted = {f"tcp dport {port}": mode for port, mode in ports.items()}
        wanted |= dict.fromkeys(questions, "tarpit")
        return [
            f"add rule {device.TABLE} in-{chain} {what} fwd to {device.name_of(mode)}"
            for what, mode in wanted.items()
        ]

    def _reload(self) -> None:
        """Write down how the modules come back after they were unloaded, with the devices."""
        tools = self.lab.tools
        commands: list[tuple[str, ...]] = [("modprobe", tools.file or self.lab.module)]
        if self.has_device:
            commands.append(device.loading(self.guest, tools.device))
            for mode in MODES:
                commands += device.making(device.name_of(mode), mode)
        self.guest.write("/run/load", "".join(f"{' '.join(each)}\n" for each in commands))

    def unloads(self) -> int:
        """How often the target's module was unloaded in the last chaos."""
        return self.guest.read(UNLOADS).count("\n")

    def track(self, *, on: bool) -> None:
        """Have connections tracked, or not."""
        if on == self._tracks:
            return
        self._tracks = on
        self.lab.backend = "legacy"
        for family in self.lab.families:
            state = ("-m", "conntrack", "--ctstate", "INVALID")
            self.lab.rule(family, "-A" if on else "-D", "OUTPUT", *state)

    def memory(self) -> int:
        """How many kB the kernel has in small pieces and for each processor (/proc/meminfo)."""
        sizes = re.findall(r"^(?:Slab|Percpu): +(\d+) kB$", self.guest.read("/proc/meminfo"), re.M)
        return sum(map(int, sizes))

    def tracked(self) -> list[str]:
        """The TCP connections that are tracked; none should be."""
        listed = [
            self.guest.attempt("conntrack", "-L", "-f", family, "-p", "tcp").stdout
            for family in ("ipv4", "ipv6")
        ]
        return "".join(listed).splitlines()

    def run(
        self,
        genomes: Sequence[str],
        *arguments: str,
        port: str = PORTS[0],
        seconds: float = 600.0,
    ) -> FuzzRun:
        """Run the fuzzer on *port*: each of *genomes* is a case, and more are made of them.

        :raises InfrastructureError: if it ends early.
        :raises MachineDied: if the guest does not survive it.
        """
        done = self.guest.attempt(
            *self.command(port, *arguments), stdin=self.lines(genomes), seconds=seconds
        )
        return FuzzRun.parse(done.stdout)

    def command(self, port: str, *arguments: str) -> tuple[str, ...]:
        """The fuzzer on *port*."""
        where = {
            TUNNELLED: ["--tunnels"] if self.has_tunnels else [],
            BRIDGED: ["--bridge"],
            IN_PIECES: ["--pieces"],
            WIRE: ["--wire"],
        }
        more = [*where[port], *([] if self.has_device else ["--no-device"])]
        inside = ("ip", "netns", "exec", CABLE) if port == WIRE else ()
        return (*inside, "tarpit-fuzz", port, *arguments, *more)

    @staticmethod
    def lines(genomes: Sequence[str]) -> str:
        """What the fuzzer reads."""
        return "".join(f"{one}\n" for one in genomes)

    def everywhere(
        self,
        genomes: Sequence[str],
        *arguments: str,
        count: int,
        chaos: bool,
        seconds: float,
    ) -> list[FuzzRun]:
        """The fuzzer on all ports at once, with *count* more cases for each that is no slower than
        others; with *chaos*, while the host does what hosts do.

        :raises InfrastructureError: if one ends early.
        :raises MachineDied: if the guest does not survive it.
        """
        guest = self.guest
        guest.write("/run/genomes", self.lines(genomes))
        guest.write("/run/chaos", CHAOS)
        guest.write(UNLOADS, "")
        jobs = []
        for port in PORTS:
            cases = count // SLOWER if port == WIRE else count
            command = " ".join(self.command(port, *arguments, "--count", str(cases)))
            jobs.append(f'{command} < /run/genomes > /run/{port}.out 2>&1 & jobs="$jobs $!"')
        begin, end = (
            (f"sh /run/chaos {BRIDGED} & chaos=$!", "kill $chaos; wait $chaos")
            if chaos
            else ("", "")
        )
        guest.attempt("sh", "-c", "\n".join((begin, *jobs, "wait $jobs", end)), seconds=seconds)
        return [FuzzRun.parse(guest.read(f"/run/{port}.out")) for port in PORTS]
