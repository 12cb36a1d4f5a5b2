"""How a matrix is carried out, and what a proof of a cell depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tarpit_builder import digests, paths
from tarpit_builder.container import Endpoint
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.matrix.outcome import Result
from tarpit_builder.request import option

SHARE = 0.75  # of the machine's memory, unless told otherwise
PROOF_SOURCES = (
    "tarpit_builder/container.py",
    "tarpit_builder/prove.py",
    "tarpit_builder/proof",
    "tarpit_builder/kernels",
    "tarpit_builder/sealed.py",
    "containers/proof",
)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where sources come from; *kernel_git* and *iptables_git* stand in for release tarballs."""

    mirror: str = ""
    kernel_git: str = ""
    iptables_git: str = ""
    offline: bool = False

    def arguments(self, cell: Cell) -> list[str]:
        """RunOptions of ``invoke build`` and ``invoke verify`` for *cell*."""
        words = ["--mirror", self.mirror] if self.mirror else []
        words += ["--offline"] if self.offline else []
        for name in ("kernel_git", "iptables_git"):
            if name in cell.origin.takes and (place := getattr(self, name)):
                words += [option(name), _place(place)]
        return words


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to carry the matrix out.

    *jobs* cells at once that together may need *memory* MiB (0: what the machine has); *checks* are
    further arguments for ``invoke verify``.  *engines* are container engines to share the cells
    among, in place of the usual one; *cluster* is the address of a Dask scheduler to hand them to,
    and *store* where its workers put what they made.
    """

    jobs: int = 0
    memory: int = 0
    verify: bool = False
    force: bool = False
    checks: tuple[str, ...] = ()
    sources: Sources = field(default_factory=Sources)
    engines: tuple[Endpoint, ...] = ()
    cluster: str = ""
    store: str = ""
    dist: Path = field(default_factory=paths.dist_dir)


def proof_key(result: Result, checks: Iterable[str]) -> str:
    """A digest of all that a proof of *result* depends on: the build, the packages, the checks."""
    return digests.digest(
        [
            result.key,
            *result.packages,
            *result.cell.checks,
            *checks,
            digests.tree(files_of(PROOF_SOURCES)),
        ]
    )


def files_of(parts: Iterable[str]) -> dict[str, Path | bytes]:
    """Every file of *parts*, which are files and folders of the checkout, by its name there."""
    roots = [paths.PROJECT / part for part in parts]
    found = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    return {
        str(path.relative_to(paths.PROJECT)): path
        for path in sorted(found)
        if path.is_file() and "__pycache__" not in path.parts
    }


def _place(location: str) -> str:
    """A repository as seen from anywhere: a folder by its whole path, a URL as it is."""
    path = Path(location).expanduser()
    return str(path.absolute()) if path.exists() else location
