"""`invoke release`: one place for the version, nothing half done."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from tarpit_builder import __version__, paths, release
from tarpit_builder.errors import CheckFailedError, InfrastructureError, UserError
from tarpit_builder.packaging import changelog as history
from tarpit_builder.release import drafting
from tests.release.kit import NEWS, commit, git

DAY = date(2030, 1, 31)


def test_the_project_says_its_version_the_same_everywhere() -> None:
    assert history.releases()[0].version == __version__


def test_draft_changes_nothing_and_shows_everything(checkout: Path) -> None:
    draft = release.draft("1.1.0", checkout, today=DAY)
    preview = draft.preview()
    assert "+## 1.1.0 — 2030-01-31" in preview
    assert '+__version__ = "1.1.0"' in preview
    assert "xt-tarpit (1.1.0+deb" in preview
    assert "  * Held connections are held even longer." in preview
    assert "invoke check-patches" in preview
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "tag") == ""


def test_release_is_one_commit_with_an_annotated_tag(checkout: Path) -> None:
    draft = release.draft("1.1.0", checkout, today=DAY)
    made = release.write(draft)
    assert (
        git(checkout, "rev-parse", "v1.1.0^{commit}") == made == git(checkout, "rev-parse", "main")
    )
    assert "- Another change." in git(checkout, "tag", "-l", "--format=%(contents)", "v1.1.0")
    assert git(checkout, "show", "--stat", "--format=%s", made).splitlines()[0] == "Release 1.1.0"
    assert git(checkout, "status", "--porcelain") == ""
    past = history.parse_changelog((checkout / release.CHANGELOG).read_text())
    assert [(r.version, len(r.changes)) for r in past] == [("1.1.0", 2), ("1.0.0", 1)]
    assert 'version__ = "1.1.0"' in (checkout / release.INIT).read_text()


def test_version_that_is_written_down_already_is_only_tagged(checkout: Path) -> None:
    draft = release.draft("1.0.0", checkout)
    head = git(checkout, "rev-parse", "HEAD")
    assert release.write(draft) == head
    assert git(checkout, "rev-parse", "v1.0.0^{commit}") == head
    with pytest.raises(UserError, match="released already"):
        release.draft("1.0.0", checkout)


@pytest.mark.parametrize("version", ["1", "1.1", "v1.1.0", "1.1.0rc1", "01.0.0", "1.1.0\n", ""])
def test_what_is_no_version(checkout: Path, version: str) -> None:
    with pytest.raises(UserError, match="no version of this project"):
        release.draft(version, checkout)


def test_older_version(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"0\.9\.0 is not newer than 1\.0\.0"):
        release.draft("0.9.0", checkout)


@pytest.mark.parametrize("text", ["", "## Unreleased\n\n"])
def test_nothing_to_tell_users(checkout: Path, text: str) -> None:
    file = checkout / release.CHANGELOG
    file.write_text(file.read_text().replace(NEWS, text))
    commit(checkout)
    with pytest.raises(UserError, match="nothing below `## Unreleased`"):
        release.draft("1.1.0", checkout)


def test_checkout_with_changes(checkout: Path) -> None:
    (checkout / "new").write_text("x")
    with pytest.raises(UserError, match="not committed: new"):
        release.draft("1.1.0", checkout)
    commit(checkout)
    (checkout / "new").write_text("y")
    with pytest.raises(UserError, match="not committed: new"):
        release.draft("1.1.0", checkout)


def test_checkout_on_no_branch(checkout: Path) -> None:
    git(checkout, "switch", "-q", "--detach")
    with pytest.raises(UserError, match="on no branch"):
        release.draft("1.1.0", checkout)


def test_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no git checkout"):
        release.draft("1.1.0", tmp_path)


def test_unknown_check(checkout: Path) -> None:
    with pytest.raises(UserError, match="there are test, patches, matrix"):
        release.draft("1.1.0", checkout, skip=["tests"])


def test_checks_can_be_left_out(checkout: Path) -> None:
    assert release.draft("1.1.0", checkout, skip=["matrix", "test"]).checks == ("patches",)


def test_all_checks_cannot_be_left_out(checkout: Path) -> None:
    draft = release.draft("1.1.0", checkout, skip=list(release.CHECKS))
    with pytest.raises(UserError, match="every check of 1.1.0 is left out"):
        release.run_checks(draft)
    assert "--write refuses" in draft.preview()
    assert git(checkout, "tag") == ""


@pytest.mark.parametrize("skip", [["matrix"], ["test", "patches"]])
def test_what_was_not_checked_is_in_the_tag_and_the_commit(checkout: Path, skip: list[str]) -> None:
    draft = release.draft("1.1.0", checkout, skip=skip)
    said = f"Not checked: {', '.join(skip)}"
    assert f"{said}; the tag says so" in draft.preview()
    made = release.write(draft)
    assert git(checkout, "tag", "-l", "--format=%(contents)", "v1.1.0").endswith(said)
    assert git(checkout, "log", "-1", "--format=%b", made) == said


def test_what_was_checked_needs_no_mention(checkout: Path) -> None:
    made = release.write(release.draft("1.1.0", checkout))
    assert "Not checked" not in git(checkout, "tag", "-l", "--format=%(contents)", "v1.1.0")
    assert git(checkout, "log", "-1", "--format=%b", made) == ""


def test_check_that_fails_ends_it(checkout: Path) -> None:
    draft = release.draft("1.1.0", checkout, skip=["matrix", "test"])
    with pytest.raises(CheckFailedError, match="invoke check-patches fails"):
        release.run_checks(draft)


@pytest.mark.parametrize("hook", ["pre-commit", "reference-transaction"])
def test_git_that_refuses_leaves_everything_as_it_was(checkout: Path, hook: str) -> None:
    draft = release.draft("1.1.0", checkout)
    before = git(checkout, "rev-parse", "HEAD")
    script = checkout / ".git/hooks" / hook
    # The second refuses tags only, after the commit was made.
    test = "exit 1" if hook == "pre-commit" else '! grep -q "refs/tags"'
    script.write_text(f"#!/bin/sh\n{test}\n")
    script.chmod(0o755)
    with pytest.raises(InfrastructureError, match="git refuses"):
        release.write(draft)
    script.unlink()
    assert git(checkout, "rev-parse", "HEAD") == before
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "tag") == ""
    release.write(release.draft("1.1.0", checkout))


def test_debian_changelog_is_readable_for_every_release_so_far() -> None:
    from debian.changelog import Changelog

    text = history.CHANGELOG.read_text()
    rendered = drafting._debian(text)
    versions = [str(block.version) for block in Changelog(rendered, strict=True)]
    expected = [r.version for r in history.parse_changelog(text)]
    assert [re.sub(r"\+deb\d+", "", version) for version in versions] == expected


def test_checks_are_tasks_that_exist() -> None:
    tasks = (paths.PROJECT / "tasks.py").read_text()
    for command in release.CHECKS.values():
        assert f"def {command[0].replace('-', '_')}(" in tasks
