"""What is published already, brought back to a machine that has not got it.

CI starts on an empty machine, and the repository is where users find it.  Everything is followed
from the signatures of its own key, so that a host that was broken into cannot slip anything in.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tarpit_builder import paths
from tarpit_builder.console import Console, Stage
from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.publish import attestations, keys, settings, states
from tarpit_builder.publish.audit import BY_HASH, DISTS, KEY, checksums, entries
from tarpit_builder.publish.incoming import digest
from tarpit_builder.sources.download import AbsentError, Downloader, Patience, discard

LIMIT = 1 << 28  # bytes of one file
FILES = 64  # as many of that size as all together may have
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.,:~_@/-]{0,1000}")
SUITE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def fetch(
    url: str,
    top: Path,
    public: bytes | None,
    console: Console,
    *,
    downloader: Downloader | None = None,
    limit: int = LIMIT,
) -> int:
    """Bring the repository at *url*, signed by a key of *public*, to *top*; how many packages came.

    :param public: armoured keys; None for the one that lies there, which nobody vouches for.
    :param downloader: how patient to be.
    :param limit: bytes that one file may have.
    :raises UserError: if there is none, or *top* is not empty.
    :raises SourceError: if its signatures are not good.
    :raises CheckFailedError: if a file is not what was signed.
    """
    if top.is_dir() and any(top.iterdir()):
        raise UserError(
            f"{top} is not empty, so --fetch brings nothing there",
            hint="leave out --fetch to go on with what is there, or remove it",
        )
    base = url.rstrip("/")
    states.make_dir(top)
    with (
        tempfile.TemporaryDirectory(prefix=".new-", dir=top) as name,
        console.stage(f"fetch {base}") as stage,
    ):
        place = _Place(base, Path(name), stage, downloader or _patient(), limit, [limit * FILES])
        try:
            content = place.get(settings.FILE).read_bytes()
        except AbsentError as error:
            raise UserError(
                f"nothing is published at {base} yet",
                hint="leave out --fetch this once, to publish for the first time",
            ) from error
        count = 0
        beside = place.get(KEY).read_bytes()
        for suite in settings.parse(content, f"{base}/{settings.FILE}").suites:
            if not SUITE.fullmatch(suite):
                raise CheckFailedError(
                    f"{base} names a suite that is none: {suite[:40]!r}",
                    hint="restore it from where it was published",
                )
            count += _fetch_suite(place, suite, beside if public is None else public)
        _fetch_attestations(place)
        for path in list(place.folder.iterdir()):
            path.rename(top / path.name)
        stage.done(f"{count} packages and sources")
    states.sweep(top)
    return count


@dataclass(frozen=True, slots=True)
class _Place:
    """The repository at *base*, and the *folder* that it is brought to."""

    base: str
    folder: Path
    stage: Stage
    downloader: Downloader
    limit: int
    budget: list[int]

    def get(self, name: str, sha256: str = "") -> Path:
        """Download *name*, with the digest that was signed."""
        if not NAME.fullmatch(name) or ".." in PurePosixPath(name).parts:
            raise CheckFailedError(
                f"{self.base} names a file outside of itself: {name[:200]!r}",
                hint="restore it from where it was published",
            )
        self.stage.note(name)
        partial = self.folder / ".partial"
        self.downloader.fetch(
            name, [f"{self.base}/{quote(name)}"], partial, limit=min(self.limit, self.budget[0])
        )
        self.budget[0] -= partial.stat().st_size
        if sha256 and digest(partial) != sha256:
            raise CheckFailedError(
                f"{self.base}/{name} is not what was signed",
                hint="an update may be under way: try again in some minutes, else restore it",
            )
        target = self.folder / name
        paths.make_dir(target.parent)
        partial.rename(target)
        discard(partial)
        return target


def _patient() -> Downloader:
    return Downloader(Patience.from_environment())


def _fetch_attestations(place: _Place) -> None:
    """Fetch what there is of attestations; who reads them judges them."""
    try:
        index = place.get(attestations.INDEX)
    except AbsentError:
        return
    for entry in attestations.parse(index.read_bytes(), f"{place.base}/{attestations.INDEX}"):
        for name in entry.files:
            try:
                place.get(f"{attestations.FOLDER}/{entry.place}/{name}")
            except AbsentError:
                continue  # which is found out, too, when they are judged


def _fetch_suite(place: _Place, suite: str, public: bytes) -> int:
    """Fetch all of *suite*; how many packages came."""
    folder = place.folder / DISTS / suite
    count = 0
    try:
        entry = place.get(f"{DISTS}/{suite}/InRelease")
        _, text = keys.verify(entry, public, expired=True)
        (folder / "Release").write_bytes(text)
        for name, value in checksums(text).items():
            index = PurePosixPath(DISTS, suite, name)
            found = place.get(f"{index.parent}/{BY_HASH}/{value}", value)
            shutil.copyfile(found, place.folder / index)
        for file in entries(place.folder, folder):
            if file.path != place.folder / file.pool:
                raise CheckFailedError(
                    f"{place.base} names a file where none can be: {file.name[:80]!r}",
                    hint="restore it from where it was published",
                )
            if not file.path.is_file():
                place.get(str(file.path.relative_to(place.folder)), file.sha256)
                count += 1
    except AbsentError as error:
        raise CheckFailedError(
            f"the repository at {place.base} lacks what it lists: {error.message}",
            hint="an update may be under way: try again in some minutes, else restore it",
        ) from error
    return count
