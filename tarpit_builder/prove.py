"""From a kernel's name to its proof: fetch what boots it, build what is proven, hand both over."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import evidence, suites
from tarpit_builder import plan as planning
from tarpit_builder.build import build
from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.plan import Request
from tarpit_builder.proof import UserLand, VerifyReport, VerifyRequest, verify
from tarpit_builder.proof.qemu import emulator
from tarpit_builder.sources.debian import Archive, DebianKernel

OWN_PACKAGES = "leave out --packages to prove what `invoke build` makes"


@dataclass(frozen=True, slots=True)
class Options:
    """How to prove; without *packages* our own are built, *full* runs all groups of checks.

    *jobs* machines work at once, 0 stands for as many as there are processors for.
    *pcap*, *json*, *junit* and *log* (the guests' consoles) are files to be written.
    """

    packages: Path | None = None
    only: Sequence[str] = ()
    full: bool = False
    cpus: int = 1
    accel: str = "tcg"
    jobs: int = 0
    pcap: Path | None = None
    json: Path | None = None
    junit: Path | None = None
    log: Path | None = None

    def check(self) -> None:
        """Refuse what can be told to be wrong before anything is fetched or built.

        :raises UserError: naming what is wrong.
        """
        from tarpit_builder.proof.verification import check_options

        outputs = (self.pcap, self.json, self.junit, self.log)
        check_options(self.only, self.cpus, self.accel, outputs)


def prove(request: Request, options: Options, archive: Archive, console: Console) -> VerifyReport:
    """Boot the kernel of *request* and judge the packages by the contract.

    If our own packages pass, ``verify.json`` beside their manifest says so.

    :raises UserError: if *options* name packages that are not there.
    :raises SourceError: if the archive has headers for the kernel but not the kernel.
    :raises InfrastructureError: if nothing can be booted.
    """
    kernel = planning.resolve(request, archive)
    emulator(kernel.arch)
    if options.packages:
        built, packages = None, _given(options.packages)
    else:
        built = build(request, archive, console)
        packages = built.packages()
    base = suites.known()[kernel.suite.base]
    land = UserLand(
        suite=base.name,
        arch=kernel.arch,
        mirror=archive.mirrors.main,
        apt_sources=archive.mirrors.apt_sources(base),
    )
    with tempfile.TemporaryDirectory(prefix="tarpit-kernel-") as scratch:
        wanted = VerifyRequest(
            land=land,
            kernel_packages=_boot_packages(kernel, archive, console, Path(scratch)),
            packages=packages,
            given=options.packages is not None,
            only=tuple(options.only),
            smoke=not options.full and not options.only,
            cpus=options.cpus,
            accel=options.accel,
            jobs=options.jobs,
            pcap=options.pcap,
            json=options.json,
            junit=options.junit,
            console_log=options.log,
        )
        report = verify(wanted, Engine.connect(), console)
    if built:
        evidence.record(built, report)
    return report


def _given(where: Path) -> tuple[Path, ...]:
    if not where.exists():
        raise UserError(f"{where} does not exist", hint=OWN_PACKAGES)
    candidates = sorted(where.iterdir()) if where.is_dir() else [where]
    found = tuple(path for path in candidates if path.suffix in {".deb", ".ko", ".so"})
    if not found:
        raise UserError(f"{where} holds no packages (.deb) and no modules (.ko)", hint=OWN_PACKAGES)
    return found


def _boot_packages(
    kernel: DebianKernel, archive: Archive, console: Console, folder: Path
) -> tuple[Path, ...]:
    """The kernel's packages under their own names in *folder*; the store knows only digests."""
    if not kernel.image:
        raise SourceError(
            f"{kernel.suite.name} has headers for {kernel.abi} but not the kernel itself",
            hint="prove another kernel of the suite; `invoke kernels --all` lists them",
        )
    blobs = [package.blob() for package in kernel.image]
    if not all(archive.store.has(blob) for blob in blobs):
        with console.stage(f"kernel {kernel.abi}") as stage:
            for blob in blobs:
                archive.store.get(blob, stage)
    named = tuple(folder / blob.name for blob in blobs)
    for path, blob in zip(named, blobs, strict=True):
        path.symlink_to(archive.store.path(blob))
    return named
