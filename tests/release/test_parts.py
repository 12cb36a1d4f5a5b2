"""What a release is made of: results that are judged, archives, what a killed run has left."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tarpit_builder import evidence, release
from tarpit_builder.attest import check, keys, make
from tarpit_builder.attest.check import Policy
from tarpit_builder.errors import CheckFailedError, InfrastructureError, UserError
from tarpit_builder.matrix import Cell, CellOutcome, Result
from tarpit_builder.matrix import outcome as outcomes
from tarpit_builder.matrix.outcome import CellProof
from tarpit_builder.release import assets, committing, proven
from tarpit_builder.release.remote import Remote
from tarpit_builder.request import Request
from tests.attest.kit import ABI, key_pair, package_set
from tests.release.kit import VERSION, git

COMMIT = "1" * 40  # of the kit's manifests
CELL = Cell(Request("debian:trixie"))
CLOUD = Cell(Request("debian:trixie", flavour="cloud"))
CLOUD_ABI = ABI.replace("-amd64", "-cloud-amd64")


def record(results: Path, cell: Cell, folder: str, **changes: object) -> None:
    """The record of *cell*, which is proven unless *changes* say otherwise."""
    proof = CellProof("key", 0, "smoke: passed", 1.0)
    made = Result(cell, CellOutcome.BUILT, folder=f"/srv/ci/dist/{folder}", proof=proof)
    outcomes.save(replace(made, **changes), results / outcomes.FOLDER)  # type: ignore[arg-type]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two cells that are proven."""
    dist = tmp_path / "results"
    for cell, abi in ((CELL, ABI), (CLOUD, CLOUD_ABI)):
        package_set(dist, abi=abi)
        record(dist, cell, abi)
    return dist


def test_each_cell_that_is_proven_has_its_package_set(results: Path) -> None:
    judged = proven.judge(results, (CELL, CLOUD), COMMIT)
    assert judged.sets == {CELL.name: results / ABI, CLOUD.name: results / CLOUD_ABI}
    judged.demand("")


def _changed(results: Path) -> None:
    (results / ABI / f"xt-tarpit-modules-{ABI}_1.0.0+deb13_amd64.deb").write_bytes(b"x")


def _builder(results: Path, **facts: object) -> None:
    file = results / ABI / "manifest.json"
    data = json.loads(file.read_text())
    data["builder"] = {**data["builder"], **facts}
    file.write_text(json.dumps(data))


WRONG = {
    "there is no record of it": lambda r: (r / "matrix" / f"{CELL.name}.json").unlink(),
    "there is no record": lambda r: (r / "matrix" / f"{CELL.name}.json").write_text("[1]"),
    "failed: no": lambda r: record(r, CELL, ABI, outcome=CellOutcome.FAILED, detail="no"),
    "it is built and not proven": lambda r: record(r, CELL, ABI, proof=None),
    "not proven: smoke: 1 failed": lambda r: record(
        r, CELL, ABI, proof=CellProof("k", 1, "smoke: 1 failed", 1)
    ),
    "is not what was built": _changed,
    "has no proof of this very build": lambda r: (r / ABI / evidence.EVIDENCE).unlink(),
    "from 222222222222, not from 111111111111": lambda r: _builder(r, commit="2" * 40),
    "from no commit": lambda r: _builder(r, commit=""),
    "with changes": lambda r: _builder(r, changed=True),
    "..": lambda r: record(r, CELL, ".."),
}


@pytest.mark.parametrize("said", WRONG)
def test_a_cell_that_is_not_proven_is_named(results: Path, said: str) -> None:
    WRONG[said](results)  # type: ignore[no-untyped-call]
    judged = proven.judge(results, (CELL, CLOUD), COMMIT)
    with pytest.raises(CheckFailedError) as caught:
        judged.demand("do something")
    assert f"{CELL.name}: " in str(caught.value)
    assert said in str(caught.value)
    # One that may fail is left out instead, and does not go along.
    allowed = replace(CELL, allowed="for the test")
    judged = proven.judge(results, (allowed, CLOUD), COMMIT)
    judged.demand("")
    proven.leave_out(results, judged, results.parent / "aside")
    assert [path.parent.name for path in results.glob("*/manifest.json")] == [CLOUD_ABI]


def test_nothing_proven_is_no_release(results: Path) -> None:
    shutil.rmtree(results / "matrix")
    allowed = (replace(CELL, allowed="x"),)
    with pytest.raises(CheckFailedError, match="no cell of the matrix was proven"):
        proven.judge(results, allowed, COMMIT).demand("")


def test_of_what_ci_built_only_what_is_released_is_taken(results: Path, tmp_path: Path) -> None:
    judged = proven.judge(results, (CELL,), COMMIT)
    proven.take(results, judged, tmp_path / "taken")
    assert {path.name for path in (tmp_path / "taken").iterdir()} == {"matrix", ABI}
    assert not proven.judge(tmp_path / "taken", (CELL,), COMMIT).problems


@pytest.mark.parametrize("place", [f"{ABI}/build.log", "matrix/x.log"])
def test_a_link_in_what_ci_built_leads_nowhere(results: Path, tmp_path: Path, place: str) -> None:
    judged = proven.judge(results, (CELL,), COMMIT)
    (results / place).unlink(missing_ok=True)
    (results / place).symlink_to("/etc/passwd")
    with pytest.raises(CheckFailedError, match="is a link, which no result has"):
        proven.take(results, judged, tmp_path / "taken")
    assert not (tmp_path / "taken").exists()


