"""The catalogue: which releases there are, and what each must be; data below ``catalogue/``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
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


def write_kernels(folder: Path, releases: Iterable[Release[KernelVersion]]) -> None:
    """Write ``kernels.tsv`` anew, in order, under the comment and heading it has.

    :raises InfrastructureError: if *folder* cannot be written.
    """
    path = folder / "kernels.tsv"
    heading = [
        line for line in path.read_text().splitlines() if line.startswith(("#", "release\t"))
    ]
    rows = [
        "\t".join(
            value or "-"
            for value in (
                str(release.version),
                release.date,
                release.commit,
                release.tree,
                release.sha256,
            )
        )
        for release in sorted(releases, key=lambda release: release.version)
    ]
    with paths.replacing(path) as stage:
        stage.write_text("\n".join([*heading, *rows]) + "\n")


def merged(
    known: Release[AnyVersion], learnt: Release[AnyVersion]
) -> tuple[Release[AnyVersion], bool]:
    """*known* with its gaps filled from *learnt*, and whether the two contradict each other."""
    pairs = list(zip(astuple(known)[1:], astuple(learnt)[1:], strict=True))
    values = [old or new for old, new in pairs]
    conflict = any(old and new and old != new for old, new in pairs[1:])  # a date is no identity
    return Release(known.version, *values), conflict


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
