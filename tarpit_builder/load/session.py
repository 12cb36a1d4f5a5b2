"""Every contender under the same load, and the table of what came of it."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import build as building
from tarpit_builder import paths, peers, prove, tried
from tarpit_builder import plan as planning
from tarpit_builder.console import Console, format_table
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.leftovers import scratch
from tarpit_builder.load.host import (
    NAMESPACES,
    PORT,
    PROGRAM,
    SERVICE,
    Contender,
    Host,
    named,
)
from tarpit_builder.packets import RESULTS
from tarpit_builder.proof import VerifyOptions
from tarpit_builder.proof.lab import Unavailable
from tarpit_builder.proof.network import SIDES
from tarpit_builder.proof.qemu import card_mac
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.runner import Runner
from tarpit_builder.proof.segment import Flow, Segment, frame
from tarpit_builder.proof.verification import assemble, setup

if TYPE_CHECKING:
    from tarpit_builder.request import Request
    from tarpit_builder.sources.debian import Archive

GROUP = Group(
    "load",
    "many connections",
    order=0,
    backends=("legacy",),
    icount="shift=0,sleep=off",
    cards=1,
    memory=3072,
    extra=True,
    fresh=True,
)
"""The guest's clock counts instructions, and moves on to the next timer when there is nothing to
do: figures do not depend on what else this machine does, and held connections take no time."""
LESS = "fewer --clients or --frames take less memory"
MOST_SECONDS = 100_000.0  # of the guest's time, or of this machine's, for one run
LIMITS = {"clients": 200_000, "frames": 10_000_000, "seconds": 86_400, "flood": 100_000_000}
KEPT = ("sockets", "tracked", "memory")
PATIENCE = 300.0  # seconds of this machine's time for what is under way in a flood
DISTINCT = 20_000  # SYNs of a flood, which come again and again


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How much: *clients* with sockets of their own, which are kept for *seconds* of the guest's
    time, connections without sockets by *frames*, and *flood* SYNs; of these contenders *only*."""

    clients: int = 100_000
    frames: int = 1_000_000
    seconds: int = 1200
    flood: int = 1_000_000
    only: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse what can be told to be wrong before anything is built.

        :raises UserError: naming what is wrong.
        """
        for name, most in LIMITS.items():
            if getattr(self, name) not in range(1, most + 1):
                raise UserError(
                    f"--{name} {getattr(self, name)}: not sensible", hint=f"1 to {most:,}"
                )


Numbers = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What the guest's program saw: the host's *states* and its *service* at each stage, and how
    connections *ended*; see ``containers/proof/load.c`` for the names."""

    states: Mapping[str, Numbers]
    service: Mapping[str, Numbers]
    ended: Numbers

    @classmethod
    def parse(cls, text: str) -> LoadRun:
        """Read what the program printed.

        :raises InfrastructureError: if it did not come to its end.
        """
        found: dict[str, dict[str, Numbers]] = {"state": {}, "service": {}, "done": {}}
        for line in text.splitlines():
            what, *words = line.split()
            pairs = dict(word.split("=") for word in words if "=" in word)
            when = words[0] if words and "=" not in words[0] else ""
            if what in found:
                found[what][when] = {name: int(number) for name, number in pairs.items()}
        if not found["done"]:
            raise InfrastructureError(
                "the load program in the guest ended early",
                hint=LESS,
            )
        return cls(found["state"], found["service"], found["done"][""])

    def grown(self, name: str, before: str, after: str) -> int:
        """By how much one of the host's figures has grown between two stages."""
        return self.states[after][name] - self.states[before][name]

    def share(self, name: str, before: str, after: str) -> float:
        """The part of the time between two stages that something took."""
        return self.grown(name, before, after) / self.grown("time", before, after)


@dataclass(frozen=True, slots=True)
class ContenderResult:
    """What came of one contender; *missing* says why it did not take part."""

    name: str
    missing: str = ""
    frames: LoadRun | None = None
    clients: LoadRun | None = None
    flood: LoadRun | None = None


