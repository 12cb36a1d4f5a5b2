"""Runs groups of checks, each on a machine that works, and collects the results."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tarpit_builder.console import Console, Stage
from tarpit_builder.errors import InfrastructureError, TarpitError, UserError
from tarpit_builder.proof.guest import Guest
from tarpit_builder.proof.initramfs import BootFiles
from tarpit_builder.proof.lab import Deviation, Lab, Tools, Unavailable
from tarpit_builder.proof.qemu import Machine, MachineDied, MachineSpec
from tarpit_builder.proof.reactor import Reactor
from tarpit_builder.proof.registry import Check, Group
from tarpit_builder.proof.report import BAD, MARKS, CheckResult, Figure, Verdict
from tarpit_builder.proof.segment import Ladder
from tarpit_builder.proof.wire import Recorder

STEADY = "shift=auto"
"""QEMU's -icount for a guest that must not notice how busy this machine is: its clocks go by the
instructions it has executed, and follow the time outside as well as they can."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A group of checks and a backend of iptables: what is judged in one go."""

    group: Group
    backend: str

    @property
    def shown(self) -> str:
        """The backend, where there is more than one to tell apart."""
        return self.backend if len(self.group.backends) > 1 else ""

    @property
    def title(self) -> str:
        """As the progress shows it."""
        return f"{self.group.name} {self.shown}".strip()


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What came of a unit; its *release* is the kernel's, all else is as in the report."""

    results: tuple[CheckResult, ...]
    ladder: tuple[str, ...]
    notes: tuple[str, ...]
    release: str
    accel: str
    held: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()

    @property
    def bad(self) -> tuple[CheckResult, ...]:
        """What is not right, or could not be judged."""
        return tuple(result for result in self.results if result.outcome in BAD)

    def show(self, console: Console, stage: Stage) -> None:
        """Say what is not right, and end the line of the progress."""
        for result in self.bad:
            console.say(f"    {MARKS[result.outcome]} {result.name}")
        stage.done(f"{len(self.results)} checks" + (f", {len(self.bad)} bad" if self.bad else ""))


