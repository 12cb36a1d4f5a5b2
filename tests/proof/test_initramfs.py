"""The archive that is made without tools is what the tools make of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tarpit_builder.proof import initramfs
from tarpit_builder.proof.guest import AgentCall, Op, Reply, _decode, _encode


def test_archive_is_read_by_cpio(tmp_path: Path) -> None:
    if shutil.which("cpio") is None:
        pytest.skip("needs cpio")
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    whole = initramfs.nodes(trailer=False) + initramfs._archive(
        {"init": program, "usr/sbin/iptables": program}
    )
    listing = subprocess.run(
        ["cpio", "-tv", "--quiet"], input=whole, capture_output=True, check=True
    ).stdout.decode()
    lines = listing.splitlines()
    assert [line.split()[-1] for line in lines] == [
        *("dev", "dev/console", "init", "usr", "usr/sbin", "usr/sbin/iptables")
    ]
    assert lines[1].startswith("crw-------") and "5,   1" in lines[1]
    assert lines[2].startswith("-rwxr-xr-x")


def test_digest_tells_boundaries_and_contents_apart(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")
    assert initramfs.digest(["ab", "c"]) != initramfs.digest(["a", "bc"])
    assert initramfs.digest([file]) == initramfs.digest([b"content"])


def test_values_survive_the_protocol() -> None:
    values = (0, -1, 2**62, b"", b"\0i\xff", b"x" * 5000)
    assert _decode(_encode(values)) == values


def test_reply_of_a_failed_operation_is_an_ordinary_os_error() -> None:
    reply = Reply.decode(b"\x02\0\0\0")
    with pytest.raises(FileNotFoundError, match="READ /nowhere"):
        reply.check(AgentCall(Op.READ, ("/nowhere", 1)))
