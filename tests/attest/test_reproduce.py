"""`invoke reproduce`: what a manifest tells is built again, or it is said what is missing."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from tarpit_builder import digests, paths
from tarpit_builder.attest import package_set as sets
from tarpit_builder.attest import pinned, reproduce
from tarpit_builder.build import BuildResult, build
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, SourceError, UserError
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tests.attest.kit import ABI, changed, package_set
from tests.mirror import serve
from tests.publish.kit import small_deb

QUIET = Console(quiet=True)
DIFFOSCOPE = "diffoscope"


@pytest.fixture(autouse=True)
def no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where security updates are is said, and not looked for."""
    monkeypatch.setenv("TARPIT_DEBIAN_SECURITY_MIRROR", "http://127.0.0.1:9")


def at(url: str, cache: Path) -> Archive:
    """An archive at *url*, with a cache of its own."""
    return Archive(Store(cache), Mirrors.choose(url), QUIET)


def test_sources_are_those_of_the_manifest_and_of_no_index(tmp_path: Path) -> None:
    """The mirror has neither an index nor a newer kernel: only the file that is named."""
    folder = package_set(tmp_path / "dist")
    of = sets.load(folder)
    url = of.manifest["sources"][0]["url"]
    place = tmp_path / "mirror" / "pool" / url.partition("/pool/")[2]
    place.parent.mkdir(parents=True)
    place.write_bytes(ABI.encode())
    with serve(tmp_path / "mirror") as mirror:
        archive = at(mirror, tmp_path / "cache")
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["sources"][0] |= {"size": len(ABI), "url": url.replace("http://", "http://no.")}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        made = pinned.plan(sets.load(folder), archive)
        facts = made.kernel
        assert facts.request.kernel == ABI
        tree = facts.tree
        assert tree.manifest()[0]["sha256"] == digests.content(ABI.encode())
        (package,) = tree.kernel.packages  # type: ignore[attr-defined]
        assert archive.store.get(package.blob()).read_bytes() == ABI.encode()


def test_source_that_is_gone_is_named_with_all_places(tmp_path: Path) -> None:
    folder = package_set(tmp_path / "dist")
    (tmp_path / "mirror").mkdir()
    of = sets.load(folder)
    with serve(tmp_path / "mirror") as mirror:
        url = of.manifest["sources"][0]["url"].replace("http://example.org/debian", mirror)
        changed(folder / "manifest.json", sources=[{**of.manifest["sources"][0], "url": url}])
        archive = at(mirror, tmp_path / "cache")
        archive.store.offline = True
        with pytest.raises(SourceError) as caught:
            made = pinned.plan(sets.load(folder), archive)
            pinned.demand_sources(of, made, QUIET)
    said = str(caught.value)
    assert f"linux-headers-{ABI} 6.12.117-1 with the SHA-256" in said
    assert "https://snapshot.debian.org/archive/debian/20261130T050100Z/pool/main/l/linux/" in said
    assert "\n" not in said


def test_another_checkout_is_told_which_one_it_takes(tmp_path: Path) -> None:
    """The small package sets have sources that no packages of ours are made from."""
    folder = package_set(tmp_path / "dist")
    with pytest.raises(SourceError, match="this checkout is not the one that built it") as caught:
        reproduce.reproduce(folder / "manifest.json", at("http://127.0.0.1:9", tmp_path), QUIET)
    assert f"git checkout {'1' * 40}" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"command": "rm -r /"}, UserError, "names no command that builds"),
        ({"command": "invoke build --teleport yes"}, UserError, "does not know"),
        ({"format": 2}, CheckFailedError, "of a format that this release does not know"),
        ({"sources": [{"package": "x"}]}, CheckFailedError, "lacks what a build needs"),
        ({"plan": {"suite": "warty", "compiler": "gcc-3"}}, UserError, "for the suite 'warty'"),
    ],
)
def test_manifest_that_is_none_is_told_in_a_line(
    tmp_path: Path, fields: dict[str, object], error: type[Exception], message: str
) -> None:
    folder = package_set(tmp_path / "dist")
    changed(folder / "manifest.json", **fields)
    with pytest.raises(error, match=message) as caught:
        reproduce.reproduce(folder, at("http://127.0.0.1:9", tmp_path), QUIET)
    assert "\n" not in str(caught.value)


