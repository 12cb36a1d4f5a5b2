"""The cache: files by the SHA-256 of their content, fetched once, checked whenever they are used.

Below its root::

    blobs/ab/abcd…        content, named by its SHA-256; read-only, replaced never
    blobs/ab/abcd….json   what it is called and where it came from, for people
    records/NAME.json     what was found out about a source: its digests, who vouches for it
    partial/…             downloads that are under way, or were interrupted
    git/…                 bare mirrors of repositories
    keys/…                public keys, by fingerprint
    locks/…               one for each thing that can be fetched

A blob is moved into place only after its digest was found right, in one step, so a process that
is killed at any moment leaves a partial file and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tarpit_builder import digests, paths
from tarpit_builder.console import Stage
from tarpit_builder.errors import NetworkError, SourceError
from tarpit_builder.sources.download import Downloader, Patience, discard

CHUNK = 1 << 20
UNDER_WAY = 3600.0  # seconds since it grew that a partial download counts as under way
LARGEST = 2 << 30  # bytes; the largest source is linux 7.x as .tar.gz with 250 MB


@dataclass(frozen=True, slots=True)
class Blob:
    """A file known by its digest; *urls* are tried in order, *size* is in bytes."""

    name: str
    sha256: str
    urls: Sequence[str]
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of the cache, as ``invoke cache`` lists it; *size* in bytes, times since 1970."""

    path: Path
    name: str
    size: int
    used: float
    kind: str


def _downloader() -> Downloader:
    return Downloader(Patience.from_environment())


