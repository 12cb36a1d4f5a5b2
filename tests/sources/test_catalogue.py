"""The catalogue: what is shipped holds together, and what is learnt was signed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.sources import SourceOptions
from tarpit_builder.sources.catalogue import (
    PINNED,
    SHIPPED,
    SIGNED,
    Catalogue,
    Digest,
    Release,
    merged,
    write,
)
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.verbs import catalog_update
from tarpit_builder.supported import releases_table
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.sources.conftest import People
from tests.sources.kit import Site, git, git_tree, kernel_files, write_catalogue
from tests.sources.test_repository import commit, signed_tag

K, S, D = "/pub/linux/kernel", "a" * 64, "b" * 64


def kernel(text: str) -> KernelVersion:
    return KernelVersion.parse(text)


# -- what is shipped -------------------------------------------------------------------------


def test_the_shipped_catalogue_is_whole() -> None:
    catalogue = Catalogue.load(SHIPPED)
    assert len(catalogue.kernels) >= 70
    trees = [release.tree for release in catalogue.kernels.values()]
    commits = [release.commit for release in catalogue.kernels.values() if release.commit]
    assert len(set(commits)) == len(commits)
    assert all(re.fullmatch(r"[0-9a-f]{40}|", name) for name in [*trees, *commits])
    rows: list[Release[KernelVersion] | Release[IptablesVersion]] = [
        *catalogue.kernels.values(),
        *catalogue.iptables.values(),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d|", release.date) for release in rows)
    assert all(bool(release.commit) == bool(release.tree) for release in rows)


@pytest.mark.parametrize("series", [f"2.6.{number}" for number in range(19, 28)])
def test_every_kernel_that_is_patched_can_be_had_without_a_signature(series: str) -> None:
    assert Catalogue.load(SHIPPED).kernels[kernel(series)].tree


@pytest.mark.parametrize("version", ["1.3.8", "1.4.0"])
def test_every_iptables_that_is_patched_is_pinned_both_ways(version: str) -> None:
    catalogue = Catalogue.load(SHIPPED)
    assert catalogue.iptables[IptablesVersion.parse(version)].tree
    assert catalogue.tarballs[f"iptables-{version}.tar.bz2"].basis == PINNED


def test_the_shipped_digests_are_of_releases_that_fetching_asks_for() -> None:
    catalogue = Catalogue.load(SHIPPED)
    kinds = {"linux": KernelVersion, "iptables": IptablesVersion}
    for name in catalogue.tarballs:
        stem, _, suffix = name.rpartition(".tar.")
        project, _, version = stem.partition("-")
        assert kinds[project].parse(version).stem == stem
        assert suffix in {"xz", "bz2", "gz"}
    assert sum(digest.is_proof for digest in catalogue.tarballs.values()) > 3000
    # One release of each longterm, as the recipes of several distributions have it.
    for release in ("3.10", "3.16.85", "4.4.302", "4.19.325", "5.4.302", "5.15.148", "6.12.19"):
        assert catalogue.tarballs[f"linux-{release}.tar.xz"].is_proof, release


def test_writing_the_shipped_catalogue_changes_nothing(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED, tmp_path / "catalogue")
    write(Catalogue.load(tmp_path / "catalogue"))
    for path in SHIPPED.glob("*.tsv"):
        assert (tmp_path / "catalogue" / path.name).read_text() == path.read_text()


def test_a_broken_catalogue_is_explained(tmp_path: Path) -> None:
    write_catalogue(tmp_path)
    for name, text in (
        ("kernels.tsv", "2.6.24\tonly two\n"),
        ("keys.toml", "[[key]]\n"),
        ("mirrors.toml", "= nonsense"),
        ("iptables.tsv", None),
        ("tarballs.tsv", f"linux-2.6.24.tar.xz\t{S}\tnobody\n"),
        ("tarballs.tsv", "linux-2.6.24.tar.xz\tabc\tsigned\n"),
    ):
        before = (tmp_path / name).read_text()
        (tmp_path / name).unlink() if text is None else (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="catalogue"):
            Catalogue.load(tmp_path)
        (tmp_path / name).write_text(before)


def test_merging_fills_gaps_and_names_contradictions() -> None:
    version = kernel("2.6.24")
    known = Release(version, commit="c", tree="t")
    learnt = Release(version, date="2008-01-24")
    both, conflicts = merged(known, learnt)
    assert not conflicts
    assert both == Release(version, "2008-01-24", "c", "t")
    assert merged(known, Release(version, commit="d", tree="t"))[1] == ("commit",)


# -- learning --------------------------------------------------------------------------------


@dataclass
class World:
    """A kernel.org with signed lists, and a catalogue that knows 2.6.24."""

    site: Site
    people: People
    store: Store
    folder: Path

    def sums(
        self, folder: str, *releases: str, signer: str = "autosigner", digest: str = S
    ) -> None:
        rows = [f"{digest}  linux-{name}.tar.xz" for name in releases]
        rows += [f"{D}  patch-1.xz", f"{D}  linux-1.0.tar.xz", f"{D}  linux-{releases[0]}.tar.gz"]
        text = ("\n".join(rows) + "\n").encode()
        self.site.files[f"{K}/{folder}/sha256sums.asc"] = self.people.ring.clear(signer, text)

    def update(self, **options: str) -> str:
        return catalog_update(
            self.store,
            Console(quiet=True),
            SourceOptions(catalogue=Catalogue.load(self.folder)),
            **options,  # type: ignore[arg-type]
        )

    @property
    def kernels(self) -> dict[str, Release[KernelVersion]]:
        found = Catalogue.load(self.folder).kernels
        return {str(version): release for version, release in found.items()}


@pytest.fixture
def world(site: Site, people: People, store: Store, tmp_path: Path) -> World:
    public = people.ring.public
    write_catalogue(
        tmp_path / "catalogue",
        keys=[
            ("developer", people.developer, "kernel", public("developer")),
            ("autosigner", people.autosigner, "kernel-checksums", public("autosigner")),
            ("netfilter", people.netfilter, "iptables", public("netfilter")),
        ],
        kernels=[Release(kernel("2.6.24"), "2008-01-24", "c" * 40, "d" * 40)],
        kernel_mirrors=[f"{site.url}{K}"],
        releases=f"{site.url}/releases.json",
    )
    return World(site, people, store, tmp_path / "catalogue")


def test_signed_lists_and_releases_json_extend_the_catalogue(world: World) -> None:
    world.sums("v2.6", "2.6.24", "2.6.25")
    world.sums("v8.x", "8.0.1", digest=D)
    released = {"version": "8.0.1", "released": {"isodate": "2027-05-01"}}
    following = {"version": "next-20270501", "released": {"isodate": "2027-05-01"}}
    text = json.dumps({"releases": [released, following]})
    world.site.files["/releases.json"] = text.encode()
    assert "2 releases added, 1 completed" in world.update()
    assert world.kernels["8.0.1"] == Release(kernel("8.0.1"), "2027-05-01")
    tarballs = Catalogue.load(world.folder).tarballs
    assert tarballs["linux-8.0.1.tar.xz"] == Digest(D, SIGNED)
    assert tarballs["linux-2.6.24.tar.xz"] == Digest(S, SIGNED)
    assert world.kernels["2.6.24"].tree == "d" * 40
    assert list(world.kernels) == ["2.6.24", "2.6.25", "8.0.1"]
    before = (world.folder / "kernels.tsv").read_text()
    assert "0 releases added, 0 completed" in world.update()
    assert (world.folder / "kernels.tsv").read_text() == before
    assert "8.0.1" in releases_table(Catalogue.load(world.folder), everything=True)


def test_a_list_that_is_not_signed_right_teaches_nothing(world: World) -> None:
    before = (world.folder / "kernels.tsv").read_text()
    world.sums("v5.x", "5.10.251")
    world.sums("v6.x", "6.1.1", signer="stranger")
    with pytest.raises(SourceError, match="not signed by anyone"):
        world.update()
    assert (world.folder / "kernels.tsv").read_text() == before


def test_a_list_that_contradicts_the_catalogue_is_an_error(world: World) -> None:
    world.sums("v2.6", "2.6.24")
    world.update()
    before = (world.folder / "kernels.tsv").read_text()
    world.sums("v2.6", "2.6.24", "2.6.25", digest=D)
    with pytest.raises(SourceError, match="SHA-256 signed now is not"):
        world.update()
    assert (world.folder / "kernels.tsv").read_text() == before


@pytest.mark.parametrize("text", [b"<html>", b"{}", b'{"releases": [{"version": "6.1"}]}', b"[1]"])
def test_a_releases_json_that_is_none_does_not_stop_the_update(world: World, text: bytes) -> None:
    world.site.files["/releases.json"] = text
    world.sums("v5.x", "5.10.251")
    assert "releases.json cannot be read" in world.update()
    assert "5.10.251" in world.kernels


def test_without_any_list_the_network_is_to_blame(world: World) -> None:
    world.site.url = ""
    places = world.folder / "mirrors.toml"
    places.write_text(re.sub(r"localhost:\d+", "localhost:9", places.read_text()))
    with pytest.raises(NetworkError):
        world.update()


def test_signed_tags_bring_commits_and_trees(world: World, tmp_path: Path) -> None:
    world.store.offline = True
    repository = tmp_path / "linux.git"
    made, tree = commit(repository, kernel_files(kernel("5.10.251")))
    signed_tag(repository, world.people, "v5.10.251", made, "developer")
    signed_tag(repository, world.people, "v5.10.252", made, "stranger")
    git("tag", "v5.10.253", cwd=repository)
    git("tag", "vendor-1", cwd=repository)
    text = world.update(kernel_git=str(repository))
    assert "1 releases added" in text
    assert "2 tags left out" in text
    assert world.kernels["5.10.251"] == Release(kernel("5.10.251"), "2008-01-24", made, tree)
    assert "5.10.252" not in world.kernels


def test_a_signed_tag_against_the_catalogue_is_an_error(world: World, tmp_path: Path) -> None:
    world.store.offline = True
    repository = tmp_path / "linux.git"
    made, _ = commit(repository, kernel_files(kernel("2.6.25")))
    signed_tag(repository, world.people, "v2.6.25", made, "developer")
    with (world.folder / "kernels.tsv").open("a") as table:
        table.write(f"2.6.25\t-\t-\t{'e' * 40}\n")
    with pytest.raises(SourceError, match="tree signed now is not"):
        world.update(kernel_git=str(repository))


def test_tags_of_iptables_go_into_its_own_table(world: World, tmp_path: Path) -> None:
    world.store.offline = True
    repository = tmp_path / "iptables.git"
    made, tree = commit(repository, {"configure.ac": (0o100644, b"")})
    signed_tag(repository, world.people, "v1.8.11", made, "netfilter")
    world.update(iptables_git=str(repository))
    version = IptablesVersion.parse("1.8.11")
    found = Catalogue.load(world.folder).iptables[version]
    assert (found.commit, found.tree) == (made, tree)


def test_offline_without_a_repository_there_is_nothing_to_learn(world: World) -> None:
    world.store.offline = True
    with pytest.raises(UserError, match="nothing to learn"):
        world.update()


def test_git_tree_is_what_the_tests_believe(tmp_path: Path) -> None:
    """The empty tree's id is known to every git."""
    assert git_tree({}, tmp_path / "git") == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
