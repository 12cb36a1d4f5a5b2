"""Rounds of cases on a guest, until time or packets are used up, or enough was found."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.fuzzing import corpus
from tarpit_builder.fuzzing.findings import Finding, smallest
from tarpit_builder.fuzzing.world import PORTS, FuzzRun, World
from tarpit_builder.leftovers import scratch
from tarpit_builder.proof.qemu import MachineDied
from tarpit_builder.proof.registry import Group
from tarpit_builder.proof.runner import Runner
from tarpit_builder.proof.verification import Subject, VerifyOptions, assemble, setup

GROUP = Group("fuzz", "hostile frames", order=0, extra=True)
MINUTE = 60.0
ROUND = 10.0  # seconds that a round should take: what is new is worked with in the next
FIRST = 200  # cases of the first round
CYCLE = 4  # rounds, after which they are of the same kind again
ENOUGH = 5  # different findings, or guests that died, after which a run ends
TRIES = 400  # to make a wrong answer small
BOOTS = 20  # to make small what kills the guest
SLACK = 600.0  # seconds that a round may take beyond what it should


@dataclass(frozen=True, slots=True)
class FuzzOptions:
    """How long: *seconds*, or until *packets* were sent (0: any number), whichever is first; where
    from: *seed*, 0 for any, and *corpus*.

    *replay* runs the genomes of a file and no others.  *cpus* are the guest's processors; what is
    found goes to the folder *findings*, the result so far to *json*, what the guest says to *log*,
    what an instrumented module counts to the folder *coverage*.
    """

    seconds: int | None = None
    packets: int = 0
    seed: int = 0
    corpus: Path | None = None
    replay: Path | None = None
    cpus: int = 2
    findings: Path | None = None
    json: Path | None = None
    log: Path | None = None
    coverage: Path | None = None

    def check(self) -> None:
        """Refuse what can be told to be wrong before anything is fetched or built.

        :raises UserError: naming what is wrong.
        """
        if self.cpus not in range(1, 9):
            raise UserError(f"--smp {self.cpus}: not sensible", hint="1 to 8")
        if self.replay and not corpus.read(self.replay):
            raise UserError(f"{self.replay} has no genome", hint="name what a run has kept")
        if self.seconds == 0:
            raise UserError("--seconds 0: nothing would be done", hint="name some, or --packets")

    @property
    def limit(self) -> float:
        """Seconds after which a run ends; a minute, where nobody says how long."""
        if self.seconds is None:
            return math.inf if self.packets else MINUTE
        return self.seconds


@dataclass(slots=True)
class FuzzReport:
    """What was done, and what was found.

    *places* and *edges* are basic blocks of the module that were reached, and ways between two,
    as far as the kernel tells (*guided*); *once* counts cases that were wrong and then right,
    *unloads* how often the module was unloaded while frames came in, *deaths* guests that did not
    survive a round.  *memory* is what the kernel had after each fourth round of the guest that
    lives, in kB (:meth:`World.memory`).
    """

    kernel: str
    seed: int
    guided: bool = False
    device: bool = False
    rounds: int = 0
    cases: int = 0
    packets: int = 0
    replies: int = 0
    places: int = 0
    edges: int = 0
    once: int = 0
    unloads: int = 0
    deaths: int = 0
    genomes: int = 0
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 if nothing was found, else 1, as for a proof that fails."""
        return int(bool(self.findings))

    def figures(self) -> str:
        """What was done, and whether anything was found, as a sentence without its full stop."""
        what = f"{len(self.findings)} faults found" if self.findings else "nothing found"
        guided = f", {self.edges} edges of the module reached" if self.guided else ", not guided"
        return (
            f"{self.packets:,} packets and {self.replies:,} answers in {self.seconds:.0f} s"
            f"{guided}; {what}"
        )

    def summary(self) -> str:
        """In a few lines."""
        reached = (
            f"{self.places} places and {self.edges} edges of the module reached, "
            f"{self.genomes} genomes kept"
            if self.guided
            else "not guided: this kernel has no KCOV"
        )
        what = f"{len(self.findings)} findings" if self.findings else "nothing found"
        kept = ", ".join(map(str, self.memory[:1] + self.memory[1:][-1:]))
        lines = [
            f"{self.packets:,} packets in {self.cases:,} cases, {self.replies:,} replies, "
            f"{self.seconds:.0f} s on {self.kernel}, seed {self.seed}",
            reached,
            f"the module was unloaded and loaded again {self.unloads} times",
            *([f"kernel memory in kB, first and last: {kept}"] if kept else []),
            *([f"{self.once} cases were wrong once and not again"] if self.once else []),
            *([f"{self.deaths} guests did not survive"] if self.deaths else []),
            *([] if self.device else ["without the device, which this kernel cannot have"]),
            what,
            *(f"  {finding.shown()}" for finding in self.findings),
        ]
        return "\n".join(lines)

    def write_json(self, file: Path) -> None:
        """The same as data."""
        data = {name: value for name, value in asdict(self).items() if name != "findings"}
        data["findings"] = [finding.shown() for finding in self.findings]
        with paths.replacing(file) as stage:
            stage.write_text(json.dumps(data, indent=2) + "\n")

    def add(self, run: FuzzRun, *, moved: bool) -> None:
        """Count *run*; what it reached says nothing if the module *moved* in memory meanwhile."""
        self.cases += run.cases
        self.packets += run.packets
        self.replies += run.replies
        self.once += run.once
        if not moved:
            self.places = max(self.places, run.places)
            self.edges = max(self.edges, run.edges)


