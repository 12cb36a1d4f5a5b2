"""Sources that mean harm: a kernel's tree whose Makefile does what it likes, a git server."""

from __future__ import annotations

import gzip
import os
import struct
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tarpit_builder import build as building
from tarpit_builder import paths
from tarpit_builder.console import Console
from tarpit_builder.errors import BuildError, SourceError, TarpitError
from tarpit_builder.request import Request
from tarpit_builder.sources import GitRepository, fetch_kernel, repository
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tarpit_builder.versions import KernelVersion
from tests.escapes import escapes

MAKEFILE = """\
VERSION = 6
PATCHLEVEL = 6
SUBLEVEL = 7
EXTRAVERSION =
NAME = Trojan Horse
here := $(dir $(lastword $(MAKEFILE_LIST)))
$(foreach line,$(shell bash $(here)scripts/escape.sh 2>&1 | tr ' ' '_'),$(info saw: $(line)))
"""


@pytest.mark.docker
@pytest.mark.network
def test_a_kernels_tree_reaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARPIT_LOCK", str(tmp_path / "sources.lock"))
    tree = tmp_path / "linux-6.6.7"
    for folder in ("scripts", "init", "kernel", "include/linux"):
        (tree / folder).mkdir(parents=True)
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / "init/main.c").write_text("")
    (tree / "Kconfig").write_text("")
    archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console(quiet=True))
    request = Request("6.6.7", kernel_tree=str(tree), trust_on_first_use=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    with escapes(outside) as script:
        (tree / "scripts/escape.sh").write_text(script)
        with pytest.raises(TarpitError) as caught:
            building.build(request, archive, Console(quiet=True), dist=tmp_path / "dist")
    assert isinstance(caught.value, BuildError)
    assert caught.value.log
    saw = {
        line.partition("saw: ")[2]
        for line in caught.value.log.read_text().splitlines()
        if "saw: " in line
    }
    assert saw == {"tried"}
    assert not list((tmp_path / "dist").glob("*"))


TIP = "1" * 40


def _packets(*lines: bytes) -> bytes:
    """Lines of git's protocol (gitprotocol-common(5))."""
    return b"".join(b"%04x%s" % (len(line) + 4, line) for line in lines)


class GitServer(BaseHTTPRequestHandler):
    """A release whose pack, or whose messages, have no end (gitprotocol-pack(5))."""

    endless = "pack"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
        self.end_headers()

    def do_GET(self) -> None:
        if "git-upload-pack" not in self.path:
            self.send_error(404)
            return
        self._begin("advertisement")
        can = b"side-band-64k shallow allow-tip-sha1-in-want allow-reachable-sha1-in-want"
        first = _packets(b"# service=git-upload-pack\n") + b"0000"
        tag = b"%s refs/tags/v6.6.7\0%s\n" % (TIP.encode(), can)
        self.wfile.write(first + _packets(tag) + b"0000")

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            asked = gzip.decompress(asked)
        self._begin("result")
        answer = _packets(b"shallow %s" % TIP.encode()) + b"0000" if b"deepen" in asked else b""
        with suppress(ConnectionError):
            if b"done" not in asked:
                self.wfile.write(answer)
                return
            self.wfile.write(answer + _packets(b"NAK\n"))
            if self.endless == "pack":
                self.wfile.write(_packets(b"\1PACK" + struct.pack(">II", 2, 1)))
                # The head of a blob of 2^40 bytes, and of its deflate stream (RFC 1950, 1951).
                self.wfile.write(_packets(b"\1" + bytes([0xB0, 0x80, 0x80, 0x80, 0x80, 0x20])))
                self.wfile.write(_packets(b"\1\x78\x01"))
                block = b"\0" + struct.pack("<HH", 60000, 60000 ^ 0xFFFF) + os.urandom(60000)
                block = b"\1" + block
            else:
                block = b"\2" + b"a message\n" * 6000
            for _ in range(ENDLESS // len(block)):
                self.wfile.write(_packets(block))


ENDLESS = 1 << 30  # bytes: more than is taken, and less than fills this machine's disk


@pytest.mark.parametrize(("endless", "message"), [("pack", "bytes"), ("messages", "of messages")])
def test_a_git_server_that_has_no_end(
    endless: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setattr(repository, "MOST_RELEASE", 8 << 20)
    monkeypatch.setattr(GitServer, "endless", endless)
    store = Store(tmp_path / "cache")
    monkeypatch.setattr(ThreadingHTTPServer, "block_on_close", False)
    with ThreadingHTTPServer(("127.0.0.1", 0), GitServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/linux.git"
        source = GitRepository(url, KernelVersion.parse("6.6.7"))
        with pytest.raises(SourceError, match=f"sent more than .*{message}"):
            fetch_kernel(source, store, Console(quiet=True))
        server.shutdown()
    assert sum(path.stat().st_size for path in store.root.rglob("*") if path.is_file()) < 1 << 20
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert url.encode() not in process.read_bytes()
