"""Results by their content, where fsspec reaches: a folder, a host by ssh, WebDAV, a bucket.

Beside the files lie entries, which say what came of a cell and which files belong to it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tarpit_builder import digests, paths
from tarpit_builder.errors import InfrastructureError, SourceError, UserError

PLACES = "a folder that all workers see, sftp://HOST/FOLDER, https://HOST/FOLDER or s3://BUCKET"


class ResultStore:
    """The store at *url*, such as ``/srv/results``, ``sftp://host/srv/results``, ``s3://bucket``.

    :raises UserError: if nothing here can reach such a place.
    """

    def __init__(self, url: str) -> None:
        if not url:
            raise UserError(
                "a cluster needs a store for its results",
                hint=f"add --store: {PLACES}",
            )
        if urlsplit(url).password:
            raise UserError(
                "--store: a password in an address is seen by every user of the machine",
                hint="use a key, ~/.netrc (WebDAV) or the service's own file",
            )
        self.url = url
        try:
            from tarpit_builder.matrix.places import place

            self._files, self._root = place(url)
        except ImportError as error:
            raise UserError(
                f"--store {url}: {error}",
                hint="pip install --require-hashes -r requirements-cluster.lock",
            ) from error
        except ValueError as error:
            raise UserError(f"--store {url}: {error}", hint=f"name {PLACES}") from error
        except Exception as error:
            raise self._unreached(error) from error

    def put(self, path: Path) -> str:
        """Put *path* in; the SHA-256 of its content, which it is found by.

        :raises InfrastructureError: if the store is full, or cannot be written.
        """
        digest = digests.file(path)
        with self._reached():
            if not self._files.exists(self._blob(digest)):
                with self._arriving(self._blob(digest)) as name:
                    self._files.put_file(str(path), name)
        return digest

    def get(self, digest: str, target: Path) -> None:
        """Write the content with *digest* to *target*.

        :raises InfrastructureError: if it is not there, or the store cannot be read.
        :raises SourceError: if what is there is something else.
        """
        try:
            with self._reached():
                self._files.get_file(self._blob(digest), str(target))
        except BaseException as error:
            target.unlink(missing_ok=True)
            if not isinstance(error, FileNotFoundError):
                raise
            raise InfrastructureError(
                f"{self.url} has lost a file ({digest[:16]}…)",
                hint="`--force` makes the cells anew",
            ) from error
        if digests.file(target) != digest:
            target.unlink()
            raise SourceError(
                f"{self.url} holds something else than it says ({digest[:16]}…)",
                hint="find out who wrote to it; `--force` makes the cells anew",
            )

    def enter(self, name: str, entry: dict[str, Any]) -> None:
        """Keep *entry* as *name*, in place of what was kept under it."""
        data = json.dumps(entry).encode()
        with self._reached(), self._arriving(self._entry(name)) as arriving:
            self._files.pipe_file(arriving, data)

    def entry(self, name: str) -> dict[str, Any] | None:
        """What was kept as *name*, if anything, and if it can be read."""
        with self._reached(), suppress(FileNotFoundError, ValueError):
            found = json.loads(self._files.cat_file(self._entry(name)))
            return found if isinstance(found, dict) else None
        return None

    def _blob(self, digest: str) -> str:
        return f"{self._root}/blobs/{digest[:2]}/{digest}"

    def _entry(self, name: str) -> str:
        return f"{self._root}/entries/{name}.json"

    @contextmanager
    def _arriving(self, final: str) -> Iterator[str]:
        """A name to write under; it becomes *final* when the block ends well."""
        arriving = f"{self._root}/arriving/{uuid.uuid4().hex}"
        self._files.makedirs(f"{self._root}/arriving", exist_ok=True)
        try:
            yield arriving
            self._files.makedirs(final.rpartition("/")[0], exist_ok=True)
            self._files.mv(arriving, final)
        except BaseException:
            with suppress(Exception):
                self._files.rm_file(arriving)
            raise

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, ValueError):
            raise
        except Exception as error:  # each kind of place has errors of its own
            raise self._unreached(error) from error

    def _unreached(self, error: Exception) -> InfrastructureError:
        if isinstance(error, OSError) and "://" not in self.url:
            return paths.explain_os_error(error, Path(self.url))
        return InfrastructureError(
            f"the store {self.url} cannot be used: {type(error).__name__}: {error}",
            hint="can this machine and every worker reach it, and write there?",
        )
