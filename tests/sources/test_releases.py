"""Release tarballs from first request to unpacked tree, over HTTPS, with everything going wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, SourceError, TarpitError, UserError
from tarpit_builder.sources import FetchedTree, SourceOptions, Tarball, fetch_iptables, fetch_kernel
from tarpit_builder.sources.catalogue import PINNED, Catalogue, Digest, Release
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.trust import TrustFile
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.sources.conftest import People
from tests.sources.kit import (
    COMPRESS,
    FILE,
    Fault,
    Site,
    git_tree,
    kernel_files,
    read_tree,
    tar_of,
    write_catalogue,
)

V = KernelVersion.parse("2.6.24")
STABLE = KernelVersion.parse("5.10.251")
FOLDER = "/pub/linux/kernel/v2.6"
XZ = f"{FOLDER}/linux-2.6.24.tar.xz"


@dataclass
class World:
    """A kernel.org and a netfilter.org of the test's own, and a user of them."""

    site: Site
    people: People
    store: Store
    catalogue: Catalogue
    trust: TrustFile

    def kernel(self, version: KernelVersion = V, **options: object) -> FetchedTree:
        return fetch_kernel(
            Tarball(version), self.store, Console(quiet=True), options=self.options(**options)
        )

    def iptables(self, version: str, **options: object) -> FetchedTree:
        return fetch_iptables(
            Tarball(IptablesVersion.parse(version)),
            self.store,
            Console(quiet=True),
            options=self.options(**options),
        )

    def options(self, **changes: object) -> SourceOptions:
        return replace(SourceOptions(catalogue=self.catalogue, trust=self.trust), **changes)  # type: ignore[arg-type]

    def publish(
        self,
        version: KernelVersion,
        *,
        sign: str = "developer",
        suffixes: tuple[str, ...] = (".tar.xz",),
        content: bytes | None = None,
        sums: str = "autosigner",
    ) -> bytes:
        """Put *version* on the site, signed by *sign* and listed by *sums*; the plain tar."""
        plain = tar_of(kernel_files(version), version.stem) if content is None else content
        folder = f"/pub/linux/kernel/{version.folders[0]}"
        rows = []
        for suffix in suffixes:
            packed = COMPRESS[suffix](plain)
            self.site.files[f"{folder}/{version.stem}{suffix}"] = packed
            rows.append(f"{hashlib.sha256(packed).hexdigest()}  {version.stem}{suffix}")
        if sign:
            signature = self.people.ring.detach(sign, plain)
            self.site.files[f"{folder}/{version.stem}.tar.sign"] = signature
        if sums:
            text = ("\n".join(rows) + "\n").encode()
            self.site.files[f"{folder}/sha256sums.asc"] = self.people.ring.clear(sums, text)
        return plain

    def knows(self, name: str, content: bytes, basis: str) -> None:
        """Put the digest of the file *name* into the catalogue."""
        digest = Digest(hashlib.sha256(content).hexdigest(), basis)
        tarballs = {**self.catalogue.tarballs, name: digest}
        self.catalogue = replace(self.catalogue, tarballs=tarballs)

    def nothing_kept(self) -> bool:
        """Whether the cache holds neither content nor a belief."""
        return not any(item.kind == "blob" for item in self.store.items()) and (
            self.store.record(V.stem) is None
        )


@pytest.fixture
def world(site: Site, people: People, store: Store, tmp_path: Path) -> World:
    """2.6.24 is in the catalogue by its git tree; everything else must be signed."""
    ring = people.ring
    files = kernel_files(V)
    catalogue = write_catalogue(
        tmp_path / "catalogue",
        keys=[
            ("developer", people.developer, "kernel", ring.public("developer")),
            ("autosigner", people.autosigner, "kernel-checksums", None),
            ("netfilter", people.netfilter, "iptables", ring.public("netfilter")),
        ],
        key_urls={"autosigner": f"{site.url}/autosigner.asc"},
        kernels=[Release(V, "2008-01-24", "", git_tree(files, tmp_path / "git"))],
        kernel_mirrors=[f"{site.url}/pub/linux/kernel"],
        iptables_mirrors=[f"{site.url}/iptables"],
    )
    site.files["/autosigner.asc"] = ring.public("autosigner")
    return World(site, people, store, catalogue, TrustFile(tmp_path / "sources.lock"))