def forget(_: list[str]) -> None:
    """Keep no genomes."""


def fuzz(subject: Subject, options: FuzzOptions, engine: Engine, console: Console) -> FuzzReport:
    """Send hostile frames to the module of *subject*.

    :raises UserError: if the corpus is damaged, or another run has it.
    :raises InfrastructureError: if nothing can be booted, or the fuzzer ends early.
    """
    if options.replay:
        return _boot(subject, options, corpus.read(options.replay), engine, console)
    file = options.corpus or paths.cache_dir() / "fuzz" / "corpus.txt"
    with corpus.claimed(file) as genomes:
        known = list(dict.fromkeys([*corpus.read(corpus.COMMITTED), *genomes]))
        return _boot(subject, options, known, engine, console, partial(corpus.write, file))


def _boot(
    subject: Subject,
    options: FuzzOptions,
    genomes: list[str],
    engine: Engine,
    console: Console,
    keep: Callable[[list[str]], None] = forget,
) -> FuzzReport:
    with scratch("fuzz") as folder:
        boot = assemble(subject, engine, console, folder)
        how = VerifyOptions(cpus=options.cpus, coverage=options.coverage)
        if options.log:
            options.log.write_text("")
        with Runner(setup(subject, how, boot), console, log=options.log) as runner:
            return work(runner, options, console, genomes, keep)


def work(
    runner: Runner,
    options: FuzzOptions,
    console: Console,
    genomes: list[str],
    keep: Callable[[list[str]], None] = forget,
) -> FuzzReport:
    """The same on the machines of *runner*, beginning with *genomes*.

    Each round *keep* is given those that are worth keeping, if the kernel tells.
    """
    session = _Session(runner, options, console, genomes, keep)
    session.run()
    return session.report


