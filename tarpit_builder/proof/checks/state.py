"""Contract section 1: no state, with conntrack, with its exemption, and without."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tarpit_builder.proof.checks.wire import establish, with_offset
from tarpit_builder.proof.clients import Clients, measure
from tarpit_builder.proof.lab import PORT, Deviation, Lab, Unavailable
from tarpit_builder.proof.namespaces import Pair
from tarpit_builder.proof.network import SIDES
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.segment import Segment
from tarpit_builder.versions import KernelVersion

state = Group("state", "nothing is kept per connection", order=40, fresh=True)

CLIENTS, WATCHED = 10_000, 2_000
"""How many clients are a crowd; and in a debug kernel, where each takes ten times as long."""
CONNTRACK_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
CACHES = re.compile(r"^((?:\w*sock_)?TCP(?:v6)?|nf_conntrack\w*|\w*flow\w*|xt_\w+) +(\d+)", re.M)
COUNTERS = "/proc/net/stat/xt_TARPIT"
COUNTED = KernelVersion.parse("4.18")
SLAB_TOLERANCE = 256  # kB that the kernel's own bookkeeping may grow by meanwhile


def sockets(lab: Lab) -> str:
    """What the kernel counts about sockets; only TCP's lines."""
    text = measure(lab.guest.read, "/proc/net/sockstat") + measure(
        lab.guest.read, "/proc/net/sockstat6"
    )
    return "\n".join(line for line in text.splitlines() if line.startswith("TCP"))


SHRINK = "for cache in /sys/kernel/slab/*/shrink; do echo 1 > $cache; done"
"""With it caches give back what is free, and KASAN what it keeps to see who still uses it."""


def slab_kilobytes(lab: Lab) -> int:
    """Memory in slab caches."""
    if lab.tools.watched:
        lab.guest.run("sh", "-c", SHRINK)
    match = re.search(r"^Slab: +(\d+)", lab.guest.read("/proc/meminfo"), re.M)
    if match is None:
        raise Unavailable("this kernel does not tell how much memory its caches hold")
    return int(match[1])


def caches(lab: Lab) -> dict[str, int]:
    """Objects in the caches that connections are made of."""
    text = measure(lab.guest.read, "/proc/slabinfo")
    return {name: int(count) for name, count in CACHES.findall(text)}


def conntrack_count(lab: Lab) -> int:
    """Entries of the connection tracking table."""
    return int(measure(lab.guest.read, CONNTRACK_COUNT) or "0")


def many(lab: Lab) -> int:
    """How many clients are a crowd for this guest."""
    return WATCHED if lab.tools.watched else CLIENTS