# -- the good ways ---------------------------------------------------------------------------


def test_a_release_that_the_catalogue_knows_needs_no_signature(
    world: World, tmp_path: Path
) -> None:
    world.publish(V, sign="", sums="")
    tree = world.kernel()
    assert tree.name == "linux-2.6.24"
    assert tree.origin == world.site.url + XZ
    assert "catalogue" in tree.vouchers[0]
    assert [path for path, _ in world.site.requests] == [XZ]
    tree.unpack(tmp_path / "out")
    assert read_tree(tmp_path / "out") == kernel_files(V)


def test_the_second_time_nothing_is_asked_and_offline_works(world: World) -> None:
    world.publish(V)
    first = world.kernel()
    asked = len(world.site.requests)
    second = world.kernel()
    world.store.offline = True
    third = world.kernel()
    assert len(world.site.requests) == asked
    assert (first.cached, second.cached, third.cached) == (False, True, True)
    assert first.manifest() == third.manifest()


def test_offline_says_what_is_missing(world: World) -> None:
    world.store.offline = True
    with pytest.raises(SourceError, match=r"linux-2\.6\.24 is not in the cache"):
        world.kernel()
    assert world.site.requests == []


@pytest.mark.parametrize("suffix", [".tar.xz", ".tar.bz2", ".tar.gz"])
def test_any_compression_that_a_mirror_has_will_do(world: World, suffix: str) -> None:
    world.publish(V, suffixes=(suffix,))
    assert world.kernel().origin.endswith(suffix)


def test_an_unknown_release_is_taken_by_its_signature_and_the_signed_list(world: World) -> None:
    world.publish(STABLE)
    tree = world.kernel(STABLE)
    assert any(world.people.developer in voucher for voucher in tree.vouchers)
    assert any(world.people.autosigner in voucher for voucher in tree.vouchers)


@pytest.mark.parametrize(("sign", "sums"), [("developer", ""), ("", "autosigner")])
def test_either_signature_is_enough(world: World, sign: str, sums: str) -> None:
    world.publish(STABLE, sign=sign, sums=sums)
    assert len(world.kernel(STABLE).vouchers) == 1


def test_a_point_release_is_found_in_its_longterm_folder_or_outside(world: World) -> None:
    version = KernelVersion.parse("2.6.27.62")
    world.publish(version)
    assert "/longterm/v2.6.27/" in world.kernel(version).origin
    other = KernelVersion.parse("2.6.32.10")
    world.publish(other)
    for path in list(world.site.files):
        if "/longterm/v2.6.32/" in path:
            moved = path.replace("/longterm/v2.6.32/", "/")
            world.site.files[moved] = world.site.files.pop(path)
    assert "/longterm/" not in world.kernel(other).origin


