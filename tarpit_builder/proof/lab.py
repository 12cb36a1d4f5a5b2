"""What a check works with: a booted guest, the network around it, and words to judge by."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
import socket
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.proof import device, network
from tarpit_builder.proof.device import Device
from tarpit_builder.proof.guest import Finished, Guest, GuestSocket
from tarpit_builder.proof.network import CLIENT, SIDES
from tarpit_builder.proof.qemu import OURS, Machine, complaints, without_foreign_races
from tarpit_builder.proof.report import Figure
from tarpit_builder.proof.segment import MODULUS, Flow, Segment
from tarpit_builder.proof.wire import Recorder, Wire
from tarpit_builder.versions import KernelVersion

PORT = 25
QUEUE = 100  # frames sent before asking whether they arrived; a card's queue holds 256
KMEMLEAK = "/sys/kernel/debug/kmemleak"
GONE = re.compile(r"\] 0x[0-9a-f]{16}\b")  # a caller of which there is no symbol any more
GCOV = "/sys/kernel/debug/gcov/build/module"  # where it was compiled
MODES = ("tarpit", "honeypot", "reset", "stall")
EXPECTED_MESSAGES = (
    "module verification failed",  # a module from outside the distribution is not signed by it
    "loading out-of-tree module taints kernel",
    "entered promiscuous mode",
    "left promiscuous mode",
    "IPv6: ADDRCONF",
    "used greatest stack depth",  # CONFIG_DEBUG_STACK_USAGE, of any program
    "link becomes ready",
    "Link is Up",
    "bridge: filtering via arp/ip/ip6tables is no longer available",
    "8021q",
    "Bridge firewalling registered",
    "br0: port",
    "netem: version",
    "Mirror/redirect action on",
    "GACT probability on",
    "allmulticast mode",
    "Initializing XFRM netlink socket",
    # A host that was busy elsewhere
    "hrtimer: interrupt took",
    "sched: DL replenish lagged too much",
    "tsc: Refined TSC clocksource calibration",
    "clocksource: tsc: mask",
    "Switched to clocksource",
    "Clocksource tsc unstable",  # the same, in kernels before 2.6.30
    "clocksource has been installed",
    # What a kernel says that gathers entropy for minutes, as it does not trust the processor.
    "random: nonblocking pool is initialized",
    "random: fast init done",
    "random: crng init done",
    "uninitialized urandom read",
)
"""What a healthy kernel says while it is worked with, by a part of the line."""


class Deviation(Exception):  # noqa: N818  (a finding, not a mistake)
    """The contract says one thing, the packets another."""

    def __init__(self, text: str, segments: Iterable[Segment] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.segments = tuple(segments)


class Unavailable(Exception):  # noqa: N818
    """This kernel or user land lacks what a check needs; the check says nothing about TARPIT."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tools:
    """What differs from guest to guest: the defaults are those of a guest with a suite's programs.

    *module* is the module's name, *file* that of its file where it is another, *builtin* whether
    it is a part of the kernel's image instead, *families* those that its iptables knows the
    target for, *suffixes* whether the programs of its backends are told apart by their names (one
    of before 1.8 is ``iptables`` and nothing else), *wait* the option of iptables that waits for
    the lock (none before 1.4.20), *card* QEMU's name of a network card that the kernel has a driver
    for (empty for the usual one), *device* the file of the device's module where it is another than
    the usual one, *peer* the file of another module of that name, which is to be
    compared, *hop_limits* what the kernel itself puts into packets that it sends, *leaks* whether
    the kernel finds what is not freed, *watched* whether it looks for mistakes, so that what a
    packet costs in it says nothing of others.
    """

    module: str = "xt_TARPIT"
    file: str = ""
    builtin: bool = False
    families: tuple[int, ...] = (4, 6)
    suffixes: bool = True
    wait: tuple[str, ...] = ("-w",)
    card: str = ""
    device: str = ""
    peer: str = ""
    hop_limits: tuple[int, ...] = (64,)
    leaks: bool = False
    watched: bool = False


