"""Contract section 4: the recipes that people have copied for twenty years."""

from __future__ import annotations

import re
import shlex

from scapy.layers.inet import IP

from tarpit_builder.proof.guest import GuestSocket
from tarpit_builder.proof.lab import Deviation, Lab, Unavailable
from tarpit_builder.proof.mirror import Mirror
from tarpit_builder.proof.namespaces import Pair
from tarpit_builder.proof.network import SIDES, UNUSED
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.report import Figure
from tarpit_builder.proof.segment import Segment

recipes = Group("recipes", "the seeds' recipes", order=65)
scan = Group(
    "scan",
    "nmap before and after",
    order=75,
    icount="shift=0,sleep=off",
    cards=0,
    backends=("legacy",),
)

HOSTILE = {4: "123.123.123.123", 6: "2001:db8:123::123"}


def apply(lab: Lab, family: int, rule: str) -> None:
    """Insert a rule as it is written in the recipe."""
    done = lab.attempt_rule(family, *shlex.split(rule))
    if done.status:
        if "-m string" in rule and "TARPIT" not in done.stderr:
            raise Unavailable("this kernel has no string match")
        raise Deviation(f"{done.command}: {done.stderr.strip()}")


def held(lab: Lab, family: int, port: int, **where: str) -> bool:
    """Whether a SYN to *port* gets the tarpit's answer, and not the guest's own."""
    probe = lab.probe(family, "S", flow=lab.flow(family, port=port, **where))
    replies = lab.answers(probe)
    if len(replies) > 1:
        raise Deviation(f"a SYN to port {port} got {len(replies)} replies", [probe, *replies])
    return bool(replies) and replies[0].flags == "SA" and replies[0].window == 5


def expect_ports(lab: Lab, family: int, hold: tuple[int, ...], leave: tuple[int, ...]) -> None:
    """These ports are tarpits, those are not."""
    wrong = [f"port {port} does not hold" for port in hold if not held(lab, family, port)]
    wrong += [f"port {port} holds" for port in leave if held(lab, family, port)]
    if wrong:
        raise Deviation("; ".join(wrong))


@recipes.check("this server has no database: --dport mysql, --dport ms-sql-s", section="4")
def databases(lab: Lab, family: int) -> None:
    apply(lab, family, "-A INPUT -p tcp --dport mysql -j TARPIT")
    apply(lab, family, "-A INPUT -p tcp --dport ms-sql-s -j TARPIT")
    expect_ports(lab, family, (3306, 1433), (22, 80, 3305, 1434))


@recipes.check("look like Windows: ports 135, 139, 1025", section="4")
def windows(lab: Lab, family: int) -> None:
    for port in (135, 139, 1025):
        apply(lab, family, f"-A INPUT -p tcp -m tcp --dport {port} -j TARPIT")
    expect_ports(lab, family, (135, 139, 1025), (134, 445, 1024))


@recipes.check("everything from one hostile address", section="4")
def address(lab: Lab, family: int) -> None:
    apply(lab, family, f"-A INPUT -p tcp -s {HOSTILE[family]} -j TARPIT")
    if not held(lab, family, 25, src=HOSTILE[family]):
        raise Deviation("the hostile address is not held")
    if held(lab, family, 25):
        raise Deviation("another address is held")


@recipes.check("the last rule before DROP: every other port is a tarpit", section="4")
def last(lab: Lab, family: int) -> None:
    server = listener(lab, family, SIDES[0].guest(family), 22)
    try:
        apply(lab, family, "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT")
        apply(lab, family, "-A INPUT -p tcp -j TARPIT")
        apply(lab, family, "-A INPUT -p udp -j DROP")
        expect_ports(lab, family, (1, 80, 443, 8080, 65535), (22,))
        probe = lab.probe(family, "S", flow=lab.flow(family, port=22))
        replies = lab.answers(probe)
        if not replies or replies[0].flags != "SA" or not replies[0].options:
            raise Deviation("the real service does not answer any more", [probe, *replies])
        reset = Segment(probe.flow, "R", seq=probe.end)
        lab.answers(reset)
    finally:
        server.close()


def listener(lab: Lab, family: int, where: str, port: int) -> GuestSocket:
    """A service in the guest."""
    server = lab.client(family)
    server.setsockopt(1, 2, 1)  # SOL_SOCKET, SO_REUSEADDR
    server.bind(server.guest.sockaddr(where, port))
    server.listen()
    return server