def test_archive_has_what_a_stranger_needs_and_the_same_bytes_again(
    results: Path, tmp_path: Path
) -> None:
    pem, pub = key_pair(tmp_path)
    make.attest(results, keys.signer(str(pem)))
    first = assets.archive(results / ABI, 1_000_000)
    for path in (results / ABI).iterdir():
        path.touch()
        path.chmod(0o600)
    assert assets.archive(results / ABI, 1_000_000) == first
    (tmp_path / "a.tar.gz").write_bytes(first)
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        assert {member.mtime for member in archive} == {1_000_000}
    subprocess.run(["tar", "-xf", "a.tar.gz"], cwd=tmp_path, check=True)
    assert not (tmp_path / ABI / "build.log").exists()
    with keys.trusted((pub,)) as trusted:
        assert check.check(tmp_path / ABI, trusted, Policy()).passed == 2


def made(results: Path, tmp_path: Path) -> Path:
    """The assets of *results*."""
    report, key = tmp_path / "report", tmp_path / "attest.pub"
    report.mkdir(exist_ok=True)
    (report / "report.html").write_text(str(datetime.now(UTC)))
    key.write_text("key")
    sets = (results / ABI, results / CLOUD_ABI)
    assets.make(tmp_path / "assets", VERSION, 1_000_000, sets, (key,), report)
    return tmp_path / "assets"


def test_assets_count_only_as_long_as_they_are_whole(results: Path, tmp_path: Path) -> None:
    folder = made(results, tmp_path)
    key = assets.key_of((results / ABI, results / CLOUD_ABI), (tmp_path / "attest.pub",))
    found = assets.load(folder, key)
    assert set(found) == {
        "SHA256SUMS",
        "attest.pub",
        "report.tar.gz",
        "xt-tarpit-1.1.0-6.12.117-deb13-amd64.tar.gz",
        "xt-tarpit-1.1.0-6.12.117-deb13-cloud-amd64.tar.gz",
    }
    assert assets.load(folder, "another") == {}
    (folder / "attest.pub").write_text("other")
    assert assets.load(folder, key) == {}
    assert assets.load(tmp_path / "nowhere") == {}


def test_two_package_sets_never_share_a_name(results: Path, tmp_path: Path) -> None:
    twin = results / CLOUD_ABI.replace("+", "-")
    shutil.copytree(results / CLOUD_ABI, twin)
    with pytest.raises(CheckFailedError, match="two package sets would both be called"):
        assets.make(
            tmp_path / "assets", VERSION, 1, (results / CLOUD_ABI, twin), (), results / "matrix"
        )
    assert not (tmp_path / "assets").exists()


def half_written(checkout: Path) -> release.Draft:
    """A release of which the files were written, and the commit not made."""
    draft = release.draft(VERSION, checkout)
    for name, text in draft.files.items():
        (checkout / name).write_text(text)
    (checkout / ".CHANGELOG.md.abcdefgh.part").write_text("half")
    return draft


def test_what_a_killed_run_has_written_is_taken_back(checkout: Path) -> None:
    draft = half_written(checkout)
    committing.restore(checkout, VERSION)
    assert git(checkout, "status", "--porcelain") == ""
    assert release.draft(VERSION, checkout).files == draft.files


@pytest.mark.parametrize("name", [release.CHANGELOG, release.INIT, "new"])
def test_what_somebody_has_written_stays(checkout: Path, name: str) -> None:
    half_written(checkout)
    with (checkout / name).open("a") as file:
        file.write("Mine.\n")
    committing.restore(checkout, VERSION)
    assert "Mine." in (checkout / name).read_text()
    with pytest.raises(UserError, match="not committed"):
        release.draft(VERSION, checkout)


@pytest.mark.parametrize("text", ["# Changelog\n", "# Changelog\n\n## 1.1.0 — 2030-99-99\n"])
def test_a_changelog_that_is_being_written_stays(checkout: Path, text: str) -> None:
    file = checkout / release.CHANGELOG
    file.write_text(text)
    git(checkout, "commit", "-qam", "Nothing")
    file.write_text(f"{text}\nMine.\n")
    committing.restore(checkout, VERSION)
    assert "Mine." in file.read_text()


def test_a_lock_that_git_left_is_named(checkout: Path) -> None:
    (checkout / ".git/index.lock").write_text("")
    with pytest.raises(InfrastructureError, match=r"index\.lock is there.*remove that file"):
        committing.commit(release.draft(VERSION, checkout))


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("https://github.com/a/b.git", ("github.com", "a/b")),
        ("https://me:secret@gitlab.com/a/b/c", ("gitlab.com", "a/b/c")),
        ("git@github.com:a/b.git", ("github.com", "a/b")),
        ("ssh://git@gitlab.example.org:2222/a/b.git/", ("gitlab.example.org", "a/b.git")),
        ("git://127.0.0.1:9418/a/b", ("127.0.0.1", "a/b")),
        ("/srv/git/a.git", ("", "srv/git/a")),
    ],
)
def test_where_a_remote_is(checkout: Path, url: str, place: tuple[str, str]) -> None:
    git(checkout, "remote", "add", "origin", url)
    found = Remote(checkout, "origin", "main").place
    assert found[0] == place[0]
    assert found[1].removesuffix(".git") == place[1].removesuffix(".git")


def test_remote_that_was_never_named(checkout: Path) -> None:
    with pytest.raises(UserError, match="the checkout has no remote 'origin'"):
        _ = Remote(checkout, "origin", "main").place


def test_options_for_the_matrix_are_those_that_were_given() -> None:
    words = release.matrix_words(
        jobs="2", memory="0", engine=["a", "b"], cluster="", store="s", kernel_git="k", offline=True
    )
    assert " ".join(words) == "--jobs 2 --engine a --engine b --store s --kernel-git k --offline"