class _Session:
    def __init__(
        self,
        runner: Runner,
        options: FuzzOptions,
        console: Console,
        genomes: list[str],
        keep: Callable[[list[str]], None],
    ) -> None:
        self.keep = keep
        self.runner = runner
        self.options = options
        self.console = console
        self.genomes = genomes
        self.cases = FIRST
        seed = options.seed or secrets.randbits(32) | 1
        self.world = World(runner.machine(GROUP))
        self.report = FuzzReport(
            kernel=self.world.guest.release,
            seed=seed,
            guided=self.world.guided,
            device=self.world.has_device,
        )

    def run(self) -> None:
        """Rounds, until it is enough."""
        began = time.monotonic()
        report, options = self.report, self.options
        with self.console.stage("fuzz") as stage:
            while True:
                report.rounds += 1
                self._round()
                report.seconds = time.monotonic() - began
                stage.note(f"{report.packets:,} packets, {report.edges} edges")
                self._tell()
                sent = options.packets and report.packets >= options.packets
                used_up = sent or report.seconds >= options.limit
                enough = max(len(report.findings), report.deaths) >= ENOUGH
                if used_up or options.replay or enough:
                    break
            self._leaks()
            report.seconds = time.monotonic() - began
            self._tell()
            stage.done(f"{report.packets:,} packets")

    def _tell(self) -> None:
        """Write down the result so far; a run may take a night, and somebody may want to look."""
        self.report.genomes = len(self.genomes)
        if self.options.json:
            self.report.write_json(self.options.json)

    def _round(self) -> None:
        """One round: with connections tracked or not, in peace or in chaos, in turn."""
        number = self.report.rounds
        tracked, chaos = number % 2 == 0, number % CYCLE == CYCLE - 1
        count = 0 if self.options.replay else self.cases
        seed = self.report.seed + number
        as_it_is = ["--chaos"] if chaos else ["--tracked"] if tracked else []
        began = time.monotonic()
        try:
            if tracked:
                self.world.track(on=True)
            runs = self.world.everywhere(
                self.genomes,
                *("--seed", str(seed), *as_it_is),
                count=count,
                chaos=chaos,
                seconds=ROUND + SLACK,
            )
            if chaos:
                self.report.unloads += self.world.unloads()
            kept = self.world.tracked() if tracked else []
            trouble = self.world.lab.trouble()
            for port, run in zip(PORTS, runs, strict=True):
                self.report.add(run, moved=chaos)
                for genome, wrong in run.wrong.items():
                    self._wrong(port, genome, wrong, *as_it_is)
            if tracked:
                self.world.track(on=False)
            if number % CYCLE == 0:
                self.report.memory.append(self.world.memory())
        except MachineDied as death:
            if death.killed:
                raise
            self._death(death.message, seed, count, chaos=chaos)
            return
        if trouble:
            self._death(f"the kernel complained: {trouble}", seed, count, chaos=chaos)
        elif kept:
            how = f"seed {seed}, {count} cases: {len(kept)}, such as {kept[0]}"
            self._found("connections stay tracked", how=how)
        if self.report.guided and not self.options.replay and not chaos:
            live = [genome for run in runs for genome in (*run.old, *run.new)]
            self.genomes = list(dict.fromkeys(live))[: corpus.MOST]
            self.keep(self.genomes)
        took = max(time.monotonic() - began, 0.5)
        self.cases = max(FIRST, min(int(self.cases * ROUND / took), 4 * self.cases))

    def _known(self, wrong: str) -> bool:
        kind = Finding.kind(wrong)
        return any(Finding.kind(known.wrong) == kind for known in self.report.findings)

    def _found(
        self, wrong: str, genome: str = "", how: str = "", frames: Sequence[bytes] = ()
    ) -> None:
        if self._known(wrong):
            return
        finding = Finding(wrong, genome, how, tuple(frames))
        self.report.findings.append(finding)
        self.console.say(f"    found: {finding.shown()}")
        if self.options.findings:
            self.console.say(f"    kept: {finding.keep(self.options.findings)}")

    def _wrong(self, port: str, genome: str, wrong: str, *arguments: str) -> None:
        """A wrong answer, which the same guest gives again to a simpler case."""
        if self._known(wrong):
            return

        tried = smallest_yet = genome

        def fails(one: str) -> bool:
            nonlocal tried, smallest_yet
            tried = one
            run = self.world.run([one], *arguments, port=port)
            if run.wrong.get(one) != wrong:
                return False
            smallest_yet = one
            return True

        where, frames = f"on {port}", []
        try:
            if not fails(genome):
                self.report.once += 1
                self.console.say(f"    {wrong}, but not again: {genome} {where}")
                return
            tried = smallest(genome, fails, tries=TRIES)
            frames = self._frames(port, tried, *arguments)
        except MachineDied as death:
            if death.killed:
                raise
            self._anew()
            self._found(death.message, tried, where, self._frames(port, tried, "--dry"))
        self._found(wrong, smallest_yet, where, frames)

    def _death(self, wrong: str, seed: int, count: int, *, chaos: bool) -> None:
        """A guest that is dead or ill: find the case, by booting others."""
        self.report.deaths += 1
        self._anew()
        if self._known(wrong):
            return
        how = f"seed {seed}, {count} cases, {len(self.genomes)} genomes" + (
            ", rules and devices changing meanwhile" if chaos else ""
        )
        boots = BOOTS
        for port in PORTS:
            low, high = 0, len(self.genomes) + count
            if self._survives_first(port, seed, high):
                continue
            while high - low > 1 and boots:
                boots -= 1
                middle = (low + high) // 2
                lives = self._survives_first(port, seed, middle)
                low, high = (middle, high) if lives else (low, middle)
            culprit = self._genome(port, seed, high - 1)

            def fails(one: str, port: str = port) -> bool:
                return not self._survives(port, [one])

            if fails(culprit):
                small = smallest(culprit, fails, tries=boots)
                frames = self._frames(port, small, "--dry")
                self._found(wrong, small, f"on {port}", frames)
            else:
                self._found(wrong, how=f"{how}: on {port}, by the first {high} together")
            return
        self._found(wrong, how=f"{how}; not again in a fresh guest")

    def _survives_first(self, port: str, seed: int, cases: int) -> bool:
        """Whether a guest lives through so many cases, genomes first."""
        genomes = self.genomes[:cases]
        more = max(cases - len(self.genomes), 0)
        return self._survives(port, genomes, "--seed", str(seed), "--count", str(more))

    def _survives(self, port: str, genomes: Sequence[str], *arguments: str) -> bool:
        try:
            self.world.run(genomes, *arguments, port=port)
            well = self.world.lab.trouble() is None
        except MachineDied as death:
            if death.killed:
                raise
            well = False
        except InfrastructureError:
            well = False
        if not well:
            self._anew()
        return well

    def _genome(self, port: str, seed: int, case: int) -> str:
        """What case number *case* is, which nobody needs to send for that."""
        if case < len(self.genomes):
            return self.genomes[case]
        number = case - len(self.genomes)
        arguments = ("--seed", str(seed), "--first", str(number), "--count", "1", "--print")
        told = self.world.guest.attempt(
            *self.world.command(port, *arguments), stdin=World.lines(self.genomes)
        )
        return told.stdout.split()[1]

    def _frames(self, port: str, genome: str, *arguments: str) -> list[bytes]:
        """The frames of *genome*, and the answers that they get, if any (``--dry``: none)."""
        command = self.world.command(port, "--dump", *arguments)
        told = self.world.guest.attempt(*command, stdin=World.lines([genome])).stdout
        words = [line.split() for line in told.splitlines()]
        return [bytes.fromhex(word[1]) for word in words if word[0] in {"frame", "reply"}]

    def _anew(self) -> None:
        """Another guest in place of this one."""
        self.runner.end()
        self.world = World(self.runner.machine(GROUP))
        self.report.memory.clear()

    def _leaks(self) -> None:
        lab = self.world.lab
        if lab.tools.leaks:
            for leak in lab.leaks()[:1]:
                self._found("what the module allocates is not freed", how=leak[:400])
