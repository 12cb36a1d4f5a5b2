"""What kernels of an architecture are called, and what that says about them."""

from __future__ import annotations

import pytest

from tarpit_builder import architectures
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.kernels import find
from tarpit_builder.kernels.suite import SuiteUserland
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive
from tests.conftest import NEW
from tests.mirror import FakeArchive, kernel, meta, package

ARM, PAGES = "6.12.117+deb13-arm64", "6.12.117+deb13-arm64-16k"


@pytest.mark.parametrize(
    ("abi", "arch", "flavour"),
    [
        ("6.1.0-56-amd64", "amd64", ""),
        ("6.12.117+deb13-cloud-amd64", "amd64", "cloud"),
        (ARM, "arm64", ""),
        (PAGES, "arm64", "16k"),
        ("6.1.0-50-rt-arm64", "arm64", "rt"),
        ("6.1.0-50-686-pae", "i386", ""),
        ("6.1.0-50-686", "i386", "686"),
        ("6.1.0-50-rt-686-pae", "i386", "rt"),
        ("7.2.12+deb14-s390x", "s390x", ""),
    ],
)
def test_a_kernels_name_says_its_architecture_and_flavour(
    abi: str, arch: str, flavour: str
) -> None:
    assert Request(abi).arch == arch
    row = architectures.known()[arch]
    assert row.flavour(abi) == flavour
    assert abi.endswith(f"-{row.kernel(flavour)}")


@pytest.mark.parametrize("name", ["2.6.24", "6.12-rc1", "debian:trixie", "running", "arm64"])
def test_other_names_say_nothing_of_it(name: str) -> None:
    assert architectures.of_kernel(name) == ""


def test_whatever_packages_are_made_for_has_a_machine() -> None:
    for name in architectures.built_for():
        assert architectures.known()[name].machine


@pytest.fixture
def arm(fake: FakeArchive, archive: Archive) -> Archive:
    """The fake archive, whose kernels are those of arm64 as well."""
    both = [*kernel(NEW, "6.12.117-1"), *kernel(ARM, "6.12.117-1", arch="arm64")]
    both += [*kernel(PAGES, "6.12.117-1", arch="arm64"), meta("6.12.117-1", NEW)]
    for abi in (ARM, PAGES):
        name = abi.replace("6.12.117+deb13-", "linux-headers-")
        depends = f"linux-headers-{abi} (= 6.12.117-1)"
        both.append(package(name, "6.12.117-1", arch="arm64", depends=depends))
    fake.suite("trixie", both)
    return archive


def test_kbuild_is_of_the_architecture_that_builds(arm: Archive) -> None:
    found = find(Request("debian:trixie", "arm64"), arm)
    assert (found.name, found.arch) == (ARM, "arm64")
    assert isinstance(found.userland, SuiteUserland)
    made = {package.name: package.arch for package in found.userland.tree.kernel.packages}
    assert made == {
        f"linux-headers-{ARM}": "arm64",
        "linux-headers-6.12.117+deb13-common": "all",
        "linux-kbuild-6.12.117+deb13": "amd64",
    }
    assert found.userland.compiler == "gcc-14-aarch64-linux-gnu"
    assert found.userland.recipe.arch == "amd64"


def test_flavours_and_pockets_are_those_of_the_architecture(arm: Archive) -> None:
    assert find(Request("debian:trixie", "arm64", "16k"), arm).name == PAGES
    with pytest.raises(UserError, match=r"flavour 'cloud' for arm64.*flavours there: 16k"):
        find(Request("debian:trixie", "arm64", "cloud"), arm)
    with pytest.raises((UserError, SourceError), match="trixie has no packages for s390x"):
        find(Request("debian:trixie", "s390x"), arm)
