"""From a request to a report: ``invoke verify``."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.errors import UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.machine import cores, free_memory
from tarpit_builder.proof import crew, registry
from tarpit_builder.proof.initramfs import Assembly, BootFiles, UserLand, require_space
from tarpit_builder.proof.lab import Tools
from tarpit_builder.proof.qemu import MachineSpec, emulator
from tarpit_builder.proof.report import VerifyReport
from tarpit_builder.proof.runner import Part, Runner, Setup, Unit, units
from tarpit_builder.proof.wire import Recorder

WORK_BYTES = 400 << 20
GUEST_MIB = 768  # of memory that a guest, its QEMU and its judge take


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be proven, on what.

    Either *kernel_packages* (a Debian kernel's) or *kernel_image* (an old kernel's, with *files*
    that bring the module and a static iptables: path in the guest → file here).
    *packages* are those under proof: ``.deb``, or bare ``.ko`` and ``.so``; *given* says that they
    are not known to be our own.
    *only* names groups of checks; *jobs* machines work at once, 0 stands for as many as there are
    processors for; *timeout* is the number of seconds that a boot may take;
    *fail_fast* ends it all at the first check that fails.
    """

    land: UserLand
    kernel_packages: tuple[Path, ...] = ()
    packages: tuple[Path, ...] = ()
    given: bool = False
    kernel_image: Path | None = None
    files: Mapping[str, Path] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    smoke: bool = False
    backends: tuple[str, ...] = registry.BACKENDS
    cpus: int = 1
    accel: str = "tcg"
    jobs: int = 0
    timeout: float = 90.0
    pcap: Path | None = None
    json: Path | None = None
    junit: Path | None = None
    console_log: Path | None = None
    fail_fast: bool = False
    tools: Tools = field(default_factory=Tools)


def verify(request: VerifyRequest, engine: Engine, console: Console) -> VerifyReport:
    """Boot the kernel and judge the packages against the contract.

    The report says what passed; files that the request names are written on the way.

    :raises UserError: if the request cannot be met: unknown group, packages of another kernel.
    :raises InfrastructureError: if no machine can be booted at all.
    """
    began = time.monotonic()
    check_request(request)
    wanted = units(registry.select(("smoke",) if request.smoke else request.only), request.backends)
    with scratch("proof") as work:
        require_space(work, WORK_BYTES)
        boot = assemble(request, engine, console, work)
        if request.console_log:
            request.console_log.write_text("")
        parts = judge(request, boot, wanted, console, work)
    report = VerifyReport(
        kernel=next((part.release for part in parts if part.release), boot.release),
        packages=tuple(path.name for path in request.packages),
        accel=parts[-1].accel,
        cpus=request.cpus,
        seconds=time.monotonic() - began,
        results=tuple(result for part in parts for result in part.results),
        ladder=next((part.ladder for part in parts if part.ladder), ()),
        notes=tuple(note for part in parts for note in part.notes),
        given=request.given,
    )
    if request.json:
        report.write_json(request.json)
    if request.junit:
        report.write_junit(request.junit)
    return report


def judge(
    request: VerifyRequest, boot: BootFiles, wanted: Sequence[Unit], console: Console, work: Path
) -> list[Part]:
    """Judge *wanted*; where there are more machines than one, the first comes up alone.

    What keeps that one from coming up would keep all from it, and is said once.
    """
    room = min(cores() // request.cpus, free_memory() // GUEST_MIB)
    machines = request.jobs or max(1, room)
    alone, others = (wanted[:1], wanted[1:]) if machines > 1 else (wanted, wanted[:0])
    recorder = Recorder(request.pcap) if request.pcap else None
    try:
        with Runner(setup(request, boot), console, recorder, request.console_log) as runner:
            parts = runner.run(alone)
    finally:
        if recorder:
            recorder.close()
    if not others or (request.fail_fast and parts[0].bad):
        return parts
    outputs = [
        crew.Outputs(
            pcap=work / f"{number}.pcapng" if request.pcap else None,
            log=work / f"{number}.log" if request.console_log else None,
        )
        for number in range(min(machines, len(others)))
    ]
    try:
        same = setup(replace(request, accel=parts[0].accel), boot)
        return [*parts, *crew.judge(same, others, outputs, console)]
    finally:
        for files in outputs:
            append(files.pcap, request.pcap)  # sections of a pcapng file may follow each other
            append(files.log, request.console_log)


def append(part: Path | None, whole: Path | None) -> None:
    """Put *part*, if there is one, at the end of *whole*."""
    if part and whole and part.exists():
        with part.open("rb") as source, whole.open("ab") as target:
            shutil.copyfileobj(source, target)


def setup(request: VerifyRequest, boot: BootFiles) -> Setup:
    """What judges *request*."""
    return Setup(
        boot=boot,
        base=MachineSpec(
            kernel=boot.kernel,
            initrd=boot.initrd,
            arch=request.land.arch,
            cpus=request.cpus,
            accel=request.accel,
            card_model=request.tools.card,
        ),
        boot_seconds=request.timeout,
        tools=request.tools,
        fail_fast=request.fail_fast,
    )


def check_request(request: VerifyRequest) -> None:
    """Refuse what cannot be meant before anything is started.

    :raises UserError: naming what is wrong.
    :raises ToolMissingError: if there is no QEMU.
    """
    outputs = (request.pcap, request.json, request.junit, request.console_log)
    check_options(request.only, request.cpus, request.accel, outputs)
    emulator(request.land.arch)
    if not request.kernel_packages and not request.kernel_image:
        raise UserError("no kernel was given to verify", hint="name one with --kernel")
    for path in (*request.kernel_packages, *request.packages, *request.files.values()):
        if not path.is_file():
            raise UserError(f"{path} does not exist", hint="build the packages first: invoke build")


def check_options(
    only: Sequence[str], cpus: int, accel: str, outputs: Iterable[Path | None]
) -> None:
    """Refuse what can be told to be wrong before anything is fetched or built.

    :raises UserError: naming what is wrong.
    """
    registry.select(tuple(only))
    if accel not in {"tcg", "kvm"}:
        raise UserError(f"--accel {accel}: not known", hint="there are tcg and kvm")
    if cpus not in range(1, 9):
        raise UserError(f"--smp {cpus}: not sensible", hint="1 to 8; checks use 1 or 2")
    for path in outputs:
        if path and (path.is_dir() or not path.parent.is_dir()):
            raise UserError(f"{path} cannot be written", hint="name a file in a folder that exists")


def assemble(request: VerifyRequest, engine: Engine, console: Console, work: Path) -> BootFiles:
    """Boot files for *request*."""
    assembly = Assembly(engine, console, request.land)
    if request.kernel_image:
        return assembly.bare(request.kernel_image, request.files, work)
    return assembly.debian(request.kernel_packages, request.packages, work)
