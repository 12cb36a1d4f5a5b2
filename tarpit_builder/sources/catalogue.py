"""The catalogue: which releases there are, and what each must be; data below ``catalogue/``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from tarpit_builder import paths
from tarpit_builder.errors import UserError
from tarpit_builder.sources.signatures import PinnedKey, load_keys
from tarpit_builder.versions import AnyVersion, IptablesVersion, KernelVersion

SHIPPED = Path(__file__).resolve().parent.parent / "catalogue"


@dataclass(frozen=True, slots=True)
class Release(Generic[AnyVersion]):
    """What is known of a release; ``""`` for what is not.

    *commit* and *tree* are git ids, *sha256* is the digest of the file *archive*.
    """

    version: AnyVersion
    date: str = ""
    commit: str = ""
    tree: str = ""
    archive: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where sources are looked for, in order; see ``mirrors.toml``."""

    kernel: tuple[str, ...]
    candidates: tuple[str, ...]
    iptables: tuple[str, ...]
    releases: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything below ``catalogue/``, read once."""

    folder: Path
    kernels: Mapping[KernelVersion, Release[KernelVersion]]
    iptables: Mapping[IptablesVersion, Release[IptablesVersion]]
    keys: tuple[PinnedKey, ...]
    places: Places

    @classmethod
    def load(cls, folder: Path | None = None) -> Catalogue:
        """Read *folder*, else ``$TARPIT_CATALOGUE``, else what came with this program.

        :raises UserError: if a file there is not as it should be.
        """
        folder = folder or Path(os.environ.get("TARPIT_CATALOGUE") or SHIPPED)
        try:
            places = tomllib.loads((folder / "mirrors.toml").read_text())
            return cls(
                folder=folder,
                kernels=_read_kernels(folder / "kernels.tsv"),
                iptables=_read_iptables(folder / "iptables.tsv"),
                keys=load_keys(folder),
                places=Places(
                    tuple(places["kernel"]),
                    tuple(places["candidates"]),
                    tuple(places["iptables"]),
                    str(places["releases"]),
                ),
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the catalogue in {folder} cannot be read: {error!r}",
                hint="restore it with `git checkout`, or unset TARPIT_CATALOGUE",
            ) from error

    def kernel(self, version: KernelVersion) -> Release[KernelVersion]:
        """What is known of *version*, at least that somebody asked for it."""
        return self.kernels.get(version, Release(version))

    def iptables_release(self, version: IptablesVersion) -> Release[IptablesVersion]:
        """What is known of *version*, at least that somebody asked for it."""
        return self.iptables.get(version, Release(version))


def write(catalogue: Catalogue) -> None:
    """Write both tables anew, in order, under the comments and headings that they have.

    :raises InfrastructureError: if the folder cannot be written.
    """
    kernels = sorted(catalogue.kernels.values(), key=lambda release: release.version)
    _write_rows(
        catalogue.folder / "kernels.tsv",
        [(str(row.version), row.date, row.commit, row.tree, row.sha256) for row in kernels],
    )
    iptables = sorted(catalogue.iptables.values(), key=lambda release: release.version)
    _write_rows(
        catalogue.folder / "iptables.tsv",
        [
            (str(row.version), row.date, row.commit, row.tree, row.archive, row.sha256)
            for row in iptables
        ],
    )


def _write_rows(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    lines = [line for line in path.read_text().splitlines() if line.startswith(("#", "release\t"))]
    lines += ["\t".join(cell or "-" for cell in row) for row in rows]
    with paths.replacing(path) as stage:
        stage.write_text("\n".join(lines) + "\n")


def merged(
    known: Release[AnyVersion], learnt: Release[AnyVersion]
) -> tuple[Release[AnyVersion], tuple[str, ...]]:
    """*known* with its gaps filled from *learnt*, and the fields that contradict each other.

    What is known stays.  A digest and the file that it is of go together.
    """
    conflicts = [
        name
        for name in ("commit", "tree")
        if getattr(known, name) and getattr(learnt, name) not in {"", getattr(known, name)}
    ]
    same_file = known.archive == learnt.archive
    if same_file and known.sha256 and learnt.sha256 not in {"", known.sha256}:
        conflicts.append("sha256")
    archive, sha256 = (
        (known.archive, known.sha256) if known.sha256 else (learnt.archive, learnt.sha256)
    )
    filled = Release(
        known.version,
        known.date or learnt.date,
        known.commit or learnt.commit,
        known.tree or learnt.tree,
        archive,
        sha256,
    )
    return filled, tuple(conflicts)


def _read_kernels(path: Path) -> dict[KernelVersion, Release[KernelVersion]]:
    found = {}
    for name, date, commit, tree, sha256 in _rows(path, 5):
        version = KernelVersion.parse(name)
        archive = f"{version.stem}.tar.xz" if sha256 else ""
        found[version] = Release(version, date, commit, tree, archive, sha256)
    return found


def _read_iptables(path: Path) -> dict[IptablesVersion, Release[IptablesVersion]]:
    found = {}
    for name, *values in _rows(path, 6):
        version = IptablesVersion.parse(name)
        found[version] = Release(version, *values)
    return found


def _rows(path: Path, columns: int) -> Iterable[list[str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith(("#", "release\t")) or not line.strip():
            continue
        cells = ["" if cell == "-" else cell for cell in line.split("\t")]
        if len(cells) != columns:
            raise ValueError(f"{path.name}:{number} has {len(cells)} columns, not {columns}")
        yield cells
