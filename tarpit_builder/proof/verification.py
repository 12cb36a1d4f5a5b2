"""From what is to be proven to a report: ``invoke verify``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tarpit_builder import digests
from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.errors import UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.machine import cores, free_memory
from tarpit_builder.proof import registry, workers
from tarpit_builder.proof.initramfs import Assembly, BootFiles, UserLand, require_space
from tarpit_builder.proof.lab import Tools
from tarpit_builder.proof.qemu import MachineSpec, emulator
from tarpit_builder.proof.report import VerifyReport
from tarpit_builder.proof.runner import Runner, Setup, Unit, UnitResult, units
from tarpit_builder.proof.wire import Recorder

WORK_BYTES = 400 << 20
TABLES = {"legacy": "ip_tables", "nft": "nft_compat"}
"""The module that a backend of iptables cannot do without; from Linux 6.17 on, kernels with
PREEMPT_RT have no ``ip_tables``."""
OVERHEAD = 256  # MiB that the QEMU and the judge of a guest take


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be proven, on what.

    Either *kernel_packages* (a Debian kernel's), *kernel_image* (the folder of one that was
    built) or *installed* (the image and the folder of modules of one on some machine), below the
    programs of *land*, or, with *files*, below nothing but these: path in the guest → file here.
    *packages* are those under proof: ``.deb``, or bare ``.ko`` and ``.so``; *given* says that they
    are not known to be our own.  *groups* of checks can be judged on it (none named: all), with
    these *backends* of iptables; *boot_seconds* a boot may take.  A guest gets at least *memory*
    MiB and *cpus* processors, and its kernel *arguments*.
    """

    land: UserLand
    kernel_packages: tuple[Path, ...] = ()
    packages: tuple[Path, ...] = ()
    given: bool = False
    kernel_image: Path | None = None
    installed: tuple[Path, Path] | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    backends: tuple[str, ...] = registry.BACKENDS
    boot_seconds: float = 90.0
    memory: int = 512
    cpus: int = 1
    arguments: str = ""
    tools: Tools = field(default_factory=Tools)


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """How to prove: *only* these groups of checks, or the *full* set, else the smoke set.

    *jobs* machines work at once, 0 stands for as many as there are processors for.
    *pcap*, *json*, *junit* and *log* (the guests' consoles) are files to be written; *coverage* is
    a folder for what an instrumented module counts.
    """

    only: tuple[str, ...] = ()
    full: bool = False
    cpus: int = 1
    accel: str = "tcg"
    jobs: int = 0
    pcap: Path | None = None
    json: Path | None = None
    junit: Path | None = None
    log: Path | None = None
    coverage: Path | None = None

    def check(self) -> None:
        """Refuse what can be told to be wrong before anything is fetched or built.

        :raises UserError: naming what is wrong.
        """
        registry.select(self.only)
        if self.accel not in {"tcg", "kvm"}:
            raise UserError(f"--accel {self.accel}: not known", hint="there are tcg and kvm")
        if self.cpus not in range(1, 9):
            raise UserError(f"--smp {self.cpus}: not sensible", hint="1 to 8; checks use 1 or 2")
        for path in (self.pcap, self.json, self.junit, self.log):
            if path and (path.is_dir() or not path.parent.is_dir()):
                raise UserError(
                    f"{path} cannot be written", hint="name a file in a folder that exists"
                )

    def marked(self, mark: str) -> VerifyOptions:
        """The same with *mark* in the names of the files."""
        files = {name: getattr(self, name) for name in ("pcap", "json", "junit", "log")}
        return replace(
            self,
            **{
                name: path.with_name(f"{path.stem}-{mark}{path.suffix}")
                for name, path in files.items()
                if path
            },
        )

    def groups(self, subject: Subject) -> tuple[str, ...]:
        """The groups of checks that are asked for; none stands for all."""
        return self.only or (subject.groups if self.full else ("smoke",))


