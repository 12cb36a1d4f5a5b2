"""The remote that a release is pushed to: what it has, and where its forge is."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder.errors import NetworkError, UserError
from tarpit_builder.release.drafting import open_repository

LOOK, PUSH = 120, 1800  # seconds that git may take
SLOW = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60")  # bytes/s, seconds
ADDRESS = re.compile(r"[a-z][a-z+]*://(?:[^@/]*@)?(\[[^]]*\]|[^/:]*)(?::\d+)?/(.+)")
SCP = re.compile(r"(?:[^@/:]+@)?([^/:]+):(.+)")  # git@HOST:OWNER/NAME
SECRET = re.compile(r"(?<=://)[^@/\s]+(?=@)")


@dataclass(frozen=True, slots=True)
class RemoteState:
    """What a remote has: the commit of the *branch*, the *tag* as an object, and its *commit*."""

    branch: str
    tag: str
    commit: str


@dataclass(frozen=True, slots=True)
class Remote:
    """The remote *name* of the checkout at *root*, whose *branch* is released."""

    root: Path
    name: str
    branch: str

    @property
    def place(self) -> tuple[str, str]:
        """Its host, ``""`` of a folder, and the path of the project there.

        :raises UserError: if there is no such remote.
        """
        try:
            url = self._git("remote", "get-url", "--push", "--", self.name, seconds=LOOK).strip()
        except NetworkError as error:
            raise UserError(
                f"the checkout has no remote {self.name!r}",
                hint="`git remote add` makes one, --remote names another",
            ) from error
        found = ADDRESS.fullmatch(url) or SCP.fullmatch(url)
        host, path = (found[1], found[2]) if found else ("", url)
        return host, path.strip("/").removesuffix(".git")

    def look(self, tag: str) -> RemoteState:
        """What it has of *tag* and of the branch.

        :raises NetworkError: if it does not answer.
        """
        names = (f"refs/heads/{self.branch}", f"refs/tags/{tag}", f"refs/tags/{tag}^{{}}")
        said = self._git("ls-remote", "--", self.name, *names, seconds=LOOK)
        found = {
            line.partition("\t")[2]: line.partition("\t")[0] for line in said.splitlines() if line
        }
        branch, of_tag, peeled = (found.get(name, "") for name in names)
        return RemoteState(branch, of_tag, peeled or of_tag)

    def demand_room(self, tag_name: str) -> RemoteState:
        """See that branch and tag could be pushed; what the remote has.

        :raises UserError: if it has another tag of that name, or commits that are not here.
        :raises NetworkError: if it does not answer.
        """
        import git

        seen = self.look(tag_name)
        repository = open_repository(self.root)
        head = repository.head.commit.hexsha
        if seen.tag and seen.commit != head:
            raise UserError(
                f"{self.name} has a tag {tag_name} already, of commit {seen.commit[:12]}, and this "
                f"checkout is at {head[:12]}",
                hint="choose a higher number; what is out stays as it is",
            )
        here = [str(tag.object.hexsha) for tag in repository.tags if tag.name == tag_name]
        if seen.tag and here and here != [seen.tag]:
            raise UserError(
                f"{self.name} has another tag {tag_name} of the same commit",
                hint=f"git tag --delete {tag_name}, and give the same command again",
            )
        if seen.branch and not seen.tag:
            try:
                repository.git.merge_base("--is-ancestor", seen.branch, head)
            except git.GitCommandError as error:  # also of a commit that is not here
                raise UserError(
                    f"{self.name}/{self.branch} has commits that this checkout has not",
                    hint=f"git pull --rebase {self.name} {self.branch}, then this command again",
                ) from error
        return seen

    def fetch_tag(self, tag: str) -> None:
        """Take *tag* from it, where another machine has made and pushed it."""
        self._git("fetch", "--quiet", "--", self.name, f"refs/tags/{tag}:refs/tags/{tag}",
                  seconds=PUSH)  # fmt: skip

    def push(self, tag: str) -> None:
        """Push branch and *tag*, both or none.

        :raises NetworkError: if it does not take them.
        """
        refs = (f"HEAD:refs/heads/{self.branch}", f"refs/tags/{tag}")
        self._git("push", "--quiet", "--atomic", "--", self.name, *refs, seconds=PUSH)

    def _git(self, *arguments: str, seconds: float) -> str:
        try:
            run = subprocess.run(
                ["git", "-C", str(self.root), *SLOW, *arguments],
                env={**os.environ, "LC_ALL": "C"},
                capture_output=True, text=True, check=False, timeout=seconds,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise NetworkError(
                f"the remote {self.name} does not answer within {seconds:g} s",
                hint="see whether its server is up, then the same command again",
            ) from error
        if run.returncode != 0:
            lines = [line for line in run.stderr.splitlines() if not line.startswith("hint:")]
            marked = [line for line in lines if re.match(r"fatal:|error:|remote:| ! ", line)]
            said = SECRET.sub("…", (marked or lines or [f"status {run.returncode}"])[0])
            raise NetworkError(
                f"git {arguments[0]} fails for the remote {self.name}: {said[:200]}",
                hint="see `git remote -v` and whether you may push there, then the same command "
                "again",
            )
        return run.stdout
