"""Contract section 1: held, really held — in the guest's own time.

QEMU counts instructions and, whenever the guest has nothing to do, moves its clock on to the
next timer (``-icount …,sleep=off``).  Half an hour of a client's patience passes in seconds, and
its stack cannot tell.  The host's time is not the guest's here, so clients run in batches that
the agent carries out on its own.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tarpit_builder.proof.guest import ETH_P_ALL, AgentCall, Op, Reply
from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.namespaces import Pair
from tarpit_builder.proof.network import Configurator
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.report import Figure
from tarpit_builder.proof.segment import Flow, Segment, frame, parse
from tarpit_builder.versions import KernelVersion

held = Group(
    "held", "clients are held", order=70, icount="shift=3,sleep=off", cards=0, backends=("legacy",)
)

PORT = 25
WATCHED = 1800  # seconds of the guest's time
INTERVAL = 10
FIN_WAIT_1 = 4
FIN_WAIT_2 = 5
FIN_TIMEOUT = 60  # seconds: net.ipv4.tcp_fin_timeout
RTO_MIN, RTO_MAX = 0.2, 120.0  # seconds
LATENCY = "20ms"
PATIENT = KernelVersion.parse("5.10")
RETRIES = "net.ipv4.tcp_retries2"
"""After how many retransmissions a client gives up."""
STAMPS = "net.ipv4.tcp_timestamps"
TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT = 4, 5, 6, 18


@dataclass(slots=True)
class Client:
    """A client, what it does once it is connected, and what became of it.

    *timeout* is how long its data may wait for an acknowledgement (TCP_USER_TIMEOUT), in seconds;
    *states* is its TCP state at each :data:`INTERVAL`, 0 when the socket was gone; *rto* is its
    retransmission time-out once connected, in seconds.
    """

    label: str
    steps: list[tuple[Op, tuple[int | bytes, ...]]] = field(default_factory=list)
    keepalive: bool = False
    at_once: bool = False
    timeout: int = 0
    slot: int = 0
    port: int = 0
    rto: float = 0.0
    states: list[int] = field(default_factory=list)

    @property
    def patience(self) -> float:
        """Seconds that it probes a window that stays shut after it was closed.

        tcp_probe_timer() in net/ipv4/tcp_timer.c: the interval doubles, and the first one that
        would be longer than TCP_RTO_MAX is the last.
        """
        interval, passed = self.rto or RTO_MIN, 0.0
        while interval < RTO_MAX:
            passed += interval
            interval *= 2
        return passed + RTO_MAX

    @property
    def lasted(self) -> int:
        """Seconds until the socket was gone, or until nobody watched any more."""
        gone = [n for n, state in enumerate(self.states) if not state]
        return (gone[0] if gone else len(self.states)) * INTERVAL


def send(count: int) -> tuple[Op, tuple[int | bytes, ...]]:
    """A client's step: write that many bytes."""
    return Op.SEND, (b"x" * count, 0, b"")


SHUTDOWN: tuple[Op, tuple[int | bytes, ...]] = (Op.SHUTDOWN, (socket.SHUT_WR,))
CLOSE: tuple[Op, tuple[int | bytes, ...]] = (Op.CLOSE, ())


