"""What is listed as supported is what is built, in the list, the README and the matrix alike."""

from __future__ import annotations

import re

import pytest

from tarpit_builder import matrix, paths, supported
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import toolchain
from tarpit_builder.plan import make
from tarpit_builder.request import Request
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.sources.debian import Archive
from tarpit_builder.versions import KernelVersion

ROWS = [
    re.split(r"\s{2,}", line)
    for everything in (False, True)
    for line in supported.releases_table(Catalogue.load(), everything=everything).splitlines()[2:]
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_release_is_listed_as_what_a_build_says_of_it(row: list[str], archive: Archive) -> None:
    release, _, built, patch = row
    try:
        make(Request(release), archive)
    except UserError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert (built in {"yes", "not tried"}) is not bool(refusal), refusal
    if built == "not tried":
        warned = make(Request(release), archive).warnings
        assert any("was not yet seen to build" in text for text in warned)
    elif built != "yes":
        assert built.removeprefix("no: ") in refusal
    if patch != "–":
        assert list((paths.PROJECT / "patches" / "linux").glob(f"*/{patch}"))


def test_what_is_refused_and_what_is_built_are_both_in_the_list() -> None:
    said = {row[0]: row[2] for row in ROWS}
    assert said["2.6.18"].startswith("no: ")
    assert said["2.6.27"] == "yes"
    assert said["2.6.28"] == "yes"


def test_hosts_and_targets_are_stated_with_the_ranges_of_the_rules() -> None:
    said = supported.statement()
    assert "Python 3.11" in said
    assert "trixie (13)" in said
    assert f"Linux {', '.join(map(str, toolchain.seen()))} of kernel.org: amd64 and i386" in said


def test_the_readme_names_the_series_that_the_rules_do() -> None:
    readme = " ".join((paths.PROJECT / "README.md").read_text().split())
    first, *others = (str(series).replace("-", " to ") for series in toolchain.seen())
    assert f"{first}, {', '.join(others[:-1])} and {others[-1]}" in readme


def test_the_matrix_proves_what_the_readme_says_it_does() -> None:
    cells = matrix.select(matrix.read(None), (), "")
    names = {cell.request.kernel for cell in cells if cell.origin.shares_image}
    tried = sorted(KernelVersion.parse(name) for name in names)
    # The kernel of 2.6.27 warns about its own clock in QEMU, so no proof of it passes there.
    assert [str(version) for version in tried] == [f"2.6.{minor}" for minor in range(19, 27)]
    assert all(toolchain.was_seen(version) for version in tried)
    readme = " ".join((paths.PROJECT / "README.md").read_text().split())
    assert f"Linux {tried[0]} to {tried[-1]} are booted and proven" in readme
