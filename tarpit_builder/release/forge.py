"""A release where users look for it: files uploaded, compared, and only then shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tarpit_builder import digests
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, NetworkError, UserError
from tarpit_builder.release.api import ATTEMPTS, PAUSE

GITHUB, GITLAB, NONE = "github", "gitlab", "none"
HOSTS = {"github.com": GITHUB, "gitlab.com": GITLAB}
"""Those that get a token without being asked for by ``--forge``."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What a release says: its *tag*, its *version*, and the *text*, as Markdown."""

    tag: str
    version: str
    text: str


@dataclass(frozen=True, slots=True)
class ForgeState:
    """What a forge has of a release: the SHA-256 of each of its *files* (of all that have the same
    name), whether it is *published*, at which *url*, and which files are *listed* there.
    """

    url: str = ""
    published: bool = False
    files: Mapping[str, frozenset[str]] | None = None
    listed: frozenset[str] = frozenset()

    def missing(self, files: Mapping[str, str], title: str) -> list[str]:
        """Those of *files*, by name with SHA-256, that are not there.

        :raises CheckFailedError: if one is there with other bytes, or one that is none of these
            where nothing is published yet.
        """
        there = self.files or {}
        for name, digest in files.items():
            if name in there and there[name] != {digest}:
                raise CheckFailedError(
                    f"{title} has {name} already, with other bytes",
                    hint="if it is of an attempt that is given up, remove it there, and give the "
                    "same command again; what was published stays as it is",
                )
        strange = sorted(there.keys() - files.keys())
        if strange and not self.published:
            raise CheckFailedError(
                f"{title} has {strange[0]}, which is no file of this release",
                hint="remove it there, and give the same command again",
            )
        return [name for name in files if name not in there]

    def whole(self, files: Mapping[str, str], title: str) -> bool:
        """Whether it is published with all *files*.

        :raises CheckFailedError: as :meth:`missing`.
        """
        left = self.missing(files, title)
        return self.published and not left and files.keys() <= self.listed


class Forge(Protocol):
    """Where a project has its releases; each call that changes something is made once."""

    title: str

    def look(self) -> ForgeState:
        """What is there of the release."""

    def begin(self, notes: Notes) -> None:
        """Begin the release where :meth:`look` found none; nobody sees it yet."""

    def upload(self, path: Path, digest: str) -> None:
        """Upload the file *path* with the SHA-256 *digest*."""

    def finish(self, notes: Notes, names: list[str]) -> None:
        """Show the release, with the files *names*."""


def choose(kind: str, host: str, project: str, tag: str, version: str) -> Forge | None:
    """The forge of *kind* at *host*, or the one that this is known to be; None if none is wanted.

    :raises UserError: if it does not tell, or there is no token.
    """
    from tarpit_builder.release.github import GitHub
    from tarpit_builder.release.gitlab import GitLab

    known: dict[str, type[GitHub] | type[GitLab]] = {GITHUB: GitHub, GITLAB: GitLab}
    kind = kind or HOSTS.get(host, "")
    if kind == NONE:
        return None
    if kind not in known:
        raise UserError(
            f"{f'--forge {kind} is not known' if kind else 'the remote does not tell its forge'}",
            hint=f"--forge takes {GITHUB}, {GITLAB}, or {NONE} to stop once tag and branch are "
            "pushed",
        )
    return known[kind](host, project, tag, version)


def publish(forge: Forge, notes: Notes, files: Mapping[str, Path], console: Console) -> str:
    """Publish the release of *notes* with *files*, by name; its URL.

    What is there already is not uploaded again.

    :raises CheckFailedError: if something is there with other bytes.
    :raises TarpitError: as the forge refuses.
    """
    sums = {name: digests.file(path) for name, path in files.items()}
    seen = forge.look()
    missing = seen.missing(sums, forge.title)
    if missing and not seen.published:
        forge.begin(notes)
    for number, name in enumerate(missing, 1):
        with console.stage(f"upload {number}/{len(missing)} {name}"):
            _upload(forge, files[name], sums)
    if not (seen := forge.look()).whole(sums, forge.title):
        if left := seen.missing(sums, forge.title):
            raise NetworkError(
                f"{forge.title} has not kept {left[0]}",
                hint="the same command again uploads it again",
            )
        forge.finish(notes, list(files))
        seen = forge.look()
    return seen.url


def _upload(forge: Forge, path: Path, sums: Mapping[str, str]) -> None:
    """Upload *path*; after a failure look first whether it has come all the same."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            forge.upload(path, sums[path.name])
        except NetworkError:
            if path.name not in forge.look().missing(sums, forge.title):
                return
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE * attempt)
        else:
            return
