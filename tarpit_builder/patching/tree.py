"""A source tree to look at: a folder, a commit in git, or files in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.patching.diff import ENCODING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import git

    from tarpit_builder.sources.catalogue import Release
    from tarpit_builder.versions import AnyVersion


class Tree(Protocol):
    """Files by their path."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def read(self, path: str) -> str | None:
        """The text of *path*, or ``None`` where there is no such file."""


@dataclass(frozen=True, slots=True)
class FolderTree:
    """A tree on disk."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self, path: str) -> str | None:
        """The text of *path*, or ``None`` where there is no such file."""
        file = self.folder / path
        return file.read_bytes().decode(ENCODING) if file.is_file() else None


@dataclass(frozen=True, slots=True)
class MemoryTree:
    """The files of a tree that matter, already read."""

    name: str
    files: Mapping[str, str]

    def read(self, path: str) -> str | None:
        """The text of *path*, or ``None`` where there is no such file."""
        return self.files.get(path)


@dataclass(frozen=True, slots=True)
class GitTree:
    """A commit; what is read is hashed again, so a damaged repository does not go unnoticed."""

    name: str
    commit: git.Commit

    def read(self, path: str) -> str | None:
        """The text of *path*, or ``None`` where there is no such file.

        :raises SourceError: if the repository lacks the object, or it is damaged.
        """
        with _git_errors(self.name):
            try:
                blob = self.commit.tree / path
            except KeyError:
                return None
            if blob.type != "blob":
                return None
            content: bytes = blob.data_stream.read()
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
            if digest.hexdigest() != blob.hexsha:
                raise SourceError(
                    f"{path} of {self.name} is damaged: its content does not have its id",
                    hint="`git fsck` in the repository says more; or clone it again",
                )
            return content.decode(ENCODING)


def in_git(location: str, release: Release[AnyVersion]) -> GitTree | None:
    """The tree of *release* in the repository at *location*, or ``None`` if it is not there.

    Found by the commit that the catalogue pins; by its tag only where none is pinned.

    :raises UserError: if there is no repository.
    :raises SourceError: if it cannot be read, or has another tree than the release.
    """
    import git

    try:
        repository = git.Repo(location, odbt=git.GitCmdObjectDB)
    except (git.NoSuchPathError, git.InvalidGitRepositoryError) as error:
        raise UserError(
            f"{location} is no git repository", hint="give the path of a clone, bare or not"
        ) from error
    # A bare repository without a config file looks like one with a work tree to GitPython.
    repository.git.update_environment(GIT_DIR=str(repository.git_dir))
    wanted = release.commit or f"refs/tags/{release.version.tag}"
    name = f"{location}#{release.version}"
    with _git_errors(name):
        commit_id = repository.git.rev_parse(
            "--verify", "--quiet", f"{wanted}^{{commit}}", with_exceptions=False
        )
        if not commit_id:
            return None
        commit = repository.commit(commit_id)
        if release.tree and commit.tree.hexsha != release.tree:
            raise SourceError(
                f"{name} has the tree {commit.tree.hexsha[:12]}…, the release has "
                f"{release.tree[:12]}…",
                hint="its tag was moved; use another repository",
            )
        return GitTree(name, commit)


@contextmanager
def _git_errors(name: str) -> Iterator[None]:
    import git

    try:
        yield
    except (git.GitCommandError, git.ODBError, ValueError, OSError) as error:
        raise SourceError(
            f"{name} cannot be read: {error}", hint="`git fsck` in the repository says more"
        ) from error
