"""`invoke release --publish`: from a changelog to what users download, killed at every step."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder.attest import verdict
from tarpit_builder.attest.check import Policy
from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, UserError
from tarpit_builder.release import ReleaseOptions, preview, publish_release
from tests.matrix.farm import Farm
from tests.mirror import serve
from tests.release import forges
from tests.release.forges import TOKEN, GitHub, GitLab
from tests.release.kit import MATRIX, TAG, VERSION, Rehearsal, Signers, git, git_server, rehearsal
from tests.signing.kit import pair

STEPS = ("checks", "commit", "matrix", "attest", "repository", "assets", "tag", "push", "release")
QUIET = Console(quiet=True)


def unpacked(assets: dict[str, bytes], folder: Path) -> Path:
    """The assets as a user has them: downloaded, compared with the sums, unpacked."""
    folder.mkdir()
    for name, data in assets.items():
        (folder / name).write_bytes(data)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    sums = (folder / "SHA256SUMS").read_text()
    assert {line.split()[1] for line in sums.splitlines()} == assets.keys() - {"SHA256SUMS"}
    for name in assets:
        if name.startswith("xt-tarpit-"):
            (folder / "sets").mkdir(exist_ok=True)
            subprocess.run(["tar", "-xf", f"../{name}"], cwd=folder / "sets", check=True)
    return folder


def demand_good(what: str, *keys: Path) -> None:
    """Have a stranger judge *what*."""
    outcome = verdict.judge(what, keys, Policy(), QUIET)
    assert outcome.wrong == []
    assert len(outcome.sets) == 2


def demand_published(rehearsed: Rehearsal, folder: Path) -> None:
    """See that users have what was released, wherever they look."""
    commit = git(rehearsed.bare, "rev-parse", "main")
    assert git(rehearsed.bare, "rev-parse", f"{TAG}^{{commit}}") == commit
    assert git(rehearsed.bare, "show", f"{TAG}:tarpit_builder/__init__.py").count(VERSION) == 1
    user = unpacked(rehearsed.forge.published(), folder)
    demand_good(str(user / "sets"), user / "attest.pub")
    with serve(rehearsed.root / "dist/repo") as url:
        demand_good(url, user / "attest.pub", user / "tarpit-builder.asc")
    with tarfile.open(user / "report.tar.gz") as archive:
        assert "report.html" in archive.getnames()


def demand_discreet(rehearsed: Rehearsal, *said: str) -> None:
    """See that the token is in nothing that was written or said, and no key in a build."""
    assert TOKEN not in "".join(said)
    held = [path for path in rehearsed.root.rglob("*") if path.is_file()]
    assert [path for path in held if TOKEN.encode() in path.read_bytes()] == [
        rehearsed.root / "tests/release/forges.py"  # which says what it is
    ]
    assert [line for line in rehearsed.tasks() if "leaked" in line] == []


def demand_idle(rehearsed: Rehearsal) -> None:
    """See that the same command again changes nothing, and says so."""
    before, tasks = rehearsed.state(), len(rehearsed.tasks())
    writes = len(rehearsed.forge.writes)
    again = rehearsed.run()
    assert (again.returncode, again.stdout.count("nothing was changed")) == (0, 1), again.stderr
    assert rehearsed.state() == before
    assert rehearsed.tasks()[tasks:] == ["release"]
    # Also where nothing is left of what was made.
    (rehearsed.root / "dist").rename(rehearsed.root.with_name("lost"))
    again = rehearsed.run()
    assert "nothing was changed" in again.stdout, again.stderr
    assert len(rehearsed.forge.writes) == writes


@pytest.mark.docker
@pytest.mark.parametrize("forge", [GitLab], indirect=True)
def test_from_the_changelog_to_what_users_download(rehearsed: Rehearsal, tmp_path: Path) -> None:
    failed = rehearsed.run(REHEARSAL_FAILS="check-patches")
    assert failed.returncode == 1
    assert "1.1.0 is not ready: invoke check-patches fails" in failed.stderr
    for moment in ("── attest", "── push", "upload 2/"):
        assert rehearsed.killed_at(moment), "".join(rehearsed.seen)
    done = rehearsed.run()
    assert done.returncode == 0, done.stderr
    assert f"{TAG} is released: {rehearsed.forge.url}" in done.stdout
    # What was done is not done again: nothing is checked, built or proven twice.
    tasks = rehearsed.tasks()
    assert [tasks.count(task) for task in ("test", "check-patches", "verify")] == [1, 2, 2]
    demand_published(rehearsed, tmp_path / "user")
    demand_discreet(rehearsed, *rehearsed.seen, done.stdout, done.stderr)
    demand_idle(rehearsed)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize("forge", [GitHub], indirect=True)
def test_killed_at_every_step_it_is_the_same_release(
    rehearsed: Rehearsal, forge: GitHub, tmp_path: Path, base: Path, signers: Signers
) -> None:
    for step in STEPS:
        assert rehearsed.killed_at(f"── {step}"), "".join(rehearsed.seen)
    for _ in range(4):  # of six files, one more each time
        assert rehearsed.killed_at("upload 2/"), "".join(rehearsed.seen)
    done = rehearsed.run()
    assert done.returncode == 0, done.stderr
    assert "A manual with a page for each reader" in forge.releases[0]["body"]
    demand_published(rehearsed, tmp_path / "user")

    # The same in one go, on another machine with another forge, of what CI has built.
    other = tmp_path / "other"
    served = other / "served"
    served.mkdir(parents=True)
    results = shutil.copytree(rehearsed.work() / "results", other / "built")
    gitlab = GitLab(lambda: {TAG})
    with git_server(served) as server, forges.serve(gitlab):
        one = rehearsal(other, base, server, served, gitlab, signers)
        one.words += ("--built", str(results))
        done = one.run()
        assert done.returncode == 0, done.stderr
        assert not {"matrix", "build", "verify"} & set(one.tasks())
        assert one.state() == rehearsed.state()
        demand_discreet(one, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.boot
@pytest.mark.network
@pytest.mark.parametrize("forge", [GitHub], indirect=True)
def test_with_a_cell_that_is_built_and_proven(rehearsed: Rehearsal, tmp_path: Path) -> None:
    rehearsed.environment["REHEARSAL_REAL"] = "1"
    keys = pair(tmp_path, "modules")
    rehearsed.words += ("--only", "debian-trixie-cloud-*")
    rehearsed.words += ("--certificate", str(keys.crt), "--module-key", str(keys.key))
    assert rehearsed.killed_at("debian-trixie-cloud-amd64: verify"), "".join(rehearsed.seen)
    done = rehearsed.run(timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    user = unpacked(rehearsed.forge.published(), tmp_path / "user")
    assert (user / "modules.crt").read_bytes() == keys.crt.read_bytes()
    demand_good(str(user / "sets"), user / "attest.pub")  # as it was built, and signed
    assert rehearsed.run().stdout.count("nothing was changed") == 1


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.parametrize("forge", [GitHub], indirect=True)
def test_a_cluster_is_brought_to_the_commit_that_is_released(
    rehearsed: Rehearsal, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "farm").mkdir()
    with ExitStack() as cleanup:
        farm = Farm(tmp_path / "farm", cleanup, environment=rehearsed.environment)
        rehearsed.words += ("--cluster", farm.address, "--store", str(tmp_path / "store"))
        farm.worker("before", fake=False, checkout=base)
        farm.await_workers(1)
        refused = rehearsed.run(timeout=300)
        assert (refused.returncode, "gets no cells" in refused.stderr) == (3, True), refused.stderr
        assert "push the branch" in refused.stderr
        clone = tmp_path / "clone"
        subprocess.run(["git", "clone", "-q", str(rehearsed.root), str(clone)], check=True)
        farm.worker("at-the-commit", fake=False, checkout=clone)
        farm.await_workers(2)
        done = rehearsed.run(timeout=300)
        assert done.returncode == 0, done.stderr + farm.logs()
        demand_published(rehearsed, tmp_path / "user")
        assert (farm.folder / "at-the-commit/matrix").is_dir()
        assert not (farm.folder / "before/matrix").exists()


@pytest.mark.parametrize("forge", [GitHub], indirect=True)
def test_what_is_not_proven_is_not_released(rehearsed: Rehearsal) -> None:
    failed = rehearsed.run(REHEARSAL_FAILS="verify")
    assert failed.returncode == 1
    assert "error: debian-trixie-cloud-amd64: " in failed.stderr
    assert git(rehearsed.root, "tag") == git(rehearsed.bare, "tag") == ""
    assert rehearsed.forge.writes == []
    # Elsewhere it was not built at all, or from another commit.
    built = rehearsed.run("--built", str(rehearsed.root / "dkms"))
    assert "debian-trixie-amd64: there is no record of it, and 1 more" in built.stderr
    assert "push the branch, let CI build and prove" in built.stderr


@pytest.fixture
def options(tmp_path: Path, signers: Signers, monkeypatch: pytest.MonkeyPatch) -> ReleaseOptions:
    """Options with which nothing is missing."""
    monkeypatch.setenv("TARPIT_DIST", str(tmp_path / "dist"))
    monkeypatch.setenv("TARPIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small.toml").write_text(MATRIX)
    return ReleaseOptions(
        attest_key=str(signers.attest),
        key=signers.key,
        gpg_home=signers.home,
        url="https://packages.example.org/tarpit",
        forge="none",
        file=tmp_path / "small.toml",
    )


@pytest.fixture
def remote(checkout: Path, tmp_path: Path) -> Path:
    """A repository that the checkout pushes to."""
    bare = tmp_path / "remote.git"
    git(tmp_path, "clone", "-q", "--bare", str(checkout), str(bare))
    git(checkout, "remote", "add", "origin", str(bare))
    return bare


def refusal(checkout: Path, options: ReleaseOptions, version: str = VERSION) -> str:
    """Why nothing was done."""
    before = git(checkout, "for-each-ref"), git(checkout, "status", "--porcelain")
    with pytest.raises((UserError, NetworkError)) as caught:
        publish_release(version, checkout, options)
    assert (git(checkout, "for-each-ref"), git(checkout, "status", "--porcelain")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attest_key": ""}, "no key was named to sign with — --key FILE takes a secret key"),
        ({"attest_key": "nowhere.pem"}, "nowhere.pem is no file with a key"),
        ({"key": ""}, "no key was named to sign with — --key ID"),
        ({"key": "nobody@example.org"}, "there is no secret key 'nobody@example.org'"),
        ({"url": ""}, "it is not known where users will find the repository"),
        ({"forge": ""}, "the remote does not tell its forge"),
        ({"forge": "github"}, "is no project of GitHub"),
        ({"skip": ("matrix",)}, "what is published is proven"),
        ({"certificate": "x"}, "--certificate and --module-key go together"),
        ({"built": Path("/nowhere")}, "there is no such folder"),
        ({"only": ("nothing",)}, "no cell of the matrix is called 'nothing'"),
        ({"remote": "upstream"}, "the remote upstream"),
    ],
)
@pytest.mark.usefixtures("remote")
def test_what_is_missing_is_told_before_anything_is_done(
    checkout: Path, options: ReleaseOptions, changes: dict[str, object], said: str
) -> None:
    assert said in refusal(checkout, replace(options, **changes))  # type: ignore[arg-type]


def test_remote_that_is_not_there(checkout: Path, options: ReleaseOptions, remote: Path) -> None:
    git(checkout, "remote", "set-url", "origin", "git://127.0.0.1:9/x.git")
    assert "git ls-remote fails for the remote origin" in refusal(checkout, options)
    git(checkout, "remote", "set-url", "origin", "http://me:hidden@127.0.0.1:9/x.git")
    assert "hidden" not in refusal(checkout, options)


def test_remote_with_another_history(
    checkout: Path, options: ReleaseOptions, remote: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(remote), str(other))
    for name in ("user.name", "user.email"):
        git(other, "config", name, "other@example.org")
    git(other, "commit", "-q", "--allow-empty", "-m", "Theirs")
    git(other, "push", "-q", "origin", "main")
    assert "origin/main has commits that this checkout has not" in refusal(checkout, options)


def test_tag_of_another_commit(checkout: Path, options: ReleaseOptions, remote: Path) -> None:
    git(remote, "tag", "v1.0.0", "main")
    git(checkout, "commit", "-q", "--allow-empty", "-m", "Later")
    assert "origin has a tag v1.0.0 already" in refusal(checkout, options, "1.0.0")
    git(remote, "tag", "--delete", "v1.0.0")
    git(checkout, "tag", "v1.0.0", "HEAD~1")
    assert "v1.0.0 is there already, of commit" in refusal(checkout, options, "1.0.0")
    git(checkout, "tag", TAG)
    assert "the version is not written down yet" in refusal(checkout, options)


def test_another_tag_of_the_same_commit(
    checkout: Path, options: ReleaseOptions, remote: Path
) -> None:
    git(checkout, "tag", "-a", "-m", "one", "v1.0.0")
    git(checkout, "push", "-q", "origin", "v1.0.0")
    git(checkout, "tag", "--delete", "v1.0.0")
    git(checkout, "tag", "-a", "-m", "two", "v1.0.0")
    assert "origin has another tag v1.0.0 of the same commit" in refusal(checkout, options, "1.0.0")


@pytest.mark.usefixtures("remote")
def test_what_was_pushed_without_a_forge_is_out(checkout: Path, options: ReleaseOptions) -> None:
    git(checkout, "tag", "-a", "-m", "one", "v1.0.0")
    git(checkout, "push", "-q", "origin", "v1.0.0")
    done = publish_release("1.0.0", checkout, options)
    assert done.text() == "v1.0.0 is released; nothing was changed"
    shown = preview("1.0.0", checkout, options).splitlines()[-len(STEPS) :]
    there = [line.split()[1] for line in shown if line[0] == "✓"]
    assert there == ["commit", "tag", "push", "release"]


@pytest.mark.usefixtures("remote")
def test_what_would_be_done_is_shown_and_nothing_is(
    checkout: Path, options: ReleaseOptions, tmp_path: Path
) -> None:
    git(checkout, "remote", "set-url", "origin", "git://127.0.0.1:9/x.git")
    said = preview(VERSION, checkout, replace(options, forge="github"))
    assert "+## 1.1.0 — " in said
    shown = said.splitlines()[-len(STEPS) :]
    assert [tuple(line.split()[:2]) for line in shown] == [("–", step) for step in STEPS]
    assert not (tmp_path / "dist").exists()
    assert git(checkout, "status", "--porcelain") == ""
    # What a step would meet is said beside it.
    said = preview("1.0.0", checkout, replace(options, forge="github"))
    assert "push branch and tag (git ls-remote fails for the remote origin" in said
    assert "publish the release ('x' is no project of GitHub)" in said


@pytest.mark.usefixtures("remote")
def test_dirty_checkout_and_nothing_to_release(checkout: Path, options: ReleaseOptions) -> None:
    (checkout / "new").write_text("x")
    assert "not committed: new" in refusal(checkout, options)
    (checkout / "new").unlink()
    file = checkout / "CHANGELOG.md"
    file.write_text(file.read_text().replace("Another", "An other"))
    assert "not committed: CHANGELOG.md" in refusal(checkout, options)
    text = re.sub(r"(?s)## Unreleased.*?(?=## 1)", "", file.read_text())
    file.write_text(text)
    git(checkout, "commit", "-qam", "Nothing new")
    assert "nothing below `## Unreleased`" in refusal(checkout, options)
