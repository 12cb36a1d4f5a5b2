"""What is published already, brought back to a machine that has not got it.

CI starts on an empty machine, and the repository is where users find it.  Everything is followed
from the signatures of its own key, so that a host that was broken into cannot slip anything in.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from tarpit_builder import paths
from tarpit_builder.console import Console, Stage
from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.publish import keys, settings, states
from tarpit_builder.publish.audit import BY_HASH, DISTS, KEY, checksums, entries
from tarpit_builder.publish.incoming import digest
from tarpit_builder.publish.keys import Key
from tarpit_builder.sources.download import AbsentError, Downloader, Patience, discard

LIMIT = 1 << 28  # bytes of one file


def fetch(url: str, top: Path, key: Key, console: Console) -> int:
    """Bring the repository at *url*, signed by *key*, to *top*; how many packages it has.

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
        place = _Place(base, Path(name), stage)
        try:
            content = place.get(settings.FILE).read_bytes()
        except AbsentError as error:
            raise UserError(
                f"nothing is published at {base} yet",
                hint="leave out --fetch this once, to publish for the first time",
            ) from error
        count = 0
        for suite in settings.parse(content, f"{base}/{settings.FILE}").suites:
            count += _fetch_suite(place, suite, key)
        place.get(KEY)
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
    downloader: Downloader = field(default_factory=lambda: Downloader(Patience.from_environment()))

    def get(self, name: str, sha256: str = "") -> Path:
        """Download *name*, with the digest that was signed."""
        if ".." in PurePosixPath(name).parts:
            raise CheckFailedError(
                f"{self.base} names a file outside of itself: {name}",
                hint="restore it from where it was published",
            )
        self.stage.note(name)
        partial = self.folder / ".partial"
        self.downloader.fetch(name, [f"{self.base}/{quote(name)}"], partial, limit=LIMIT)
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


def _fetch_suite(place: _Place, suite: str, key: Key) -> int:
    """Fetch all of *suite*; how many packages came."""
    folder = place.folder / DISTS / suite
    count = 0
    try:
        entry = place.get(f"{DISTS}/{suite}/InRelease")
        _, text = keys.verify(entry, key.public(), expired=True)
        (folder / "Release").write_bytes(text)
        for name, value in checksums(text).items():
            index = PurePosixPath(DISTS, suite, name)
            found = place.get(f"{index.parent}/{BY_HASH}/{value}", value)
            shutil.copyfile(found, place.folder / index)
        for file in entries(place.folder, folder):
            if not file.path.is_file():
                place.get(str(file.path.relative_to(place.folder)), file.sha256)
                count += 1
    except AbsentError as error:
        raise CheckFailedError(
            f"the repository at {place.base} lacks what it lists: {error.message}",
            hint="an update may be under way: try again in some minutes, else restore it",
        ) from error
    return count
