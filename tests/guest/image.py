"""Disks that guests boot from: a suite, packages, kernels; made once per recipe and kept."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tarpit_builder import paths, suites
from tarpit_builder.console import Console
from tarpit_builder.container import locked
from tarpit_builder.errors import InfrastructureError
from tarpit_builder.proof.initramfs import digest
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store

HERE = Path(__file__).parent
UNUSED = 14 * 86400  # seconds after which an image that no test asked for is removed
SCRIPTS = (HERE / "agent.sh", HERE / "prepare.sh", HERE / "finish.sh")

BASE = (
    *("systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "zstd"),
    *("iproute2", "iputils-ping", "procps", "netbase", "iptables", "nftables"),
    *("netcat-openbsd", "tcpdump"),
)
"""What every guest has besides the suite's essential packages and kernels."""


def archive() -> Archive:
    """Debian's archive, as the product finds it."""
    return Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console())


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a disk is made of.

    *kernels* are ABIs, as ``uname -r`` prints them; the first is the one that is booted.
    *packages* are installed besides :data:`BASE`, without what they recommend; *files* (absolute
    path and text) are there before them, so that they are configured as the test wants them; *pool*
    names packages that the guest's apt can install although it has no network.  A mirror may be so
    stale that its state is *expired*.
    """

    suite: str
    kernels: tuple[str, ...]
    packages: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    sources: tuple[str, ...] = field(default=(), kw_only=True)
    expired: bool = field(default=False, kw_only=True)

    @classmethod
    def of(
        cls,
        suite: str,
        *,
        packages: tuple[str, ...] = (),
        pool: tuple[str, ...] = (),
        files: Mapping[str, str] | None = None,
        kernels: int = 2,
    ) -> Recipe:
        """The recipe with the newest cloud kernel of *suite* and, if two, the one before it.

        Where the archive has none before it, the second is the ordinary kernel.
        """
        found = archive()
        known = suites.known()[suite]
        kernel = found.newest(known, "cloud", "amd64")
        newest = kernel.abi
        # Metapackages of headers such as 6.12-cloud-amd64 look like an ABI, but have no image.
        before = [
            abi
            for abi in found.kernels(known, "amd64")
            if "-cloud-" in abi and re.search(known.abi, abi) and abi != newest
        ]
        other = before[-1] if before else found.newest(known, "", "amd64").abi
        sources = found.mirrors.apt_sources(known)
        return cls(
            suite,
            (newest, other)[:kernels],
            packages,
            pool,
            files=tuple((files or {}).items()),
            sources=sources,
            expired=bool(kernel.expired),
        )

    @property
    def key(self) -> str:
        """A name that changes with whatever the disk is made of."""
        parts = (self.suite, *self.kernels, "|", *BASE, *self.packages, "|", *self.pool)
        texts = (text for file in self.files for text in file)
        return f"{self.suite}-{digest([' '.join(parts), ' '.join(self.sources), *texts, *SCRIPTS])}"


@dataclass(frozen=True, slots=True)
class Image:
    """A finished disk, never booted itself, and the kernels that are on it."""

    recipe: Recipe
    folder: Path

    @property
    def disk(self) -> Path:
        """The file system, without a partition table."""
        return self.folder / "disk"

    def kernel(self, abi: str) -> tuple[Path, Path]:
        """Kernel and initramfs of *abi*."""
        return self.folder / f"vmlinuz-{abi}", self.folder / f"initrd.img-{abi}"


def make(recipe: Recipe) -> Image:
    """The image of *recipe*, from the cache or made now from the Debian mirror.

    Raises InfrastructureError, with mmdebstrap's own words, if it cannot be made.
    """
    final = paths.cache_dir() / "guest" / recipe.key
    with locked(f"guest-{recipe.key}"):
        if not final.exists():
            with (
                Console().stage(f"a machine of {recipe.suite} to boot"),
                paths.staged_dir(final) as stage,
            ):
                _bootstrap(recipe, stage)
    os.utime(final)
    _forget_old(final.parent)
    return Image(recipe, final)


def _forget_old(folder: Path) -> None:
    """Remove images that no test has used for long: their kernels have been superseded."""
    for image in folder.iterdir():
        with suppress(FileNotFoundError):  # another run may do the same
            if image.stat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(image, ignore_errors=True)


def _bootstrap(recipe: Recipe, stage: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in recipe.files:
            path = Path(folder, name.lstrip("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        _mmdebstrap(recipe, stage, folder)


def _mmdebstrap(recipe: Recipe, stage: Path, files: str) -> None:
    images = (f"linux-image-{abi}" for abi in recipe.kernels)
    prepare, finish = (shlex.join(["sh", str(HERE / name)]) for name in ("prepare.sh", "finish.sh"))
    log = stage.with_name(f"{stage.name}.log")
    command = [
        "mmdebstrap",
        "--variant=minbase",
        "--format=null",
        "--aptopt=APT::Install-Recommends false",
        *(["--aptopt=Acquire::Check-Valid-Until false"] if recipe.expired else []),
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")),
        f"--include={','.join((*BASE, *recipe.packages, *images))}",
        f'--essential-hook={prepare} "$1" {shlex.quote(files)}',
        f'--customize-hook={finish} "$1" {shlex.join([str(HERE), str(stage), *recipe.pool])}',
        recipe.suite,
        "-",
        *recipe.sources,
    ]
    try:
        with log.open("wb") as out:
            status = subprocess.run(command, stdout=out, stderr=out, check=False).returncode
        if status:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-30:])
            raise InfrastructureError(
                f"cannot make a machine of {recipe.suite}; mmdebstrap's last lines:\n{tail}",
                hint="is the Debian mirror in reach?",
            )
    finally:
        log.unlink(missing_ok=True)


def copy_disk(image: Image, target: Path) -> Path:
    """A copy of *image*'s disk to write to, as sparse as it is."""
    if shutil.disk_usage(target.parent).free < 6 << 30:
        raise OSError(f"{target.parent} has less than 6 GiB free for a guest's disk")
    subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", str(image.disk), str(target)], check=True
    )
    return target