@state.check("thousands of held clients change nothing in sockstat, slab or conntrack counts")
def crowd(lab: Lab, family: int) -> None:
    count = many(lab)
    lab.clear()
    lab.tarpit()
    Clients(lab, family, 500).run()  # what is allocated once is allocated now
    before = sockets(lab), conntrack_count(lab)
    cached, slab = caches(lab), slab_kilobytes(lab)
    Clients(lab, family, count).run()
    after = sockets(lab), conntrack_count(lab)
    if before != after:
        raise Deviation(f"before: {before}\nafter: {after}")
    grown = {name: n - cached.get(name, 0) for name, n in caches(lab).items()}
    kept = {name: n for name, n in grown.items() if n > count // 100}
    if kept:
        raise Deviation(f"caches have grown: {kept}")
    growth = slab_kilobytes(lab) - slab
    if growth > SLAB_TOLERANCE:
        raise Deviation(f"slab memory has grown by {growth} kB")


class Tracked:
    """A guest with conntrack on, and a counter of replies that it calls invalid."""

    def __init__(self, lab: Lab, *, exempt: Sequence[str] = (), loose: bool = True) -> None:
        self.lab = lab
        self.exempt = exempt
        self.loose = loose

    def __enter__(self) -> Tracked:
        lab = self.lab
        lab.clear()
        lab.tarpit()
        for family in lab.families:
            done = lab.attempt_rule(
                family, "-A", "OUTPUT", "-p", "tcp", "-m", "conntrack", "--ctstate", "INVALID"
            )
            if done.status:
                raise Unavailable("this kernel has no connection tracking")
            lab.rule(family, "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-p", "tcp")
            for chain in self.exempt:
                done = lab.attempt_rule(
                    family, "-t", "raw", "-A", chain, "-p", "tcp", "-j", "CT", "--notrack"
                )
                if done.status:
                    raise Unavailable("this kernel has no CT target")
        lab.guest.sysctl("net.netfilter.nf_conntrack_tcp_loose", int(self.loose))
        lab.settle()
        return self

    def __exit__(self, *_: object) -> None:
        self.lab.guest.sysctl("net.netfilter.nf_conntrack_tcp_loose", 1)
        self.lab.clear()

    def judge(self, family: int) -> None:
        """A handshake, data and strays are answered as ever and leave nothing behind."""
        lab = self.lab
        for _ in range(20):
            syn, accepted = establish(lab, family)
            for payload in (b"", b"data"):
                later = Segment(syn.flow, "A", syn.end, accepted.end, payload=payload)
                lab.expect(later, lab.answers(later), "ACK", flags="A", window=0, ack=syn.end)
            fin = Segment(syn.flow, "FA", syn.end, accepted.end)
            lab.expect(fin, lab.answers(fin), "FIN+ACK", flags="A", window=0, ack=syn.end)
        stray = lab.probe(family, "PA", payload=b"data")
        lab.expect(stray, lab.answers(stray), "stray data", flags="A", window=0)
        syn_ack = lab.probe(family, "SA")
        lab.expect(syn_ack, lab.answers(syn_ack), "SYN+ACK", flags="R", seq=syn_ack.ack)
        invalid = self.invalid(family)
        if invalid:
            raise Deviation(f"{invalid} replies were ctstate INVALID")
        left = self.entries()
        if left:
            raise Deviation(
                f"{len(left)} conntrack entries were left behind, the first:\n{left[0]}"
            )

    def invalid(self, family: int) -> int:
        """Replies that conntrack called invalid."""
        listing = self.lab.guest.run(
            self.lab.program(family), *self.lab.tools.wait, "-L", "OUTPUT", "-v", "-x", "-n"
        )
        line = next(line for line in listing.splitlines() if "INVALID" in line)
        return int(line.split()[0])

    def entries(self) -> list[str]:
        """TCP's entries in the connection tracking table, but for the guest's with itself."""
        text = measure(self.lab.guest.read, "/proc/net/nf_conntrack")
        if not text and conntrack_count(self.lab) and self.lab.has_program("conntrack"):
            text = self.lab.guest.run("conntrack", "-L", "-p", "tcp")
        tcp = (line for line in text.splitlines() if re.search(r"(^| )tcp ", line))
        return [line for line in tcp if "src=127.0.0.1 " not in line]


@state.check("with conntrack: no reply is INVALID, no entry is left behind")
def tracked(lab: Lab, family: int) -> None:
    with Tracked(lab) as guest:
        guest.judge(family)


@state.check("with conntrack that does not pick up connections half-way (tcp_loose=0)")
def strict(lab: Lab, family: int) -> None:
    with Tracked(lab, loose=False) as guest:
        guest.judge(family)


@state.check("with CT --notrack in PREROUTING")
def exempt_in(lab: Lab, family: int) -> None:
    with Tracked(lab, exempt=("PREROUTING",)) as guest:
        guest.judge(family)


@state.check("with CT --notrack in PREROUTING and OUTPUT")
def exempt_both(lab: Lab, family: int) -> None:
    with Tracked(lab, exempt=("PREROUTING", "OUTPUT")) as guest:
        guest.judge(family)


@state.check("behind REDIRECT the reply comes from the port that was asked")
def redirected(lab: Lab, family: int) -> None:
    with Tracked(lab) as guest:
        nat = ("-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "2525")
        done = lab.attempt_rule(family, *nat, "-j", "REDIRECT", "--to-ports", str(PORT))
        if done.status:
            raise Unavailable("this kernel has no REDIRECT target")
        probe = lab.probe(family, "S", flow=lab.flow(family, port=2525))
        lab.expect(probe, lab.answers(probe), "SYN", flags="SA", window=5, ack=probe.end)
        if guest.entries():
            raise Deviation(f"conntrack entries were left behind:\n{guest.entries()[0]}")


@state.check("thousands of held clients leave no conntrack entry")
def tracked_crowd(lab: Lab, family: int) -> None:
    clients = many(lab)
    with Tracked(lab) as guest:
        Clients(lab, family, clients).run(data=0)
        count = conntrack_count(lab)
        if guest.entries() or count > 100:
            raise Deviation(f"{count} conntrack entries after {clients} clients")


@state.check("a RST closes the connection for conntrack, too, as REJECT's does", section="2")
def closing(lab: Lab, family: int) -> None:
    with Tracked(lab) as guest:
        if not closes(guest, family, 81, "REJECT", "--reject-with", "tcp-reset"):
            raise Unavailable("this kernel's REJECT does not tell conntrack of its RST")
        if not closes(guest, family, 82, "TARPIT", "--reset"):
            raise Deviation("conntrack has the connection for established still")


def closes(guest: Tracked, family: int, port: int, *target: str) -> bool:
    """Whether a connection that meets *target* when it sends data is closed for conntrack."""
    lab = guest.lab
    match = ("INPUT", "-p", "tcp", "--dport", str(port), "-j")
    lab.rule(family, "-I", *match, "ACCEPT")
    server = lab.client(family)
    server.bind(lab.guest.sockaddr(SIDES[0].guest(family), port))
    server.listen()
    syn = lab.probe(family, "S", flow=lab.flow(family, port=port))
    accepted = lab.answers(syn)[0]
    lab.answers(Segment(syn.flow, "A", syn.end, accepted.end))
    if not established(guest, port):
        raise Unavailable("conntrack does not show the connection")
    lab.rule(family, "-I", *match, *target)
    data = Segment(syn.flow, "PA", syn.end, accepted.end, payload=b"data")
    lab.expect(data, lab.answers(data), "data", flags="R", seq=data.ack)
    closed = not established(guest, port)
    server.close()  # which resets the connection as well
    return closed


def established(guest: Tracked, port: int) -> bool:
    """Whether conntrack has an established connection to *port*."""
    return any(f"dport={port} " in entry and "ESTABLISHED" in entry for entry in guest.entries())


def counters(lab: Lab, netns: str = "") -> dict[str, int]:
    """What the target has counted in a namespace, over all processors."""
    if lab.kernel < COUNTED:
        raise Unavailable("before 4.18 nothing is counted")
    names, *rows = lab.guest.read(COUNTERS, netns=netns).splitlines()
    values = [[int(word, 16) for word in row.split()] for row in rows]
    return dict(zip(names.split(), map(sum, zip(*values, strict=True)), strict=True))


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What has been counted in between."""
    return {key: after[key] - before[key] for key in after if after[key] != before[key]}


def provoke(lab: Lab, family: int) -> dict[str, int]:
    """Send segments of most kinds; what is to be counted, by the names of the counters."""
    syn, accepted = establish(lab, family)
    lab.answers(
        Segment(syn.flow, "PA", syn.end, accepted.end, payload=b"x"),
        lab.probe(family, "SA"),
        lab.probe(family, "R"),
        lab.probe(family, "A", window=0),
    )
    lab.send([lab.probe(family, "S").packet(chksum=1)])
    lab.send([with_offset(lab.probe(family, "S"), 4)])
    return {"synack": 1, "hold": 1, "rst": 1, "ignored": 2, "checksum": 1, "malformed": 1}


@state.check("answers are counted by kind, silence by reason, in each namespace", section="5")
def counted(lab: Lab, family: int) -> None:
    lab.clear()
    lab.tarpit()
    before = counters(lab)
    expected = provoke(lab, family)
    after = counters(lab)
    seen = grown(before, after)
    if seen != expected:
        raise Deviation(f"counted {seen}, expected {expected}")
    lab.clear()
    lab.tarpit("honeypot")
    lab.answers(lab.probe(family, "PA", payload=b"x"))
    if (seen := grown(after, counters(lab))) != {"ack": 1}:
        raise Deviation(f"counted {seen} of --honeypot, expected an ack")
    with Pair(lab) as pair:
        if any(counters(lab, netns=pair.netns).values()):
            raise Deviation("another namespace shows what was counted in this one")
        lab.clear()
        rule = ("-A", "INPUT", "-p", "tcp", "-j", "TARPIT")
        lab.guest.run(lab.program(family), *lab.tools.wait, *rule, netns=pair.netns)
        here = counters(lab)
        client = lab.client(family)
        client.connect(lab.guest.sockaddr(pair.other(family), PORT), seconds=5)
        client.close()
        there = counters(lab, netns=pair.netns)
        if there["synack"] != 1 or counters(lab) != here:
            raise Deviation(f"what the other namespace answers is counted elsewhere: {there}")
    if lab.has_program("lnstat"):
        # It ends with status 1 whatever it shows: values per second, but for the first column.
        shown = lab.guest.attempt("lnstat", "-f", "xt_TARPIT", "-j", "-c", "1").stdout
        if list(json.loads(shown)) != list(after):
            raise Deviation(f"lnstat reads it otherwise: {shown}")
