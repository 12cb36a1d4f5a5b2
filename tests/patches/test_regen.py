"""The committed patches against ``dkms/``, against made-up repositories, and real ones."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarpit_builder import patches, paths
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, InfrastructureError, SourceError, UserError
from tarpit_builder.patching import committed, generate, regen, rules
from tarpit_builder.patching.diff import ENCODING, Patch
from tarpit_builder.patching.rules import Range
from tarpit_builder.patching.tree import FolderTree, MemoryTree, Tree
from tarpit_builder.sources.catalogue import Catalogue, Release
from tarpit_builder.versions import IptablesVersion, KernelVersion, VersionRange
from tests.patches.trees import git, made_up, repositories, snapshot

LINUX = rules.load().of_kind("linux")
V24 = next(entry for entry in LINUX if entry.name == "2.6.24")
RANGES = [pytest.param(entry, id=f"{entry.kind}-{entry.name}") for entry in rules.load().ranges]


@pytest.fixture
def no_trees(tmp_path: Path) -> patches.ReleaseTrees:
    """What a machine without any source has."""
    return patches.ReleaseTrees(Catalogue.load(), cache=tmp_path / "cache")


# -- without trees ---------------------------------------------------------------------------


@pytest.mark.parametrize("entry", RANGES)
def test_what_a_patch_adds_is_what_dkms_makes(entry: Range, no_trees: patches.ReleaseTrees) -> None:
    assert patches.check(entry, no_trees).wrong == ()


def test_no_patch_is_without_a_range() -> None:
    assert patches.strays() == []


@pytest.mark.parametrize("entry", LINUX, ids=lambda entry: entry.name)
def test_nothing_of_the_layer_is_left(entry: Range) -> None:
    source = patches.committed(entry.releases.bounds[0][1]).patch.files[-1].content
    for trace in ("TARPIT_HAVE_", "TARPIT_COMPAT_", "compat.h", "#if 0", "LINUX_VERSION_CODE"):
        assert trace not in source
    assert ("ipv6" in source) == (entry.form == "xt")
    assert source.count("{") == source.count("}")


@pytest.mark.parametrize("entry", RANGES)
def test_it_looks_like_code_of_its_time(entry: Range) -> None:
    table = entry.kind == "iptables" or entry.releases.bounds[0][1] < KernelVersion((2, 6, 27))
    for file in committed.read(entry).patch.files:
        text = (
            file.content
            if file.adds
            else "".join(
                f"{line[1:]}\n" for hunk in file.hunks for line in hunk.lines if line[0] == "+"
            )
        )
        for line in text.splitlines():
            assert line == line.rstrip()
            whole = entry.tree and '("' in line
            assert whole or len(line.expandtabs(8)) <= 80
            assert not line.startswith(" ") or line.startswith(" *") or file.path.endswith(".man")
        assert "\n\n\n" not in text
        for later in ("SPDX", "RFC 9", "u_int8_t", "Everything of", "VRF", "nft"):
            assert entry.tree or later not in text
        if entry.tree:
            assert ("SPDX" in text) <= (entry.tree >= KernelVersion((4, 14)))
            assert ("RFC 9" in text) <= (entry.tree >= KernelVersion((6, 0)))
            continue
        assert re.findall(r"\b20[01]\d\b", text) == []
        assert ("security" in text) <= (not table)


@pytest.mark.parametrize("entry", LINUX, ids=lambda entry: entry.name)
def test_constants_come_first_and_attributes_are_spelt_one_way(entry: Range) -> None:
    source = committed.read(entry).patch.files[-1].content
    first = re.search(r"^\{$", source, re.MULTILINE)
    assert first
    assert "#define" not in source[first.start() :]
    assert "\nenum " not in source[first.start() :]
    assert not ("__aligned" in source and "__attribute__" in source)
    assert ("pr_fmt" in source) == ("pr_info" in source)


def test_the_same_bytes_whatever_the_hash_seed() -> None:
    program = (
        "from tarpit_builder.patching import generate, rules\n"
        "table = rules.load()\n"
        "for entry in table.ranges:\n"
        "    for file in generate.new_files(entry.releases.bounds[0][1], entry, table):\n"
        "        print(file)\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=paths.PROJECT,
            env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale, "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, locale, zone in (("0", "C", "UTC"), ("4711", "C.UTF-8", "Asia/Tokyo"))
    }
    assert len(outputs) == 1


def test_a_changed_source_is_noticed(no_trees: patches.ReleaseTrees, tmp_path: Path) -> None:
    """Whoever edits a patch by hand, or the source without regenerating, is told."""
    there = committed.read(LINUX[0])
    files = list(there.patch.files)
    lines = tuple(
        line.replace("TARPIT_WINDOW_OPEN\t5", "TARPIT_WINDOW_OPEN\t1")
        for line in files[-1].hunks[0].lines
    )
    hunk = dataclasses.replace(files[-1].hunks[0], lines=lines)
    files[-1] = dataclasses.replace(files[-1], hunks=(hunk,))
    folder = tmp_path / "patches"
    path = folder / LINUX[0].path
    path.parent.mkdir(parents=True)
    patch = dataclasses.replace(there.patch, files=tuple(files))
    path.write_bytes(str(patch).encode(ENCODING))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(committed, "FOLDER", folder)
        verdict = patches.check(LINUX[0], no_trees)
        assert verdict.wrong == (f"{files[-1].path} is not what dkms/ makes of it",)
        (folder / "linux/stray.patch").write_text("")
        assert patches.strays() == ["linux/stray.patch"]
        with pytest.raises(CheckFailedError, match="2 patches not right"):
            patches.demand_good([verdict], patches.strays())
        path.write_text("nonsense")
        assert "damaged" in patches.check(LINUX[0], no_trees).wrong[0]
        path.unlink()
        assert "is not there" in patches.check(LINUX[0], no_trees).wrong[0]


def test_a_rewrite_that_has_nothing_to_do_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "dkms"
    subprocess.run(["cp", "-r", paths.PROJECT / "dkms", source], check=True)
    text = (source / "xt_TARPIT.c").read_text()
    (source / "xt_TARPIT.c").write_text(text.replace("return verdict;", "return NF_DROP;"))
    with pytest.raises(InfrastructureError, match="a rewrite for Linux 2.6.24 is out of date"):
        generate.new_files(KernelVersion.parse("2.6.24"), V24, rules.load(), source)


@pytest.mark.parametrize(
    ("file", "old", "new", "place", "says"),
    [
        (
            "tarpit_core.h",
            "\treturn nskb;\n}",
            "\treturn nskb;",
            "_alloc(unsigned int headroom, unsigned int len)\n{",
            "'{' is never",
        ),
        (
            "tarpit_core.h",
            "\treturn nskb;\n}",
            "\treturn nskb;\n}\n}",
            "\treturn nskb;\n}\n}",
            "'}' closes",
        ),
        ("tarpit_core.h", "if (!th)", "if (!th", "if (!th", "'(' is never"),
        ("xt_TARPIT.c", '_core.h"', '_core.h"\n#endif', '_core.h"\n#', "#endif without #if"),
        ("compat/compat.h", "#endif /* _TAR", "/* _TAR", "#ifndef _TAR", "#if without #endif"),
        (
            "compat/include/linux/siphash.h",
            "_word(u64 v[4], u64 word)",
            "_word(/*",
            "_word(/*",
            "a comment",
        ),
        ("libxt_TARPIT.c", '(one of):\\n"', "(one of):\\n", "options (one of)", "a string has no"),
        ("xt_TARPIT.h", "/* 0 */\n}", "", "struct xt_tarpit_tginfo_v1 {", "'{' is never"),
    ],
)
def test_unbalanced_source_is_one_line_with_its_place(
    file: str, old: str, new: str, place: str, says: str, tmp_path: Path
) -> None:
    source = tmp_path / "dkms"
    subprocess.run(["cp", "-r", paths.PROJECT / "dkms", source], check=True)
    text = (source / file).read_text()
    assert old in text
    spoilt = text.replace(old, new, 1)
    (source / file).write_text(spoilt)
    line = spoilt[: spoilt.index(place) + len(place)].count("\n") + 1
    entry = rules.load().of_kind("iptables")[0] if "libxt" in file else V24
    with pytest.raises(UserError, match=rf"{file}:{line}: .*{re.escape(says)}") as caught:
        generate.new_files(entry.releases.bounds[0][1], entry, rules.load(), source)
    assert "\n" not in caught.value.message


def test_a_probe_has_to_say_its_release(tmp_path: Path) -> None:
    (tmp_path / "thing.c").write_text("#include <linux/skbuff.h>\n")
    with pytest.raises(InfrastructureError, match="does not say since which release"):
        rules.probed(tmp_path)


@pytest.mark.parametrize(
    ("kernel", "iptables", "names"),
    [
        ("2.6.24", "", ["2.6.24"]),
        ("2.6.27.9", "", ["2.6.27"]),
        ("2.6.21-2.6.23", "", ["2.6.20-2.6.21", "2.6.22", "2.6.23"]),
        ("<=2.6.20", "", ["2.6.19", "2.6.20-2.6.21"]),
        ("", "1.4.0", ["1.4.0"]),
        ("2.6.32", "1.3.8", ["2.6.31-2.6.32", "1.3.8"]),
    ],
)
def test_ranges_are_selected(kernel: str, iptables: str, names: list[str]) -> None:
    assert [entry.name for entry in patches.select(kernel, iptables)] == names


@pytest.mark.parametrize(("kernel", "iptables"), [("2.6.18", ""), ("6.2", ""), ("", "1.8.9")])
def test_a_selection_of_nothing_is_refused(kernel: str, iptables: str) -> None:
    with pytest.raises(UserError, match="there is no patch for"):
        patches.select(kernel, iptables)


def test_ranges_do_not_overlap_and_leave_no_gap() -> None:
    for minor in range(1, 60):
        version = KernelVersion((2, 6, minor))
        holders = [entry for entry in LINUX if version in entry.releases]
        refusals = [
            refusal
            for refusal in rules.load().refusals
            if refusal.kind == "linux" and version in refusal.releases
        ]
        assert len(holders) + len(refusals) == 1, version


# -- made-up repositories --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Upstream:
    """A repository with three releases of 2.6.24 and their entries in a catalogue."""

    folder: Path
    catalogue: Catalogue

    def trees(self, tmp_path: Path, folder: Path | None = None) -> patches.ReleaseTrees:
        place = (str(folder or self.folder),)
        return patches.ReleaseTrees(self.catalogue, kernel=place, cache=tmp_path / "no-cache")


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    """Linux 2.6.24, 2.6.24.1 and 2.6.24.2; the last has another line in its Kconfig."""
    patch = patches.committed(KernelVersion.parse("2.6.24")).patch
    folder = made_up(tmp_path / "upstream", patch, KernelVersion.parse("2.6.24"))
    git(folder, "init", "-q")
    releases = {}
    for name in ("2.6.24", "2.6.24.1", "2.6.24.2"):
        if name == "2.6.24.2":
            kconfig = folder / "net/netfilter/Kconfig"
            kconfig.write_text("# one line more\n" + kconfig.read_text())
        git(folder, "add", ".")
        git(folder, "commit", "-q", "--allow-empty", "-m", name)
        version = KernelVersion.parse(name)
        commit = git(folder, "rev-parse", "HEAD").strip()
        tree = git(folder, "rev-parse", "HEAD^{tree}").strip()
        releases[version] = Release(version, commit=commit, tree=tree)
    yield Upstream(folder, dataclasses.replace(Catalogue.load(), kernels=releases))


def test_a_range_that_breaks_is_cut_where_it_does(upstream: Upstream, tmp_path: Path) -> None:
    made = patches.regenerate(V24, upstream.trees(tmp_path))
    assert made.proposal == "2.6.24-2.6.24.1 and 2.6.24.2"
    assert [(str(stop.release), stop.why.split(":")[0]) for stop in made.breaks] == [
        ("2.6.24.2", "net/netfilter/Kconfig")
    ]
    with pytest.raises(CheckFailedError, match=r"does not hold for 2\.6\.24\.2"):
        patches.write(made)
    with pytest.raises(CheckFailedError, match="1 range cannot have one patch"):
        patches.demand_whole([made])
    assert "should be split into 2.6.24-2.6.24.1 and 2.6.24.2" in patches.regenerated([made], [])
    assert any(
        "breaks at 2.6.24.2" in wrong
        for wrong in patches.check(V24, upstream.trees(tmp_path)).wrong
    )


def test_a_range_that_holds_makes_the_committed_bytes(upstream: Upstream, tmp_path: Path) -> None:
    kernels = dict(list(upstream.catalogue.kernels.items())[:2])
    catalogue = dataclasses.replace(upstream.catalogue, kernels=kernels)
    made = patches.regenerate(V24, Upstream(upstream.folder, catalogue).trees(tmp_path))
    assert made.breaks == ()
    assert made.difference == ""
    assert made.text.encode(ENCODING) == (committed.FOLDER / V24.path).read_bytes()
    assert patches.write(made) is False


def test_writing_does_not_lose_what_somebody_changed(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    (project / "patches" / V24.path).parent.mkdir(parents=True)
    (project / "patches" / V24.path).write_text("old\n")
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "old")
    monkeypatch.setattr(paths, "PROJECT", project)
    monkeypatch.setattr(committed, "FOLDER", project / "patches")
    monkeypatch.setattr(generate, "new_files", lambda *_: ())
    kernels = dict(list(upstream.catalogue.kernels.items())[:1])
    catalogue = dataclasses.replace(upstream.catalogue, kernels=kernels)
    made = patches.regenerate(V24, Upstream(upstream.folder, catalogue).trees(tmp_path))
    (project / "patches" / V24.path).write_text("mine\n")
    with pytest.raises(UserError, match="not committed"):
        patches.write(made)
    assert patches.write(made, force=True) is True
    assert (project / "patches" / V24.path).read_bytes() == made.text.encode(ENCODING)


def test_a_shallow_clone_has_what_it_has(upstream: Upstream, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{upstream.folder}", "shallow")
    made = patches.regenerate(V24, upstream.trees(tmp_path, tmp_path / "shallow"))
    assert [str(release) for release in made.checked] == ["2.6.24.2"]
    assert [str(release) for release in made.absent] == ["2.6.24", "2.6.24.1"]


def test_a_bare_clone_without_a_config_is_read(upstream: Upstream, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(upstream.folder), "bare")
    (tmp_path / "bare/config").unlink()
    assert upstream.trees(tmp_path, tmp_path / "bare").find(KernelVersion.parse("2.6.24"))


def test_without_the_release_it_needs(upstream: Upstream, tmp_path: Path) -> None:
    empty = dataclasses.replace(upstream.catalogue, kernels={})
    with pytest.raises(SourceError, match="no tree of Linux 2.6.24 is to be had"):
        patches.regenerate(V24, Upstream(upstream.folder, empty).trees(tmp_path))


def test_ranges_without_a_tree_are_named_and_the_others_made(
    upstream: Upstream, tmp_path: Path
) -> None:
    kernels = dict(list(upstream.catalogue.kernels.items())[:2])
    catalogue = dataclasses.replace(upstream.catalogue, kernels=kernels)
    trees = Upstream(upstream.folder, catalogue).trees(tmp_path)
    ranges = patches.select("2.6.23-2.6.25", "1.4.0")
    made = patches.regenerate_all(ranges, trees, Console(quiet=True))
    assert [one.entry.name for one in made] == ["2.6.24", "1.4.0"]
    said = patches.regenerated(made, [], ranges)
    assert "no tree of Linux 2.6.23, 2.6.25, so these were left as they are" in said
    assert "--kernel-git" in said
    with pytest.raises(SourceError, match="no tree of Linux 2.6.23 is to be had"):
        patches.regenerate_all(patches.select("2.6.23", ""), trees, Console(quiet=True))


ANY = ["2.6.24", "2.6.24.2", "2.6.33", "3.7", "3.10", "4.11", "4.12", "6.18"]


@pytest.mark.parametrize("release", ANY)
def test_a_patch_can_be_made_for_one_tree(release: str, tmp_path: Path) -> None:
    """Also for a release in no range, and a tree whose lines are elsewhere."""
    version = KernelVersion.parse(release)
    folder = of_age(tmp_path / "tree", version)
    kconfig = folder / "net/netfilter/Kconfig"
    kconfig.write_text("# one line more\n" + kconfig.read_text())
    patch = generate.on_demand(version, FolderTree(folder), rules.load())
    assert patch.description.startswith(f"netfilter: add the TARPIT target (Linux {release})\n")
    assert {file.fate(FolderTree(folder).read(file.path)) for file in patch.files} == {"clean"}
    below = "include/uapi/linux" if version >= KernelVersion((3, 7)) else "include/linux"
    lists = version < KernelVersion((4, 12))
    assert [file.path for file in patch.files] == [
        *([f"{below}/netfilter/Kbuild"] if lists else []),
        f"{below}/netfilter/xt_TARPIT.h",
        "net/netfilter/Kconfig",
        "net/netfilter/Makefile",
        "net/netfilter/xt_TARPIT.c",
    ]
    there = patches.committed(KernelVersion.parse("2.6.24")).patch
    assert (patch.files[-1] == there.files[-1]) == release.startswith("2.6.24")


@pytest.mark.parametrize("release", ANY)
def test_it_reads_as_of_its_time(release: str, tmp_path: Path) -> None:
    """Lines of 80 columns but for messages, which are left whole since 3.4."""
    version = KernelVersion.parse(release)
    patch = generate.on_demand(
        version, FolderTree(of_age(tmp_path / "tree", version)), rules.load()
    )
    for file in patch.files[-1], patch.files[-4]:
        for line in file.content.splitlines():
            assert line == line.rstrip()
            whole = '("' in line and version >= KernelVersion((3, 4))
            assert whole or len(line.expandtabs(8)) <= 80
        assert "TARPIT_HAVE_" not in file.content
        assert ("SPDX" in file.content) == (version >= KernelVersion((4, 14)))


@pytest.mark.parametrize("release", ANY[2:])
def test_a_tree_in_no_range_is_patched_and_mended(release: str, tmp_path: Path) -> None:
    version = KernelVersion.parse(release)
    folder = of_age(tmp_path / "tree", version)
    before = snapshot(folder)
    done = patches.apply(folder, version)
    assert done.option == "CONFIG_NETFILTER_XT_TARGET_TARPIT"
    assert "made from this very tree" in patches.applied(done, dry_run=False)
    with pytest.raises(UserError, match="patched already"):
        patches.apply(folder, version)
    patches.apply(folder, version, reverse=True)
    assert snapshot(folder) == before
    with pytest.raises(UserError, match="is not patched"):
        patches.apply(folder, version, reverse=True)


def test_a_longterms_patch_is_made_anew_in_its_place(no_trees: patches.ReleaseTrees) -> None:
    """Whoever changes dkms/ need not have the tree that it was made from."""
    entry = next(entry for entry in LINUX if entry.tree)
    made = patches.regenerate(entry, no_trees)
    assert made.difference == ""
    assert (made.checked, made.absent) == ((), (entry.tree,))


def test_a_release_that_is_not_in_the_catalogue_gets_its_own_lines(tmp_path: Path) -> None:
    """Those that are must have the lines that they were released with."""
    there = patches.committed(KernelVersion.parse("2.6.27")).patch
    for release, known in ("2.6.27.57", True), ("2.6.27.99", False):
        version = KernelVersion.parse(release)
        folder = made_up(tmp_path / release, there, version, f".{release.split('.')[3]}")
        kconfig = folder / "net/netfilter/Kconfig"
        kconfig.write_text("# one line more\n" + kconfig.read_text())
        if known:
            with pytest.raises(UserError, match="have moved"):
                patches.apply(folder, version)
        else:
            assert patches.apply(folder, version).release == version


def of_age(folder: Path, version: KernelVersion) -> Path:
    """A tree that has the files of *version* that a patch touches."""
    there = patches.committed(KernelVersion.parse("2.6.24")).patch
    made_up(folder, there, version)
    kbuild = folder / "include/linux/netfilter/Kbuild"
    if version >= KernelVersion((3, 7)):
        place = folder / "include/uapi/linux/netfilter/Kbuild"
        place.parent.mkdir(parents=True)
        kbuild.rename(place)
        if version >= KernelVersion((4, 12)):
            place.write_text("# nothing is listed\n")
    return folder


def test_a_patch_cannot_be_made_for_what_was_before_the_first() -> None:
    with pytest.raises(UserError, match="patch-o-matic"):
        generate.on_demand(KernelVersion.parse("2.6.18"), MemoryTree("none", {}), rules.load())


def test_what_is_no_repository_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no git repository"):
        patches.regenerate(V24, upstream.trees(tmp_path, tmp_path / "nowhere"))


def test_a_commit_with_another_tree_is_refused(upstream: Upstream, tmp_path: Path) -> None:
    version = KernelVersion.parse("2.6.24")
    forged = dataclasses.replace(upstream.catalogue.kernels[version], tree="0" * 40)
    catalogue = dataclasses.replace(upstream.catalogue, kernels={version: forged})
    with pytest.raises(SourceError, match="has the tree"):
        patches.regenerate(V24, Upstream(upstream.folder, catalogue).trees(tmp_path))


def test_a_damaged_object_is_noticed(upstream: Upstream, tmp_path: Path) -> None:
    blob = git(upstream.folder, "rev-parse", "HEAD:net/netfilter/Makefile").strip()
    other = git(upstream.folder, "rev-parse", "HEAD:Makefile").strip()
    objects = upstream.folder / ".git/objects"
    damaged = objects / blob[:2] / blob[2:]
    damaged.chmod(0o644)
    damaged.write_bytes((objects / other[:2] / other[2:]).read_bytes())
    with pytest.raises(SourceError, match="damaged|cannot be read"):
        patches.regenerate(V24, upstream.trees(tmp_path))


def test_a_tree_without_a_place_for_it(upstream: Upstream, tmp_path: Path) -> None:
    (upstream.folder / "net/netfilter/Makefile").write_text("obj-y += nothing.o\n")
    git(upstream.folder, "commit", "-qam", "other")
    version = KernelVersion.parse("2.6.24")
    commit = git(upstream.folder, "rev-parse", "HEAD").strip()
    catalogue = dataclasses.replace(
        upstream.catalogue, kernels={version: Release(version, commit=commit)}
    )
    with pytest.raises(SourceError, match="no line that matches"):
        patches.regenerate(V24, Upstream(upstream.folder, catalogue).trees(tmp_path))


@pytest.mark.parametrize(
    ("releases", "arguments", "said"),
    [
        ("6.6", "struct sk_buff *skb, struct net *net", ""),
        ("6.6", "struct sk_buff *skb", "lacks nf_bridge_get_physindev"),
        ("5.15", "struct sk_buff *skb, struct net *net", "has nf_bridge_get_physindev"),
        ("5.15", "struct sk_buff *skb", ""),
        ("6.12", "struct sk_buff *skb, struct net *net", ""),
    ],
)
def test_what_a_longterm_got_from_a_later_release_is_stated(
    releases: str, arguments: str, said: str
) -> None:
    (entry,) = (one for one in LINUX if one.name == releases)
    assert entry.tree
    header = f"nf_bridge_get_physindev(const {arguments})\n"
    tree = MemoryTree("its tree", {"include/linux/netfilter_bridge.h": header})
    if not said:
        regen._demand_stated(entry, entry.tree, tree, rules.load())
        return
    with pytest.raises(SourceError, match=said) as caught:
        regen._demand_stated(entry, entry.tree, tree, rules.load())
    assert f'releases = "{releases}"' in caught.value.hint


@pytest.mark.parametrize("style", ["git", "quilt", "mbox"])
def test_patches_can_be_carried_away(
    tmp_path: Path, no_trees: patches.ReleaseTrees, style: str
) -> None:
    made = patches.regenerate_all(patches.select("", "1.4.0"), no_trees, Console(quiet=True))
    patches.export(made, tmp_path / "out", style)
    folder = tmp_path / "out/iptables/1.4.0"
    assert (folder / "series").exists() == (style == "quilt")
    (tree := tmp_path / "iptables-1.4.0").mkdir()
    file = next(path for path in folder.iterdir() if path.name != "series")
    with file.open("rb") as stream:
        subprocess.run(["patch", "-s", "-p1", "-NE"], cwd=tree, stdin=stream, check=True)
    assert "extensions/.TARPIT-test" in snapshot(tree)


# -- real trees ------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", RANGES)
def test_every_release_of_the_range_takes_it(entry: Range, tmp_path: Path) -> None:
    """With trees: regenerated to the byte, and in and out of each with patch(1)."""
    trees = patches.ReleaseTrees(
        Catalogue.load(),
        tuple(repositories("TARPIT_KERNEL_GIT")),
        tuple(repositories("TARPIT_IPTABLES_GIT")),
        paths.cache_dir(),
    )
    releases = trees.releases(entry)
    found = [(release, tree) for release in releases if (tree := trees.find(release))]
    if not found:
        variable = "TARPIT_KERNEL_GIT" if entry.kind == "linux" else "TARPIT_IPTABLES_GIT"
        names = ", ".join(map(str, releases))
        pytest.skip(f"NOT EXERCISED: {entry.kind} {names}: set {variable} to a clone")
    verdict = patches.check(entry, trees)
    assert verdict.wrong == ()
    patch = committed.read(entry).patch
    for release, tree in found:
        if not isinstance(tree, MemoryTree):  # which holds nothing but the patched files
            assert _missing_headers(patch, tree) == []
        folder = tmp_path / str(release)
        for file in patch.files:
            if (text := tree.read(file.path)) is not None:
                (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
                (folder / file.path).write_bytes(text.encode(ENCODING))
        folder.mkdir(exist_ok=True)
        before = snapshot(folder)
        for reverse in ((), ("-R",)):
            with (committed.FOLDER / entry.path).open("rb") as stream:
                done = subprocess.run(
                    ["patch", "-p1", "-NE", "-F0", *reverse],
                    cwd=folder,
                    stdin=stream,
                    capture_output=True,
                    text=True,
                    check=True,
                )
            assert "offset" not in done.stdout
            assert "fuzz" not in done.stdout
        assert snapshot(folder) == before


def _missing_headers(patch: Patch, tree: Tree) -> list[str]:
    """What the new files of *patch* include and neither *tree* nor the patch has."""
    own = {file.path for file in patch.files}
    included = {
        name
        for file in patch.files
        if file.adds and file.path.startswith("net/")
        for name in re.findall(r"^#include <((?!asm/)[^>]+)>", file.content, re.MULTILINE)
    }
    return sorted(
        name
        for name in included
        if f"include/{name}" not in own and tree.read(f"include/{name}") is None
    )


def test_versions_of_both_kinds_are_known() -> None:
    assert (
        VersionRange.parse("1.3.8", IptablesVersion) == rules.load().of_kind("iptables")[0].releases
    )
