"""A rehearsal of a release: a checkout of this project, a git server, and what builds nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tarpit_builder import paths, release
from tests.matrix.fake import fake_invoke
from tests.processes import kill_tree
from tests.release.forges import PROJECT, TOKEN, GitHub, GitLab

VERSION, TAG = "1.1.0", "v1.1.0"
URL = "https://packages.example.org/tarpit"
MATRIX = '[[build]]\nkernels = "debian:trixie"\nflavours = ["default", "cloud"]\n'

NEWS = "## Unreleased\n\n- Held connections are held\n  even longer.\n- Another change.\n\n"

STAND_IN = '''
"""Builds, proofs and checks of next to nothing; every other task is the real one."""

import json, os, runpy, subprocess, sys
from pathlib import Path

here = str(Path(__file__).resolve().parent.parent)
task, words = sys.argv[1], sys.argv[2:]
with open(os.environ["REHEARSAL_LOG"], "a") as log:
    print(task, file=log)
    for name in ("GITHUB_TOKEN", "GITLAB_TOKEN", "ATTEST_KEY"):
        if name in os.environ and task in {"test", "check-patches", "build", "verify"}:
            print("leaked", name, file=log)
if task in {"test", "check-patches"}:
    raise SystemExit(int(os.environ.get("REHEARSAL_FAILS") == task))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
if task not in {"build", "verify"} or os.environ.get("REHEARSAL_REAL"):
    for name in [name for name in sys.modules if name.partition(".")[0] == "invoke"]:
        del sys.modules[name]
    runpy.run_module("invoke", run_name="__main__")
    raise SystemExit

sys.path.insert(0, os.getcwd())
from tests.attest.kit import package_set, prove
from tarpit_builder import packaging
from tarpit_builder.packaging.changelog import version

cloud = "cloud" in words
abi = "6.12.117+deb13-cloud-amd64" if cloud else "6.12.117+deb13-amd64"
folder = Path(os.environ["TARPIT_DIST"]) / abi
report = Path(words[words.index("--json") + 1])
if task == "build":
    fresh = not folder.exists()
    if fresh:
        package_set(folder.parent, abi=abi, version=f"{version()}+deb13", groups=())
        file = folder / "manifest.json"
        data = json.loads(file.read_text())
        head = ["git", "rev-parse", "HEAD"]
        data["builder"]["commit"] = subprocess.check_output(head, text=True).strip()
        file.write_text(json.dumps(data, indent=2))
    key = json.loads((folder / "manifest.json").read_text())["key"]
    names = [path.name for path in folder.glob("*.deb")]
    report.write_text(json.dumps({"folder": str(folder), "fresh": fresh, "key": key,
                                  "packages": names, "stages": []}))
else:
    if os.environ.get("REHEARSAL_FAILS") == "verify" and cloud:
        print("smoke: 1 failed")
        raise SystemExit(1)
    prove(folder, ("smoke",))
    proof = folder / "verify.json"
    data = {**json.loads(proof.read_text()), "finished": "2026-11-30T05:02:00Z"}
    proof.write_text(json.dumps(data))
    print("smoke: 1 passed")
'''


def git(root: Path, *arguments: str) -> str:
    """Run git in *root*; what it prints."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(root: Path) -> None:
    """Commit everything in *root*."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Work")


def small(root: Path) -> Path:
    """A checkout of next to nothing in *root*, with changes to release."""
    (root / "tarpit_builder").mkdir(parents=True)
    (root / release.INIT).write_text('"""Doc."""\n\n__version__ = "1.0.0"\n')
    (root / release.CHANGELOG).write_text(
        f"# Changelog\n\n{NEWS}## 1.0.0 — 2026-11-22\n\n- First.\n"
    )
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "Test")
    git(root, "config", "user.email", "test@example.org")
    commit(root)
    return root


def project(target: Path) -> Path:
    """This checkout as it is now, as a repository of its own with one commit."""
    names = git(paths.PROJECT, "ls-files", "-co", "--exclude-standard", "-z").split("\0")
    for name in filter(None, names):
        if (paths.PROJECT / name).is_file():
            where = target / name
            where.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(paths.PROJECT / name, where, follow_symlinks=False)
    (target / "small.toml").write_text(MATRIX)
    git(target, "init", "-q", "-b", "main")
    for name, value in (("user.name", "Test"), ("user.email", "test@example.org")):
        git(target, "config", name, value)
    git(target, "add", "-A")
    subprocess.run(
        ["git", "-C", str(target), "commit", "-q", "-m", "Work"], env=dated(), check=True
    )
    return target


def dated() -> dict[str, str]:
    """An environment in which commits and tags have a time of their own."""
    when = "2030-01-31T12:00:00Z"
    return {**os.environ, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}


@contextmanager
def git_server(root: Path) -> Iterator[str]:
    """Git's own server of the repositories below *root*, which takes pushes; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        ["git", "daemon", "--reuseaddr", "--export-all", "--enable=receive-pack",
         f"--base-path={root}", "--listen=127.0.0.1", f"--port={port}", str(root)],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        kill_tree(process)


