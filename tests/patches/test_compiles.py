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

DEBIAN = [("5.10", "bullseye"), ("6.1", "bookworm"), ("6.12", "trixie"), ("7.2", "sid")]
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
        pytest.skip(f"Linux {version} was not exercised: set TARPIT_KERNEL_GIT or _TREES")
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


LONGTERMS = [entry.tree for entry in rules.load().of_kind("linux") if entry.tree]


@pytest.mark.slow
@pytest.mark.parametrize("version", LONGTERMS, ids=str)
def test_the_patch_of_a_longterm_compiles_in_its_tree(version: KernelVersion) -> None:
    check(tree_of(version), version, patches.committed(version).patch)


@pytest.mark.slow
@pytest.mark.parametrize(("series", "suite"), DEBIAN)
def test_a_patch_compiles_in_debians_own_tree(series: str, suite: str) -> None:
    """Which is a longterm's newest, with what Debian changed."""
    archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console(quiet=True))
    package = f"linux-source-{series}"
    try:
        tree = fetch_kernel(DebianSource(package, suite, archive), archive.store, archive.console)
    except (NetworkError, SourceError) as error:
        pytest.skip(f"Debian's Linux {series} was not exercised: {error.message}")
    version = tree.version
    assert isinstance(version, KernelVersion)
    check(tree, version, generate.on_demand(version, touched(tree), rules.load()))
    if any(version in entry.releases for entry in rules.load().of_kind("linux")):
        check(tree, version, patches.committed(version).patch)


SETTINGS = {
    "as ever": "",
    "bridges": "CONFIG_BRIDGE=m\nCONFIG_NETFILTER_ADVANCED=y\nCONFIG_BRIDGE_NETFILTER=m\n",
    "a small box's": "".join(
        f"CONFIG_{name}=n\n"
        for name in ("IPV6", "NF_CONNTRACK", "NF_TABLES", "XFRM_USER", "PROC_FS")
    ),
}


def check(tree: FetchedTree, version: KernelVersion, patch: Patch) -> None:
    """*patch* compiles in *tree* with each kind of settings, and finds its symbols."""
    form = rules.load().forms["xt"]
    for name, settings in SETTINGS.items():
        done = compiled(tree, version, "amd64", patch, form, settings)
        assert done.complaints == [], name
        assert done.needs - exported(tree) == set(), name


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
