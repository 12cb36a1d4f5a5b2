"""What two builds of the same have in common."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from tarpit_builder import build

TIMES = ("started", "finished")
"""What a manifest says of the run, and not of the result."""


WARNING = re.compile(r"(TARPIT|tarpit|tarpit_core|compat/\S+)\.[ch]:\d+:\d+: warning: ")


def warnings(folder: Path) -> list[str]:
    """What the compiler warned of in our own files, but for the probes, which shall fail."""
    lines = (folder / build.LOG).read_text().splitlines()
    return [line for line in lines if WARNING.search(line) and "probes.h.log" not in line]


def packages(dist: Path) -> dict[str, str]:
    """SHA-256 of every package in *dist*."""
    return {path.name: digest(path) for path in dist.glob("*/*.deb")}


def digest(path: Path) -> str:
    """SHA-256 of *path*; of a manifest, without its times."""
    data = path.read_bytes()
    if path.name == build.MANIFEST:
        manifest = json.loads(data)
        data = json.dumps({key: manifest[key] for key in manifest if key not in TIMES}).encode()
    return hashlib.sha256(data).hexdigest()