class Lab:
    """A guest with its network up, and the rules of one backend of iptables."""

    def __init__(
        self,
        machine: Machine,
        guest: Guest,
        recorder: Recorder | None = None,
        tools: Tools | None = None,
    ) -> None:
        self.tools = tools or Tools()
        self.machine = machine
        self.guest = guest
        self.backend = "legacy"
        self.wires = [Wire(machine, index, recorder) for index in range(len(machine.cards))]
        for wire, side in zip(self.wires, SIDES, strict=False):
            wire.guest_addresses = [side.guest4, side.guest6]
        self.module = self.tools.module
        self.random = random.Random(guest.release)  # noqa: S311  (repeatable, not secret)
        self._ports = itertools.count(1)
        self._log_seen = 0
        self._discover = False
        self.ladder: list[Segment] = []
        self.held: list[Segment] = []
        """A client that waits, for the report, as *ladder* is one that connects."""
        self.notes: list[str] = []
        self.figures: list[Figure] = []
        self.device: Device | None = None
        """What answers in place of the target, if it is not the target that is to be judged."""
        self._programs: dict[str, bool] = {}
        self._touched: set[tuple[str, int, str]] = set()

    @property
    def processors(self) -> int:
        """How many the guest's kernel works with, whatever the machine has."""
        return len(re.findall(r"^cpu\d", self.guest.read("/proc/stat"), re.MULTILINE))

    @property
    def kernel(self) -> KernelVersion:
        """The release that the guest's kernel says it is, or was made from."""
        return KernelVersion.of_name(self.guest.release)

    def open(self) -> None:
        """Load what the cards need and set the network up."""
        if not self.guest_has("eth0"):
            for driver in ("virtio_pci", "virtio_net", "e1000"):
                self.guest.attempt("modprobe", driver)
        if self.wires and not self.guest_has("eth0"):
            raise InfrastructureError(
                "the guest has no network card",
                hint="this kernel's packages hold no driver for QEMU's virtio or e1000 card",
            )
        asked = self.machine.spec.cpus
        if asked > 1 and self.processors != asked:
            raise InfrastructureError(
                f"the guest works with {self.processors} of its {asked} processors",
                hint="this kernel cannot be proven with --smp; try --smp 1",
            )
        self.network = network.configure(self.guest)
        self.pin_neighbours()
        self.settle()

    def pin_neighbours(self) -> None:
        """Make the gateways permanent neighbours.

        A reply that had to wait for neighbour discovery would come after the ping that is to
        tell that there is none.  IPv6 takes iproute2 for it; without, :meth:`settle` sees to
        it that discovery has happened.
        """
        has_ip = 6 in self.families and self.has_program("ip")
        for wire, side in zip(self.wires, SIDES, strict=False):
            device = f"eth{wire.index}"
            self.network.neighbour(device, side.gateway4, wire.mac)
            if has_ip:
                where = f"{side.gateway6} lladdr {wire.mac} dev {device} nud permanent"
                self.guest.run("ip", "-6", "neigh", "replace", *where.split())
        self._discover = 6 in self.families and not has_ip

    def guest_has(self, interface: str) -> bool:
        """Whether a network interface exists."""
        return f"{interface}:" in self.guest.read("/proc/net/dev")

    def has_program(self, name: str) -> bool:
        """Whether the user land has a program."""
        if name not in self._programs:
            self._programs[name] = self.guest.attempt(name, "--version").status != 127
        return self._programs[name]

    # -- rules -------------------------------------------------------------------------------

    @property
    def families(self) -> tuple[int, ...]:
        """Address families to judge: IPv6 only if kernel, module and iptables have it."""
        return self.tools.families if self.network.has_ipv6 else (4,)

    def program(self, family: int, suffix: str = "") -> str:
        """Name of the iptables program of a family and of the backend at hand."""
        return self._program(family, self.backend) + suffix

    def _program(self, family: int, backend: str) -> str:
        name = "ip6tables" if family == 6 else "iptables"
        return name + (f"-{backend}" if backend and self.tools.suffixes else "")

    def attempt_rule(self, family: int, *args: str) -> Finished:
        """Run iptables, whatever it answers."""
        self.touch(family, args[args.index("-t") + 1] if "-t" in args else "filter")
        return self.guest.attempt(self.program(family), *self.tools.wait, *args)

    def touch(self, family: int, table: str = "filter") -> None:
        """Note that a table may hold rules now, which :meth:`clear` is to remove."""
        self._touched.add((self.backend, family, table))

    def rule(self, family: int, *args: str) -> None:
        """Run iptables.

        :raises InfrastructureError: if it refuses.
        """
        done = self.attempt_rule(family, *args)
        if done.status:
            said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["nothing"]
            raise InfrastructureError(
                f"`{done.command}` failed: {said[0]}",
                hint="is the extension installed, and the module built for this kernel?",
            )

    def tarpit(
        self,
        mode: str = "",
        *,
        chain: str = "INPUT",
        match: Sequence[str] = (),
        table: str = "filter",
        families: Iterable[int] = (),
    ) -> None:
        """Add a TARPIT rule for all TCP (that *match* admits)."""
        if self.device:
            return self.device.answer(mode, match=match, families=tuple(families))
        for family in families or self.families:
            option = (f"--{mode}",) if mode else ()
            self.rule(
                family, "-t", table, "-A", chain, "-p", "tcp", *match, "-j", "TARPIT", *option
            )

    def judge_device(self, *, judged: bool) -> None:
        """Have rules forward to the device from now on, or go to the target again.

        :raises Unavailable: if there is no device for this kernel, or a tool is missing for it.
        """
        if self.device and not judged:
            self.device.close()
            self.device = None
            self.guest.rmmod(device.MODULE)  # which would keep the target's
        if judged and not self.device:
            for program in ("ip", "nft", "ethtool", "tc"):
                if not self.has_program(program):
                    raise Unavailable(f"this user land has no {program}")
            if not device.load(self.guest, self.tools.device):
                if device.is_there(self.guest):
                    said = "; ".join(self.guest.kernel_log()[-2:])
                    raise Deviation(f"the kernel refuses the device's module: {said}")
                raise Unavailable("there is no module of the device for this kernel")
            if not device.can_forward(self.guest):
                raise Unavailable("this kernel cannot forward from where frames come in")
            self.device = Device(self.guest)

    def clear(self) -> None:
        """Remove every rule that was added through this lab."""
        if self.device:
            self.device.clear()
        for backend, family, table in sorted(self._touched):
            name = self._program(family, backend)
            self.guest.run(f"{name}-restore", stdin=f"*{table}\nCOMMIT\n")
        self._touched.clear()

    # -- probes ------------------------------------------------------------------------------

    def flow(self, family: int, *, dst: str = "", src: str = "", port: int = PORT) -> Flow:
        """A connection that nobody has used yet, from the client to the guest."""
        sport = 1024 + next(self._ports) % 64000
        return Flow(src or CLIENT[family], dst or SIDES[0].guest(family), sport, port)

    def number(self) -> int:
        """A random 32-bit number for a sequence number."""
        return self.random.randrange(MODULUS)

    def probe(self, family: int, flags: str, *, flow: Flow | None = None, **fields: Any) -> Segment:
        """A segment from the client with numbers of its own."""
        values: dict[str, Any] = {"seq": self.number()}
        if "A" in flags:
            values["ack"] = self.number()
        return Segment(flow=flow or self.flow(family), flags=flags, **(values | fields))

    def settle(self, *, cards: Iterable[int] = ()) -> None:
        """Return once the guest has dealt with everything sent so far."""
        for index in cards or range(len(self.wires)):
            side = SIDES[index]
            if self._discover:
                self.wires[index].settle(side.gateway6, side.guest6)
            self.wires[index].settle(side.gateway4, side.guest4)

    def send(self, packets: Iterable[bytes], *, card: int = 0) -> list[Segment]:
        """Send packets in order; every TCP segment that left the guest because of them."""
        wire = self.wires[card]
        for each in self.wires:
            each.take()
        for count, packet in enumerate(packets, 1):
            wire.send([packet])
            if count % QUEUE == 0:
                self.settle(cards=[card])
        self.settle()
        seen = [segment for each in self.wires for segment in each.take()]
        return sorted(seen, key=lambda segment: segment.when)

    def answers(self, *probes: Segment, card: int = 0) -> list[Segment]:
        """Send segments; what the guest answered."""
        return self.send((probe.packet() for probe in probes), card=card)

    def converse(
        self, probes: Mapping[str, Segment], packets: Mapping[str, bytes] | None = None
    ) -> dict[str, list[Segment]]:
        """Send one segment of each label at once; the answers by label.

        *packets* overrides what is sent for a label where a :class:`Segment` cannot say it.

        :raises Deviation: if something left the guest that answers none of them.
        """
        packets = packets or {}
        by_flow = {probe.flow.back: label for label, probe in probes.items()}
        assert len(by_flow) == len(probes), "every label needs a flow of its own"
        out: dict[str, list[Segment]] = {label: [] for label in probes}
        for reply in self.send(packets.get(k, p.packet()) for k, p in probes.items()):
            if reply.flow not in by_flow:
                raise Deviation("a segment left the guest that answers nothing", [reply])
            out[by_flow[reply.flow]].append(reply)
        return out

    # -- judgement ---------------------------------------------------------------------------

    def expect(self, probe: Segment, replies: Sequence[Segment], what: str, **fields: Any) -> None:
        """There is exactly one reply, with these *fields* and good manners.

        Where *fields* name no ``options``, it has none.

        :raises Deviation: if not, saying what is different.
        """
        if len(replies) != 1:
            raise Deviation(f"{what}: expected one reply, saw {len(replies)}", [probe, *replies])
        reply = replies[0]
        options = fields.get("options", ())
        length = dataclasses.replace(reply, options=options).header_length if options else 20
        expected = {"options": options, "data_offset": length // 4, **fields}
        wrong = [
            f"{name} is {getattr(reply, name)!r}, expected {value!r}"
            for name, value in expected.items()
            if getattr(reply, name) != value
        ]
        wrong += self.manners(probe, reply)
        if wrong:
            raise Deviation(f"{what}: {'; '.join(wrong)}", [probe, reply])

    def manners(
        self, probe: Segment, reply: Segment, *, mac: str = "", ttls: Collection[int] = ()
    ) -> list[str]:
        """What is wrong with a reply whatever it answers, which should leave to the neighbour *mac*
        (the far end of the card's wire) with one of *ttls* (what the kernel itself puts in).
        """
        if self.tools.card and is_padding(reply):
            reply = dataclasses.replace(reply, trailing=b"")
        return manners(
            probe,
            reply,
            mac=mac or self.wires[reply.card].mac,
            ttls=ttls or self.tools.hop_limits,
        )

    def expect_silence(self, probe: Segment, replies: Sequence[Segment], what: str) -> None:
        """Nothing was answered.

        :raises Deviation: if something was.
        """
        if replies:
            raise Deviation(f"{what}: expected no reply, saw {len(replies)}", [probe, *replies])

    # -- health ------------------------------------------------------------------------------

    def log_mark(self) -> None:
        """From here on the kernel's log must be silent."""
        self._log_seen = len(self.guest.kernel_log())

    def log_news(self, provoked: Iterable[str] = ()) -> list[str]:
        """What the kernel said since the mark that it should not have said."""
        lines = self.guest.kernel_log()[self._log_seen :]
        expected = (*EXPECTED_MESSAGES, *provoked)
        said = without_foreign_races(lines)
        return [line for line in said if not any(known in line for known in expected)]

    def lost(self) -> list[str]:
        """What anybody allocated and nothing points to any more, with who did so.

        A scan tells of what is five seconds old, and had the same content at the scan before
        (mm/kmemleak.c).  To be asked of a kernel that looks for it.
        """
        self.guest.sleep(5.5)
        for _ in range(2):
            self.guest.write(KMEMLEAK, "scan", seconds=300)  # all of its memory, in emulation
        reports = self.guest.read(KMEMLEAK).split("unreferenced object")[1:]
        return [" ".join(report.split()) for report in reports]

    def leaks(self) -> list[str]:
        """What of that the module allocated: its name is in the report, or its code is gone."""
        return [report for report in self.lost() if OURS.search(report) or GONE.search(report)]

    def counters(self) -> dict[str, bytes]:
        """How often each part of an instrumented module was executed, by name of its ``.gcda``.

        The kernel keeps the counters of what is not loaded any more (kernel/gcov/fs.c).
        """
        found = self.guest.run("sh", "-c", f"echo {GCOV}/*.gcda").split()
        return {path.rpartition("/")[2]: self.guest.read_bytes(path) for path in found}

    def trouble(self) -> str | None:
        """The first line of the kernel's log or console that tells of a kernel in trouble."""
        return next(complaints(self.guest.kernel_log()), None) or self.machine.trouble

    def require_module(self) -> None:
        """Load the module under proof.

        :raises UserError: if the guest's kernel refuses it.
        """
        if self.loaded:
            return
        done = self.guest.attempt("modprobe", self.tools.file or self.module)
        if done.status:
            said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            reasons = [line for line in self.guest.kernel_log()[-5:] if "TARPIT" in line]
            text = "; ".join([said[0].removeprefix("modprobe: "), *reasons[-1:]])
            hint = "build it for this kernel: invoke build --kernel " + self.guest.release
            if "Unknown symbol xt_register" in text:
                hint = "this kernel is without netfilter's x_tables, which every target needs"
            raise UserError(
                f"kernel {self.guest.release} does not load {self.module}: {text}", hint=hint
            )

    def load_peer(self) -> None:
        """Load xtables-addons' module, which has the same name, in place of ours.

        :raises Unavailable: if it was not built.
        """
        if not self.tools.peer:
            raise Unavailable("xtables-addons does not build for this kernel")
        self.unload()
        self.guest.run("modprobe", self.tools.peer)

    def unload(self) -> None:
        """Unload the module, whose rules have just been removed.

        nf_tables lets go of a rule's module only after a grace period, so this tries for a
        while.

        :raises OSError: if it stays in use.
        :raises Unavailable: if it is a part of the kernel.
        """
        if self.tools.builtin:
            raise Unavailable("the target is a part of this kernel's image")
        for _ in range(100):
            try:
                return self.guest.rmmod(self.module)
            except BlockingIOError:
                self.guest.sleep(0.02)
        return self.guest.rmmod(self.module)

    @property
    def loaded(self) -> bool:
        """Whether the module is loaded, or a part of the kernel."""
        return self.tools.builtin or self.module in self.guest.modules()

    def client(self, family: int, *, netns: str = "") -> GuestSocket:
        """A TCP socket in the guest, to play client or server with.

        Closing it resets the connection, so that nothing of one check lives on in the next.
        """
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        sock = self.guest.socket(kind, socket.SOCK_STREAM, netns=netns)
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(f"{self.guest.c.mark}ii", 1, 0)
        )
        return sock

    def close(self) -> None:
        """Let go of the wires."""
        for wire in self.wires:
            wire.close()


