"""Git repositories: with and without tags, bare or not, damaged, forged, remote, and not ours."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.sources import (
    FetchedTree,
    GitRepository,
    SourceOptions,
    Tarball,
    fetch_iptables,
    fetch_kernel,
    kernel_source,
    releases,
)
from tarpit_builder.sources.catalogue import Catalogue, Release
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.trust import TrustFile
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.sources.conftest import People
from tests.sources.kit import Files, git, git_tree, kernel_files, read_tree, write_catalogue

V = KernelVersion.parse("2.6.24")
NEXT = KernelVersion.parse("2.6.25")


def commit(repository: Path, files: Files, *parents: str) -> tuple[str, str]:
    """A commit of *files*; its id and its tree's."""
    tree = git_tree(files, repository)
    before = [word for parent in parents for word in ("-p", parent)]
    made = git("commit-tree", tree, *before, "-m", "Linux", cwd=repository).decode().strip()
    git("update-ref", "refs/heads/master", made, cwd=repository)
    return made, tree


def signed_tag(repository: Path, people: People, name: str, target: str, signer: str) -> None:
    """The annotated tag *name*, signed by *signer*."""
    text = (
        f"object {target}\ntype commit\ntag {name}\ntagger T <t@example.org> 1201215480 +0000\n\n"
    )
    payload = (text + f"Linux {name}\n").encode()
    content = payload + people.ring.detach(signer, payload)
    made = git("hash-object", "-t", "tag", "-w", "--stdin", cwd=repository, content=content)
    git("update-ref", f"refs/tags/{name}", made.decode().strip(), cwd=repository)


@dataclass
class World:
    """A repository with 2.6.24, and a user whose catalogue has it."""

    repository: Path
    commit: str
    tree: str
    catalogue: Catalogue
    store: Store
    trust: TrustFile
    people: People

    def fetch(
        self,
        version: KernelVersion | None = V,
        ref: str = "",
        location: str = "",
        **options: object,
    ) -> FetchedTree:
        defaults = SourceOptions(catalogue=self.catalogue, trust=self.trust)
        return fetch_kernel(
            GitRepository(location or str(self.repository), version, ref),
            self.store,
            Console(quiet=True),
            options=replace(defaults, **options),  # type: ignore[arg-type]
        )