@dataclass(frozen=True)
class Signers:
    """The keys of a distributor: the file of the one that attests, one of the GnuPG in *home*."""

    attest: Path
    key: str
    home: Path


@dataclass
class Rehearsal:
    """A checkout in *root* whose remote is a git server with *bare*, and a *forge*."""

    root: Path
    bare: Path
    forge: GitHub | GitLab
    environment: dict[str, str]
    words: tuple[str, ...]
    log: Path
    seen: list[str] = field(default_factory=list)

    def command(self, *more: str) -> list[str]:
        """The one command, which is the same each time."""
        words = ["release", "--version", VERSION, "--publish", *self.words, *more]
        return [sys.executable, "-m", "invoke", *words]

    def run(
        self, *more: str, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it with *more* options."""
        return subprocess.run(
            self.command(*more), cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip

    def killed_at(self, *marks: str) -> bool:
        """Run it, and end it with all that it started once it says one of *marks*."""
        process = subprocess.Popen(
            self.command(), cwd=self.root, env=self.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            self.seen.append(line)
            if line.strip().startswith(marks):
                kill_tree(process)
                return True
        process.wait()
        return False

    def tasks(self) -> list[str]:
        """The tasks that were started, in their order."""
        return self.log.read_text().split("\n")[:-1] if self.log.exists() else []

    def work(self) -> Path:
        """The folder of the release."""
        [found] = (self.root / "dist/release").glob(f"{VERSION}-*")
        return found

    def state(self) -> dict[str, object]:
        """All that is public, but for what has the time of the run in it."""
        varying = {"report.tar.gz", "SHA256SUMS"}
        repo = self.root / "dist/repo"
        pool = sorted(path.name for path in (repo / "pool").glob("*/*"))
        return {
            "git": git(self.bare, "for-each-ref", "--format=%(refname) %(objectname)"),
            "local": git(self.root, "for-each-ref", "refs/heads", "refs/tags",
                         "--format=%(refname) %(objectname)"),
            "status": git(self.root, "status", "--porcelain"),
            "assets": {
                name: data for name, data in self.forge.published().items() if name not in varying
            },
            "names": sorted(self.forge.published()),
            "pool": pool,
        }  # fmt: skip


def rehearsal(
    folder: Path,
    base: Path,
    server: str,
    served: Path,
    forge: GitHub | GitLab,
    signers: Signers,
) -> Rehearsal:
    """A checkout cloned from *base* in *folder*, whose remote is below *served* on *server*."""
    bare = served / f"{PROJECT}.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(base), str(bare)], check=True)
    root = folder / "checkout"
    subprocess.run(["git", "clone", "-q", str(base), str(root)], check=True)
    git(root, "remote", "set-url", "origin", f"{server}/{PROJECT}.git")
    for name in ("user.name", "user.email"):
        git(root, "config", name, git(base, "config", name))
    token, api, path = forge.variables
    stand_in = fake_invoke(folder / "stand-in", STAND_IN)
    environment = {
        **dated(),
        token: TOKEN,
        api: f"{forge.url}{path}",
        "PYTHONPATH": stand_in,
        "REHEARSAL_LOG": str(folder / "tasks.log"),
        "GNUPGHOME": str(signers.home),
        "CI": "true",
    }
    for name in ("TARPIT_DIST", "INVOKE_TARPIT_KEY", "CI_JOB_TOKEN", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    keys = ("--attest-key", str(signers.attest), "--key", signers.key)
    given = ("--file", "small.toml", "--url", URL, "--forge", forge.kind, *keys)
    return Rehearsal(root, bare, forge, environment, given, folder / "tasks.log")
