"""Patches as data, held against patch(1) and git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tarpit_builder.patching import diff
from tarpit_builder.patching.diff import FilePatch, MismatchError, Patch, added, inserted
from tests.patches.trees import git, text_for

LINES = st.lists(st.sampled_from(["", "a", "b", "\tc d", "}", "+x", "-y"]), max_size=40)
TEXT = "".join(f"line {number}\n" for number in range(1, 41))


def example() -> Patch:
    return Patch(
        (
            added("bin/tool", "#!/bin/sh\necho yes\n", diff.EXECUTABLE),
            inserted("src/list", TEXT, [(10, "ten\n"), (12, "twelve\nand more\n"), (38, "last\n")]),
        ),
        "subject of it all\n\nWhat it does.",
    )


def tree(folder: Path) -> Path:
    (folder / "src").mkdir(parents=True)
    (folder / "src/list").write_text(TEXT)
    return folder


@given(LINES, st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["n\n", "n\nm\n", "a\n"]))))
def test_insertions_go_in_and_out_again(lines: list[str], places: list[tuple[int, str]]) -> None:
    lines = [*lines, "end"]
    text = "".join(f"{line}\n" for line in lines)
    chosen = {min(at, len(lines)): piece for at, piece in places} or {0: "n\n"}
    expected = "".join(
        chosen.get(number, "") + (f"{lines[number]}\n" if number < len(lines) else "")
        for number in range(len(lines) + 1)
    )
    patch = inserted("file", text, list(chosen.items()))
    assert patch.apply(text) == expected
    assert patch.reverse(expected) == text
    assert diff.parse(str(Patch((patch,)))).files == (patch,)


def test_hunks_that_touch_are_one() -> None:
    assert len(inserted("f", TEXT, [(10, "x\n"), (16, "y\n")]).hunks) == 1
    assert len(inserted("f", TEXT, [(10, "x\n"), (17, "y\n")]).hunks) == 2


def test_what_is_written_is_read_again() -> None:
    assert diff.parse(str(example())) == example()


@pytest.mark.parametrize("style", ["git", "quilt"])
def test_patch_applies_it_without_fuzz_or_offset(tmp_path: Path, style: str) -> None:
    folder = tree(tmp_path / "pkg-1")
    text = str(example()) if style == "git" else diff.quilt(example(), "pkg-1")
    for reverse in ((), ("-R",)):
        done = subprocess.run(
            ["patch", "-p1", "-NE", "-F0", *reverse],
            cwd=folder,
            input=text,
            text=True,
            capture_output=True,
            check=True,
        )
        assert "offset" not in done.stdout
        if not reverse:
            assert (folder / "src/list").read_text() == example().files[1].apply(TEXT)
            assert (folder / "bin/tool").stat().st_mode & 0o111 or style == "quilt"
    assert (folder / "src/list").read_text() == TEXT
    assert not (folder / "bin/tool").exists()


def test_git_takes_it_as_a_mail_with_the_mode(tmp_path: Path) -> None:
    folder = tree(tmp_path / "repo")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "start")
    mail = tmp_path / "mail"
    mail.write_text(diff.mbox(example(), "Somebody <somebody@example.org>"))
    git(folder, "am", "-q", str(mail))
    log = git(folder, "log", "-1", "--format=%s|%an|%b").strip()
    assert log == "subject of it all|Somebody|What it does."
    assert git(folder, "ls-files", "-s", "bin/tool").startswith("100755")


def test_the_mail_counts_as_git_does(tmp_path: Path) -> None:
    folder = tree(tmp_path / "repo")
    git(folder, "init", "-q")
    patch = tmp_path / "patch"
    patch.write_text(str(example()))
    summary = git(folder, "apply", "--stat", str(patch)).splitlines()[-1]
    assert summary.strip() in diff.mbox(example(), "a <a@b>")


@pytest.mark.parametrize(
    ("change", "fate"),
    [
        (lambda text: text, "clean"),
        (lambda text: "one more\n" + text, "shifted"),
        (lambda text: text.replace("\n", "\r\n"), "crlf"),
        (lambda text: text.replace("line 11\n", "line eleven\n"), "differs"),
        (example().files[1].apply, "applied"),
    ],
)
def test_a_file_is_judged(change: object, fate: str) -> None:
    assert callable(change)
    assert example().files[1].fate(change(TEXT)) == fate


def test_a_new_file_is_judged() -> None:
    new = example().files[0]
    assert new.fate(None) == "clean"
    assert new.fate(new.content) == "applied"
    assert new.fate(new.content + "more\n") == "exists"
    assert new.fate(new.content.replace("\n", "\r\n")) == "crlf"
    assert example().files[1].fate(None) == "missing"


def test_a_mismatch_names_the_line() -> None:
    with pytest.raises(MismatchError) as caught:
        example().files[1].apply(TEXT.replace("line 11\n", "other\n"))
    assert caught.value.line == 11
    assert "'other' where 'line 11' is expected" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "just words\n",
        "diff --git a/x b/y\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n",
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-a\n+b\n",
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n?a\n+b\n",
        "diff --git a/x b/x\ndeleted file mode 100644\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n",
    ],
)
def test_what_is_no_patch_is_refused(text: str) -> None:
    with pytest.raises(diff.PatchSyntaxError):
        diff.parse(text)


def test_bytes_of_any_encoding_survive() -> None:
    text = bytes(range(1, 256)).decode(diff.ENCODING).replace("\r", "").replace("\n", "") + "\n"
    patch = inserted("f", text * 3, [(1, "new\n")])
    assert patch.reverse(patch.apply(text * 3)) == text * 3


def test_filler_serves_every_hunk() -> None:
    file: FilePatch = example().files[1]
    assert file.fate(text_for(file)) == "clean"