def verify(
    subject: Subject, options: VerifyOptions, engine: Engine, console: Console
) -> VerifyReport:
    """Boot the kernel and judge the packages against the contract.

    The report says what passed; files that *options* name are written on the way.

    :raises UserError: if the request cannot be met: unknown group, packages of another kernel.
    :raises ToolMissingError: if there is no QEMU.
    :raises InfrastructureError: if no machine can be booted at all.
    """
    began = time.monotonic()
    options.check()
    options = replace(options, cpus=max(options.cpus, subject.cpus))
    emulator(subject.land.arch)
    groups = registry.select(options.groups(subject))
    with scratch("proof") as work:
        require_space(work, WORK_BYTES)
        boot = assemble(subject, engine, console, work)
        backends = tuple(b for b in subject.backends if TABLES[b] not in boot.absent)
        if not backends:
            raise UserError(
                f"{boot.release} has no tables for iptables, of either kind",
                hint="see tarpit(4): the device needs none, but is proven on other kernels",
            )
        wanted = units(groups, backends)
        proven = {path.name: digests.file(path) for path in subject.packages}
        booted = {path.name: digests.file(path) for path in subject.kernel_packages}
        booted[boot.kernel.name] = digests.file(boot.kernel)
        if options.log:
            options.log.write_text("")
        parts = judge(subject, options, boot, wanted, console, work)
    report = VerifyReport(
        kernel=next((part.release for part in parts if part.release), boot.release),
        packages=tuple(path.name for path in subject.packages),
        accel=parts[-1].accel,
        cpus=options.cpus,
        seconds=time.monotonic() - began,
        results=tuple(result for part in parts for result in part.results),
        ladder=next((part.ladder for part in parts if part.ladder), ()),
        notes=(
            *(note for part in parts for note in part.notes),
            *(f"no iptables-{b} on this kernel" for b in subject.backends if b not in backends),
        ),
        given=subject.given,
        held=next((part.held for part in parts if part.held), ()),
        figures=tuple(figure for part in parts for figure in part.figures),
        proven=proven,
        booted=booted,
    )
    if options.json:
        report.write_json(options.json)
    if options.junit:
        report.write_junit(options.junit)
    return report


def judge(
    subject: Subject,
    options: VerifyOptions,
    boot: BootFiles,
    wanted: Sequence[Unit],
    console: Console,
    work: Path,
) -> list[UnitResult]:
    """Judge *wanted*; where there are more machines than one, the first comes up alone.

    What keeps that one from coming up would keep all from it, and is said once.
    """
    room = min(cores() // options.cpus, free_memory() // (subject.memory + OVERHEAD))
    machines = options.jobs or max(1, room)
    alone, others = (wanted[:1], wanted[1:]) if machines > 1 else (wanted, wanted[:0])
    recorder = Recorder(options.pcap) if options.pcap else None
    try:
        with Runner(setup(subject, options, boot), console, recorder, options.log) as runner:
            parts = runner.run(alone)
    finally:
        if recorder:
            recorder.close()
    if not others:
        return parts
    outputs = [
        workers.Outputs(
            pcap=work / f"{number}.pcapng" if options.pcap else None,
            log=work / f"{number}.log" if options.log else None,
        )
        for number in range(min(machines, len(others)))
    ]
    try:
        same = setup(subject, replace(options, accel=parts[0].accel), boot)
        return [*parts, *workers.judge(same, others, outputs, console)]
    finally:
        for files in outputs:
            append(files.pcap, options.pcap)  # sections of a pcapng file may follow each other
            append(files.log, options.log)


def append(part: Path | None, whole: Path | None) -> None:
    """Put *part*, if there is one, at the end of *whole*."""
    if part and whole and part.exists():
        with part.open("rb") as source, whole.open("ab") as target:
            shutil.copyfileobj(source, target)


def setup(subject: Subject, options: VerifyOptions, boot: BootFiles) -> Setup:
    """What judges *subject*."""
    return Setup(
        boot=boot,
        base=MachineSpec(
            kernel=boot.kernel,
            initrd=boot.initrd,
            arch=subject.land.arch,
            memory=subject.memory,
            cmdline=subject.arguments,
            cpus=options.cpus,
            accel=options.accel,
            card_model=subject.tools.card,
        ),
        boot_seconds=subject.boot_seconds,
        tools=subject.tools,
        coverage=options.coverage,
    )


def assemble(subject: Subject, engine: Engine, console: Console, work: Path) -> BootFiles:
    """Boot files for *subject*."""
    assembly = Assembly(engine, console, subject.land)
    if subject.files:
        assert subject.kernel_image
        return assembly.bare(subject.kernel_image, subject.files, work)
    if subject.kernel_image:
        return assembly.built(subject.kernel_image, subject.packages, work)
    if subject.installed:
        return assembly.installed(*subject.installed, subject.packages, work)
    return assembly.debian(subject.kernel_packages, subject.packages, work)
