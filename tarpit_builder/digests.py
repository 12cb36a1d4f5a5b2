"""Digests of what goes into a build, and of what comes out of it: SHA-256, in hexadecimal."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path


def content(*parts: bytes) -> str:
    """One digest for *parts*; that of a single part is its plain SHA-256."""
    if len(parts) == 1:
        return hashlib.sha256(parts[0]).hexdigest()
    return digest(hashlib.sha256(part).hexdigest() for part in parts)


def digest(parts: Iterable[str]) -> str:
    """One digest for *parts*."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def file(path: Path) -> str:
    """The digest of the file at *path*."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def members(files: Mapping[str, Path | bytes]) -> dict[str, str]:
    """The digest of each of *files*, in the order of their names."""
    return {
        name: content(given) if isinstance(given, bytes) else file(given)
        for name, given in sorted(files.items())
    }


def tree(files: Mapping[str, Path | bytes]) -> str:
    """One digest for names and contents of *files*."""
    return digest(f"{name} {value}" for name, value in members(files).items())