@dataclass(slots=True)
class LoadReport:
    """The tables, as far as they were measured on *kernel*."""

    kernel: str
    options: LoadOptions
    entries: list[ContenderResult] = field(default_factory=list)

    def tables(self) -> str:
        """For people."""
        parts = [
            self._frames(),
            self._clients(),
            self._flood(),
            "\n".join(f"{one.name}: {one.missing}" for one in self.entries if one.missing),
        ]
        return "\n\n".join(part for part in parts if part)

    def _runs(self, kind: str) -> list[tuple[str, LoadRun]]:
        found = ((one.name, getattr(one, kind)) for one in self.entries)
        return [(name, run) for name, run in found if run]

    def _frames(self) -> str:
        header = ("without sockets", *COMMON, "probe answered", *SERVED)
        rows = [
            [name, *_common(run), f"{run.ended['held']:,}", *_served(run)]
            for name, run in self._runs("frames")
        ]
        return format_table(rows, header=header) if rows else ""

    def _clients(self) -> str:
        held = f"held {self.options.seconds} s"
        header = ("real clients", *COMMON, held, "% busy meanwhile", *SERVED)
        rows = [
            [
                name,
                *_common(run),
                f"{run.ended['held']:,}",
                f"{100 * run.share('busy', 'watched', 'kept'):.1f}",
                *_served(run),
            ]
            for name, run in self._runs("clients")
        ]
        return format_table(rows, header=header) if rows else ""

    def _flood(self) -> str:
        rows = []
        for name, run in self._runs("flood"):
            seconds = run.grown("time", "before", "after") / 1e9
            rows.append(
                [
                    name,
                    f"{run.grown('received', 'before', 'after') / seconds:,.0f}",
                    f"{100 * run.share('softirq', 'before', 'after'):.0f}",
                    f"{run.grown('sockets', 'before', 'after'):,}",
                    f"{run.grown('tracked', 'before', 'after'):,}",
                    f"{run.grown('memory', 'before', 'after'):,}",
                    f"{run.service['flooded']['count']:,}",
                    f"{run.service['flooded']['failed']:,}",
                    _time(run.service["flooded"]),
                ]
            )
        header = (
            "SYN flood",
            "per second",
            "% softirq",
            "sockets",
            "tracked",
            "kB",
            "service answers",
            "fails",
            "µs (95 %)",
        )
        return format_table(rows, header=header) if rows else ""

    def figures(self) -> str:
        """What matters most, as a sentence without its full stop."""
        entry = next((one for one in self.entries if one.name == "TARPIT"), None)
        if not entry or not entry.frames or not entry.clients:
            return "the target was not among the contenders"
        without, real = entry.frames, entry.clients
        more = {name: max(0, without.grown(name, "idle", "loaded")) for name in KEPT}
        return (
            f"{real.ended['held']:,} of {real.ended['tried']:,} real clients held for "
            f"{self.options.seconds} s; {without.ended['held']:,} of {without.ended['tried']:,} "
            f"connections without sockets answered, which took {more['sockets']} sockets, "
            f"{more['tracked']} entries of conntrack and {more['memory']} kB"
        )

    def data(self) -> dict[str, object]:
        """The same for machines."""
        return asdict(self)


COMMON = ("tried", "accepted", "bytes each", "sockets", "tracked", "µs each")
SERVED = ("service idle", "loaded, µs (95 %)")


def _common(run: LoadRun) -> tuple[str, ...]:
    """The columns :data:`COMMON`: what grew while connections were made, and the time in use."""
    tries = run.ended["tried"]
    return (
        f"{tries:,}",
        f"{run.ended['established']:,}",
        f"{run.grown('memory', 'idle', 'loaded') * 1024 / tries:,.0f}",
        f"{run.grown('sockets', 'idle', 'loaded'):,}",
        f"{run.grown('tracked', 'idle', 'loaded'):,}",
        f"{run.grown('busy', 'idle', 'loaded') / tries / 1e3:,.1f}",
    )


def _served(run: LoadRun) -> tuple[str, ...]:
    """The columns :data:`SERVED`."""
    return _time(run.service["idle"]), _time(run.service["loaded"])


def _time(service: Numbers) -> str:
    """Median and 95th percentile, in µs."""
    if not service.get("median"):
        return "-"
    return f"{service['median'] / 1e3:,.0f} ({service['high'] / 1e3:,.0f})"


def run(
    request: Request, options: LoadOptions, archive: Archive, console: Console, log: str = ""
) -> LoadReport:
    """Measure on the kernel of *request*.

    :raises TarpitError: as a build and its proof do.
    """
    options.check()
    contenders = named(options.only)
    plan = planning.make(request, archive)
    userland = plan.kernel.userland
    userland.demand_provable(given=False, in_tree="")
    built = building.carry_out(plan, console)
    with prove.staged(plan, console, built.packages(), built) as (subject, workshop):
        modules: tuple[Path, ...] = ()
        programs: tuple[Path, ...] = ()
        if isinstance(userland, SuiteUserland):
            if any(one.module for one in contenders):
                modules = peers.module(workshop, userland)
            if any(one.program for one in contenders):
                programs = peers.programs(workshop, userland)
        judged = replace(
            subject,
            packages=(*subject.packages, *modules, *programs),
            tools=replace(subject.tools, peer=peers.MODULE if modules else ""),
        )
        with scratch("load") as folder:
            boot = assemble(judged, workshop.engine, console, folder)
            with Runner(setup(judged, VerifyOptions(), boot), console) as runner:
                report = measure(runner, contenders, options, console)
    with paths.replacing(paths.dist_dir() / RESULTS / f"load-{plan.name}.json") as stage:
        stage.write_text(json.dumps(report.data(), indent=2) + "\n")
    tried.note("load", f"Linux {report.kernel}", report.figures())
    return report


