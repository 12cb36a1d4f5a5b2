"""File systems that are small on purpose."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A file system in memory, mounted at *mount*; sizes are in bytes."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount

    def resize(self, size: int) -> None:
        """Make it as large as *size*."""
        command = ["mount", "-o", f"remount,size={size}", str(self.mount)]
        subprocess.run(command, check=True)

    @property
    def used(self) -> int:
        """What is taken."""
        usage = os.statvfs(self.mount)
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


@contextmanager
def disk_of(size: int, mount: Path) -> Iterator[Disk]:
    """One of *size* at *mount*, which is made, for as long as the block lasts."""
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        yield Disk(mount)
    finally:
        # Lazily, as an engine's own mounts below it may take a moment to go.
        subprocess.run(["umount", "--lazy", str(mount)], check=True)
