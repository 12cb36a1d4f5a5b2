"""``invoke patch``: the committed patches, on trees that look like the releases they are for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import patches, paths
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.patching import apply as apply_module
from tarpit_builder.patching.diff import ENCODING
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.patches.trees import git, made_up, snapshot, text_for

V22 = KernelVersion.parse("2.6.22")
RELEASES = [KernelVersion.parse(f"2.6.{number}") for number in range(19, 33)]


def fresh(folder: Path, version: KernelVersion = V22, extra: str = "") -> Path:
    return made_up(folder / version.stem, patches.committed(version).patch, version, extra)


@pytest.mark.parametrize("version", RELEASES, ids=str)
def test_in_and_out_again(tmp_path: Path, version: KernelVersion) -> None:
    tree = fresh(tmp_path, version)
    before = snapshot(tree)
    done = patches.apply(tree, None)
    assert done.release == version
    assert done.option.startswith("CONFIG_")
    changed = snapshot(tree)
    assert {path for path in changed if changed[path] != before.get(path)} == {
        path for _, path in done.files
    }
    patches.apply(tree, version, reverse=True)
    assert snapshot(tree) == before


def test_it_does_what_patch_does(tmp_path: Path) -> None:
    ours, theirs = fresh(tmp_path / "a"), fresh(tmp_path / "b")
    patches.apply(ours, None)
    with patches.committed(V22).path.open("rb") as file:
        subprocess.run(["patch", "-s", "-p1", "-NE", "-F0"], cwd=theirs, stdin=file, check=True)
    assert snapshot(ours) == snapshot(theirs)


@pytest.mark.parametrize("release", ["1.3.8", "1.4.0"])
def test_the_hidden_test_of_iptables_is_executable(tmp_path: Path, release: str) -> None:
    (tmp_path / "Makefile").write_text(f"IPTABLES_VERSION:={release}\n")
    patches.apply(tmp_path, IptablesVersion.parse(release))
    script = tmp_path / "extensions/.TARPIT-test"
    assert script.stat().st_mode & 0o777 == 0o755
    assert subprocess.run([script], capture_output=True, text=True, check=True).stdout == "TARPIT\n"


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    tree = fresh(tmp_path)
    before = snapshot(tree)
    patches.apply(tree, V22, dry_run=True)
    assert snapshot(tree) == before


def test_point_releases_and_names_of_ones_own_belong_to_their_series(tmp_path: Path) -> None:
    tree = fresh(tmp_path, extra=".19-mine")
    assert patches.apply(tree, V22).release == KernelVersion.parse("2.6.22.19")


def refused(tree: Path, version: KernelVersion | None = V22, *, reverse: bool = False) -> UserError:
    """The error, after making sure that the tree was left alone."""
    before = snapshot(tree) if tree.is_dir() else {}
    with pytest.raises(UserError) as caught:
        patches.apply(tree, version, reverse=reverse)
    assert (snapshot(tree) if tree.is_dir() else {}) == before
    assert caught.value.hint
    return caught.value


def test_no_folder(tmp_path: Path) -> None:
    assert "is no folder" in refused(tmp_path / "nothing").message


def test_a_tree_that_is_not_a_kernel(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:\n\techo hello\n")
    assert "is not a kernel tree" in refused(tmp_path).message
    (tmp_path / "Makefile").write_bytes(bytes(range(256)))
    assert "is not a kernel tree" in refused(tmp_path).message


def test_another_release_than_was_said(tmp_path: Path) -> None:
    error = refused(fresh(tmp_path), KernelVersion.parse("2.6.23"))
    assert "is Linux 2.6.22, not 2.6.23" in error.message


def test_a_release_before_the_first_that_gets_one(tmp_path: Path) -> None:
    version = KernelVersion.parse("2.6.18")
    tree = made_up(tmp_path / "tree", patches.committed(V22).patch, version)
    assert "patch-o-matic" in refused(tree, None).message


def test_already_patched(tmp_path: Path) -> None:
    tree = fresh(tmp_path)
    patches.apply(tree, V22)
    error = refused(tree)
    assert "patched already" in error.message
    assert "--reverse" in error.hint


def test_not_patched_at_all(tmp_path: Path) -> None:
    assert "is not patched" in refused(fresh(tmp_path), reverse=True).message


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("number", range(5))
def test_half_patched(tmp_path: Path, number: int, reverse: bool) -> None:
    tree = fresh(tmp_path)
    file = patches.committed(V22).patch.files[number]
    whole = snapshot(fresh(tmp_path / "other"))
    patches.apply(tree, V22)
    if file.adds:
        (tree / file.path).unlink()
    else:
        (tree / file.path).write_bytes(whole[file.path][1])
    error = refused(tree, reverse=reverse)
    assert "half patched" in error.message
    assert file.path in error.message


@pytest.mark.parametrize("reverse", [False, True])
def test_crlf(tmp_path: Path, reverse: bool) -> None:
    tree = fresh(tmp_path)
    if reverse:
        patches.apply(tree, V22)
    for path in tree.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    error = refused(tree, reverse=reverse)
    assert "CRLF" in error.message
    assert "autocrlf" in error.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: "# more\n" + text, "have moved"),
        (lambda text: text.replace("TCPMSS", "MSS"), "is expected"),
        (lambda text: "\n".join(text.split("\n")[:200]), "have moved|ends before|is expected"),
    ],
)
def test_not_pristine(tmp_path: Path, change: object, says: str) -> None:
    assert callable(change)
    tree = fresh(tmp_path)
    kconfig = tree / "net/netfilter/Kconfig"
    kconfig.write_text(change(kconfig.read_text()))
    error = refused(tree)
    assert "is not pristine" in error.message
    assert any(part in error.message for part in says.split("|"))
    assert "--output" in error.hint


def test_a_file_missing_or_in_the_way(tmp_path: Path) -> None:
    tree = fresh(tmp_path)
    (tree / "net/netfilter/xt_TARPIT.c").write_text("mine\n")
    assert "xt_TARPIT.c is there already" in refused(tree).message
    (tree / "net/netfilter/xt_TARPIT.c").unlink()
    (tree / "net/netfilter/Makefile").unlink()
    assert "Makefile is missing" in refused(tree).message


@pytest.mark.parametrize("release", ["1.3.8", "1.4.0"])
def test_what_comes_next_names_the_kernel_that_iptables_needs(tmp_path: Path, release: str) -> None:
    """Its Makefile looks in /usr/src/linux otherwise, and finds nothing."""
    version = IptablesVersion.parse(release)
    (tmp_path / "Makefile").write_text(f"IPTABLES_VERSION:={release}\n")
    said = patches.applied(patches.apply(tmp_path, version), dry_run=False).splitlines()[-1]
    make, install = said.removeprefix("next: ").partition("   ")[0].split(" && ")
    assert make == "make KERNEL_DIR=/path/to/linux"
    assert install == f"{make} install"


def test_leftovers_of_a_failed_attempt(tmp_path: Path) -> None:
    tree = fresh(tmp_path)
    (tree / "net/netfilter/Kconfig.rej").write_text("")
    assert "Kconfig.rej is left over" in refused(tree).message


def test_uncommitted_changes(tmp_path: Path) -> None:
    tree = fresh(tmp_path)
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-qm", "release")
    (tree / "Makefile").write_text((tree / "Makefile").read_text() + "# mine\n")
    error = refused(tree)
    assert "uncommitted changes: M Makefile" in error.message
    git(tree, "checkout", "-q", ".")
    patches.apply(tree, V22)
    patches.apply(tree, V22, reverse=True)


def test_a_disk_that_fills_up_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = fresh(tmp_path)
    before = snapshot(tree)
    real, calls = apply_module._replace, 0

    def full(path: Path, content: bytes, mode: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(28, "No space left on device")
        real(path, content, mode)

    monkeypatch.setattr(apply_module, "_replace", full)
    with pytest.raises(InfrastructureError, match="no space left"):
        patches.apply(tree, V22)
    assert snapshot(tree) == before


def test_a_tree_of_links_into_another_keeps_the_other_as_it_is(tmp_path: Path) -> None:
    origin = fresh(tmp_path)
    before = snapshot(origin)
    subprocess.run(["cp", "-rs", str(origin), str(tmp_path / "farm")], check=True)
    patches.apply(tmp_path / "farm", V22)
    assert snapshot(origin) == before


# -- the task --------------------------------------------------------------------------------


def invoke(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [str(Path(sys.executable).parent / "invoke"), *arguments]
    return subprocess.run(
        command, cwd=paths.PROJECT, capture_output=True, check=False, env=os.environ | environment
    )


def test_the_task_patches_a_tree_and_says_what_comes_next(tmp_path: Path) -> None:
    tree = fresh(tmp_path)
    done = invoke("patch", "--kernel", "2.6.22", "--tree", str(tree))
    assert done.returncode == 0, done.stderr
    assert b"make oldconfig && make" in done.stdout
    assert (tree / "net/netfilter/xt_TARPIT.c").is_file()
    again = invoke("patch", "--kernel", "2.6.22", "--tree", str(tree))
    assert again.returncode == 2
    assert len(again.stderr.splitlines()) == 1


@pytest.mark.parametrize("style", ["git", "quilt", "mbox"])
def test_the_task_writes_the_patch(tmp_path: Path, style: str) -> None:
    file = tmp_path / "out"
    done = invoke("patch", "--kernel", "2.6.24", "--output", str(file), "--format", style)
    assert done.returncode == 0, done.stderr
    tree = fresh(tmp_path, KernelVersion.parse("2.6.24"))
    with file.open("rb") as stream:
        subprocess.run(["patch", "-s", "-p1", "-NE", "-F0"], cwd=tree, stdin=stream, check=True)
    assert (tree / "net/netfilter/xt_TARPIT.c").is_file()


def test_standard_output_is_the_committed_file_to_the_byte() -> None:
    done = invoke("patch", "--iptables", "1.4.0", "--output", "-")
    assert done.stdout == patches.committed(IptablesVersion.parse("1.4.0")).path.read_bytes()


@pytest.mark.parametrize("place", ["--tree", "--kernel-tree"])
def test_the_task_makes_a_patch_for_a_release_of_which_none_is_kept(
    tmp_path: Path, place: str
) -> None:
    version = KernelVersion.parse("2.6.39")
    tree = made_up(
        tmp_path / "tree", patches.committed(KernelVersion.parse("2.6.31")).patch, version
    )
    before = snapshot(tree)
    trust = () if place == "--tree" else ("--trust-on-first-use",)
    lock = str(tmp_path / "lock.toml")
    done = invoke("patch", place, str(tree), *trust, "--output", "-", TARPIT_LOCK=lock)
    assert done.returncode == 0, done.stderr
    _, head, text = done.stdout.partition(b"netfilter: add the TARPIT target (Linux 2.6.39)\n")
    if place == "--tree":
        assert (tree / "net/netfilter/xt_TARPIT.c").is_file()
        subprocess.run(["patch", "-s", "-p1", "-RE"], cwd=tree, input=head + text, check=True)
    else:
        subprocess.run(["patch", "-s", "-p1", "-NE", "-F0"], cwd=tree, input=text, check=True)
        assert (tree / "net/netfilter/xt_TARPIT.c").is_file()
        patches.apply(tree, version, reverse=True)
    assert snapshot(tree) == before


def test_a_tree_that_is_nowhere_is_said_to_be(tmp_path: Path) -> None:
    done = invoke(
        *("patch", "--kernel", "2.6.39", "--offline", "--output", "-"),
        TARPIT_CACHE=str(tmp_path),
        TARPIT_KERNEL_GIT="",
    )
    assert done.returncode == 4
    assert "--offline" in done.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "nothing to do"),
        (("--kernel", "2.6.22"), "nothing to do"),
        (("--kernel", "2.6.22", "--iptables", "1.4.0", "--output", "-"), "two trees"),
        (("--kernel", "2.6.2x", "--output", "-"), "not a version"),
        (("--kernel", "2.6.17", "--output", "-"), "patch-o-matic"),
        (("--iptables", "1.3.7", "--output", "-"), "it has TARPIT itself"),
        (("--iptables", "1.4.1", "--output", "-"), "built on their own"),
        (("--kernel", "2.6.22", "--output", "-", "--format", "svn"), "no patch format"),
    ],
)
def test_requests_that_cannot_be_met(arguments: tuple[str, ...], says: str) -> None:
    done = invoke("patch", *arguments)
    assert done.returncode == 2
    assert says in done.stderr.decode()
    assert len(done.stderr.splitlines()) == 1


def test_filler_is_what_it_should_be() -> None:
    for file in patches.committed(V22).patch.files:
        if not file.adds:
            assert file.fate(text_for(file).encode(ENCODING).decode(ENCODING)) == "clean"
