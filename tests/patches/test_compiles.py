"""Every patched tree that can be had compiles, and finds what it calls; a wrong one does not.

What `regen` and `check-patches` compare is text: a probe that names the wrong release leads to a
patch that is consistent, and calls what its kernel does not have.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tarpit_builder import patches, paths
from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, SourceError
from tarpit_builder.patching import generate, rules
from tarpit_builder.patching.demand import touched
from tarpit_builder.patching.diff import Patch
from tarpit_builder.sources import DebianSource, FetchedTree, fetch_kernel
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tarpit_builder.versions import KernelVersion
from tests.patches.compiling import Compiled, compiled, exported, source

pytestmark = pytest.mark.docker

V24 = KernelVersion.parse("2.6.24")


def releases() -> Iterator[object]:
    """The first release of each series; with --slow its last, and the first on i386, too."""
    series: dict[KernelVersion, list[KernelVersion]] = {}
    for version in sorted(version for version in Catalogue.load().kernels if not version.rc):
        if any(version in entry.releases for entry in rules.load().of_kind("linux")):
            series.setdefault(version.series, []).append(version)
    for first, *points in series.values():
        yield pytest.param(first, "amd64", id=f"{first}-amd64")
        for version, arch in [(first, "i386"), *((last, "amd64") for last in points[-1:])]:
            yield pytest.param(version, arch, id=f"{version}-{arch}", marks=pytest.mark.slow)


@cache
def tree_of(version: KernelVersion) -> FetchedTree:
    tree = source(version)
    if tree is None:
        pytest.skip(f"Linux {version} was not exercised: set TARPIT_KERNEL_GIT to a clone")
    return tree


@cache
def exports_of(version: KernelVersion) -> frozenset[str]:
    return exported(tree_of(version))


def made(version: KernelVersion, patch: Patch, arch: str = "amd64") -> Compiled:
    table = rules.load()
    form = table.forms[table.choose(version).form]
    return compiled(tree_of(version), version, arch, patch, form)


@pytest.mark.parametrize(("version", "arch"), tuple(releases()))
def test_a_patched_tree_compiles_and_finds_what_it_calls(version: KernelVersion, arch: str) -> None:
    done = made(version, patches.committed(version).patch, arch)
    assert done.complaints == []
    assert "printk" in done.needs
    assert done.needs - exports_of(version) == set()


LONGTERMS = ("3.16", "4.4", "4.9", "4.14", "4.19", "5.4", "5.10", "5.15", "6.1", "6.12", "6.18")


@pytest.mark.slow
@pytest.mark.parametrize("release", LONGTERMS)
def test_a_patch_made_for_a_tree_compiles_in_it(release: str) -> None:
    """Of the series that no patch is kept for."""
    version = KernelVersion.parse(release)
    check_on_demand(tree_of(version), version)


@pytest.mark.slow
def test_a_patch_made_for_debians_own_tree_compiles_in_it() -> None:
    """Which is a longterm's newest, with what Debian changed."""
    archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console(quiet=True))
    try:
        tree = fetch_kernel(
            DebianSource("linux-source-6.1", "bookworm", archive), archive.store, archive.console
        )
    except (NetworkError, SourceError) as error:
        pytest.skip(f"Debian's Linux 6.1 was not exercised: {error.message}")
    assert isinstance(tree.version, KernelVersion)
    check_on_demand(tree, tree.version)


def check_on_demand(tree: FetchedTree, version: KernelVersion) -> None:
    """The patch made for *tree* compiles in it with and without bridges, and finds its symbols."""
    table = rules.load()
    patch = generate.on_demand(version, touched(tree), table)
    for settings in "", "CONFIG_BRIDGE=m\nCONFIG_NETFILTER_ADVANCED=y\nCONFIG_BRIDGE_NETFILTER=m\n":
        done = compiled(tree, version, "amd64", patch, table.forms["xt"], settings)
        assert done.complaints == []
        assert done.needs - exported(tree) == set()


@pytest.fixture
def dkms(tmp_path: Path) -> Path:
    """A copy of the sources, to be spoilt."""
    return Path(shutil.copytree(paths.PROJECT / "dkms", tmp_path / "dkms"))


def mutant(dkms: Path, version: KernelVersion) -> Patch:
    """The patch of *version* as `regen` would make it of *dkms*."""
    table = rules.load()
    changed = [file for file in patches.committed(version).patch.files if not file.adds]
    files = generate.new_files(version, table.choose(version), table, dkms)
    return Patch((*changed, *files), "a mutant")


def test_a_probe_that_names_the_wrong_release_is_found_out(dkms: Path) -> None:
    probe = dkms / "compat/probes/NF_INET_LOCAL_IN.c"
    text = probe.read_text()
    assert "/* 2.6.25: " in text
    probe.write_text(text.replace("/* 2.6.25: ", "/* 2.6.24: "))
    said = "\n".join(made(V24, mutant(dkms, V24)).complaints)
    assert "implicit declaration of function 'ipv4_is_multicast'" in said


def test_what_is_declared_but_not_exported_is_found_out(dkms: Path) -> None:
    """The compiler is content with it; the module would not load."""
    layer = dkms / "compat/compat.h"
    text = layer.read_text()
    own = "#define ip6_dst_hoplimit(dst) tarpit_ip6_hoplimit(dst)\n"
    assert own in text
    stated = "extern int ip6_dst_hoplimit(struct dst_entry *dst);\n"
    layer.write_text(text.replace(own, stated))
    done = made(V24, mutant(dkms, V24))
    assert [line for line in done.complaints if "ip6_dst_hoplimit" in line] == []
    assert done.needs - exports_of(V24) == {"ip6_dst_hoplimit"}