def units(groups: Iterable[Group], backends: Sequence[str]) -> list[Unit]:
    """Every one of *groups* for each of *backends* that it is repeated for.

    One to which that makes no difference is judged by whichever there is.
    """
    return [
        Unit(group, backend)
        for group in groups
        for backend in ([b for b in group.backends if b in backends] or backends[:1])
    ]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a runner judges, and on which machines; it may travel to another process.

    *coverage* is a folder for what an instrumented module has counted, one for each machine.
    """

    boot: BootFiles
    base: MachineSpec
    boot_seconds: float
    tools: Tools = field(default_factory=Tools)
    fail_fast: bool = False
    coverage: Path | None = None


@dataclass(slots=True)
class Runner:
    """Boots machines as groups need them; the next group gets the same one if it is well.

    A context manager, which leaves no machine behind.
    """

    setup: Setup
    console: Console
    recorder: Recorder | None = None
    log: Path | None = None
    first: bool = True
    """Nothing was judged yet: what is wrong with the machine now is wrong altogether."""
    release: str = ""
    _results: list[CheckResult] = field(default_factory=list)
    _ladder: tuple[str, ...] = ()
    _held: tuple[str, ...] = ()
    _notes: list[str] = field(default_factory=list)
    _figures: list[Figure] = field(default_factory=list)
    _lab: Lab | None = None
    _came_up: bool = False

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, units: Iterable[Unit]) -> list[UnitResult]:
        """Judge *units* one after the other, and show it.

        :raises TarpitError: if nothing at all could be judged.
        """
        parts = []
        for unit in units:
            with self.console.stage(unit.title) as stage:
                parts.append(self.judge(unit))
                parts[-1].show(self.console, stage)
            if parts[-1].bad and self.setup.fail_fast:
                break
        return parts

    def judge(self, unit: Unit) -> UnitResult:
        """Judge one unit.

        :raises TarpitError: if nothing at all could be judged.
        """
        self._results, self._ladder, self._held = [], (), ()
        self._notes, self._figures = [], []
        began = time.monotonic()
        try:
            self._group(unit.group, unit.backend, unit.shown)
        except MachineDied as death:
            if self.first:
                raise
            # Between two checks; what other groups have shown remains.
            self._add(unit.group, unit.shown, None, None, _blame(death), began, death.message)
            self.end()
        self.first = self.first and not self.release
        return UnitResult(
            results=tuple(self._results),
            ladder=self._ladder,
            notes=tuple(self._notes),
            release=self.release,
            accel=self.setup.base.accel,
            held=self._held,
            figures=tuple(self._figures),
        )

    def use(self, tools: Tools) -> None:
        """Judge another module from now on, on the same machine if it is well."""
        self.setup = replace(self.setup, tools=tools)
        lab = self._lab
        if lab is None:
            return
        try:
            lab.judge_device(judged=False)
            lab.clear()
            lab.unload()
            lab.tools = tools
            lab.require_module()
        except (TarpitError, OSError):
            self.end()

    def _group(self, group: Group, backend: str, shown: str) -> None:
        if group.ordinary and (self.setup.tools.watched or self.setup.coverage):
            why = "most instructions here are those of what looks for mistakes, or counts lines"
            self._add(group, shown, None, None, Verdict.SKIP, time.monotonic(), why)
            return
        lab = self._ready(group, backend, shown)
        if lab is None:
            return
        for check in group.checks:
            families = lab.families if check.per_family else (None,)
            for family in families:
                if not self._check(group, shown, check, family, lab):
                    return
                if self.setup.fail_fast and self._results[-1].outcome is Verdict.FAIL:
                    return
                self._restore(group, lab)
        self._health(group, shown, lab)

    def _ready(self, group: Group, backend: str, shown: str) -> Lab | None:
        """A machine prepared for *group*; None, with a result that says why, if there is none.

        :raises TarpitError: if it is not this group's trouble: nothing at all could be judged.
        """
        began = time.monotonic()
        try:
            lab = self.machine(group)
            lab.backend = backend
            lab.clear()
            lab.judge_device(judged=group.device)
            lab.log_mark()
            if group.prepare:
                group.prepare(lab)
        except (TarpitError, OSError, Deviation, Unavailable) as error:
            outcome = Verdict.SKIP if isinstance(error, Unavailable) else Verdict.ERROR
            if isinstance(error, MachineDied) and self._came_up:
                # Loading the module or inserting a rule is what killed it.
                outcome = _blame(error)
            elif isinstance(error, UserError) or (
                self.first and not isinstance(error, (Deviation, Unavailable))
            ):
                self.end()
                raise
            self._add(group, shown, None, None, outcome, began, str(error))
            self.end()
            return None
        return lab

    def _restore(self, group: Group, lab: Lab) -> None:
        """Take away what a check left behind: all of it, or what is more than prepared."""
        if self._results[-1].outcome is Verdict.PASS and group.prepare:
            return
        try:
            lab.clear()
            if group.prepare:
                group.prepare(lab)
        except (TarpitError, OSError, Deviation, Unavailable) as error:
            # What it found remains; the checks that follow show what they are missing.
            self.console.warn(f"{group.name} could not be prepared again: {error}")

    def _check(self, group: Group, shown: str, check: Check, family: int | None, lab: Lab) -> bool:
        """Judge one check; false if the machine did not survive it."""
        began = time.monotonic()
        if self.recorder:
            where = f"{group.name}/{shown}" if shown else group.name
            of = f" IPv{family}" if family else ""
            self.recorder.mark(f"{where}{of}: {check.title}")
        arguments = {} if family is None else {"family": family}
        outcome, detail, ladder = Verdict.PASS, "", Ladder()
        alive = True
        try:
            check.function(lab, **arguments)
        except Deviation as deviation:
            outcome, detail = Verdict.FAIL, deviation.text
            ladder.segments = list(deviation.segments)[:12]
        except Unavailable as missing:
            outcome, detail = Verdict.SKIP, str(missing)
        except MachineDied as death:
            outcome, detail, alive = _blame(death), death.message, False
        except (TarpitError, OSError) as error:
            outcome, detail = Verdict.ERROR, str(error)
            if dead := self._death(lab):
                outcome, detail, alive = _blame(dead), dead.message, False
        except Exception as error:
            outcome = Verdict.ERROR
            detail = f"the check itself broke: {type(error).__name__}: {error}"
        trouble = lab.machine.trouble
        if alive and trouble:
            outcome, detail, alive = Verdict.FAIL, f"the kernel complained: {trouble}", False
        self._add(group, shown, check, family, outcome, began, detail, tuple(ladder.lines()))
        if lab.ladder and not self._ladder:
            self._ladder = tuple(Ladder(lab.ladder).lines())
        if lab.held and not self._held:
            self._held = tuple(Ladder(lab.held).lines())
        self._notes += lab.notes
        self._figures += lab.figures
        lab.notes, lab.figures = [], []
        if not alive:
            self.end()
        return alive

    @staticmethod
    def _death(lab: Lab) -> MachineDied | None:
        """Why the guest does not answer any more, if it does not.

        A guest that hangs shows first as whatever the check was waiting for.
        """
        try:
            lab.guest.clock()
        except MachineDied as death:
            return death
        except (TarpitError, OSError):
            pass
        return None

    def _health(self, group: Group, shown: str, lab: Lab) -> None:
        began = time.monotonic()
        check = Check("the kernel's log stays silent", "5", lambda _: None)
        try:
            lab.clear()
            news = lab.log_news(group.provokes)
        except (TarpitError, OSError) as error:
            outcome = _blame(error) if isinstance(error, MachineDied) else Verdict.FAIL
            self._add(group, shown, check, None, outcome, began, str(error))
            self.end()
            return
        outcome = Verdict.FAIL if news else Verdict.PASS
        self._add(group, shown, check, None, outcome, began, "\n".join(news[:5]))
        if lab.tools.leaks and not self._leaks(group, shown, lab):
            self.end()  # what lies there would be found again
        elif lab.trouble():
            self.end()

    def _leaks(self, group: Group, shown: str, lab: Lab) -> bool:
        """Judge whether all was freed; false if it was not, or nobody knows."""
        began = time.monotonic()
        check = Check("what the module allocates is freed", "5", lambda _: None)
        try:
            found = lab.leaks()
        except (TarpitError, OSError) as error:
            self._add(group, shown, check, None, Verdict.ERROR, began, str(error))
            return False
        outcome = Verdict.FAIL if found else Verdict.PASS
        self._add(group, shown, check, None, outcome, began, "\n".join(found[:3]))
        return not found

    def _add(
        self,
        group: Group,
        backend: str,
        check: Check | None,
        family: int | None,
        outcome: Verdict,
        began: float,
        detail: str = "",
        ladder: tuple[str, ...] = (),
    ) -> None:
        result = CheckResult(
            group=group.name,
            backend=backend,
            title=check.title if check else group.title,
            section=check.section if check else "",
            family=family,
            outcome=outcome,
            seconds=time.monotonic() - began,
            detail=detail,
            ladder=ladder,
        )
        self._results.append(result)

    # -- machines ----------------------------------------------------------------------------

    def _spec(self, group: Group) -> MachineSpec:
        icount = group.icount or self.setup.base.icount
        return replace(
            self.setup.base,
            icount=icount,
            cards=group.cards,
            memory=max(group.memory, self.setup.base.memory),
            randomness=group.randomness,
            # With -icount QEMU runs processors in turns, and Linux 5.10 does not come up on two.
            cpus=1 if icount else self.setup.base.cpus,
            # Counting instructions is something that only TCG can do.
            accel="tcg" if icount else self.setup.base.accel,
        )

    def machine(self, group: Group) -> Lab:
        """A machine for *group*, with the module loaded; the one that is there, if it will do.

        :raises TarpitError: if none comes up, or the kernel refuses the module.
        """
        spec = self._spec(group)
        usable = self._lab and self._lab.machine.spec == spec and self._lab.machine.running
        if self._lab and usable and not group.fresh:
            return self._lab
        self.end()
        return self._start(group)

    def _start(self, group: Group, *, again: bool = True) -> Lab:
        self._came_up = False
        spec = self._spec(group)
        machine = Machine(spec, Reactor())
        try:
            guest = Guest(machine, boot_seconds=self.setup.boot_seconds)
        except InfrastructureError as error:
            machine.close()
            self._keep_log(machine)
            if spec.accel == "tcg":
                # A kernel patches its code while it boots, and one emulated processor may see that
                # later than another: 7.3 was seen to run into its own int3.  Where instructions
                # are counted, 2.6.27 may wait for its timer in vain.  Nothing of ours is in it
                # then.
                if again and (spec.cpus > 1 or spec.icount) and machine.trouble:
                    self.console.warn(f"{error.message}: booting it once more")
                    return self._start(group, again=False)
                raise
            self.console.warn(f"no guest comes up with {spec.accel}: going on with TCG")
            self.setup = replace(self.setup, base=replace(self.setup.base, accel="tcg"))
            return self._start(group)
        if self.setup.boot.release and guest.release != self.setup.boot.release:
            machine.close()
            raise InfrastructureError(
                f"the guest runs {guest.release}, not {self.setup.boot.release}",
                hint="the kernel image and the modules are not of the same package",
            )
        if again and machine.trouble and self.setup.base.icount != STEADY:
            # Nothing of ours is in it yet.  Up to 4.3, a kernel warns when a host that is busy
            # elsewhere keeps it from finding out how fast its clock is ("Unable to calibrate
            # against PIT").  Where QEMU counts instructions, all its clocks agree.
            self.console.warn(
                f"the kernel complained of itself: {machine.trouble}: "
                "once more, with clocks that do not depend on how busy this machine is"
            )
            machine.close()
            self._keep_log(machine)
            self.setup = replace(self.setup, base=replace(self.setup.base, icount=STEADY))
            return self._start(group)
        self.release = guest.release
        self._came_up = True
        lab = Lab(machine, guest, self.recorder, self.setup.tools)
        try:
            lab.open()
            lab.require_module()
        except BaseException:
            machine.close()
            self._keep_log(machine)
            raise
        self._lab = lab
        return lab

    def end(self) -> None:
        """Do away with the machine, if there is one; the next comes up when it is needed."""
        if self._lab:
            machine = self._lab.machine
            if self.setup.coverage and machine.running:
                with suppress(TarpitError, OSError):  # a machine that is not well tells nothing
                    _keep_counters(self._lab, self.setup.coverage)
            self._lab.close()
            machine.close()
            self._keep_log(machine)
            self._lab = None

    def _keep_log(self, machine: Machine) -> None:
        if self.log:
            with self.log.open("a") as stream:
                stream.write(machine.console)


def _keep_counters(lab: Lab, folder: Path) -> None:
    own = Path(tempfile.mkdtemp(dir=folder))
    for name, data in lab.counters().items():
        (own / name).write_bytes(data)


def _blame(death: MachineDied) -> Verdict:
    """A kernel that dies is wrong, whatever the check was about; not so if QEMU was killed."""
    return Verdict.ERROR if death.killed else Verdict.FAIL
