"""Where things are kept: the project's own files, the cache, and the results."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tarpit_builder import leftovers
from tarpit_builder.errors import InfrastructureError, UserError

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
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return InfrastructureError(
            f"cannot use {path}: {error.strerror}",
            hint="something of that name is no folder: move it away, or name another place",
        )
    return InfrastructureError(
        f"cannot use {path}: {error.strerror or error}",
        hint="`df -h` and `dmesg` tell how the disk is; TARPIT_CACHE, TARPIT_DIST and TMPDIR name "
        "other places",
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
    is removed and *final* stays as it was.  What a killed process left of either goes, too.

    :raises InfrastructureError: if the file system refuses or is full.
    """
    make_dir(final.parent)
    leftovers.sweep_siblings(final)
    with _explained(final), leftovers.stage_for(final, folder=True) as stage:
        yield stage
        stage.chmod(0o755)
        old = stage.with_name(stage.name + ".old")
        with leftovers.held(final):
            if final.exists():
                final.rename(old)
            try:
                stage.rename(final)
            except OSError:
                if old.exists():
                    old.rename(final)
                raise
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replacing(final: Path, *, mode: int = 0o644) -> Iterator[Path]:
    """A temporary file beside *final* that replaces it when the block ends well, with *mode*.

    :raises InfrastructureError: if the file system refuses or is full.
    """
    make_dir(final.parent)
    leftovers.sweep_siblings(final)
    with _explained(final), leftovers.stage_for(final, folder=False) as stage:
        yield stage
        stage.chmod(mode)
        stage.replace(final)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, path) from error


def small_file(path: Path, most: int, what: str, hint: str) -> bytes:
    """The content of the file *path* that the user named, of at most *most* bytes.

    :raises UserError: if it cannot be read, or, with *hint*, if it is none with *what*.
    """
    try:
        if path.is_file() and path.stat().st_size <= most:
            return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", hint="see who may") from error
    raise UserError(f"{path} is no file with {what}", hint=hint)