def test_an_mirror_of_ones_own_comes_first_whatever_its_shape(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = COMPRESS[".tar.gz"](tar_of(kernel_files(V), V.stem))
    flat = tmp_path / "flat mirror"
    flat.mkdir()
    (flat / "linux-2.6.24.tar.gz").write_bytes(packed)
    tree = world.kernel(mirrors=(flat.as_uri(),))
    assert tree.origin == (flat / "linux-2.6.24.tar.gz").as_uri()
    world.store.prune(keep=0)
    (flat / "v2.6").mkdir()
    (flat / "linux-2.6.24.tar.gz").rename(flat / "v2.6/linux-2.6.24.tar.gz")
    monkeypatch.setenv("TARPIT_KERNEL_MIRROR", flat.as_uri())
    assert "/v2.6/" in world.kernel().origin


def test_a_mirror_that_is_no_url_is_refused(world: World) -> None:
    with pytest.raises(UserError, match="not a URL"):
        world.kernel(mirrors=("mirror.example.org",))


def test_a_candidate_comes_from_the_git_server_and_needs_the_catalogue(world: World) -> None:
    version = KernelVersion.parse("6.18-rc3")
    plain = tar_of(kernel_files(version), version.stem)
    world.site.files[f"/pub/linux/kernel/{version.stem}.tar.gz"] = COMPRESS[".tar.gz"](plain)
    with pytest.raises(SourceError, match="cannot be verified"):
        world.kernel(version)
    assert world.kernel(version, trust_on_first_use=True).name == "linux-6.18-rc3"


def test_a_password_in_a_mirror_goes_no_further(world: World) -> None:
    world.publish(V)
    secret = world.site.url.replace("https://", "https://user:hunter2@") + "/pub/linux/kernel"
    places = replace(world.catalogue.places, kernel=())
    world.catalogue = replace(world.catalogue, places=places)
    world.site.fail(XZ, Fault(after=17_000, cut=True), *[Fault(status=500)] * 9)
    with pytest.raises(NetworkError) as caught:
        world.kernel(mirrors=(secret,))
    assert "hunter2" not in str(caught.value)
    kept = b"".join(path.read_bytes() for path in world.store.root.rglob("*.json"))
    assert b"localhost" in kept
    assert b"hunter2" not in kept
    world.site.faults.clear()
    tree = world.kernel(mirrors=(secret,))
    kept = b"".join(path.read_bytes() for path in world.store.root.rglob("*.json"))
    assert "hunter2" not in tree.origin
    assert b"hunter2" not in kept


def test_a_mirror_that_compressed_anew_is_as_good_where_the_tree_is_known(world: World) -> None:
    world.publish(V)
    digest = Digest("0" * 64, "3")
    world.catalogue = replace(world.catalogue, tarballs={f"{V.stem}.tar.xz": digest})
    assert world.kernel().version == V


# -- known by the digest of the file ---------------------------------------------------------


def test_what_several_recipes_name_is_good_from_any_mirror_in_that_compression(
    world: World,
) -> None:
    world.publish(STABLE, sign="", sums="", suffixes=(".tar.xz", ".tar.bz2"))
    folder = f"/pub/linux/kernel/{STABLE.folders[0]}"
    name = f"{STABLE.stem}.tar.bz2"
    world.knows(name, world.site.files[f"{folder}/{name}"], "2")
    tree = world.kernel(STABLE)
    assert tree.origin == f"{world.site.url}{folder}/{name}"
    assert tree.vouchers[0].endswith("is in the catalogue, from 2 independent package recipes")
    assert not world.site.asked(f"{folder}/{STABLE.stem}.tar.xz")
    assert not world.trust.path.exists()
    world.store.prune(keep=0)
    other = tar_of({**kernel_files(STABLE), "evil.c": (FILE, b"")}, STABLE.stem)
    world.site.files[f"{folder}/{name}"] = COMPRESS[".tar.bz2"](other)
    for first_use in (False, True):
        with pytest.raises(SourceError, match="SHA-256 differs"):
            world.kernel(STABLE, trust_on_first_use=first_use)


def test_what_one_recipe_names_is_no_proof_but_must_not_be_contradicted(world: World) -> None:
    world.publish(STABLE, sign="", sums="")
    name = f"{STABLE.stem}.tar.xz"
    content = world.site.files[f"/pub/linux/kernel/{STABLE.folders[0]}/{name}"]
    world.knows(name, content, "1")
    with pytest.raises(SourceError, match="cannot be verified"):
        world.kernel(STABLE)
    world.knows(name, b"another file", "1")
    with pytest.raises(SourceError, match="recipe names: its SHA-256 differs"):
        world.kernel(STABLE, trust_on_first_use=True)
    assert not world.trust.path.exists()
    world.knows(name, content, "1")
    assert world.kernel(STABLE, trust_on_first_use=True).version == STABLE


def test_a_signature_counts_more_than_one_recipe(world: World) -> None:
    world.publish(STABLE)
    world.knows(f"{STABLE.stem}.tar.xz", b"another file", "1")
    assert world.kernel(STABLE).version == STABLE


# -- iptables --------------------------------------------------------------------------------


def iptables_tar(version: str) -> bytes:
    return tar_of({"Makefile": (FILE, b"all:\n"), "iptables.c": (FILE, b"")}, f"iptables-{version}")


@pytest.mark.parametrize(("version", "suffix"), [("1.4.21", ".tar.bz2"), ("1.8.11", ".tar.xz")])
def test_iptables_is_taken_by_the_signature_of_its_tarball(
    world: World, version: str, suffix: str
) -> None:
    packed = COMPRESS[suffix](iptables_tar(version))
    path = f"/iptables/iptables-{version}{suffix}"
    world.site.files[path] = packed
    world.site.files[f"{path}.sig"] = world.people.ring.detach("netfilter", packed)
    tree = world.iptables(version)
    assert str(tree.version) == version
    assert world.people.netfilter in tree.vouchers[0]


def test_iptables_is_taken_by_its_digest_where_that_is_known(world: World) -> None:
    packed = COMPRESS[".tar.bz2"](iptables_tar("1.3.8"))
    world.site.files["/iptables/iptables-1.3.8.tar.bz2"] = packed
    world.knows("iptables-1.3.8.tar.bz2", packed, PINNED)
    assert "SHA-256" in world.iptables("1.3.8").vouchers[0]
    world.store.prune(keep=0)
    world.site.files["/iptables/iptables-1.3.8.tar.bz2"] = packed + b"\0"
    with pytest.raises(SourceError, match="SHA-256 differs"):
        world.iptables("1.3.8")


def test_iptables_without_signature_or_digest_is_refused_before_it_is_fetched(
    world: World,
) -> None:
    world.site.files["/iptables/iptables-1.4.5.tar.bz2"] = COMPRESS[".tar.bz2"](
        iptables_tar("1.4.5")
    )
    with pytest.raises(SourceError, match="cannot be verified"):
        world.iptables("1.4.5")
    assert world.site.asked("/iptables/iptables-1.4.5.tar.bz2") == []


# -- trust on first use ----------------------------------------------------------------------


def test_what_was_trusted_once_is_checked_ever_after(world: World) -> None:
    world.publish(STABLE, sign="", sums="")
    with pytest.raises(SourceError, match="cannot be verified"):
        world.kernel(STABLE)
    first = world.kernel(STABLE, trust_on_first_use=True)
    assert first.tree in world.trust.path.read_text()
    assert world.kernel(STABLE).tree == first.tree
    world.store.prune(keep=0)
    assert world.kernel(STABLE).tree == first.tree
    world.store.prune(keep=0)
    changed = {**kernel_files(STABLE), "evil.c": (FILE, b"")}
    world.publish(STABLE, sign="", sums="", content=tar_of(changed, STABLE.stem))
    for first_use in (False, True):
        with pytest.raises(SourceError, match="not what it was"):
            world.kernel(STABLE, trust_on_first_use=first_use)


def test_trust_does_not_override_the_catalogue(world: World) -> None:
    changed = {**kernel_files(V), "evil.c": (FILE, b"")}
    world.publish(V, content=tar_of(changed, V.stem))
    with pytest.raises(SourceError, match="git tree"):
        world.kernel(trust_on_first_use=True)
    assert not world.trust.path.exists()


def test_a_catalogue_that_learnt_better_overrules_the_cache(world: World) -> None:
    world.publish(STABLE)
    world.kernel(STABLE)
    other = Release(STABLE, tree="0" * 40)
    world.catalogue = replace(world.catalogue, kernels={STABLE: other})
    with pytest.raises(SourceError, match="git tree"):
        world.kernel(STABLE)


# -- hostile content -------------------------------------------------------------------------


def corrupt(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


BAD_CONTENT: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "corrupt": corrupt,
    "empty": lambda _: b"",
    "a web page": lambda _: b"<!DOCTYPE html><title>Sign in</title>" * 30,
    "another tree": lambda _: COMPRESS[".tar.xz"](
        tar_of({**kernel_files(V), "evil.c": (FILE, b"")}, V.stem)
    ),
    "another release": lambda _: COMPRESS[".tar.xz"](
        tar_of(kernel_files(KernelVersion.parse("2.6.23")), "linux-2.6.23")
    ),
    "a bomb": lambda _: COMPRESS[".tar.xz"](bytes(200 << 20)),
    "padded": lambda data: data + b"more",
}


@pytest.mark.parametrize("what", BAD_CONTENT)
@pytest.mark.parametrize("version", [V, STABLE], ids=["known tree", "signed"])
def test_bad_content_is_refused_and_another_mirror_used(
    world: World, what: str, version: KernelVersion
) -> None:
    world.publish(version)
    path = f"/pub/linux/kernel/{version.folders[0]}/{version.stem}.tar.xz"
    good = world.site.files[path]
    world.site.files[path] = BAD_CONTENT[what](good)
    with pytest.raises(SourceError):
        world.kernel(version)
    assert world.nothing_kept()
    assert not list((world.store.root / "partial").iterdir())
    places = replace(
        world.catalogue.places,
        kernel=(*world.catalogue.places.kernel, f"{world.site.url}/good"),
    )
    world.site.files[f"/good/{version.folders[0]}/{version.stem}.tar.xz"] = good
    world.catalogue = replace(world.catalogue, places=places)
    assert "/good/" in world.kernel(version).origin


def test_a_signed_release_under_anothers_name_is_refused(world: World) -> None:
    """Rollback: an old release with its own good signatures, served as the new one."""
    old = KernelVersion.parse("5.10.250")
    plain = world.publish(old)
    folder = f"/pub/linux/kernel/{old.folders[0]}"
    for suffix in (".tar.xz", ".tar.sign"):
        world.site.files[f"{folder}/{STABLE.stem}{suffix}"] = world.site.files[
            f"{folder}/{old.stem}{suffix}"
        ]
    with pytest.raises(SourceError, match=r"holds linux-5\.10\.250"):
        world.kernel(STABLE)
    # Even with the folder renamed and signed again, the Makefile tells.
    renamed = tar_of(kernel_files(old), STABLE.stem)
    assert renamed != plain
    world.publish(STABLE, content=renamed)
    with pytest.raises(SourceError, match=r"holds Linux 5\.10\.250"):
        world.kernel(STABLE)


@pytest.mark.parametrize("which", ["sign", "sums"])
def test_a_stranger_may_not_sign(world: World, which: str) -> None:
    world.publish(STABLE, **{which: "stranger"})  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="not signed by anyone whose word counts"):
        world.kernel(STABLE)
    assert world.nothing_kept()


