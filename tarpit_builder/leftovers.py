"""Temporary folders and files, and what is left of them when a process is killed.

Whoever makes a temporary holds a lock on it (flock(2)) for as long as it is needed.  The kernel
releases the lock when the process ends, however it ends: what nobody holds was left by the dead,
and the next run removes it.  A process id would not do, as containers that share ``/tmp`` have
ids of their own.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "tarpit-builder-"
_RANDOM = r"[a-z0-9_]{8}"  # as mkdtemp(3) of Python's tempfile makes it
SCRATCH = re.compile(rf"{PREFIX}[a-z-]+-{_RANDOM}")
STAGE = re.compile(rf"\.(?P<final>.+)\.{_RANDOM}\.part(?P<old>\.old)?")
DEPTH = 2  # folders below the cache and dist/ in which something is put in place


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A temporary folder for *what* (a word), which is removed when the block ends.

    :raises OSError: if there cannot be one.
    """
    with scratch_for_others(what) as (path, _):
        yield path


@contextmanager
def scratch_for_others(what: str) -> Iterator[tuple[Path, int]]:
    """As :func:`scratch`, with the descriptor that holds it.

    A program that works in the folder, and may outlive this process, gets that in ``pass_fds``:
    it holds the folder then for as long as it runs.

    :raises OSError: if there cannot be one.
    """
    with _claimed(lambda: tempfile.mkdtemp(prefix=f"{PREFIX}{what}-")) as (path, handle):
        try:
            yield path, handle
        finally:
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def stage_for(final: Path, *, folder: bool) -> Iterator[Path]:
    """A temporary sibling of *final*, a *folder* or a file, for the caller to put in its place.

    Whatever is still there when the block ends is removed.

    :raises OSError: if there cannot be one.
    """

    def make() -> str:
        prefix, suffix = f".{final.name}.", ".part"
        if folder:
            return tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=final.parent)
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=final.parent)
        os.close(handle)
        return name

    with _claimed(make) as (path, _):
        try:
            yield path
        finally:
            _remove(path)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep *path*, if it is there, from being taken for a leftover under whatever name."""
    handle = _lock(path, wait=False)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def sweep_siblings(final: Path) -> None:
    """Remove what dead processes were about to put in the place of *final*."""
    for path in _entries(final.parent):
        match = STAGE.fullmatch(path.name)
        if match and match["final"] == final.name:
            _sweep_one(path)


def sweep(roots: Iterable[Path]) -> None:
    """Remove what dead processes of this user left in the system's temporary folder and in *roots*.

    What cannot be removed stays; it is in nobody's way.
    """
    for path in _entries(Path(tempfile.gettempdir())):
        if SCRATCH.fullmatch(path.name):
            _sweep_one(path)
    for root in roots:
        _sweep_tree(root, DEPTH)


def _sweep_tree(folder: Path, depth: int) -> None:
    for path in _entries(folder):
        if STAGE.fullmatch(path.name):
            _sweep_one(path)
        elif depth and not path.name.startswith("."):
            _sweep_tree(path, depth - 1)


def _entries(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder)]
    except OSError:
        return []  # no folder, or not ours to read


def _sweep_one(path: Path) -> None:
    with suppress(OSError):
        if path.lstat().st_uid != os.geteuid():
            return
        handle = _lock(path, wait=False)
        if handle is None:
            return
        try:
            _discard(path)
        finally:
            os.close(handle)


def _discard(path: Path) -> None:
    """Remove *path*, but put the old content back where the new one had not come yet."""
    match = STAGE.fullmatch(path.name)
    if match and match["old"]:
        final = path.with_name(match["final"])
        if not final.exists():
            path.rename(final)
            return
    _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for mounted in reversed(_mounts(path)):  # as of a killed bootstrap: /dev would go, too
            command = ["umount", "--lazy", mounted]
            with suppress(FileNotFoundError):
                subprocess.run(command, capture_output=True, check=False)
        if not _mounts(path):
            shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _mounts(path: Path) -> list[str]:
    """Where something is mounted below *path*, in the order in which it was."""
    try:
        table = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return []
    places = (line.split()[4] for line in table.splitlines())
    # proc(5): blanks and the like are in octal, as \040.
    places = (re.sub(r"\\([0-7]{3})", lambda c: chr(int(c[1], 8)), place) for place in places)
    return [place for place in places if place.startswith(f"{path.resolve()}/")]


@contextmanager
def _claimed(make: Callable[[], str]) -> Iterator[tuple[Path, int]]:
    """What *make* makes, and the descriptor that holds its lock.

    It is made again where somebody swept it before it was locked.
    """
    while True:
        path = Path(make())
        handle = _lock(path, wait=True)
        if handle is not None:
            break
    try:
        yield path, handle
    finally:
        os.close(handle)


def _lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock of *path*; None if it is not there, or held and no *wait*.

    A file system without locks gives none to a sweeper, and lets a maker go on without.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        if wait:
            return handle
        os.close(handle)
        return None
    try:
        if os.path.samestat(os.fstat(handle), path.lstat()):
            return handle
    except FileNotFoundError:
        pass
    os.close(handle)
    return None