def test_environment_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBEMAIL", "me@example.org")
    monkeypatch.delenv("TARPIT_HOMEPAGE", raising=False)
    with pytest.raises(SourceError):
        reproduce.reproduce(
            package_set(tmp_path / "dist"), at("http://127.0.0.1:9", tmp_path), QUIET
        )
    assert os.environ["DEBEMAIL"] == "me@example.org"
    assert "TARPIT_HOMEPAGE" not in os.environ


def test_differences_are_told_by_member(tmp_path: Path) -> None:
    old, new = tmp_path / "old.deb", tmp_path / "new.deb"
    old.write_bytes(small_deb("a", "1", text="x").build())
    new.write_bytes(small_deb("a", "1", text="y").build())
    said = reproduce.own_words(old, new)
    assert "usr/share/a differs" in said
    assert "control/md5sums differs" in said
    for path, content in ((tmp_path / "o.txt", "a\nb\n"), (tmp_path / "n.txt", "a\nc\n")):
        path.write_text(content)
    assert reproduce.own_words(tmp_path / "o.txt", tmp_path / "n.txt")[-2:] == ("-b", "+c")
    for name in ("o.tar.xz", "n.tar.xz"):
        with tarfile.open(tmp_path / name, "w:xz") as archive:
            archive.add(old if name[0] == "o" else new, "same-name")
    found = reproduce.own_words(tmp_path / "o.tar.xz", tmp_path / "n.tar.xz")
    assert found == ("same-name differs",)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    """A real build, for trixie's cloud kernel."""
    real = Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console())
    request = Request("debian:trixie", flavour="cloud")
    return build(request, real, Console(), dist=tmp_path_factory.mktemp("dist"))


@pytest.mark.skipif(not shutil.which(DIFFOSCOPE), reason=f"{DIFFOSCOPE} IS NOT INSTALLED")
def test_differences_are_told_by_diffoscope(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "x_1_all.deb", tmp_path / "new" / "x_1_all.deb"
    for path, text in ((old, "good"), (new, "evil")):
        path.parent.mkdir()
        path.write_bytes(small_deb("x", "1", "all", text=text).build())
    of = sets.AttestedSet(old.parent, b"", {}, {old.name: digests.file(old)})
    told = reproduce._why(of, old.name, new)
    assert told[0] == "differs"
    assert {"-good", "+evil"} <= {line.lstrip("│├─ ") for line in told}


@pytest.mark.slow
@pytest.mark.docker
def test_real_build_is_reproduced_and_a_change_explained(
    tmp_path: Path, built: BuildResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TARPIT_DEBIAN_SECURITY_MIRROR")
    real = Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console())
    found = reproduce.reproduce(built.folder / "manifest.json", real, Console())
    assert (found.exit_code, found.other) == (0, {})
    assert len(found.same) == len(built.manifest["outputs"])

    # Somebody says that another package was built.
    folder = Path(shutil.copytree(built.folder, tmp_path / built.folder.name))
    (common,) = folder.glob("xt-tarpit-common_*.deb")
    name, version, arch = common.stem.split("_")
    common.write_bytes(small_deb(name, version, arch, text="evil").build())
    manifest = json.loads((folder / "manifest.json").read_text())
    for item in manifest["outputs"]:
        if item["file"] == common.name:
            item["sha256"] = digests.file(common)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == DIFFOSCOPE else which(name))
    found = reproduce.reproduce(folder, real, Console())
    assert found.exit_code == 1
    assert found.other.keys() == {common.name}
    assert "control/md5sums differs" in found.other[common.name]
    assert f"✗  {common.name}" in found.table()