@dataclass(slots=True)
class Store:
    """Content-addressed files below *root*; with *offline* the network is never touched."""

    root: Path
    offline: bool = False
    downloader: Downloader = field(default_factory=_downloader, kw_only=True)

    # -- blobs -------------------------------------------------------------------------------

    def path(self, blob: Blob) -> Path:
        """Where *blob* is kept, present or not."""
        return self._blob(blob.sha256)

    def has(self, blob: Blob) -> bool:
        """Whether *blob* is here already."""
        return self.path(blob).is_file()

    def get(self, blob: Blob, stage: Stage | None = None) -> Path:
        """The file of *blob*, downloaded now if need be; its digest is checked either way.

        :raises SourceError: offline and absent, or the content is not what was promised.
        :raises NetworkError: if no URL answers.
        :raises InfrastructureError: if the disk refuses or is full.
        """
        if path := self.checked(blob.sha256):
            return path
        if self.offline:
            raise SourceError(
                f"{blob.name} is not in the cache, and --offline forbids fetching it",
                hint="run `invoke fetch` for this kernel while there is a network",
            )

        def wrong(partial: Path) -> None:
            if sha256_of(partial) != blob.sha256:
                raise SourceError(
                    f"{blob.name} is not the file that was promised (its SHA-256 differs)",
                    hint="try another --mirror; nothing was kept",
                )

        with self.lock(blob.sha256):
            # Whoever held the lock may have fetched it.
            return self.checked(blob.sha256) or self.fetch(
                blob.name,
                blob.urls,
                check=wrong,
                key=blob.sha256,
                size=blob.size,
                limit=blob.size or LARGEST,
                stage=stage,
            )

    def fetch(
        self,
        name: str,
        urls: Sequence[str],
        *,
        check: Callable[[Path], None],
        limit: int,
        key: str = "",
        size: int | None = None,
        stage: Stage | None = None,
    ) -> Path:
        """Download *name* and keep it if *check* raises no SourceError.

        The caller holds a lock.  A partial download is kept under *key*, or the *name* if there
        is none.

        Content that fails after a resumed download may be two mirrors' halves: it is fetched
        once more from the start.  Then each other place gets a chance to have the right content.

        :raises SourceError: what *check* raised for the last place that answered.
        :raises NetworkError: if no URL answers.
        """
        partial = self.partial(key or name)
        wrong: SourceError | None = None
        pending = list(urls)
        while True:
            resumed = partial.exists()
            try:
                origin = self.downloader.fetch(
                    name, pending, partial, limit=limit, size=size, stage=stage
                )
            except (NetworkError, SourceError) as error:
                raise wrong or error from None
            try:
                check(partial)
            except SourceError as error:
                discard(partial)
                wrong = error
                if not resumed:
                    places = [url for url in pending if not _same_place(url, origin)]
                    if not places:
                        raise
                    pending = places
                continue
            path = self.adopt(partial, name, origin)
            discard(partial)
            return path

    def read(self, name: str, urls: Sequence[str], *, limit: int) -> bytes:
        """The content of a small file that is not kept, **unchecked**; the caller holds a lock.

        :raises AbsentError: if no place has it.
        :raises NetworkError: if none can be reached.
        """
        partial = self.partial(name)
        discard(partial)
        try:
            self.downloader.fetch(name, urls, partial, limit=limit)
            return partial.read_bytes()
        except OSError as error:
            raise paths.explain_os_error(error, partial) from error
        finally:
            discard(partial)

    def adopt(self, file: Path, name: str, origin: str) -> Path:
        """Move *file*, which lies below the root, among the blobs."""
        digest = sha256_of(file)
        path = self._blob(digest)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as content:
                os.fsync(content.fileno())
            file.chmod(0o444)
            file.replace(path)
        except OSError as error:
            raise paths.explain_os_error(error, path) from error
        self._write_json(
            path.with_name(path.name + ".json"),
            {"name": name, "origin": origin, "fetched": int(time.time())},
        )
        return path

    def checked(self, sha256: str) -> Path | None:
        """The blob of that digest if it is here and intact; a damaged one is thrown away."""
        path = self._blob(sha256)
        if not path.is_file():
            return None
        if sha256_of(path) != sha256:
            self._remove(path)
            return None
        with suppress(OSError):  # a cache that others own can still be read
            os.utime(path)  # when it was last used, for `invoke cache prune`
        return path

    def discard(self, blob: Blob) -> None:
        """Forget *blob*, which is of no further use."""
        self._remove(self.path(blob))

    def _remove(self, path: Path) -> None:
        path.with_name(path.name + ".json").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def origin(self, path: Path) -> str:
        """Where the blob at *path* was fetched from, without credentials."""
        return str(self._about(path).get("origin", ""))

    def _about(self, path: Path) -> dict[str, Any]:
        try:
            found = json.loads(path.with_name(path.name + ".json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256[:2] / sha256

    # -- records, partial files, locks -------------------------------------------------------

    def record(self, name: str) -> Mapping[str, Any] | None:
        """What :meth:`write_record` wrote under *name*."""
        try:
            found = json.loads(self._record(name).read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write_record(self, name: str, content: Mapping[str, Any]) -> None:
        """Remember *content* under *name*."""
        self._write_json(self._record(name), content)

    def _record(self, name: str) -> Path:
        return self.root / "records" / f"{_safe(name)}.json"

    def _write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        with paths.replacing(path) as stage:
            stage.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")

    def partial(self, name: str) -> Path:
        """Where *name* is downloaded to."""
        return paths.make_dir(self.root / "partial") / _safe(name)

    @contextmanager
    def lock(self, name: str, *, wait: bool = True) -> Iterator[None]:
        """Hold the lock of *name* among all processes of this cache.

        The kernel lets go of it when the process ends, however it ends.

        :raises filelock.Timeout: if another process holds it and the caller will not *wait*.
        """
        import filelock

        path = paths.make_dir(self.root / "locks") / f"{_safe(name)}.lock"
        try:
            with filelock.FileLock(path, timeout=-1 if wait else 0):
                try:
                    yield
                finally:
                    # Removed while it is held; who waits for it sees that and makes a new one.
                    path.unlink(missing_ok=True)
        except filelock.Timeout:
            raise
        except OSError as error:
            raise paths.explain_os_error(error, path) from error

    # -- housekeeping ------------------------------------------------------------------------

    def items(self) -> list[Kept]:
        """Everything that takes room, the most recently used first."""
        found = [
            Kept(
                path,
                str(self._about(path).get("name", path.name)),
                path.stat().st_size,
                path.stat().st_mtime,
                "blob",
            )
            for path in self._blobs()
        ]
        for folder, kind in (("partial", "partial"), ("git", "git mirror")):
            base = self.root / folder
            for path in sorted(base.iterdir()) if base.is_dir() else ():
                if not path.name.endswith(".json"):
                    found.append(
                        Kept(path, path.name, _disk_usage(path), path.stat().st_mtime, kind)
                    )
        return sorted(found, key=lambda item: -item.used)

    def verify(self, stage: Stage | None = None) -> list[Kept]:
        """Read every blob again; the damaged ones, which were removed."""
        damaged = []
        for item in self.items():
            if item.kind == "blob":
                if stage:
                    stage.note(item.name)
                if self.checked(item.path.name) is None:
                    damaged.append(item)
                elif item.path.exists():
                    os.utime(item.path, (item.used, item.used))  # looking at it is no use of it
        return damaged

    def prune(
        self, *, older_than: float | None = None, keep: int | None = None, now: float | None = None
    ) -> list[Kept]:
        """Remove what was not used for *older_than* seconds, then the least recently used until
        no more than *keep* bytes are left; what was removed.  What somebody is fetching stays.
        """
        import filelock

        now = time.time() if now is None else now
        removed: list[Kept] = []
        left = self.items()
        total = sum(item.size for item in left)
        for item in reversed(left):
            aged = older_than is not None and now - item.used > older_than
            if not aged and (keep is None or total <= keep):
                continue
            if item.kind == "partial" and now - item.used < UNDER_WAY:
                continue
            try:
                with self.lock(item.path.name, wait=False):
                    if item.path.is_dir():
                        shutil.rmtree(item.path, ignore_errors=True)
                    else:
                        self._remove(item.path)
            except filelock.Timeout:
                continue
            removed.append(item)
            total -= item.size
        for path in self.root.rglob(".*"):  # what killed processes were about to put in place
            with suppress(OSError):
                if path.is_file() and now - path.stat().st_mtime > UNDER_WAY:
                    path.unlink()
        return removed

    def _blobs(self) -> Iterator[Path]:
        base = self.root / "blobs"
        for path in sorted(base.glob("??/*")) if base.is_dir() else ():
            if re.fullmatch(r"[0-9a-f]{64}", path.name):
                yield path


def sha256_of(path: Path) -> str:
    """The SHA-256 of the file at *path*, in hexadecimal.

    :raises InfrastructureError: if it cannot be read.
    """
    try:
        return digests.file(path)
    except OSError as error:
        raise paths.explain_os_error(error, path) from error


def _safe(name: str) -> str:
    """*name* as a file name; what had to be replaced is told apart by a digest."""
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".")
    if plain == name and len(name) < 100:
        return name
    return f"{plain[:80]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _same_place(url: str, origin: str) -> bool:
    from tarpit_builder.sources.download import public_url

    return public_url(url) == origin


def _disk_usage(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
