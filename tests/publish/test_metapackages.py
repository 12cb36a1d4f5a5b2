"""Metapackages: of the newest kernel, of growing version, and the same whenever they are made."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from tarpit_builder.publish import metapackages
from tarpit_builder.publish.incoming import File, digest
from tarpit_builder.publish.metapackages import Modules
from tests.publish.kit import modules_deb


def published(folder: Path, suite: str, abi: str, kernel: str, version: str) -> dict[str, File]:
    """A package of modules for *abi*, as the pool has it."""
    deb = modules_deb(abi, kernel, version)
    path = folder / deb.file_name
    path.write_bytes(deb.build())
    file = File(suite, path.name, digest(path), path, kernel)
    return {file.pool: file}


def fields(path: Path, *names: str) -> list[str]:
    """What dpkg reads from a package."""
    command = ["dpkg-deb", "--show", "--showformat", "".join(f"${{{name}}}\n" for name in names)]
    return subprocess.run(
        [*command, str(path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_each_kind_of_kernel_has_its_own_and_it_names_the_newest(tmp_path: Path) -> None:
    files: dict[str, File] = {}
    for suite, abi, kernel, version in (
        # Sorted as text, 6.1.0-9 would be the newest.
        ("bookworm", "6.1.0-9-amd64", "6.1.27-1", "1.0.0+deb12"),
        ("bookworm", "6.1.0-56-amd64", "6.1.192-2", "1.0.0+deb12"),
        ("bookworm", "6.1.0-50-amd64", "6.1.176-1", "1.1.0+deb12"),
        ("bookworm", "6.1.0-56-cloud-amd64", "6.1.192-2", "1.0.0+deb12"),
        ("bookworm", "6.12.57+deb12-amd64", "6.12.57-1~bpo12+1", "1.0.0+deb12"),
        ("bookworm", "6.12.57+deb12-rt-amd64", "6.12.57-1~bpo12+1", "1.0.0+deb12"),
        ("trixie", "6.12.118+deb13-amd64", "6.12.118-1", "1.0.0+deb13"),
        ("trixie", "6.12.118+deb13-amd64", "6.12.118-1", "1.0.10+deb13"),
        ("upstream", "2.6.24", "", "1.0.0"),
    ):
        files |= published(tmp_path, suite, abi, kernel, version)
    made = metapackages.make(files, tmp_path / "made")
    found = {
        (file.suite, *fields(file.path, "Package", "Version", "Depends")) for file in made.values()
    }
    assert found == {
        (
            "bookworm", "xt-tarpit-modules-amd64", "6.1.192-2+0tarpit1.0.0+deb12",
            "xt-tarpit-modules-6.1.0-56-amd64 (>= 1.0.0+deb12)",
        ),
        (
            "bookworm", "xt-tarpit-modules-cloud-amd64", "6.1.192-2+0tarpit1.0.0+deb12",
            "xt-tarpit-modules-6.1.0-56-cloud-amd64 (>= 1.0.0+deb12)",
        ),
        (
            "bookworm", "xt-tarpit-modules-backports-amd64",
            "6.12.57-1~bpo12+1+0tarpit1.0.0+deb12",
            "xt-tarpit-modules-6.12.57+deb12-amd64 (>= 1.0.0+deb12)",
        ),
        (
            "bookworm", "xt-tarpit-modules-backports-rt-amd64",
            "6.12.57-1~bpo12+1+0tarpit1.0.0+deb12",
            "xt-tarpit-modules-6.12.57+deb12-rt-amd64 (>= 1.0.0+deb12)",
        ),
        (
            "trixie", "xt-tarpit-modules-amd64", "6.12.118-1+0tarpit1.0.10+deb13",
            "xt-tarpit-modules-6.12.118+deb13-amd64 (>= 1.0.10+deb13)",
        ),
    }  # fmt: skip
    assert all(metapackages.is_metapackage(file) for file in made.values())
    assert not any(metapackages.is_metapackage(file) for file in files.values())


def test_the_same_bytes_whenever_they_are_made(tmp_path: Path) -> None:
    files = published(tmp_path, "trixie", "6.12.118+deb13-amd64", "6.12.118-1", "1.0.0+deb13")
    one, two = (metapackages.make(files, tmp_path / name) for name in "12")
    assert len(one) == 1
    assert {p: f.sha256 for p, f in one.items()} == {p: f.sha256 for p, f in two.items()}


@pytest.mark.parametrize(
    "order",
    [
        # (version of the kernel's package, ours), each an update of the one before
        [("6.12.57-1", "1.0.0+deb13"), ("6.12.118-1", "1.0.0+deb13")],
        [("6.12.118-1", "1.9.0+deb13"), ("6.12.118-1", "1.10.0+deb13")],
        [("6.12.118-1", "2.0.0+deb13"), ("6.12.118-2", "1.0.0+deb13")],
        [("5.10.223-1", "1.0.0+deb11"), ("5.10.223-1+deb11u1", "1.0.0+deb11")],
        [("6.1.55-1", "9.0.0+deb12"), ("6.1.55-1+b1", "1.0.0+deb12")],
        [("6.1.55-1", "9.0.0+deb12"), ("6.1.55-1.1", "1.0.0+deb12")],
        [("6.12.57-1~bpo12+1", "1.0.0+deb12"), ("6.12.57-1~bpo12+2", "1.0.0+deb12")],
        # from backports, or an upgrade to the next suite
        [("6.12.57-1~bpo12+1", "9.0.0+deb12"), ("6.12.57-1", "1.0.0+deb13")],
        [("6.12.57-1", "1.0.0+deb13"), ("6.12.57-1", "1.0.0+deb14")],
        [("6.17.7-1", "1.0.0+deb14"), ("6.17.7-1", "1.0.0+deb15~sid")],
    ],
)
def test_versions_grow_as_dpkg_compares_them(order: list[tuple[str, str]]) -> None:
    versions = [
        metapackages.version(
            Modules(File("trixie", f"m_{own}_amd64.deb", "", Path()), "abi", kernel)
        )
        for kernel, own in order
    ]
    for old, new in pairwise(versions):
        command = ["dpkg", "--compare-versions", old, "lt", new]
        assert subprocess.run(command, check=False).returncode == 0, f"{old} is not below {new}"


def test_packages_of_unknown_kernels_are_named(tmp_path: Path) -> None:
    files = published(tmp_path, "trixie", "6.12.118+deb13-amd64", "", "1.0.0+deb13")
    files |= published(tmp_path, "upstream", "2.6.24-1-amd64", "", "1.0.0")
    assert metapackages.make(files, tmp_path / "made") == {}
    assert metapackages.undated(files) == (
        "xt-tarpit-modules-6.12.118+deb13-amd64_1.0.0+deb13_amd64.deb",
    )
