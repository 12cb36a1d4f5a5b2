"""The cache: files by the SHA-256 of their content, fetched once and checked on arrival."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.console import Stage
from tarpit_builder.errors import NetworkError, SourceError

CHUNK = 1 << 18
TIMEOUT = (10, 60)  # seconds to connect, and between two reads


@dataclass(frozen=True, slots=True)
class Blob:
    """A file known by its digest; *urls* are tried in order, *size* is in bytes."""

    name: str
    sha256: str
    urls: Sequence[str]
    size: int | None = None


class Store:
    """Content-addressed files below *root*; with *offline* the network is never touched."""

    def __init__(self, root: Path, *, offline: bool = False) -> None:
        self.root = root
        self.offline = offline

    def path(self, blob: Blob) -> Path:
        """Where *blob* is kept, present or not."""
        return self.root / "blobs" / blob.sha256[:2] / blob.sha256

    def has(self, blob: Blob) -> bool:
        """Whether *blob* is here already."""
        return self.path(blob).is_file()

    def get(self, blob: Blob, stage: Stage | None = None) -> Path:
        """The file of *blob*, downloaded now if need be.

        :raises SourceError: offline and absent, or the content is not what was promised.
        :raises NetworkError: if no URL answers.
        """
        path = self.path(blob)
        if path.is_file():
            return path
        if self.offline:
            raise SourceError(
                f"{blob.name} is not in the cache, and --offline forbids fetching it",
                hint="run `invoke fetch` for this kernel while there is a network",
            )
        failure: NetworkError | None = None
        for url in blob.urls:
            try:
                self._download(url, blob, path, stage)
            except NetworkError as error:
                failure = error
                continue
            return path
        raise failure or NetworkError(f"nobody offers {blob.name}", hint="name a --mirror")

    def _download(self, url: str, blob: Blob, path: Path, stage: Stage | None) -> None:
        import requests

        digest = hashlib.sha256()
        done = 0
        with paths.replacing(path) as partial:
            try:
                with (
                    requests.get(url, stream=True, timeout=TIMEOUT) as response,
                    partial.open("wb") as out,
                ):
                    response.raise_for_status()
                    for chunk in response.iter_content(CHUNK):
                        digest.update(chunk)
                        out.write(chunk)
                        done += len(chunk)
                        if blob.size is not None and done > blob.size:
                            break
                        if stage:
                            stage.progress(done, blob.size)
            except requests.RequestException as error:
                raise NetworkError(
                    f"cannot fetch {url}: {error}", hint="check the network, or name a --mirror"
                ) from error
            if digest.hexdigest() != blob.sha256:
                raise SourceError(
                    f"{url} is not the file that was promised (its SHA-256 differs)",
                    hint="try another --mirror; nothing was kept",
                )