def test_one_role_does_not_sign_for_another(world: World) -> None:
    world.publish(STABLE, sign="netfilter", sums="")
    with pytest.raises(SourceError, match="not signed by anyone"):
        world.kernel(STABLE)


@pytest.mark.parametrize("which", ["tar.sign", "sha256sums.asc"])
def test_a_signature_over_something_else_is_refused(world: World, which: str) -> None:
    world.publish(STABLE)
    ring = world.people.ring
    folder = "/pub/linux/kernel/v5.x"
    if which == "tar.sign":
        signed = ring.detach("developer", b"something else")
        world.site.files[f"{folder}/{STABLE.stem}.tar.sign"] = signed
    else:
        path = f"{folder}/sha256sums.asc"
        text = world.site.files[path].decode()
        digest = text.partition("\n\n")[2][:64]
        world.site.files[path] = text.replace(digest, "0" * 64).encode()
    with pytest.raises(SourceError, match="does not fit its content"):
        world.kernel(STABLE)
    assert world.nothing_kept()


def test_a_signed_list_that_names_another_digest_is_believed(world: World) -> None:
    world.publish(STABLE, sign="")
    path = f"/pub/linux/kernel/v5.x/{STABLE.stem}.tar.xz"
    world.site.files[path] = COMPRESS[".tar.xz"](
        tar_of({**kernel_files(STABLE), "evil.c": (FILE, b"")}, STABLE.stem)
    )
    with pytest.raises(SourceError, match=r"sha256sums\.asc"):
        world.kernel(STABLE)