def measure(
    runner: Runner, contenders: Iterable[Contender], options: LoadOptions, console: Console
) -> LoadReport:
    """The same on machines of *runner*, a fresh one for each contender.

    :raises InfrastructureError: if one cannot be set up, or its kernel complains.
    """
    entries = [_entry(runner, contender, options, console) for contender in contenders]
    return LoadReport(runner.release, options, entries)


def _entry(
    runner: Runner, contender: Contender, options: LoadOptions, console: Console
) -> ContenderResult:
    with console.stage(contender.name) as stage:
        host = Host(runner.machine(GROUP))
        try:
            contender.arm(host)
        except Unavailable as error:
            stage.done(f"does not take part: {error}")
            return ContenderResult(contender.name, missing=str(error))
        stage.note("frames")
        frames = _frames(host, contender, options)
        contender.disarm(host)
        if contender.program:
            contender.arm(host)
        stage.note("clients")
        clients = _clients(host, contender, options)
        flood = None
        if not contender.program:
            stage.note("flood")
            flood = _flood(host, options)
        if trouble := host.lab.trouble():
            raise InfrastructureError(
                f"with {contender.name}, the kernel complained: {trouble}",
                hint="that is no figure, but a fault: invoke verify may show more",
            )
        stage.done(f"{clients.ended['held']:,} of {clients.ended['tried']:,} clients held")
        runner.end()
        return ContenderResult(contender.name, frames=frames, clients=clients, flood=flood)


def _frames(host: Host, contender: Contender, options: LoadOptions) -> LoadRun:
    count = min(options.frames, options.clients) if contender.program else options.frames
    mac = contender.mac or host.mac()
    attacker = (NAMESPACES[0], "p0", mac, contender.address(0))
    return _program(host, "raw", count, PORT, SERVICE, *attacker)


def _clients(host: Host, contender: Contender, options: LoadOptions) -> LoadRun:
    targets = [f"{name}={contender.address(n)}" for n, name in enumerate(NAMESPACES)]
    return _program(host, "clients", options.clients, PORT, options.seconds, SERVICE, *targets)


def _program(host: Host, *words: object) -> LoadRun:
    done = host.guest.attempt(PROGRAM, *map(str, words), seconds=MOST_SECONDS)
    if done.status:
        raise InfrastructureError(
            f"in the guest, {done.stderr.strip() or 'load was killed'}",
            hint=LESS,
        )
    return LoadRun.parse(done.stdout)


def _flood(host: Host, options: LoadOptions) -> LoadRun:
    """SYNs from anywhere, as fast as the card takes them, while the service is asked."""
    ask = f"{PROGRAM} ask {SERVICE} {NAMESPACES[0]} /run/enough > /run/flood.out 2>&1 &"
    wire = host.lab.wires[0]
    wire.on_frame = lambda _: None  # what is answered goes nowhere
    block = b"".join(_syns(wire.mac))
    host.guest.run("sh", "-c", ask)
    while "state before" not in host.guest.read("/run/flood.out"):
        host.guest.sleep(0.01)
    for _ in range(0, options.flood, DISTINCT):
        wire.write(block)
    side = SIDES[0]
    wire.settle(side.gateway4, side.guest4, seconds=PATIENCE)  # the last one was dealt with
    wire.on_frame = None
    host.guest.write("/run/enough", "")
    while not (said := host.guest.read("/run/flood.out")).endswith("done tried=0\n"):
        host.guest.sleep(0.1)
    return LoadRun.parse(said)


def _syns(mac: str) -> Iterable[bytes]:
    """Frames as QEMU takes them, from addresses that nobody answers for."""
    numbers = random.Random(1)  # noqa: S311  (repeatable, not secret)
    for _ in range(DISTINCT):
        source = ".".join(str(numbers.randint(1, 254)) for _ in range(3))
        flow = Flow(f"198.{source}", "10.1.0.1", numbers.randint(1024, 65535), PORT)
        data = frame(
            Segment(flow, "S", seq=numbers.getrandbits(32)).packet(), src=mac, dst=card_mac(0)
        )
        yield struct.pack(">I", len(data)) + data
