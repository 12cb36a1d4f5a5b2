"""What the steps of a release share: where things are, what was asked for, who signs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import matrix, paths
from tarpit_builder.attest import keys
from tarpit_builder.console import Console
from tarpit_builder.errors import TarpitError
from tarpit_builder.packaging.changelog import parse_changelog
from tarpit_builder.release import checks, drafting, forge, proven
from tarpit_builder.release.drafting import CHANGELOG, INIT, Draft
from tarpit_builder.release.forge import Forge
from tarpit_builder.release.options import ReleaseOptions
from tarpit_builder.release.proven import Judgement
from tarpit_builder.release.remote import Remote
from tarpit_builder.signing import signature
from tarpit_builder.signing.sign import SIGNED

if TYPE_CHECKING:
    from git import Repo
    from securesystemslib.signer import Signer

FOLDER = "release"  # below dist/
SECRETS = frozenset(
    (
        *("GITHUB_TOKEN", "GH_TOKEN", "GITLAB_TOKEN", "CI_JOB_TOKEN"),
        *(keys.PASSPHRASE, signature.PASSPHRASE),
    )
)
"""What is in the environment of no build and no test that a release starts."""


@dataclass
class Course:
    """The release of *made* on its way; *options* say how."""

    made: Draft
    options: ReleaseOptions
    console: Console

    @property
    def repository(self) -> Repo:
        """The checkout's."""
        return drafting.open_repository(self.made.root)

    @property
    def commit(self) -> str:
        """The commit that is released, once it is written."""
        return str(self.repository.head.commit.hexsha)

    @property
    def checked(self) -> str:
        """The commit whose checks count: of a release's own commit, which says the version and
        nothing else, the one before.
        """
        head = self.repository.head.commit
        if head.parents and str(head.message).splitlines()[0] == f"Release {self.made.version}":
            changed = self.repository.git.diff("--name-only", head.parents[0], head).splitlines()
            if set(changed) <= {CHANGELOG, INIT}:
                return str(head.parents[0].hexsha)
        return str(head.hexsha)

    @property
    def checks_file(self) -> Path:
        """The file that remembers which checks a commit has passed."""
        return paths.dist_dir() / FOLDER / "checks.json"

    @property
    def work(self) -> Path:
        """The folder of all that is made for this release, of this very commit."""
        return paths.dist_dir() / FOLDER / f"{self.made.version}-{self.commit[:12]}"

    @property
    def results(self) -> Path:
        """What ``dist/`` is to a build, with nothing in it but this release."""
        return self.work / "results"

    @property
    def assets(self) -> Path:
        """What users download."""
        return self.work / "assets"

    @property
    def attest_public(self) -> Path:
        """The public key of the attestations, once they are made."""
        return self.work / "attest.pub"

    @property
    def epoch(self) -> int:
        """The time of everything that is packed, in seconds since 1970: the day of the release."""
        return parse_changelog((self.made.root / CHANGELOG).read_text(encoding="utf-8"))[0].epoch

    @cached_property
    def cells(self) -> tuple[matrix.Cell, ...]:
        """What is released."""
        return matrix.select(matrix.read(self.options.file), self.options.only, "")

    @cached_property
    def signer(self) -> Signer:
        """Who attests; a passphrase is asked for once."""
        return keys.signer(self.options.attest_key, self.options.attest_public)

    @cached_property
    def remote(self) -> Remote:
        """Where branch and tag go."""
        name = str(self.repository.active_branch.name)
        return Remote(self.made.root, self.options.remote, name)

    @cached_property
    def forge(self) -> Forge | None:
        """Where the release goes; None if nowhere."""
        host, project = self.remote.place
        return forge.choose(self.options.forge, host, project, self.made.tag, self.made.version)

    def judge(self) -> Judgement:
        """What is proven by now."""
        return proven.judge(self.results, self.cells, self.commit)

    def sets(self) -> tuple[Path, ...]:
        """The folders of all package sets, those with signed modules among them."""
        found = [
            path
            for folder in self.judge().sets.values()
            for path in (folder, folder.with_name(folder.name + SIGNED))
            if path.is_dir()
        ]
        return tuple(sorted(found))

    def environment(self, *, keep: Sequence[str] = ()) -> dict[str, str]:
        """The environment of what is started: of secrets, only those that are to *keep*."""
        scheme, _, name = self.options.attest_key.partition(":")
        left_out = SECRETS.union([name] if scheme == "env" else ()).difference(keep)
        return {key: value for key, value in os.environ.items() if key not in left_out}

    def run(self, words: Sequence[str], *, keep: Sequence[str] = ()) -> int:
        """Run a task with the results as its ``dist/``; its exit code."""
        environment = {**self.environment(keep=keep), "TARPIT_DIST": str(self.results)}
        return checks.invoke(words, self.made.root, environment)

    def invoke(
        self, words: Sequence[str], failed: TarpitError, *, keep: Sequence[str] = ()
    ) -> None:
        """Run a task with the results as its ``dist/``; *failed* is raised if it fails."""
        if self.run(words, keep=keep) != 0:
            raise failed