def worm(text: str) -> None:
    """The recipe against one worm."""

    @recipes.check(
        f'-m string --string "{text}": the worm is held, browsers are served', section="4"
    )
    def string(lab: Lab, family: int) -> None:
        match = f'-p tcp --dport 80 -m string --string "{text}" --algo bm'
        apply(lab, family, f"-I INPUT {match} -j TARPIT")
        server = listener(lab, family, SIDES[1].guest(family), 80)
        try:
            with Mirror(lab) as mirror:
                browser = mirror.connect(family, 80)
                peer = server.accept(seconds=5)
                browser.send(b"GET /index.html HTTP/1.0\r\n\r\n")
                if not peer.recv(1000, seconds=5).startswith(b"GET /index.html"):
                    raise Deviation("the browser's request did not arrive", mirror.seen)
                browser.close()
                peer.close()
                hostile = mirror.connect(family, 80)
                peer = server.accept(seconds=5)
                mirror.seen.clear()
                hostile.send(f"GET /scripts/{text}?/c+dir HTTP/1.0\r\n\r\n".encode())
                # The request, our window 0, a probe or repetition of it, our window 0 again.
                mirror.await_segments(4, 10, "the worm's request")
                answers = [s for s in mirror.seen if s.flow.sport == 80]
                if not answers or any(s.window or s.flags != "A" for s in answers):
                    raise Deviation("the answer is not an ACK with window 0", mirror.seen)
                try:
                    got = peer.recv(1000, seconds=0)
                except OSError:
                    got = b""
                if got:
                    raise Deviation(f"the server received {got!r}", mirror.seen)
                if hostile.state != 1:
                    raise Deviation(f"the worm is in state {hostile.state}", mirror.seen)
                hostile.close()
                peer.close()
        finally:
            server.close()


worm("cmd.exe")
worm("default.ida")


@recipes.check("a whole unused subnet: FORWARD TARPIT, then DROP", section="4")
def subnet(lab: Lab, family: int) -> None:
    apply(lab, family, "-A FORWARD -p tcp -j TARPIT")
    apply(lab, family, "-A FORWARD -j DROP")
    stem = UNUSED[family].rsplit(":" if family == 6 else ".", 1)[0]
    for host in (1, 2, 77, 200):
        there = f"{stem}{':' if family == 6 else '.'}{host}"
        if not held(lab, family, 445, dst=there):
            raise Deviation(f"{there} is not a tarpit")
    if family == 4:
        forwarded: list[bytes] = []
        lab.wires[1].on_frame = forwarded.append
        try:
            lab.send([bytes(IP(src="198.51.100.7", dst=UNUSED[4], proto=17) / bytes(8))])
        finally:
            lab.wires[1].on_frame = None
        if forwarded:
            raise Deviation("what is not TCP was forwarded")


# -- the example files -------------------------------------------------------------------------

EXAMPLES = "/usr/share/doc/xt-tarpit-common/examples"
INSTALLED: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "unused-services": ((3306, 1433), (22, 25)),
    "look-like-windows": ((135, 139, 1025), (22, 80)),
    "every-unused-port": ((1, 25, 443, 65535), (22, 80)),
    "one-source": ((), (22, 25)),
    "unused-subnet": ((), (22, 25)),
    "worms": ((), (22, 80)),
}
"""Each example with ports that it holds, and ports that it does not."""


@recipes.check("each installed example does what it says", section="4")
def examples(lab: Lab) -> None:
    # The examples say iptables and ip6tables; that is the backend at hand.
    lab.guest.attempt("mkdir", "/run/bin")
    for name, family in (("iptables", 4), ("ip6tables", 6)):
        lab.guest.attempt("ln", "-sf", f"/usr/sbin/{lab.program(family)}", f"/run/bin/{name}")
    missing = 0
    for name in INSTALLED:
        script = f"PATH=/run/bin:$PATH; export PATH; sh {EXAMPLES}/{name}"
        for family in (4, 6):
            lab.touch(family)
        done = lab.guest.attempt("sh", "-c", script)
        if "cannot open" in done.stderr or "No such file" in done.stderr:
            missing += 1
            continue
        if done.status:
            raise Deviation(f"{name}: {done.stderr.strip()}")
        # Nothing else is accepted here: neither the pings that tell when an answer is not to come
        # nor neighbour discovery, so an example that drops them ends this check.
        for family in lab.families:
            does_what_it_says(lab, family, name)
        lab.clear()
    if missing == len(INSTALLED):
        raise Unavailable("these packages bring no examples")
    if missing:
        raise Deviation(f"{missing} of {len(INSTALLED)} examples are missing")


def does_what_it_says(lab: Lab, family: int, name: str) -> None:
    """Example *name* is loaded: judge its ports, and the addresses that it is about."""
    hold, leave = INSTALLED[name]
    expect_ports(lab, family, hold, leave)
    if name == "one-source" and family == 4 and not held(lab, 4, 25, src=HOSTILE[4]):
        raise Deviation("one-source does not hold its address")
    if name == "unused-subnet" and not held(lab, family, 25, dst=UNUSED[family]):
        raise Deviation("unused-subnet does not hold the subnet")