@pytest.fixture
def world(tmp_path: Path, store: Store, people: People, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    repository = tmp_path / "linux.git"
    made, tree = commit(repository, kernel_files(V))
    public = people.ring.public("developer")
    catalogue = write_catalogue(
        tmp_path / "catalogue",
        keys=[("developer", people.developer, "kernel", public)],
        kernels=[Release(V, "2008-01-24", made, tree)],
    )
    trust = TrustFile(tmp_path / "lock")
    return World(repository, made, tree, catalogue, store, trust, people)


def test_without_tags_the_pinned_commit_is_found(world: World, tmp_path: Path) -> None:
    found = world.fetch()
    assert (found.tree, found.digests["git-commit"]) == (world.tree, world.commit)
    assert found.path is None
    found.unpack(tmp_path / "out")
    assert read_tree(tmp_path / "out") == kernel_files(V)


def test_a_ref_that_is_the_releases_tag_means_the_release(world: World) -> None:
    assert world.fetch(None, "v2.6.24").digests["git-commit"] == world.commit
    assert world.fetch(V, "refs/tags/v2.6.24").tree == world.tree


def test_a_work_tree_and_its_subfolders_setting_do_not_matter(world: World, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git("clone", "--quiet", str(world.repository), str(clone), cwd=tmp_path)
    (clone / "Makefile").write_text("changed, not committed\n")
    git("config", "core.autocrlf", "true", cwd=clone)
    git("config", "tar.umask", "0077", cwd=clone)
    found = world.fetch(location=str(clone))
    found.unpack(tmp_path / "out")
    assert read_tree(tmp_path / "out") == kernel_files(V)


def test_a_bare_mirror_without_a_config_is_read(world: World) -> None:
    (world.repository / "config").unlink()
    assert world.fetch().tree == world.tree


def test_a_signed_tag_vouches_for_what_the_catalogue_does_not_know(world: World) -> None:
    made, tree = commit(world.repository, kernel_files(NEXT), world.commit)
    with pytest.raises(UserError, match=r"neither the tag v2\.6\.25 nor the commit"):
        world.fetch(NEXT)
    signed_tag(world.repository, world.people, "v2.6.25", made, "developer")
    found = world.fetch(NEXT)
    assert found.tree == tree
    assert world.people.developer in found.vouchers[0]


def test_tags_that_prove_nothing_are_not_believed(world: World) -> None:
    made, _ = commit(world.repository, kernel_files(NEXT), world.commit)
    repository, people = world.repository, world.people
    git("tag", "v2.6.25", made, cwd=repository)
    with pytest.raises(SourceError, match="cannot be verified"):
        world.fetch(NEXT)
    signed_tag(repository, people, "v2.6.25", made, "stranger")
    with pytest.raises(SourceError, match="cannot be verified"):
        world.fetch(NEXT)
    # A good tag of another release under this name, and one that names another commit.
    signed_tag(repository, people, "v2.6.24.1", made, "developer")
    other = git("rev-parse", "refs/tags/v2.6.24.1", cwd=repository).decode().strip()
    git("update-ref", "refs/tags/v2.6.25", other, cwd=repository)
    with pytest.raises(SourceError, match="cannot be verified"):
        world.fetch(NEXT)
    assert world.fetch(NEXT, trust_on_first_use=True).version == NEXT


def test_a_tag_whose_signature_does_not_fit_is_refused(world: World) -> None:
    made, _ = commit(world.repository, kernel_files(NEXT), world.commit)
    signed_tag(world.repository, world.people, "v2.6.25", made, "developer")
    tag = git("cat-file", "tag", "v2.6.25", cwd=world.repository).replace(b"Linux v", b"Linus v")
    forged = git("hash-object", "-t", "tag", "-w", "--stdin", cwd=world.repository, content=tag)
    git("update-ref", "refs/tags/v2.6.25", forged.decode().strip(), cwd=world.repository)
    with pytest.raises(SourceError, match="does not fit"):
        world.fetch(NEXT, trust_on_first_use=True)


def test_a_full_commit_id_pins_itself_but_a_branch_must_be_trusted(world: World) -> None:
    own = {**kernel_files(V), "net/own.c": (0o100644, b"")}
    made, tree = commit(world.repository, own, world.commit)
    found = world.fetch(None, made)
    assert (found.tree, found.version, found.name) == (tree, V, "linux-2.6.24")
    with pytest.raises(SourceError, match="cannot be verified"):
        world.fetch(None, "master")
    assert world.fetch(None, "master", trust_on_first_use=True).tree == tree
    assert world.fetch(None, "master").tree == tree
    commit(world.repository, kernel_files(NEXT), made)
    with pytest.raises(SourceError, match="not what it was"):
        world.fetch(None, "master")


def test_a_ref_that_is_not_the_named_release_is_refused(world: World) -> None:
    commit(world.repository, kernel_files(NEXT), world.commit)
    with pytest.raises(SourceError, match="git tree"):
        world.fetch(V, "master")


def test_a_commit_that_says_another_release_is_not_trusted_as_this_one(world: World) -> None:
    made, _ = commit(world.repository, kernel_files(NEXT), world.commit)
    with pytest.raises(SourceError, match=r"holds Linux 2\.6\.25, not 2\.6\.26"):
        world.fetch(KernelVersion.parse("2.6.26"), made, trust_on_first_use=True)
    assert not world.trust.path.exists()


def test_a_catalogue_and_a_commit_that_disagree_are_refused(world: World) -> None:
    wrong = Release(V, commit=world.commit, tree="0" * 40)
    world.catalogue = replace(world.catalogue, kernels={V: wrong})
    with pytest.raises(SourceError, match="git tree"):
        world.fetch()


def test_an_object_that_is_not_what_its_id_says_is_noticed(world: World, tmp_path: Path) -> None:
    """A forged repository: the content of another object lies under the id of a good one."""
    repository = world.repository
    evil = git("hash-object", "-w", "--stdin", cwd=repository, content=b"evil\n").decode().strip()
    good = git("rev-parse", f"{world.commit}:net/netfilter/xt_TCPMSS.c", cwd=repository)
    objects = repository / "objects"

    def place(name: str) -> Path:
        return objects / name[:2] / name[2:]

    target = place(good.decode().strip())
    target.chmod(0o644)
    shutil.copyfile(place(evil), target)
    with pytest.raises(SourceError):
        world.fetch()
    assert not (tmp_path / "out").exists()


def test_a_commit_or_tag_that_is_not_what_its_id_says_is_noticed(world: World) -> None:
    made, _ = commit(world.repository, kernel_files(NEXT), world.commit)
    signed_tag(world.repository, world.people, "v2.6.25", made, "developer")
    tag = git("rev-parse", "refs/tags/v2.6.25", cwd=world.repository).decode().strip()
    signed_tag(world.repository, world.people, "v2.6.26", made, "developer")
    other = git("rev-parse", "refs/tags/v2.6.26", cwd=world.repository).decode().strip()
    for good, bad in ((world.commit, made), (tag, other)):
        files = [world.repository / "objects" / name[:2] / name[2:] for name in (good, bad)]
        files[0].chmod(0o644)
        shutil.copyfile(files[1], files[0])
    for version in (V, NEXT):  # some git notices by itself, and takes it for missing
        with pytest.raises((SourceError, UserError)):
            world.fetch(version, trust_on_first_use=True)


def test_attributes_that_change_what_is_read_are_noticed(world: World) -> None:
    files = {**kernel_files(V), ".gitattributes": (0o100644, b"a.c export-ignore\n")}
    made, _ = commit(world.repository, files)
    with pytest.raises(SourceError, match="export-ignore"):
        world.fetch(None, made)


def test_a_missing_object_is_noticed(world: World) -> None:
    blob = git("rev-parse", f"{world.commit}:Kconfig", cwd=world.repository).decode().strip()
    (world.repository / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(SourceError, match="git fsck") as caught:
        world.fetch()
    assert caught.value.exit_code == 4


def test_the_second_kernel_is_not_read_twice(world: World, tmp_path: Path) -> None:
    world.fetch()
    blob = git("rev-parse", f"{world.commit}:Kconfig", cwd=world.repository).decode().strip()
    (world.repository / "objects" / blob[:2] / blob[2:]).unlink()
    found = world.fetch()  # remembered as good; but what is unpacked is checked again
    with pytest.raises(SourceError):
        found.unpack(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("location", ["/nowhere", "nowhere", "."])
def test_what_is_no_repository_is_the_users_error(
    world: World, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path / "plain")
    with pytest.raises(UserError, match="git repository"):
        world.fetch(location=location)


def test_an_unknown_ref_is_the_users_error(world: World) -> None:
    for ref in ("no-such-branch", "--upload-pack=touch /tmp/x", "a b", "v9.9.9", "HEAD:Makefile"):
        with pytest.raises(UserError):
            world.fetch(None, ref)


def test_a_release_that_is_not_there_brings_near_ones(world: World) -> None:
    with pytest.raises(UserError) as caught:
        world.fetch(KernelVersion.parse("2.6.240"))
    assert "did you mean 2.6.24?" in caught.value.hint


def test_a_repository_of_another_user_is_explained(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UserError, match="another user") as caught:
        world.fetch()
    assert "safe.directory" in caught.value.hint


# -- remote ----------------------------------------------------------------------------------


def test_from_a_url_no_more_than_the_release_is_fetched_and_once(world: World) -> None:
    git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=world.repository)
    made, _ = commit(world.repository, kernel_files(NEXT), world.commit)
    signed_tag(world.repository, world.people, "v2.6.25", made, "developer")
    url = world.repository.as_uri()
    assert world.fetch(location=url).tree == world.tree
    found = world.fetch(NEXT, location=url)
    assert found.version == NEXT
    (mirror,) = (world.store.root / "git").iterdir()
    history = git("rev-list", "--count", made, cwd=mirror).decode().strip()
    assert history == "1"
    world.store.offline = True
    world.repository.rename(world.repository.with_suffix(".gone"))
    assert world.fetch(NEXT, location=url).tree == found.tree
    assert world.fetch(location=url).tree == world.tree
    with pytest.raises(SourceError, match="offline"):
        world.fetch(KernelVersion.parse("2.6.26"), location=url)


def test_a_url_without_tags_that_gives_no_commits_by_id_is_fetched_whole(world: World) -> None:
    made, _ = commit(world.repository, kernel_files(NEXT), world.commit)
    git("config", "uploadpack.allowAnySHA1InWant", "false", cwd=world.repository)
    signed_tag(world.repository, world.people, "v2.6.25", made, "developer")
    url = world.repository.as_uri()
    assert world.fetch(NEXT, location=url).version == NEXT  # shallow, by its tag
    assert world.fetch(location=url).tree == world.tree  # an ancestor, by the pinned id


def test_a_url_that_does_not_answer_is_a_network_error(world: World) -> None:
    for url in ("https://localhost:9/linux.git", (world.repository / "none").as_uri()):
        with pytest.raises(NetworkError, match="git cannot fetch"):
            world.fetch(location=url)


def test_a_url_that_runs_commands_is_refused(world: World, tmp_path: Path) -> None:
    for url in (f"ext::sh -c touch% {tmp_path}/x://", f"fd::17,18://{tmp_path}"):
        with pytest.raises((UserError, NetworkError)):
            world.fetch(location=url)
    assert not (tmp_path / "x").exists()


# -- iptables, and what options mean ---------------------------------------------------------


def test_iptables_answers_to_its_own_table(world: World, tmp_path: Path) -> None:
    version = IptablesVersion.parse("1.4.0")
    repository = tmp_path / "iptables.git"
    made, tree = commit(repository, {"Makefile": (0o100644, b"IPTABLES_VERSION:=1.4.0\n")})
    catalogue = replace(
        world.catalogue, iptables={version: Release(version, commit=made, tree=tree)}
    )
    options = SourceOptions(catalogue=catalogue, trust=world.trust)
    found = fetch_iptables(
        GitRepository(str(repository), version), world.store, Console(quiet=True), options=options
    )
    assert (found.name, found.tree) == ("iptables-1.4.0", tree)


def test_options_that_contradict_each_other_are_refused() -> None:
    for tree, place, ref in (
        ("x", "y", ""),
        ("x", "", "y"),
        ("", "", "v2.6.24"),
        ("", "x", ""),
        ("", "", ""),
    ):
        with pytest.raises(UserError):
            kernel_source(None, tree=tree, git=place, ref=ref)
    assert kernel_source(V, git="x", ref="y") == GitRepository("x", V, "y")


def test_release_that_was_kept_serves_those_who_name_no_repository(world: World) -> None:
    fetched = world.fetch()
    assert releases.keep(fetched, world.store)
    assert not releases.keep(fetched, world.store), "it is there already"
    shutil.rmtree(world.repository)
    offline = Store(world.store.root, offline=True)
    options = SourceOptions(catalogue=world.catalogue, trust=world.trust)
    kept = fetch_kernel(Tarball(V), offline, Console(quiet=True), options=options)
    assert (kept.tree, kept.cached) == (fetched.tree, True)
    assert "the catalogue's" in kept.vouchers[0]
    kept.unpack(world.store.root / "out")


def test_kept_release_that_was_altered_is_not_used(world: World) -> None:
    releases.keep(world.fetch(), world.store)
    record = world.store.record(V.stem)
    assert record is not None
    path = world.store.checked(str(record["sha256"]))
    assert path is not None
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-9] + b"something")
    offline = Store(world.store.root, offline=True)
    options = SourceOptions(catalogue=world.catalogue, trust=world.trust)
    with pytest.raises(SourceError, match="not in the cache"):
        fetch_kernel(Tarball(V), offline, Console(quiet=True), options=options)
