"""What people type for a kernel: what is clear is understood, and the rest is told what works."""

from __future__ import annotations

import pytest

from tarpit_builder import names
from tarpit_builder.errors import UserError
from tarpit_builder.plan import make
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive
from tests.conftest import NEW


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("debian:trixie", "debian:trixie"),
        ("debian:12", "debian:bookworm"),
        ("debian:12-backports", "debian:bookworm-backports"),
        ("Debian:Bookworm", "debian:bookworm"),
        ("bookworm", "debian:bookworm"),
        ("stable", "debian:stable"),
        ("trixie-backports", "debian:trixie-backports"),
        ("Debian", "debian"),
        ("debian:experimental", "debian:experimental"),
        ("rc-buggy", "debian:experimental"),
        ("Ubuntu", "ubuntu"),
        ("ubuntu:24.04", "ubuntu:noble"),
        ("noble", "ubuntu:noble"),
        ("pve:8", "proxmox:bookworm"),
        ("proxmox:trixie", "proxmox:trixie"),
        ("raspios:12", "raspios:bookworm"),
        ("linux-headers-6.8.0-60-generic", "6.8.0-60-generic"),
        ("proxmox-headers-6.8.12-4-pve", "6.8.12-4-pve"),
        ("6.8.0-60-generic/jammy", "6.8.0-60-generic/jammy"),
        (" running ", "running"),
        ("linux-image-6.1.0-56-amd64", "6.1.0-56-amd64"),
        ("linux-headers-6.12.118+deb13-rt-amd64", "6.12.118+deb13-rt-amd64"),
        ("6.1.0-56-amd64", "6.1.0-56-amd64"),
        ("2.6.24", "2.6.24"),
    ],
)
def test_what_is_clear_is_understood(typed: str, meant: str) -> None:
    assert names.kernel(typed) == meant


@pytest.mark.parametrize("typed", ["linux-2.6.24", "v2.6.24", "linux-v2.6.24", "2.6.24"])
def test_a_release_by_its_tag_or_tarball(typed: str, archive: Archive) -> None:
    plan = make(Request(typed), archive)
    assert plan.command == "invoke build --kernel 2.6.24"


@pytest.mark.parametrize(
    ("typed", "advice"),
    [
        ("latest", "--kernel debian:stable"),
        ("debian:latest", "--kernel debian:stable"),
        ("debian:12.5", "--kernel debian:bookworm"),
        ("12", "--kernel debian:12"),
        ("2.6", "--kernel 2.6.24"),
        ("trixi", "did you mean --kernel debian:trixie?"),
        ("fedora:42", "make -C dkms"),
        ("ubunto:24.04", "did you mean --kernel ubuntu:24.04?"),
        ("nobel", "did you mean --kernel ubuntu:noble?"),
        ("ubuntu:24.04.2", "--kernel ubuntu:noble"),
        ("linux-image-amd64", "--kernel debian:SUITE"),
        ("../../etc", "write debian:bookworm"),
    ],
)
def test_what_is_not_is_told_the_nearest_that_works(typed: str, advice: str) -> None:
    with pytest.raises(UserError) as caught:
        names.kernel(typed)
    assert advice in caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_release_that_nobody_has_built_says_so_and_names_a_neighbour(archive: Archive) -> None:
    said = make(Request("7.2.12"), archive).warnings[0]
    assert "was not yet seen to build Linux 7.2" in said
    assert "--kernel debian:forky" in said
    assert "not yet seen" not in " ".join(make(Request("2.6.24"), archive).warnings)


@pytest.mark.parametrize(
    ("typed", "meant"), [("x86_64", "amd64"), ("i686", "i386"), ("amd64", "amd64"), ("vax", "vax")]
)
def test_architectures_by_what_uname_calls_them(typed: str, meant: str) -> None:
    assert names.architecture(typed) == meant


def test_the_reason_speaks_of_the_suite_however_it_was_written(archive: Archive) -> None:
    plan = make(Request("Trixie", arch="x86_64"), archive)
    assert plan.choices[0].value == NEW
    assert "of trixie installs today" in plan.choices[0].reason
