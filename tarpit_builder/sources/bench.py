"""How fast sources are: for ``invoke bench``, as ratios to what anybody could do by hand."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tarpit_builder.console import Console
from tarpit_builder.errors import UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.sources import FetchedTree, GitRepository, SourceOptions, Tarball, fetch_kernel
from tarpit_builder.sources.archive import KERNEL
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.tree import MODULE_BUILD, archive_opener
from tarpit_builder.versions import KernelVersion

Row = tuple[str, float, str, str]
"""Name, value, unit and aim of a measurement."""

ROUNDS = 3  # the fastest counts


def measure(tree: FetchedTree, *, repository: str = "", second: str = "2.6.25") -> list[Row]:
    """Measure with *tree*, a release, packed as kernel.org packs it; a disk with 1.5 GB is needed.

    :param repository: a git repository to take the release *second* from, as a second kernel.
    :raises UserError: if *tree* is no release.
    """
    if not isinstance(tree.version, KernelVersion):
        raise UserError("the benchmark of sources needs a release", hint="name it with --kernel")
    with scratch("bench") as base:
        tarball = _packed(tree, base / "mirror")
        ours, theirs = unpack_against_tar(tree, tarball, base / "out")
        part = _fastest(
            lambda: _reading(tree, tarball).unpack(base / "part", only=MODULE_BUILD), base / "part"
        )
        warm = warm_verify(tree.version, tarball, base / "cache")
        rows: list[Row] = [
            (f"unpack and verify {tree.name}.tar.gz", ours, "s", ""),
            ("tar xf of the same", theirs, "s", ""),
            ("unpack and verify / tar xf", ours / theirs, "×", "≤ 1.5 ×"),
            ("unpack what a module needs, verify all", part, "s", ""),
            (f"verify a warm cache, {tree.name}", warm, "s", "≤ 0.2 s"),
        ]
        if repository:
            seconds = second_kernel(repository, KernelVersion.parse(second), base / "fresh")
            rows.append((f"a second kernel ({second}) of a git mirror", seconds, "s", "≤ 5 s"))
    return rows


def unpack_against_tar(tree: FetchedTree, tarball: Path, out: Path) -> tuple[float, float]:
    """Seconds to unpack and verify *tarball*, and seconds that ``tar xf`` takes; in turn."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(_once(lambda: _reading(tree, tarball).unpack(out), out))
        out.mkdir()
        theirs.append(
            _once(lambda: subprocess.run(["tar", "xf", tarball, "-C", out], check=True), out)
        )
    return min(ours), min(theirs)


def warm_verify(version: KernelVersion, tarball: Path, cache: Path) -> float:
    """Seconds until a release that is in the cache has been found good."""
    store, console = Store(cache), Console(quiet=True)
    options = SourceOptions(mirrors=(tarball.parent.as_uri(),))
    fetch_kernel(Tarball(version), store, console, options=options)
    return min(
        _once(lambda: fetch_kernel(Tarball(version), store, console, options=options))
        for _ in range(ROUNDS)
    )


def second_kernel(repository: str, version: KernelVersion, cache: Path) -> float:
    """Seconds until another release of *repository* has been read and found good."""
    source, console = GitRepository(repository, version), Console(quiet=True)
    return _once(lambda: fetch_kernel(source, Store(cache), console))


def _packed(tree: FetchedTree, folder: Path) -> Path:
    folder.mkdir()
    tarball = folder / f"{tree.name}.tar.gz"
    with tree.tar(folder=tree.name) as plain, tarball.open("wb") as out:
        subprocess.run(["gzip", "-3"], stdin=plain, stdout=out, check=True)
    return tarball


def _reading(tree: FetchedTree, tarball: Path) -> FetchedTree:
    return replace(tree, opener=archive_opener(tarball, tarball.name, KERNEL))


def _fastest(action: Callable[[], object], out: Path) -> float:
    return min(_once(action, out) for _ in range(ROUNDS))


def _once(action: Callable[[], object], out: Path | None = None) -> float:
    started = time.perf_counter()
    action()
    taken = time.perf_counter() - started
    if out is not None:
        shutil.rmtree(out)
    return taken