@recipes.check("the installed rule set drops, and holds once TARPIT is in its chain", section="4")
def rule_set(lab: Lab, family: int) -> None:
    file = f"{EXAMPLES}/rules.v{family}"
    if lab.guest.attempt("sh", "-c", f"test -e {file}").status:
        raise Unavailable("these packages bring no rule set")
    lab.touch(family)
    done = lab.guest.attempt("sh", "-c", f"{lab.program(family, '-restore')} <{file}")
    if done.status:
        raise Deviation(f"rules.v{family}: {done.stderr.strip()}")
    try:
        expect_ports(lab, family, (), (22, 25, 443))
        apply(lab, family, "-I XT-TARPIT -p tcp -j TARPIT")
        expect_ports(lab, family, (25, 443), (22,))
    finally:
        apply(lab, family, "-P INPUT ACCEPT")


# -- nmap --------------------------------------------------------------------------------------

PORTS = "1-20"
SILENT = 5
"""The one of them that a server has opened, which does not read."""
PATIENCE = 3600  # seconds of the guest's time


def nmap(lab: Lab, pair: Pair, *options: str) -> tuple[float, str]:
    """Scan the first namespace; seconds of the guest's time, and nmap's output."""
    before = lab.guest.clock()
    done = lab.guest.attempt(
        *("nmap", "-n", "-Pn", *(() if "-p" in options else ("-p", PORTS)), *options),
        pair.address(4),
        netns=pair.netns,
        seconds=PATIENCE,
    )
    if done.status:
        raise Deviation(f"{done.command}: {done.stderr.strip()[-200:]}")
    return lab.guest.clock() - before, done.stdout


def open_ports(output: str) -> int:
    """Ports that nmap calls open."""
    return len(re.findall(r"^\d+/tcp +open", output, re.M))


@scan.check("nmap sees every port open, and -sV takes minutes instead of seconds", section="4")
def versions(lab: Lab) -> None:
    if not lab.has_program("nmap"):
        raise Unavailable("this user land has no nmap")
    with Pair(lab) as pair:
        before, output = nmap(lab, pair, "-sV")
        if open_ports(output):
            raise Deviation(f"open before there is a rule:\n{output}")
        lab.tarpit(match=("-i", pair.here))
        quick, output = nmap(lab, pair, "-sS")
        if open_ports(output) != 20:
            raise Deviation(f"-sS finds {open_ports(output)} of 20 ports open:\n{output}")
        after, output = nmap(lab, pair, "-sV")
        lab.notes.append(
            f"nmap -sV of 20 ports: {before:.1f} s and none open before, {after:.0f} s and "
            f"{open_ports(output)} open after; a plain -sS after: {quick:.1f} s"
        )
        found = open_ports(output)
        lab.figures += [
            Figure("scan", "nmap -sV of 20 ports", "before", round(before, 1), "s"),
            Figure("scan", "nmap -sV of 20 ports", "after", round(after, 1), "s"),
            Figure("scan", "ports that nmap -sV calls open", "before", 0, "ports"),
            Figure("scan", "ports that nmap -sV calls open", "after", found, "ports"),
        ]
        if open_ports(output) != 20 or after < 120 or after < 5 * before:
            raise Deviation(f"-sV took {before:.1f} s before and {after:.1f} s after:\n{output}")


def guessed(output: str) -> str:
    """The system that nmap thinks of first."""
    found = re.search(
        r"^(?:OS details|Aggressive OS guesses): (.*?)(?: \(\d+%\)|, |$)", output, re.M
    )
    return found[1] if found else "nothing"


@scan.check(
    "nmap calls --stall what it calls a silent server: -O Linux, -sV an unknown service",
    section="2",
)
def stalled(lab: Lab) -> None:
    if not lab.has_program("nmap"):
        raise Unavailable("this user land has no nmap")
    with Pair(lab) as pair:
        told = {}
        for who in ("a server that never reads", "--stall"):
            # The other ports are the guest's own, and closed.
            match = ("-i", pair.here, "--dport", str(SILENT))
            server = None
            if who == "--stall":
                lab.tarpit("stall", match=match)
            else:
                server = listener(lab, 4, pair.address(4), SILENT)
            _, system = nmap(lab, pair, "-O", "--osscan-guess", "--max-os-tries", "1")
            _, service = nmap(lab, pair, "-sV", "-p", str(SILENT))
            told[who] = re.findall(r"^\d+/tcp +open.*", service, re.M)
            lab.notes.append(f"nmap -O calls {who}: {guessed(system)}")
            if "Linux" not in guessed(system):
                raise Deviation(f"-O calls {who} something else:\n{system}")
            if server:
                server.close()
        real, stall = told.values()
        if real != stall or len(stall) != 1:
            raise Deviation(f"-sV tells them apart: {real}, {stall}")
