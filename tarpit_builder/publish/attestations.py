"""Attestations beside the packages of a repository, for ``invoke check`` to find.

::

    attestations/index.json                     which package sets there are
    attestations/SUITE/NAME/VERSION/            manifest, attestations and .buildinfo of one

Nothing here is believed: whoever checks has the key of the attestations, and what they say is
about bytes.  The index can only hide something, which leaves packages without an attestation.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tarpit_builder import evidence, paths
from tarpit_builder.attest import package_set, strict
from tarpit_builder.attest.documents import KINDS, PLAIN_SBOM, PROVENANCE, SBOM
from tarpit_builder.attest.package_set import AttestedSet
from tarpit_builder.build import MANIFEST
from tarpit_builder.errors import CheckFailedError
from tarpit_builder.publish import incoming
from tarpit_builder.publish.incoming import File

FOLDER = "attestations"
INDEX = f"{FOLDER}/index.json"
FORMAT = 1
SETS = 4096  # of one repository
FILES = (MANIFEST, evidence.EVIDENCE, PLAIN_SBOM, *KINDS)
BUILDINFO = ".buildinfo"


@dataclass(frozen=True, slots=True)
class PublishedSet:
    """A package set of a repository: its folder below :data:`FOLDER`, its suite, its files."""

    place: str
    suite: str
    files: tuple[str, ...]


def add(dist: Path, top: Path, files: Mapping[str, File]) -> int:
    """Put the attestations of those results in *dist* that *files* are of into *top*.

    :returns: how many package sets of the repository are attested now.
    """
    for folder, suite in incoming.results(dist):
        if not all((folder / name).is_file() for name in (PROVENANCE, SBOM)):
            continue
        of = package_set.load(folder)
        if not _published(of, suite, files):
            continue
        target = top / FOLDER / suite / folder.name / of.version
        with paths.staged_dir(target) as stage:
            for name in (*FILES, *(name for name in of.outputs if name.endswith(BUILDINFO))):
                if (folder / name).is_file() and "/" not in name:
                    shutil.copyfile(folder / name, stage / name)
    return write_index(top)


def prune(top: Path, pool: set[str]) -> None:
    """Remove the attestations of package sets of which nothing is in the *pool* any more."""
    for entry in list(entries(top)):
        folder = top / FOLDER / entry.place
        try:
            of = package_set.load(folder)
            stays = any(
                f"pool/{entry.suite}/{name}" in pool for name in of.outputs if handed_out(name)
            )
        except CheckFailedError:
            stays = False
        if not stays:
            shutil.rmtree(folder)
    write_index(top)


def write_index(top: Path) -> int:
    """Write the index of what is there, if there is anything; how many package sets that are."""
    found = []
    for path in sorted((top / FOLDER).glob(f"*/*/*/{MANIFEST}")):
        place = path.parent.relative_to(top / FOLDER)
        names = sorted(file.name for file in path.parent.iterdir())
        found.append({"place": str(place), "suite": place.parts[0], "files": names})
    if found or (top / INDEX).exists():
        with paths.replacing(top / INDEX) as stage:
            stage.write_text(json.dumps({"format": FORMAT, "sets": found}, indent=1) + "\n")
    return len(found)


def entries(top: Path) -> Iterator[PublishedSet]:
    """The package sets that the index of *top* names; none if there is no index.

    :raises CheckFailedError: if it is not as it should be.
    """
    if (top / INDEX).exists():
        yield from parse(strict.read(top / INDEX), INDEX)


def parse(data: bytes, where: str) -> tuple[PublishedSet, ...]:
    """The package sets that the index *data* names.

    :raises CheckFailedError: if it is not as it should be, or names files outside of its folder.
    """
    document = strict.parse(data, where)
    rows: Any = document.get("sets")
    if document.get("format") != FORMAT or not isinstance(rows, list) or len(rows) > SETS:
        raise strict.wrong(where, "is of a form that this release does not know")
    found = []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("files"), list):
            raise strict.wrong(where, "is of a form that this release does not know")
        place = strict.file_name(row.get("place"), where)
        suite = strict.file_name(row.get("suite"), where)
        names = tuple(strict.file_name(name, where) for name in row["files"][:64])
        if place.count("/") != 2 or place.partition("/")[0] != suite:
            raise strict.wrong(where, f"names a place that is none: {place}")
        known = tuple(n for n in names if n in FILES or (n.endswith(BUILDINFO) and "/" not in n))
        found.append(PublishedSet(place, suite, known))
    return tuple(found)


def handed_out(name: str) -> bool:
    """Whether the output *name* of a build goes into the pool."""
    return "/" not in name and name.endswith((incoming.BINARY, *incoming.SOURCE))


def _published(of: AttestedSet, suite: str, files: Mapping[str, File]) -> bool:
    """Whether some of *of* is among *files*, and nothing of that name with other bytes."""
    pools = {
        f"pool/{suite}/{name}": value for name, value in of.outputs.items() if handed_out(name)
    }
    there = {pool: files[pool].sha256 for pool in pools if pool in files}
    return bool(there) and all(pools[pool] == value for pool, value in there.items())
