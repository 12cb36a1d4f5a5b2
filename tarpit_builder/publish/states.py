"""The states of a repository on disk, and the switch from one to the next.

::

    .states/NUMBER/SUITE/InRelease      one whole state of all indexes
    .states/NUMBER/SUITE/…/by-hash/     its indexes by digest, and those of the states before it
    dists -> .states/NUMBER             the state that is valid: replacing this link is the update

apt reads ``InRelease`` first and then asks for each index by the digest that it found there.  A
client that was overtaken by an update, or by several within :data:`GRACE`, so gets what it began
with.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.publish.audit import BY_HASH, DISTS, checksums

STATES = ".states"
GRACE = 86400
"""Seconds that a superseded state stays; proxies may serve its ``InRelease`` for some time."""


def sweep(top: Path) -> None:
    """Remove what a killed run left: everything unfinished, and a state that never became valid.

    A copy without links, such as static hosts make, gets its link again.
    """
    for path in top.glob(".new-*"):
        shutil.rmtree(path, ignore_errors=True)
    with suppress(FileNotFoundError):
        (top / f".{DISTS}.new").unlink()
    for path in top.glob(f"{STATES}/.*"):
        shutil.rmtree(path, ignore_errors=True)
    dists = top / DISTS
    if dists.is_dir() and not dists.is_symlink():
        state = _next(top)
        dists.rename(state)
        switch(top, state)
    valid = dists.resolve().name if dists.exists() else ""
    for path in _all(top):
        if not valid or int(path.name) > int(valid):
            shutil.rmtree(path, ignore_errors=True)


def kept(top: Path) -> tuple[Path, ...]:
    """The states that clients may still be busy with, oldest first: the last two, and those that
    were superseded within :data:`GRACE`.
    """
    states = _all(top)
    since = time.time() - GRACE
    return tuple(
        state
        for number, state in enumerate(states)
        if number >= len(states) - 2 or states[number + 1].stat().st_mtime > since
    )


def store(dists: Path, top: Path) -> Path:
    """Put *dists* beside the valid state, with the indexes of all that are kept by hash."""
    before = kept(top)
    state = _next(top)
    with paths.staged_dir(state) as stage:
        shutil.copytree(dists, stage, dirs_exist_ok=True)
        for suite in list(stage.iterdir()):
            for old in (stage, *before):
                for name, value in _named(old / suite.name).items():
                    index = old / suite.name / name
                    if index.is_file():
                        _link(index, (suite / name).parent / BY_HASH / value)
        readable(stage)
    return state


def switch(top: Path, state: Path) -> None:
    """Make *state* the valid one."""
    link = top / f".{DISTS}.new"
    link.unlink(missing_ok=True)
    link.symlink_to(state.relative_to(top))
    link.replace(top / DISTS)


def prune(top: Path) -> tuple[Path, ...]:
    """Remove the states that are not kept; those that are."""
    stay = kept(top)
    for state in _all(top):
        if state not in stay:
            shutil.rmtree(state)
    return stay


def make_dir(path: Path) -> Path:
    """Create *path* and its parents, for everybody to read."""
    absent = [folder for folder in (path, *path.parents) if not folder.exists()]
    paths.make_dir(path)
    for folder in absent:
        folder.chmod(0o755)
    return path


def readable(*tops: Path) -> None:
    """Let everybody read what is below *tops*, as web servers must, whatever the umask was."""
    for top in tops:
        for path in (top, *_below(top)):
            mode = 0o755 if path.is_dir() else 0o644
            if path.stat().st_mode & 0o777 != mode:
                path.chmod(mode)


def _below(top: Path) -> Iterator[Path]:
    return (path for path in top.rglob("*") if not path.is_symlink())


def _all(top: Path) -> list[Path]:
    found = [path for path in (top / STATES).glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name))


def _next(top: Path) -> Path:
    numbers = [int(path.name) for path in _all(top)]
    return make_dir(top / STATES) / str(max(numbers, default=0) + 1)


def _named(suite: Path) -> dict[str, str]:
    try:
        return checksums((suite / "Release").read_bytes())
    except FileNotFoundError:
        return {}


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
