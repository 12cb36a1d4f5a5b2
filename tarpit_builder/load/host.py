"""The host under attack, its attackers, and what it may do about them.

====================  ==================================  ====================================
where                 the host's side                     the attackers' side
====================  ==================================  ====================================
namespaces a0 … a3    h0 … h3, 10.40.N.1                  p0 … p3, 10.40.N.2
behind a0             a route for 10.96.0.0/12            frames from there, and no socket
the card eth0         10.1.0.1                            this process: a flood from anywhere
====================  ==================================  ====================================

10.40.N.9 is an address that nobody has: LaBrea takes those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tarpit_builder.errors import UserError
from tarpit_builder.proof import device
from tarpit_builder.proof.lab import Lab, Unavailable

NAMESPACES = tuple(f"a{number}" for number in range(4))
PORT = 22
CARD = "eth0"
PROGRAM = "tarpit-load"
SERVICE = "10.40.0.1"
FRAMES_FROM = "10.96.0.0/12"
FILES = 1 << 20  # the kernel's own limit for a process, fs.nr_open
BACKLOG = 4096
BURST = 1 << 20  # frames that wait in a processor's queue
LABREA_MAC = "00:00:0f:ff:ff:ff"
"""What LaBrea says is the hardware address of every address that it takes."""


class Host:
    """The guest of *lab*, with attackers at its sides and its service up."""

    def __init__(self, lab: Lab) -> None:
        """Set it up.

        :raises InfrastructureError: if the guest lacks something that this takes.
        """
        self.lab = lab
        self.guest = lab.guest
        commands = []
        for number, name in enumerate(NAMESPACES):
            commands += [
                f"link add h{number} type veth peer name p{number} netns {name}",
                f"addr add 10.40.{number}.1/24 dev h{number}",
                f"link set h{number} up",
            ]
            self.guest.run("ip", "netns", "add", name)
        self.guest.run("ip", "-batch", "-", stdin="\n".join(commands) + "\n")
        for number, name in enumerate(NAMESPACES):
            inside = [f"addr add 10.40.{number}.2/24 dev p{number}", f"link set p{number} up"]
            self.guest.run("ip", "-n", name, "-batch", "-", stdin="\n".join(inside) + "\n")
            self.guest.sysctl("net.ipv4.ip_local_port_range", "1024 65535", netns=name)
        self.guest.run("ip", "route", "add", FRAMES_FROM, "via", "10.40.0.2", "dev", "h0")
        self.guest.sysctl("net.core.somaxconn", BACKLOG)
        # Where attackers share a machine, their timers go off together, by the ten thousand; with
        # the usual 1000, most of what they send would not reach the host.
        self.guest.sysctl("net.core.netdev_max_backlog", BURST)
        # A host with a firewall tracks connections.
        lab.backend = "legacy"
        lab.rule(4, "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "INVALID")
        self.guest.run(PROGRAM, "serve")

    def mac(self, number: int = 0) -> str:
        """The hardware address of the host's side of a namespace of attackers."""
        return self.guest.read(f"/sys/class/net/h{number}/address").strip()

    def rule(self, *target: str) -> None:
        """Have a target deal with all that comes for the port."""
        self.lab.rule(4, "-A", "INPUT", "-p", "tcp", "--dport", str(PORT), "-j", *target)

    def forward(self) -> None:
        """Have the device deal with it, where it comes in.

        :raises Unavailable: if this kernel cannot.
        """
        self.lab.judge_device(judged=True)
        made = self.lab.device
        assert made
        made.make("tarpit0")
        for interface in (CARD, *(f"h{number}" for number in range(len(NAMESPACES)))):
            rule = f"add rule {device.TABLE} {interface} tcp dport {PORT} fwd to tarpit0"
            made.nft(*device.ingress(interface, interface), rule)

    def daemon(self, command: str) -> None:
        """Start a program that stays, with as many files as there can be.

        :raises Unavailable: if there is none of that name.
        """
        name = command.split(maxsplit=1)[0]
        if self.guest.attempt("sh", "-c", f"command -v {name}").status:
            raise Unavailable("no package of this suite")
        line = f"ulimit -n {FILES} && {command} > /run/{name}.log 2>&1 & echo $! >> /run/{name}.pid"
        self.guest.run("sh", "-c", line)
        self.guest.sleep(1)

    def stop(self, name: str) -> None:
        """End every program of that *name* that was started."""
        self.guest.run("sh", "-c", f"kill -9 $(cat /run/{name}.pid); : > /run/{name}.pid")
        self.guest.sleep(1)


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to deal with attackers: *arm* makes a host do so, and *disarm* ends what it began.

    Attackers behind namespace N connect to 10.40.N.*target*, and frames go to the hardware address
    *mac*, if it is not the host's.  A *program* sees each packet, or has a socket for each
    connection: it gets as many frames as there are sockets.  A *module* of somebody else's has to
    be built first.
    """

    name: str
    arm: Callable[[Host], None]
    disarm: Callable[[Host], None] = lambda _: None
    target: int = 1
    mac: str = ""
    program: bool = False
    module: bool = False

    def address(self, number: int) -> str:
        """Where attackers of that namespace connect to."""
        return f"10.40.{number}.{self.target}"


def _target(*target: str) -> Callable[[Host], None]:
    return lambda host: host.rule(*target)


def _peer(host: Host) -> None:
    host.lab.load_peer()
    host.rule("TARPIT")


def _endlessh(host: Host) -> None:
    host.daemon(f"endlessh -4 -p {PORT} -m {FILES}")


def _labrea(host: Host) -> None:
    # -z: yes, I know what this does; -o: stay, and log to the standard output; -r: take an address
    # that does not answer within that many seconds; -p: hold, within that many kB/s.
    for number in range(len(NAMESPACES)):
        own = f"-i h{number} -I 10.40.{number}.1 -E {host.mac(number)}"
        host.daemon(f"labrea -z -o -r 1 -p 1000000 -n 10.40.{number}.0/24 {own}")


CONTENDERS = (
    Contender("nothing listens", lambda _: None),
    Contender("DROP", _target("DROP")),
    Contender("REJECT", _target("REJECT", "--reject-with", "tcp-reset")),
    Contender("TARPIT", _target("TARPIT")),
    Contender("TARPIT --stall", _target("TARPIT", "--stall")),
    Contender("tarpit0", lambda host: host.forward()),
    Contender("TARPIT of xtables-addons", _peer, module=True),
    Contender("endlessh", _endlessh, lambda host: host.stop("endlessh"), program=True),
    Contender(
        "LaBrea",
        _labrea,
        lambda host: host.stop("labrea"),
        target=9,
        mac=LABREA_MAC,
        program=True,
    ),
)


def named(names: tuple[str, ...]) -> tuple[Contender, ...]:
    """Those of :data:`CONTENDERS`, all if none is named.

    :raises UserError: if there is none of that name.
    """
    known = {one.name: one for one in CONTENDERS}
    for name in names:
        if name not in known:
            raise UserError(f"--only {name}: no such contender", hint=", ".join(known))
    return tuple(known[name] for name in names) or CONTENDERS
