"""What is in a Debian package, whichever way it is compressed."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import IO

from tarpit_builder.errors import SourceError, ToolMissingError

COMPILER = re.compile(r'^CONFIG_CC_VERSION_TEXT="(?P<text>.*)"$', re.MULTILINE)
CONFIG = re.compile(r"(?:\./)?usr/src/[^/]+/(?:\.config|include/config/auto\.conf)")
"""Where header packages have the configuration of their kernel."""


def deb_data(path: Path) -> IO[bytes]:
    """The uncompressed data.tar of the Debian package at *path*.

    :raises SourceError: if it is no Debian package or compressed in an unknown way.
    :raises ToolMissingError: if it takes a program that is not installed.
    """
    from debian.arfile import ArError, ArFile

    spool = tempfile.TemporaryFile(prefix="tarpit-deb-")  # noqa: SIM115  (handed on)
    try:
        with path.open("rb") as file:
            archive = ArFile(fileobj=file)
            (name,) = (name for name in archive.getnames() if name.startswith("data.tar"))
            member = archive.getmember(name)
            if name.endswith(".zst"):
                _zstd(path, member, spool)
            elif name.endswith(".gz"):
                with gzip.open(member) as data:
                    shutil.copyfileobj(data, spool, 1 << 20)
            else:
                with lzma.open(member) as data:
                    shutil.copyfileobj(data, spool, 1 << 20)
    except (ArError, OSError, ValueError, KeyError, lzma.LZMAError, EOFError) as error:
        raise SourceError(
            f"{path.name} is not a Debian package that can be read ({error})",
            hint="`invoke cache --verify` looks for damage",
        ) from error
    spool.seek(0)
    return spool


def compiler(path: Path) -> str:
    """The package of the compiler that made the kernel of the header package at *path*.

    The kernel's configuration has its version: ``gcc-13`` for "x86_64-linux-gnu-gcc-13 (Ubuntu
    13.3.0-6ubuntu2~24.04) 13.3.0", and ``gcc-12`` for "gcc (Debian 12.2.0-14+deb12u1) 12.2.0".

    :raises SourceError: if it does not say so.
    """
    with deb_data(path) as data, tarfile.open(fileobj=data) as members:
        for member in members:
            if CONFIG.fullmatch(member.name) and (file := members.extractfile(member)):
                found = COMPILER.search(file.read().decode(errors="replace"))
                version = re.search(r" (\d+)\.\d+\.\d+$", found["text"]) if found else None
                if found and version and "gcc" in found["text"]:
                    return f"gcc-{version[1]}"
    raise SourceError(
        f"{path.name} does not say which compiler built its kernel",
        hint="name another kernel; `invoke kernels --all` lists them",
    )


def _zstd(path: Path, member: IO[bytes], spool: IO[bytes]) -> None:
    """Uncompress *member* of the package at *path* by a program, as Python 3.11 cannot."""
    dpkg, zstd = shutil.which("dpkg-deb"), shutil.which("zstd")
    if not dpkg and not zstd:
        raise ToolMissingError(
            "zstd, which Ubuntu's packages are compressed with, is not installed",
            hint="install it with your distribution's package manager",
        )
    with tempfile.TemporaryFile(prefix="tarpit-deb-") as packed:
        if not dpkg:
            shutil.copyfileobj(member, packed, 1 << 20)
            packed.seek(0)
        run = subprocess.run(
            [dpkg, "--fsys-tarfile", path] if dpkg else ["zstd", "-dcq"],
            stdin=packed,
            stdout=spool,
            stderr=subprocess.PIPE,
            check=False,
        )
    if run.returncode:
        raise ValueError(run.stderr.decode(errors="replace").strip() or "it cannot be unpacked")
