"""A published repository judged by its attestations: whatever apt could be told of it.

Its own signature is no proof to a stranger, as its key lies beside it.  So all that an index can
say is taken for hostile: other places, other forms of the same index, a name that comes twice.
"""

from __future__ import annotations

import gzip
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import digests
from tarpit_builder.attest import check, package_set, strict
from tarpit_builder.attest.check import Checked, Policy
from tarpit_builder.attest.outcome import AttestationReport
from tarpit_builder.build import MANIFEST
from tarpit_builder.errors import CheckFailedError, TarpitError
from tarpit_builder.publish import attestations, demand_valid, metapackages
from tarpit_builder.publish import keys as signing
from tarpit_builder.publish.audit import DISTS, KEY, VALID_UNTIL, audit, checksums, known_keys
from tarpit_builder.publish.audit import entries as entries_of

if TYPE_CHECKING:
    from tarpit_builder.attest.keys import Trusted
    from tarpit_builder.publish.incoming import File

TOP = frozenset({KEY, "repository.json", DISTS, ".states", "pool", attestations.FOLDER})
LARGEST = 64 << 20  # bytes of one file, and of an index that is unpacked
SMALL = 16 << 10  # bytes of a metapackage; ours have 2 kB
OWN_INDEX = re.compile(r"main/(binary-[a-z0-9-]+/Packages|source/Sources)(\.(xz|gz))?")
METAPACKAGE = frozenset(
    (
        *("Package", "Version", "Section", "Priority", "Architecture", "Maintainer"),
        *("Installed-Size", "Depends", "Description"),
    )
)
"""The fields that a metapackage of ours has."""

DEPENDENCY = re.compile(r"([a-z0-9][a-z0-9+.-]*) \(>= [^()|,]+\)")


def judge(
    top: Path,
    trusted: Sequence[Trusted],
    policy: Policy,
    outcome: AttestationReport,
    public: bytes | None,
) -> None:
    """Judge all that the indexes of the repository at *top* list, and put it into *outcome*.

    :param public: the keys that must have signed the repository; None for the one beside it.
    :raises TarpitError: if it is not as it was signed, or nothing of it is attested.
    """
    with readable(outcome.where):
        files = list(_listed(top))
        try:
            audit(top, public=public)
            outcome.until = _until(top, public)
        except CheckFailedError as error:
            raise CheckFailedError(
                error.message, hint="do not install from it; tell whoever publishes it"
            ) from error
    listed = {file.pool: file for file in files}
    if public is None:
        outcome.notes.append(
            f"the repository's own signature is by the {KEY} that lies there; to have it judged, "
            "name a copy of that key with another --key"
        )
    entries = list(attestations.entries(top))
    if not entries:
        raise CheckFailedError(
            f"nothing at {outcome.where} is attested: it has no {attestations.INDEX}",
            hint="ask the distributor for `invoke attest` before `invoke repo`",
        )
    vouched: dict[str, str] = {}
    for entry in entries:
        try:
            found = _published(top, entry, trusted, policy, listed)
        except TarpitError as error:
            outcome.wrong.append(error)
            continue
        if found is None:
            continue
        outcome.sets.append(found)
        for name, value in found.files.items():
            if vouched.setdefault(f"pool/{entry.suite}/{name}", value) != value:
                outcome.wrong.append(strict.wrong(name, "was attested with two contents"))
    for file in files:
        pool = file.pool
        if vouched.get(pool) == file.sha256:
            continue
        if metapackages.is_metapackage(file) and _is_empty(file, listed):
            outcome.metapackages += 1
            continue
        outcome.wrong.append(
            CheckFailedError(
                f"{pool} is in the repository, but no good attestation is about it",
                hint="do not install it; ask the distributor for `invoke attest`",
            )
        )
    _strangers(top, listed, outcome)


def _published(
    top: Path,
    entry: attestations.PublishedSet,
    trusted: Sequence[Trusted],
    policy: Policy,
    listed: Mapping[str, File],
) -> Checked | None:
    """The package set *entry*, as far as it is *listed*; None if nothing of it is any more."""
    folder = top / attestations.FOLDER / entry.place

    def find(name: str) -> Path | None:
        pool = f"pool/{entry.suite}/{name}"
        if attestations.handed_out(name):
            return top / pool if pool in listed else None
        beside = folder / name
        return beside if beside.is_file() else None

    of = package_set.load(folder, strict.read(folder / MANIFEST))
    if not any(f"pool/{entry.suite}/{name}" in listed for name in of.outputs):
        return None
    return check.check(folder, trusted, policy, find=find, name=entry.place)