def test_rubbish_instead_of_a_signature_is_refused(world: World) -> None:
    world.publish(STABLE, sums="")
    folder = "/pub/linux/kernel/v5.x"
    for rubbish in (
        b"",
        b"<html>",
        b"-----BEGIN PGP SIGNATURE-----\n\n!!\n-----END PGP SIGNATURE-----\n",
    ):
        world.site.files[f"{folder}/{STABLE.stem}.tar.sign"] = rubbish
        with pytest.raises(SourceError):
            world.kernel(STABLE)
    assert world.nothing_kept()


def test_without_the_autosigners_key_the_developers_signature_serves(world: World) -> None:
    del world.site.files["/autosigner.asc"]
    world.publish(STABLE)
    assert len(world.kernel(STABLE).vouchers) == 1


def test_a_key_server_that_lies_changes_nothing(world: World) -> None:
    world.site.files["/autosigner.asc"] = world.people.ring.public("stranger")
    world.publish(STABLE, sign="", sums="stranger")
    with pytest.raises(TarpitError):
        world.kernel(STABLE)
    assert world.nothing_kept()


# -- hostile networks ------------------------------------------------------------------------


def test_cut_at_every_tenth_it_arrives_without_fetching_twice(world: World) -> None:
    world.publish(V)
    size = len(world.site.files[XZ])
    world.site.fail(XZ, *[Fault(after=size // 10, cut=True) for _ in range(9)])
    world.kernel()
    ranges = world.site.asked(XZ)
    assert len(ranges) == 10
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in ranges[1:]]
    assert starts == sorted(set(starts))
    assert starts[-1] >= size * 9 // 10


def test_a_server_without_ranges_is_asked_for_all_again(world: World) -> None:
    world.publish(V)
    world.site.fail(XZ, Fault(after=5000, cut=True, ranges=False), Fault(ranges=False))
    assert world.kernel().name == V.stem


def test_a_file_that_changes_under_way_is_taken_from_the_start(world: World) -> None:
    world.publish(V)
    stale = COMPRESS[".tar.xz"](bytes(50_000))
    world.site.fail(XZ, Fault(after=40, cut=True, body=stale))
    assert world.kernel().name == V.stem


def test_halves_of_two_mirrors_are_not_put_together_twice(world: World) -> None:
    """A mirror without validators resumes what another began: noticed, and fetched anew."""
    world.publish(V)
    partial = world.store.partial(f"{V.stem}.tar.xz")
    partial.write_bytes(b"\xfd7zXZ\0" + b"something else" * 100)
    assert world.kernel().name == V.stem
    assert world.site.asked(XZ)[-1] == ""


def test_what_had_arrived_whole_is_not_fetched_again(world: World) -> None:
    world.publish(V)
    world.store.partial(f"{V.stem}.tar.xz").write_bytes(world.site.files[XZ])
    assert world.kernel().name == V.stem
    assert world.site.asked(XZ) == [f"bytes={len(world.site.files[XZ])}-"]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_may_pass_is_waited_for(world: World, status: int) -> None:
    world.publish(V)
    world.site.fail(XZ, *[Fault(status=status, headers=(("Retry-After", "0"),))] * 2)
    assert world.kernel().name == V.stem
    assert len(world.site.asked(XZ)) == 3


@pytest.mark.parametrize("status", [401, 403, 451, 418])
def test_a_refusal_is_reported_at_once(world: World, status: int) -> None:
    world.publish(V)
    world.site.fail(XZ, Fault(status=status))
    with pytest.raises(NetworkError, match=str(status)):
        world.kernel()
    assert len(world.site.asked(XZ)) == 1


def test_a_server_that_always_fails_is_given_up(world: World) -> None:
    world.publish(V)
    world.site.fail(XZ, *[Fault(status=500)] * 9)
    with pytest.raises(NetworkError, match="500") as caught:
        world.kernel()
    assert len(world.site.asked(XZ)) == 3
    assert "--mirror" in caught.value.hint


def test_a_release_that_nobody_has_brings_near_ones(world: World) -> None:
    version = KernelVersion.parse("2.6.240")
    with pytest.raises(SourceError) as caught:
        world.kernel(version, trust_on_first_use=True)
    assert "there is no linux-2.6.240" in caught.value.message
    assert caught.value.hint == "did you mean 2.6.24?"


def test_redirects_are_followed_but_not_in_circles(world: World) -> None:
    world.publish(V)
    world.site.files["/elsewhere"] = world.site.files[XZ]
    world.site.fail(XZ, Fault(location="/elsewhere"))
    world.kernel()
    world.store.prune(keep=0)
    world.site.fail(XZ, *[Fault(location=XZ)] * 30)
    with pytest.raises(NetworkError, match="circles"):
        world.kernel()
    assert len(world.site.asked(XZ)) < 10


def test_a_stalled_connection_is_left_and_resumed(world: World) -> None:
    world.publish(V)
    world.site.fail(XZ, Fault(after=17_000, stall=2.5))
    world.kernel()
    assert world.site.asked(XZ) == ["", "bytes=16384-"]


def test_a_server_that_stays_silent_is_given_up(world: World) -> None:
    world.publish(V)
    world.site.fail(XZ, *[Fault(stall=2.0)] * 9)
    with pytest.raises(NetworkError, match="timed out"):
        world.kernel()


@pytest.mark.parametrize("length", [True, False])
def test_more_than_a_release_ever_has_is_not_downloaded(
    world: World, length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tarpit_builder.sources.releases.KERNEL_LIMIT", 30_000)
    world.publish(V)
    world.site.files[XZ] += bytes(1 << 20)
    world.site.fail(XZ, *[Fault(length=length)] * 9)
    with pytest.raises(NetworkError, match="more than any release"):
        world.kernel()
    assert sum(item.size for item in world.store.items()) < 400_000


def test_an_unknown_certificate_is_not_accepted(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.sources.kit import make_certificate

    world.publish(V)
    make_certificate(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
    with pytest.raises(NetworkError, match="certificate") as caught:
        world.kernel()
    assert "clock" in caught.value.hint


def test_a_certificate_of_another_host_is_not_accepted(world: World) -> None:
    world.publish(V)
    other = world.site.url.replace("localhost", "127.0.0.1") + "/pub/linux/kernel"
    places = replace(world.catalogue.places, kernel=(other,))
    world.catalogue = replace(world.catalogue, places=places)
    with pytest.raises(NetworkError, match="certificate"):
        world.kernel()


def test_plain_http_where_tls_was_meant_is_an_error(world: World) -> None:
    world.publish(V)
    plain = world.site.url.replace("https://", "http://") + "/pub/linux/kernel"
    places = replace(world.catalogue.places, kernel=(plain,))
    world.catalogue = replace(world.catalogue, places=places)
    with pytest.raises(NetworkError):
        world.kernel()


def test_a_proxy_is_honoured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish(V)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(NetworkError, match="proxy") as caught:
        world.kernel()
    assert "https_proxy" in caught.value.hint
    monkeypatch.setenv("no_proxy", "localhost")
    fresh = replace(world.store.downloader, _gone={})
    world.store.downloader = fresh
    assert world.kernel().name == V.stem


def test_a_dead_mirror_is_asked_once_and_the_next_one_serves(world: World) -> None:
    world.publish(STABLE)
    dead = ("https://localhost:9/a", "https://localhost:9/b")
    tree = world.kernel(STABLE, mirrors=dead)
    assert tree.origin.startswith(world.site.url)


def test_no_network_is_not_taken_for_no_signature(world: World) -> None:
    nowhere = ("https://localhost:9/a",)
    world.catalogue = replace(
        world.catalogue,
        places=replace(world.catalogue.places, kernel=nowhere, iptables=nowhere),
    )
    with pytest.raises(NetworkError, match="localhost"):
        world.kernel(STABLE)
    with pytest.raises(NetworkError, match="localhost"):
        world.iptables("1.4.5")


# -- a damaged cache -------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "bad record"])
def test_a_damaged_cache_heals(world: World, damage: str, tmp_path: Path) -> None:
    world.publish(V)
    tree = world.kernel()
    assert tree.path is not None
    tree.path.chmod(0o644)
    data = tree.path.read_bytes()
    match damage:
        case "flip":
            tree.path.write_bytes(corrupt(data))
        case "truncate":
            tree.path.write_bytes(data[:100])
        case "remove":
            tree.path.unlink()
        case "bad record":
            (world.store.root / "records" / f"{V.stem}.json").write_text('{"tree": 1')
    again = world.kernel()
    assert not again.cached
    again.unpack(tmp_path / "out")
    assert read_tree(tmp_path / "out") == kernel_files(V)


def test_content_that_changes_between_check_and_use_is_not_unpacked(
    world: World, tmp_path: Path
) -> None:
    world.publish(V)
    tree = world.kernel()
    assert tree.path is not None
    tree.path.chmod(0o644)
    tree.path.write_bytes(
        COMPRESS[".tar.xz"](tar_of({**kernel_files(V), "evil.c": (FILE, b"")}, V.stem))
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("old")
    with pytest.raises(SourceError, match="changed while"):
        tree.unpack(tmp_path / "out")
    with pytest.raises(SourceError, match="changed while"):
        tree.tar()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old"]