class RealClients:
    """A client's host and the tarpit, with or without a second network namespace."""

    def __init__(self, lab: Lab, family: int, mode: str = "") -> None:
        self.lab = lab
        self.family = family
        self.mode = mode
        self._pair: Pair | None = None

    def __enter__(self) -> RealClients:
        try:
            self._pair = Pair(self.lab)
            self._pair.__enter__()
        except Unavailable:
            self._pair = None
        interface = self._pair.here if self._pair else "lo"
        match = ("-i", interface, "--dport", str(PORT))
        self.lab.tarpit(self.mode, match=match, families=(self.family,))
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.clear()
        if self._pair:
            self._pair.__exit__()

    @property
    def netns(self) -> str:
        """Where the clients live."""
        return self._pair.netns if self._pair else ""

    @property
    def server(self) -> bytes:
        """Where they connect to."""
        if self._pair:
            return self.lab.guest.sockaddr(self._pair.address(self.family), PORT)
        return self.lab.guest.sockaddr("::1" if self.family == 6 else "127.0.0.1", PORT)

    def delay(self) -> None:
        """Put a distance between client and tarpit."""
        if not self._pair or not self.lab.has_program("tc"):
            raise Unavailable("needs a second namespace and tc")
        command = f"qdisc add dev {self._pair.there} root netem delay {LATENCY}"
        if self.lab.guest.attempt("tc", "-n", self.netns, *command.split()).status:
            raise Unavailable("this kernel has no netem")

    @contextmanager
    def sysctl(self, name: str, value: int) -> Iterator[None]:
        """With another setting for the clients."""
        guest = self.lab.guest
        saved = guest.read("/proc/sys/" + name.replace(".", "/"), netns=self.netns)
        guest.sysctl(name, value, netns=self.netns)
        try:
            yield
        finally:
            guest.sysctl(name, saved.strip(), netns=self.netns)

    def watch(self, clients: Iterable[Client], seconds: int) -> None:
        """Connect *clients*, let them act, and follow their sockets for *seconds*.

        :raises Deviation: if one cannot connect.
        """
        clients = list(clients)
        requests: list[AgentCall] = []
        for client in clients:
            self._prepare(client)
            requests.append(AgentCall(Op.CONNECT, (client.slot, self.server, 5000), seconds=5))
            requests.append(AgentCall(Op.GETSOCKNAME, (client.slot,)))
            requests += self._steps(client) if client.at_once else []
        requests.append(AgentCall(Op.SLEEP, (1000,), seconds=1))
        for client in clients:
            if not client.at_once:
                info = (client.slot, socket.IPPROTO_TCP, socket.TCP_INFO, b"", 104)
                requests += [AgentCall(Op.GETSOCKOPT, info), *self._steps(client)]
        table = "/proc/net/tcp6" if self.family == 6 else "/proc/net/tcp"
        for _ in range(seconds // INTERVAL):
            requests.append(AgentCall(Op.SLEEP, (INTERVAL * 1000,), seconds=2))
            requests.append(AgentCall(Op.READ, (table, 1 << 20), netns=self.netns))
        replies = self.lab.guest.batch(requests)
        self._evaluate(clients, list(zip(requests, replies, strict=True)))
        mode = self.mode or "tarpit"
        self.lab.figures += [
            Figure("held", one.label, mode, one.lasted, "s", limit=seconds, family=self.family)
            for one in clients
        ]
        for client in clients:
            self.lab.guest.submit(AgentCall(Op.CLOSE, (client.slot,)))

    def _prepare(self, client: Client) -> None:
        kind = socket.AF_INET6 if self.family == 6 else socket.AF_INET
        sock = self.lab.guest.socket(kind, socket.SOCK_STREAM, netns=self.netns)
        client.slot = sock.slot
        if client.keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_KEEPIDLE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_KEEPINTVL, 1)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_KEEPCNT, 3)
        if client.timeout:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 1000 * client.timeout)

    def _evaluate(self, clients: list[Client], done: list[tuple[AgentCall, Reply]]) -> None:
        connected = [reply for request, reply in done if request.op is Op.CONNECT]
        names = [reply for request, reply in done if request.op is Op.GETSOCKNAME]
        for client, connection, name in zip(clients, connected, names, strict=True):
            if connection.errno:
                raise Deviation(f"{client.label}: connect() failed, errno {connection.errno}")
            address = name.results[0]
            assert isinstance(address, bytes)
            client.port = int.from_bytes(address[2:4], "big")
        asked: dict[object, Client] = {client.slot: client for client in clients}
        for request, reply in done:
            if request.op is Op.GETSOCKOPT:
                (info,) = reply.results
                assert isinstance(info, bytes)
                rto = int.from_bytes(info[8:12], self.lab.guest.c.order)
                asked[request.args[0]].rto = rto / 1e6
            if request.op is Op.READ:
                text = reply.results[0]
                assert isinstance(text, bytes)
                states = socket_states(text.decode())
                for client in clients:
                    client.states.append(states.get(client.port, 0))

    @staticmethod
    def _steps(client: Client) -> list[AgentCall]:
        return [AgentCall(op, (client.slot, *arguments)) for op, arguments in client.steps]