def is_padding(reply: Segment) -> bool:
    """Whether all that follows *reply* are zeros that fill the frame up to the least length.

    The e1000 driver does so from 3.10 on: ETH_ZLEN, of IEEE 802.3, is 60 bytes with 14 of header.
    """
    length = (40 if reply.flow.family == 6 else 20) + reply.ip_options
    length += 4 * reply.data_offset + len(reply.payload) + len(reply.trailing)
    return length <= 46 and not any(reply.trailing)


def manners(probe: Segment, reply: Segment, *, mac: str, ttls: Collection[int]) -> list[str]:
    """What is wrong with a reply whatever it answers (contract section 1, last but one point)."""
    rules = {
        "goes back to where the probe came from": reply.flow == probe.flow.back,
        "has valid checksums": reply.checksums_good,
        "is no longer than the probe": not reply.options
        or reply.data_offset * 4 <= probe.header_length,
        "has no IP options": not reply.ip_options,
        "carries no payload": not reply.payload,
        "has no trailing bytes": not reply.trailing,
        "has the system's TTL": reply.ttl in ttls,
        "does not echo TOS": reply.tos == 0,
        "has DF set": reply.df,
        "has neither identification nor flow label": not (reply.identification or reply.flow_label),
        "has no reserved bits": reply.reserved == 0 and not set(reply.flags) & set("ECN"),
        "has no urgent pointer": reply.urgent == 0,
        "leaves to the gateway": reply.mac == mac,
    }
    return [f"violates: reply {rule}" for rule, kept in rules.items() if not kept]
