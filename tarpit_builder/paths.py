"""Where things are kept: the project's own files, the cache, and the results."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tarpit_builder.errors import InfrastructureError

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout: ``dkms/``, ``patches/`` and ``containers/`` are looked up here."""


def cache_dir() -> Path:
    """The cache: ``$TARPIT_CACHE``, else the user's cache folder (XDG)."""
    if override := os.environ.get("TARPIT_CACHE"):
        return Path(override).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("tarpit-builder"))


def state_dir() -> Path:
    """What must outlive the cache: ``$TARPIT_STATE``, else the user's state folder (XDG)."""
    if override := os.environ.get("TARPIT_STATE"):
        return Path(override).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("tarpit-builder"))


def dist_dir() -> Path:
    """Where results go: ``$TARPIT_DIST``, else ``dist/`` in the checkout."""
    if override := os.environ.get("TARPIT_DIST"):
        return Path(override).expanduser().absolute()
    return PROJECT / "dist"


def explain_os_error(error: OSError, path: Path) -> InfrastructureError:
    """Turn an ``OSError`` met at *path* into one line with a next step."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return InfrastructureError(
            f"no space left on the disk that holds {path}",
            hint="free some, or point TARPIT_CACHE and TARPIT_DIST elsewhere; "
            "`invoke clean` removes what can be made again",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return InfrastructureError(
            f"cannot write {path}: {error.strerror}",
            hint="make it writable, or point TARPIT_CACHE or TARPIT_DIST at a folder that is",
        )
    return InfrastructureError(
        f"cannot use {path}: {error.strerror or error}", hint="`invoke doctor` looks for the cause"
    )


def make_dir(path: Path) -> Path:
    """Create *path* and its parents.

    :raises InfrastructureError: if the file system refuses.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return path


@contextmanager
def staged_dir(final: Path) -> Iterator[Path]:
    """A temporary sibling of *final* that takes its place when the block ends well.

    Readers see the old content or the new, never a mixture; on any failure the temporary folder
    is removed and *final* stays as it was.

    :raises InfrastructureError: if the file system refuses or is full.
    """
    make_dir(final.parent)
    try:
        stage = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    except OSError as error:
        raise explain_os_error(error, final.parent) from error
    try:
        try:
            yield stage
            stage.chmod(0o755)
            old = stage.with_name(stage.name + ".old")
            if final.exists():
                final.rename(old)
            try:
                stage.rename(final)
            except OSError:
                if old.exists():
                    old.rename(final)
                raise
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise explain_os_error(error, final) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def remove_leftovers(final: Path) -> None:
    """Remove temporary siblings of *final* that a killed process left.

    Only for who holds a lock on *final*: nobody else may be at work in one.
    """
    pattern = re.compile(rf"\.{re.escape(final.name)}\.[a-z0-9_]{{8}}(\.old)?")  # as mkdtemp's
    for path in make_dir(final.parent).iterdir():
        if pattern.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """A temporary file beside *final* that replaces it when the block ends well.

    :raises InfrastructureError: if the file system refuses or is full.
    """
    make_dir(final.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", dir=final.parent)
        os.close(handle)
    except OSError as error:
        raise explain_os_error(error, final.parent) from error
    stage = Path(name)
    try:
        try:
            yield stage
            stage.chmod(0o644)
            stage.replace(final)
        except OSError as error:
            raise explain_os_error(error, final) from error
    finally:
        stage.unlink(missing_ok=True)