def socket_states(table: str) -> dict[int, int]:
    """State by local port, from /proc/net/tcp."""
    lines = (line.split() for line in table.splitlines()[1:])
    return {int(line[1].rsplit(":", 1)[1], 16): int(line[3], 16) for line in lines}


def live_clients() -> list[Client]:
    """Clients that want their connection to live."""
    return [
        Client("idle with keepalive (3 probes, 1 s)", keepalive=True),
        Client("one byte pending", [send(1)]),
        Client("100 bytes pending", [send(100)]),
        Client("bulk pending", [send(4000), send(4000), send(4000)]),
        Client("data pending and keepalive", [send(100)], keepalive=True),
        Client("data written at once", [send(3)], at_once=True),
        Client("bulk written at once", [send(4000), send(4000)], at_once=True),
        Client("after shutdown(SHUT_WR)", [SHUTDOWN]),
        Client("data pending, then shutdown(SHUT_WR)", [send(100), SHUTDOWN]),
        Client("data and shutdown(SHUT_WR) at once", [send(100), SHUTDOWN], at_once=True),
        Client("shutdown(SHUT_WR) at once", [SHUTDOWN], at_once=True),
        Client("3 bytes and shutdown(SHUT_WR) at once", [send(3), SHUTDOWN], at_once=True),
    ]


def expect_held(clients: Iterable[Client], *, in_flight: int = WATCHED) -> None:
    """Nobody lost a connection; of clients that act at once, *in_flight* seconds are asked."""
    lost = [
        f"{client.label}: gone after {client.lasted} s"
        for client in clients
        if client.lasted < (in_flight if client.at_once else WATCHED)
    ]
    if lost:
        raise Deviation("\n".join(lost))


@held.check(f"live clients are held for {WATCHED // 60} minutes of their time")
def live(lab: Lab, family: int) -> None:
    with RealClients(lab, family) as world:
        clients = live_clients()
        world.watch(clients, WATCHED)
        expect_held(clients)


@held.check("so are clients far away, whose first data crosses our window 0")
def distant(lab: Lab, family: int) -> None:
    with RealClients(lab, family) as world:
        world.delay()
        clients = live_clients()
        world.watch(clients, WATCHED)
        # Before tcp_rtx_probe0_timed_out() of 6.5, which stable releases from 5.10 on have got,
        # tcp_retransmit_timer() ends what was in flight when the window shut, once two answers
        # are farther apart than TCP_RTO_MAX; and it waits that long itself.
        expect_held(clients, in_flight=WATCHED if lab.kernel >= PATIENT else int(RTO_MAX))


@held.check("so are clients that give up early (tcp_retries2=4)")
def impatient(lab: Lab, family: int) -> None:
    with RealClients(lab, family) as world, world.sysctl(RETRIES, 4):
        clients = live_clients()
        world.watch(clients, WATCHED)
        expect_held(clients)


