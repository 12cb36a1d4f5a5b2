"""Trees to try patches on: small ones made up around a patch, and real ones from git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tarpit_builder.patching.diff import ENCODING, FilePatch, Patch
from tarpit_builder.versions import KernelVersion

MAKEFILE = """VERSION = {0}
PATCHLEVEL = {1}
SUBLEVEL = {2}
EXTRAVERSION = {extra}
NAME = made up
"""


def text_for(file: FilePatch) -> str:
    """A file in which *file* applies, with filler around what it needs."""
    lines: list[str] = []
    for hunk in file.hunks:
        lines += [f"filler {number}" for number in range(len(lines), hunk.old_start - 1)]
        lines += hunk.old
    return "".join(f"{line}\n" for line in [*lines, "the end"])


def made_up(folder: Path, patch: Patch, version: KernelVersion, extra: str = "") -> Path:
    """A tree that looks like Linux *version* to whoever wants to apply *patch*."""
    (folder / "net").mkdir(parents=True)
    (folder / "Makefile").write_text(MAKEFILE.format(*(*version.numbers, 0)[:3], extra=extra))
    for file in patch.files:
        if not file.adds:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text_for(file).encode(ENCODING))
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modes and contents of all files below *folder*, git's own left out."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


def repositories(variable: str) -> Iterator[str]:
    """What the environment names as clones."""
    yield from os.environ.get(variable, "").split()


def git(folder: Path, *arguments: str) -> str:
    """Run git in *folder* as nobody in particular."""
    environment = {
        **os.environ,
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    command = ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout
