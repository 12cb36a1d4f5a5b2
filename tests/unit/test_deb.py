"""Packages in the form that dpkg read in 2007, and that today's still reads."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tarpit_builder.packaging.deb import AR_MAGIC, Deb

CONTROL = """\
Package: xt-tarpit-modules-2.6.24
Version: 1.0.0
Section: net
Priority: optional
Architecture: i386
Maintainer: Jane Doe <jane@example.org>
Description: a short line
 A long one.
"""


def package() -> Deb:
    return Deb(
        control=CONTROL,
        files={
            "/lib/modules/2.6.24/extra/xt_TARPIT.ko": (b"\x7fELF" * 300, 0o644),
            "/sbin/iptables": (b"#!/bin/sh\n", 0o755),
        },
        scripts={"postinst": "#!/bin/sh\n"},
        epoch=1_000_000_000,
    )


def members(data: bytes) -> dict[str, bytes]:
    """The members of an ar archive, read by hand."""
    assert data.startswith(AR_MAGIC)
    found = {}
    at = len(AR_MAGIC)
    while at < len(data):
        header = data[at : at + 60]
        assert header[58:] == b"`\n"
        size = int(header[48:58])
        found[header[:16].decode().strip()] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def test_the_members_are_those_of_2007_in_their_order() -> None:
    found = members(package().build())
    assert list(found) == ["debian-binary", "control.tar.gz", "data.tar.gz"]
    assert found["debian-binary"] == b"2.0\n"


def test_contents_modes_and_owners_are_as_they_should() -> None:
    data = gzip.decompress(members(package().build())["data.tar.gz"])
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {member.name.removeprefix("./"): member for member in archive}
    assert found["sbin/iptables"].mode == 0o755
    assert found["lib/modules/2.6.24/extra/xt_TARPIT.ko"].mode == 0o644
    assert found["lib/modules/2.6.24/extra"].isdir()
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in found.values()} == {
        (0, 0, "root", 1_000_000_000)
    }
    assert not any(member.pax_headers for member in found.values())


def test_the_same_input_makes_the_same_bytes() -> None:
    assert package().build() == package().build()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
def test_dpkg_reads_it(tmp_path: Path) -> None:
    deb = package()
    path = tmp_path / deb.file_name
    path.write_bytes(deb.build())
    assert path.name == "xt-tarpit-modules-2.6.24_1.0.0_i386.deb"
    fields = ("Package", "Installed-Size", "Description")
    shown = subprocess.run(
        ["dpkg-deb", "--field", path, *fields], capture_output=True, text=True, check=True
    ).stdout
    assert "Installed-Size: 3\n" in shown
    assert shown.endswith("Description: a short line\n A long one.\n")
    subprocess.run(["dpkg-deb", "--extract", path, tmp_path / "root"], check=True)
    assert (tmp_path / "root/sbin/iptables").read_bytes() == b"#!/bin/sh\n"
    subprocess.run(["dpkg-deb", "--control", path, tmp_path / "control"], check=True)
    assert (tmp_path / "control/postinst").stat().st_mode & 0o111


def test_a_program_of_several_names_is_there_once(tmp_path: Path) -> None:
    program = bytes(range(256)) * 512
    names = ("iptables", "iptables-restore", "iptables-save")
    files = {f"/sbin/{name}": (program, 0o755) for name in names}
    deb = Deb(control=CONTROL, files={**files, "/sbin/other": (program, 0o644)})
    (path := tmp_path / deb.file_name).write_bytes(deb.build())
    subprocess.run(["dpkg-deb", "--extract", path, tmp_path / "root"], check=True)
    found = [(tmp_path / "root/sbin" / name) for name in names]
    assert all(file.read_bytes() == program for file in found)
    assert len({file.stat().st_ino for file in found}) == 1
    # One of another mode is another file.
    assert (tmp_path / "root/sbin/other").stat().st_nlink == 1
    shown = subprocess.run(
        ["dpkg-deb", "--field", path, "Installed-Size"], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == str(-(-len(program) // 1024))
