"""Commits of a kernel's git tree since the last release that was seen good."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tarpit_builder import records
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.versions import KernelVersion

if TYPE_CHECKING:
    import git

MOST = 40  # commits that a report lists
_WHERE = ("include/", "arch/x86/include/")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, and why it is listed: what it *touches*."""

    id: str
    date: str
    subject: str
    touches: str

    def __str__(self) -> str:
        return f"{self.id} {self.date} {self.subject} ({self.touches})"


@dataclass(frozen=True, slots=True)
class History:
    """The *commits* from the release *good* to *new*, both as git knows them."""

    good: str
    new: str
    commits: tuple[Commit, ...]


def good_releases(version: KernelVersion) -> list[KernelVersion]:
    """The releases before *version* that were built from source, the newest first."""
    return sorted(
        {
            record.version
            for record in records.read()
            if not record.distribution and record.version < version
        },
        reverse=True,
    )


def search(
    location: str,
    version: KernelVersion,
    ref: str,
    *,
    headers: Sequence[str],
    identifiers: Sequence[str],
) -> History:
    """The commits of the clone *location* up to *version*, or *ref*, that may be the cause.

    Those that changed a line of a header with one of *identifiers*, then those that touch one of
    *headers*.

    :raises UserError: if there is no clone on this machine.
    :raises SourceError: if it lacks the release or every good one before, or is damaged.
    """
    repository = _open(location)
    with _errors(location):
        new = _commit(repository, ref) if ref else _release(repository, version)
        if not new:
            raise SourceError(
                f"{location} has no {ref or version.tag}", hint="fetch its tags, or add --ref"
            )
        candidates = good_releases(version)
        good = next((one for one in candidates if _release(repository, one)), None)
        if good is None:
            names = ", ".join(map(str, candidates[:3])) or "none before it is recorded"
            raise SourceError(
                f"{location} has no release that was seen good: {names}",
                hint="fetch its tags: git fetch --tags",
            )
        span = f"{_release(repository, good)}..{new}"
        found: dict[str, Commit] = {}
        for name in identifiers:
            for commit in _log(repository, span, name, _WHERE, f"-G\\b{name}\\b"):
                found.setdefault(commit.id, commit)
        for header in headers:
            for commit in _log(repository, span, header, (header,)):
                found.setdefault(commit.id, commit)
        return History(str(good), ref or str(version), tuple(found.values())[:MOST])


def includes(texts: Iterable[str]) -> list[str]:
    """The kernel's headers that C sources include."""
    names = {name for text in texts for name in re.findall(r"#include <([^>]+)>", text)}
    return sorted(f"include/{name}" for name in names)


def _open(location: str) -> git.Repo:
    import git

    try:
        repository = git.Repo(location, odbt=git.GitCmdObjectDB)
    except (git.NoSuchPathError, git.InvalidGitRepositoryError) as error:
        raise UserError(
            f"{location} is no clone on this machine", hint="git clone it, and name the folder"
        ) from error
    repository.git.update_environment(GIT_DIR=str(repository.git_dir))
    return repository


def _release(repository: git.Repo, version: KernelVersion) -> str:
    known = Catalogue.load().kernel(version)
    names = [known.commit, f"refs/tags/{version.tag}"]
    return next((id_ for name in names if name and (id_ := _commit(repository, name))), "")


def _commit(repository: git.Repo, name: str) -> str:
    found = repository.git.rev_parse(
        "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", with_exceptions=False
    )
    return str(found)


def _log(
    repository: git.Repo, span: str, touches: str, places: Sequence[str], *options: str
) -> list[Commit]:
    text = str(
        repository.git.log("--no-merges", "--format=%h%x00%cs%x00%s", *options, span, "--", *places)
    )
    rows = [line.split("\0", 2) for line in text.splitlines() if line]
    return [Commit(id_, date, subject, touches) for id_, date, subject in rows]


@contextmanager
def _errors(location: str) -> Iterator[None]:
    import git

    try:
        yield
    except (git.GitCommandError, git.ODBError, ValueError, OSError) as error:
        said = str(error).strip().splitlines()[-1]
        raise SourceError(
            f"{location} cannot be read: {said}", hint="`git fsck` in the repository says more"
        ) from error