@held.check("one SYN gets one reply, however long one waits for another", section="1")
def once(lab: Lab, family: int) -> None:
    with Pair(lab) as pair:
        lab.tarpit(families=(family,))
        there = Configurator(lab.guest, netns=pair.netns)
        tap = lab.guest.socket(
            socket.AF_PACKET, socket.SOCK_RAW, lab.guest.htons(ETH_P_ALL), netns=pair.netns
        )
        tap.bind(lab.guest.packet_address(there.index(pair.there)))
        mac = lab.guest.read(f"/sys/class/net/{pair.here}/address").strip()
        syn = Segment(Flow(pair.other(family), pair.address(family), 1234, PORT), "S", seq=1)
        # Its own host answers the SYN+ACK with a RST; that must not be what ends it.
        lab.rule(family, "-I", "INPUT", "-p", "tcp", "--tcp-flags", "RST", "RST", "-j", "DROP")
        tap.send(frame(syn.packet(), src=mac, dst=mac))
        lab.guest.sleep(200)
        replies = [s for s in map(parse, tap.drain()) if s and s.flow == syn.flow.back]
        tap.close()
    if len(replies) != 1:
        raise Deviation(f"{len(replies)} replies within 200 s", [syn, *replies])


@held.check("a client that closed with its FIN behind window 0 stays in FIN-WAIT-1 for 300 s")
def closed(lab: Lab, family: int) -> None:
    with RealClients(lab, family) as world:
        clients = [
            Client("100 bytes, then close()", [send(100), CLOSE]),
            Client("bulk, then close()", [send(4000), send(4000), CLOSE]),
        ]
        world.watch(clients, 600)
        judge_closed(lab, family, clients, least=300)


@held.check("a client whose FIN crossed our first window 0 stays for about 108 s")
def crossed(lab: Lab, family: int) -> None:
    with RealClients(lab, family) as world:
        world.delay()
        clients = [
            Client("close() at once", [CLOSE], at_once=True),
            Client("3 bytes, then close(), at once", [send(3), CLOSE], at_once=True),
        ]
        world.watch(clients, 300)
        judge_closed(lab, family, clients, least=100)


def stalled_clients() -> list[Client]:
    """Clients that --stall holds for as long as they like."""
    bulk = [send(60000), send(60000)]
    return [
        Client("idle with keepalive (3 probes, 1 s)", keepalive=True),
        Client("a request that waits for its answer", [send(100)]),
        Client("a request at once", [send(100)], at_once=True),
        Client("a request, then keepalive (3 probes, 1 s)", [send(100)], keepalive=True),
        Client("an odd request, then keepalive", [send(101)], keepalive=True),
        Client("bulk", bulk),
        Client("bulk at once", bulk, at_once=True),
        Client("bulk and keepalive", bulk, keepalive=True),
        Client("shutdown(SHUT_WR)", [SHUTDOWN]),
        Client("a request, then shutdown(SHUT_WR)", [send(100), SHUTDOWN]),
        Client("bulk, then shutdown(SHUT_WR)", [*bulk, SHUTDOWN]),
        Client("a request and shutdown(SHUT_WR) at once", [send(100), SHUTDOWN], at_once=True),
    ]


@held.check(f"--stall holds live clients for {WATCHED // 60} minutes of their time", section="2")
def stall_live(lab: Lab, family: int) -> None:
    with RealClients(lab, family, "stall") as world:
        clients = stalled_clients()
        world.watch(clients, WATCHED)
        expect_held(clients)


@held.check("so does it clients far away that give up early (tcp_retries2=4)", section="2")
def stall_distant(lab: Lab, family: int) -> None:
    with RealClients(lab, family, "stall") as world:
        world.delay()
        clients = stalled_clients()
        with world.sysctl(RETRIES, 4):
            world.watch(clients, WATCHED)
        expect_held(clients)


@held.check("a client that closed stays as long as with --tarpit", section="2")
def stall_closed(lab: Lab, family: int) -> None:
    with RealClients(lab, family, "stall") as world:
        bulk = [send(60000), send(60000)]
        clients = [
            Client("--stall: close()", [CLOSE]),
            Client("--stall: a request, then close()", [send(100), CLOSE]),
            Client("--stall: bulk, then close()", [*bulk, CLOSE]),
        ]
        world.watch(clients, 600)
        judge_closed(lab, family, clients, least=100)