def _listed(top: Path) -> Iterator[File]:
    """Every file that apt could be told of by an index, in any form that it may ask for.

    :raises CheckFailedError: if the forms of an index differ, or there is one that is not ours, or
        it names another place.
    """
    for suite in sorted((top / DISTS).iterdir()):
        names = checksums((suite / "Release").read_bytes())
        for name in names:
            if not OWN_INDEX.fullmatch(name):
                raise strict.wrong(
                    f"{DISTS}/{suite.name}", f"has an index that is not ours: {name}"
                )
            plain, dot, compression = name.rpartition(".")
            if dot and _unpacked(suite / name, compression) != names.get(plain):
                raise strict.wrong(
                    f"{DISTS}/{suite.name}/{name}", "says something else than it does unpacked"
                )
        for file in entries_of(top, suite):
            if file.path != top / file.pool or strict.file_name(file.pool, DISTS) != file.pool:
                raise strict.wrong(f"{DISTS}/{suite.name}", f"names {file.path}, no place of ours")
            yield file


def _unpacked(path: Path, compression: str) -> str:
    """The SHA-256 of what the file at *path* unpacks to; ``""`` if that is too much."""
    with lzma.open(path) if compression == "xz" else gzip.open(path) as stream:
        data = stream.read(LARGEST + 1)
    return digests.content(data) if len(data) <= LARGEST else ""


def _until(top: Path, public: bytes | None) -> str:
    """The day until which the repository at *top* is valid, by what its key signed."""
    beside = known_keys(top, None) if public is None else public
    for suite in sorted((top / DISTS).iterdir()):
        _, text = signing.verify(suite / "InRelease", beside)
        if checksums(text) != checksums((suite / "Release").read_bytes()):
            raise strict.wrong(f"{DISTS}/{suite.name}/Release", "is not what was signed")
        if VALID_UNTIL.findall(text.decode()) != VALID_UNTIL.findall(
            (suite / "Release").read_text()
        ):
            raise strict.wrong(f"{DISTS}/{suite.name}/Release", "is not what was signed")
    return demand_valid(top)


def _is_empty(file: File, listed: Mapping[str, File]) -> bool:
    """Whether the metapackage *file* holds and runs nothing, and only needs one that is listed."""
    from debian.arfile import ArError
    from debian.debfile import DebError, DebFile

    with (
        suppress(ArError, DebError, OSError, ValueError, KeyError, EOFError),
        file.path.open("rb") as stream,
    ):
        if file.path.stat().st_size > SMALL:
            return False
        package = DebFile(fileobj=stream)
        control = package.debcontrol()
        inside = {name.lstrip("./") for name in package.data.tgz().getnames()}
        parts = {name.lstrip("./") for name in package.control.tgz().getnames()}
        needed = DEPENDENCY.fullmatch(str(control["Depends"]))
        own = f"usr/share/doc/{control['Package']}/copyright"
        return (
            set(control.keys()) <= METAPACKAGE
            and parts - {""} <= {"control", "md5sums"}
            and all(own == name or own.startswith(f"{name}/") for name in inside if name)
            and needed is not None
            and any(other.name.startswith(f"{needed[1]}_") for other in listed.values())
        )
    return False


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Take what a library says of malformed indexes for a fault of *where*."""
    try:
        yield
    except (ValueError, KeyError, TypeError, EOFError, lzma.LZMAError) as error:
        raise CheckFailedError(
            f"the repository at {where} cannot be read: {error}",
            hint="it is damaged, or not what it says: tell whoever publishes it",
        ) from error


def _strangers(top: Path, listed: Mapping[str, File], outcome: AttestationReport) -> None:
    """Name the first file that no index lists, of now or of a state that clients may still use."""
    earlier = [
        file.pool
        for suite in (top / ".states").glob("*/*")
        for file in entries_of(top, suite)
        if suite.is_dir()
    ]
    known = {*listed, *earlier, *(str(Path(pool).parent) for pool in listed)}
    names = [str(path.relative_to(top)) for path in sorted((top / "pool").rglob("*"))]
    places = {entry.place for entry in attestations.entries(top)}
    known |= {f"{attestations.FOLDER}/{place}" for place in places} | {attestations.INDEX}
    names += [str(p.relative_to(top)) for p in (top / attestations.FOLDER).glob("*/*/*")]
    names += [
        path.name
        for path in sorted(top.iterdir())
        if path.name not in TOP and path.suffix != ".sources"
    ]
    if stranger := next((name for name in names if name not in known), None):
        outcome.wrong.append(
            CheckFailedError(
                f"{stranger} is a file that nothing vouches for",
                hint="remove it, or ask the distributor what it is",
            )
        )
