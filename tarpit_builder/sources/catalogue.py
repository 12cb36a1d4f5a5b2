"""The catalogue: which releases there are, and what each must be; data below ``catalogue/``."""

from __future__ import annotations

import os
import re
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
TARBALL = re.compile(r"linux-([0-9][0-9.]*)\.tar\.")
HEADINGS = ("#", "release\t", "file\t")
"""What the lines of a table begin with that are no rows."""


@dataclass(frozen=True, slots=True)
class Release(Generic[AnyVersion]):
    """What is known of a release; ``""`` for what is not.  *commit* and *tree* are git ids."""

    version: AnyVersion
    date: str = ""
    commit: str = ""
    tree: str = ""


SIGNED, PINNED = "signed", "pinned"


@dataclass(frozen=True, slots=True)
class Digest:
    """The SHA-256 that a release tarball must have, and what that is based on.

    *basis* is ``signed``, ``pinned``, or how many independent package recipes name it; see
    ``tarballs.tsv``.

    :raises ValueError: if *sha256* or *basis* is none of these.
    """

    sha256: str
    basis: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(f"{self.sha256!r} is not a SHA-256")
        if self.basis not in {SIGNED, PINNED} and not re.fullmatch(r"[1-9]\d*", self.basis):
            raise ValueError(f"a digest is not based on {self.basis!r}")

    @property
    def is_proof(self) -> bool:
        """Whether a file that has it needs no other evidence; one recipe alone is a hint."""
        return self.basis != "1"

    def __str__(self) -> str:
        if self.basis == SIGNED:
            return "the catalogue, from a signed list"
        if self.basis == PINNED:
            return "the catalogue"
        return f"the catalogue, from {self.basis} independent package recipes"


@dataclass(frozen=True, slots=True)
class MirrorList:
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
    tarballs: Mapping[str, Digest]
    keys: tuple[PinnedKey, ...]
    places: MirrorList

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
                kernels=_read_releases(folder / "kernels.tsv", KernelVersion),
                iptables=_read_releases(folder / "iptables.tsv", IptablesVersion),
                tarballs=_read_tarballs(folder / "tarballs.tsv"),
                keys=load_keys(folder),
                places=MirrorList(
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

    def releases(self) -> frozenset[KernelVersion]:
        """The releases of Linux of which a tree or a tarball can be verified by what is here."""
        found = set(self.kernels)
        for name, digest in self.tarballs.items():
            match = TARBALL.match(name)
            if match and digest.is_proof:
                found.add(KernelVersion.parse(match[1]))
        return frozenset(found)

    def kernel(self, version: KernelVersion) -> Release[KernelVersion]:
        """What is known of *version*, at least that somebody asked for it."""
        return self.kernels.get(version, Release(version))

    def iptables_release(self, version: IptablesVersion) -> Release[IptablesVersion]:
        """What is known of *version*, at least that somebody asked for it."""
        return self.iptables.get(version, Release(version))


def write(catalogue: Catalogue) -> None:
    """Write the tables anew, in order, under the comments and headings that they have.

    :raises InfrastructureError: if the folder cannot be written.
    """
    _write_releases(catalogue.folder / "kernels.tsv", catalogue.kernels)
    _write_releases(catalogue.folder / "iptables.tsv", catalogue.iptables)
    _write_rows(
        catalogue.folder / "tarballs.tsv",
        [
            (name, catalogue.tarballs[name].sha256, catalogue.tarballs[name].basis)
            for name in sorted(catalogue.tarballs, key=_by_release)
        ],
    )


def _write_releases(path: Path, releases: Mapping[AnyVersion, Release[AnyVersion]]) -> None:
    rows = [releases[version] for version in sorted(releases)]
    _write_rows(path, [(str(row.version), row.date, row.commit, row.tree) for row in rows])


def _by_release(name: str) -> tuple[str, IptablesVersion | KernelVersion, str]:
    """What sorts the tarball *name*: by project, then release, then compression."""
    stem, _, suffix = name.rpartition(".tar.")
    project, _, version = stem.partition("-")
    kind = IptablesVersion if project == IptablesVersion.project else KernelVersion
    return project, kind.parse(version), suffix


def _write_rows(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    lines = [line for line in path.read_text().splitlines() if line.startswith(HEADINGS)]
    lines += ["\t".join(cell or "-" for cell in row) for row in rows]
    with paths.replacing(path) as stage:
        stage.write_text("\n".join(lines) + "\n")


def merged(
    known: Release[AnyVersion], learnt: Release[AnyVersion]
) -> tuple[Release[AnyVersion], tuple[str, ...]]:
    """*known* with its gaps filled from *learnt*, and the fields that contradict each other.

    What is known stays.
    """
    conflicts = [
        name
        for name in ("commit", "tree")
        if getattr(known, name) and getattr(learnt, name) not in {"", getattr(known, name)}
    ]
    filled = Release(
        known.version,
        known.date or learnt.date,
        known.commit or learnt.commit,
        known.tree or learnt.tree,
    )
    return filled, tuple(conflicts)


def _read_releases(path: Path, kind: type[AnyVersion]) -> dict[AnyVersion, Release[AnyVersion]]:
    found = {}
    for name, *values in _rows(path, 4):
        version = kind.parse(name)
        found[version] = Release(version, *values)
    return found


def _read_tarballs(path: Path) -> dict[str, Digest]:
    return {name: Digest(sha256, basis) for name, sha256, basis in _rows(path, 3)}


def _rows(path: Path, columns: int) -> Iterable[list[str]]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith(HEADINGS) or not line.strip():
            continue
        cells = ["" if cell == "-" else cell for cell in line.split("\t")]
        if len(cells) != columns:
            raise ValueError(f"{path.name}:{number} has {len(cells)} columns, not {columns}")
        yield cells