@held.check("how long it holds a client whose keepalive has no timestamp is noted", section="2")
def stall_unstamped(lab: Lab, family: int) -> None:
    with RealClients(lab, family, "stall") as world, world.sysctl(STAMPS, 0):
        # Nothing tells its keepalive from an ACK.
        without = "no timestamps: a request"
        idle = Client(f"{without}, then keepalive (1 s, 3 probes)", [send(100)], keepalive=True)
        others = [Client(f"{without} that waits for its answer", [send(100)])]
        world.watch([idle, *others], 600)
        lab.notes.append(f"IPv{family}, --stall, {idle.label}: {idle.lasted} s")
        lost = [client.label for client in others if client.lasted < 600]
        if lost:
            raise Deviation(f"gone: {lost}")


@held.check(
    "--honeypot keeps who waits for its answer, and a client that closed until FIN-WAIT-2 ends",
    section="2",
)
def honeypot(lab: Lab, family: int) -> None:
    with RealClients(lab, family, "honeypot") as world:
        bulk = [send(60000), send(60000)]
        waiting = [
            Client("idle"),
            Client("a request that waits for its answer", [send(100)]),
            Client("bulk", bulk),
            Client("a request, then shutdown(SHUT_WR)", [send(100), SHUTDOWN]),
        ]
        # A bare ACK gets no answer (contract section 2), and a keepalive is one.
        idle = [
            Client("idle with keepalive (3 probes, 1 s)", keepalive=True),
            Client("a request, then keepalive (3 probes, 1 s)", [send(100)], keepalive=True),
        ]
        closed = [
            Client("close()", [CLOSE]),
            Client("a request, then close()", [send(100), CLOSE]),
            Client("bulk, then close()", [*bulk, CLOSE]),
        ]
        world.watch([*waiting, *idle, *closed], WATCHED)
        expect_held(waiting)
        wrong = [
            f"{client.label}: gone after {client.lasted} s, in states {set(client.states)}"
            for client in closed
            if abs(client.lasted - FIN_TIMEOUT) > INTERVAL or set(client.states) - {FIN_WAIT_2, 0}
        ]
        if wrong:
            raise Deviation("\n".join(wrong))


@held.check("a client's TCP_USER_TIMEOUT ends it where its data is not taken", section="1")
def limited(lab: Lab, family: int) -> None:
    if lab.kernel < PATIENT:
        raise Unavailable("before 5.10 a client that probes may not look at it")
    limit = 60
    for mode, bulk_waits in (("tarpit", True), ("honeypot", False), ("stall", True)):
        small = Client(f"TCP_USER_TIMEOUT {limit} s, a request", [send(100)], timeout=limit)
        bulk = [send(60000), send(60000)]
        large = Client(f"TCP_USER_TIMEOUT {limit} s, bulk", bulk, timeout=limit)
        with RealClients(lab, family, mode) as world:
            world.watch([small, large], 600)
        for client, waits in ((small, mode == "tarpit"), (large, bulk_waits)):
            least, most = (limit, 2 * limit) if waits else (600, 600)
            if not least <= client.lasted <= most:
                raise Deviation(f"--{mode}, {client.label}: gone after {client.lasted} s")


def judge_closed(lab: Lab, family: int, clients: Iterable[Client], *, least: float) -> None:
    """Closed connections last, in FIN-WAIT-1; how long is noted.

    One whose first round trip took long, in the guest's own time, has longer intervals, and fewer.
    """
    wrong = []
    for client in clients:
        lab.notes.append(f"IPv{family}, {client.label}: FIN-WAIT-1 for {client.lasted} s")
        others = set(client.states) - {FIN_WAIT_1, 0}
        if client.lasted < min(least, client.patience - INTERVAL) or others:
            wrong.append(
                f"{client.label}: gone after {client.lasted} s, with a time-out of {client.rto} s; "
                f"other states: {others}"
            )
    if wrong:
        raise Deviation("\n".join(wrong))
