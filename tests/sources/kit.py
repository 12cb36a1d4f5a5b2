"""Tools of these tests: small kernels, keys for the occasion, an HTTPS server with faults."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import ssl
import subprocess
import tarfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tarpit_builder.sources.catalogue import Catalogue, Digest, Release, write
from tarpit_builder.versions import IptablesVersion, KernelVersion

Files = Mapping[str, tuple[int, bytes]]
FILE, EXECUTABLE, LINK = 0o100644, 0o100755, 0o120000
MTIME = 1201215480  # 2.6.24 came out


# -- trees -----------------------------------------------------------------------------------


def kernel_files(version: KernelVersion, *, size: int = 20_000) -> dict[str, tuple[int, bytes]]:
    """A kernel tree in small: a Makefile, sources, a program, a link; *size* bytes of noise."""
    numbers = [*version.numbers, 0, 0]
    if version.numbers[0] == 2:
        extra = f".{version.numbers[3]}" if len(version.numbers) > 3 else ""
    else:
        extra = ""
    if version.rc:
        extra += f"-rc{version.rc}"
    makefile = (
        f"VERSION = {numbers[0]}\nPATCHLEVEL = {numbers[1]}\nSUBLEVEL = {numbers[2]}\n"
        f"EXTRAVERSION = {extra}\nNAME = Test\n"
    )
    noise = random.Random(str(version)).randbytes(size)
    return {
        "Makefile": (FILE, makefile.encode()),
        "Kconfig": (FILE, b'mainmenu "Test"\n'),
        "include/linux/tcp.h": (FILE, b"/* tcp */\n"),
        "include/asm": (LINK, b"asm-x86"),
        "include/asm-x86/types.h": (FILE, b"typedef int u32;\n"),
        "scripts/mkcompile_h": (EXECUTABLE, b"#!/bin/sh\n"),
        "net/netfilter/xt_TCPMSS.c": (FILE, b"/* upper */\n"),
        "net/netfilter/xt_tcpmss.c": (FILE, b"/* lower */\n"),
        "drivers/firmware.bin": (FILE, noise),
        "a/b": (FILE, b""),
        "a.c": (FILE, b"sorts before a/\n"),
    }


def tar_of(files: Files, top: str) -> bytes:
    """*files* below *top* as ``git archive`` would pack them."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "0" * 40}
    ) as archive:
        for folder in sorted({top, *(f"{top}/{p}" for path in files for p in _parents(path))}):
            info = tarfile.TarInfo(folder + "/")
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o775, MTIME
            archive.addfile(info)
        for path, (mode, data) in files.items():
            info = tarfile.TarInfo(f"{top}/{path}")
            info.mtime = MTIME
            if mode == LINK:
                info.type, info.linkname = tarfile.SYMTYPE, data.decode()
                archive.addfile(info)
            else:
                info.mode, info.size = mode & 0o777 | 0o020, len(data)
                archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: index + 1]) for index in range(len(parts))]


COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    ".tar": lambda data: data,
    ".tar.gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".tar.bz2": lambda data: bz2.compress(data, 1),
    ".tar.xz": lambda data: lzma.compress(data, preset=0),
}


def git(*arguments: str, cwd: Path, content: bytes | None = None) -> bytes:
    """Run git without the user's settings; what it printed."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@example.org",
        "GIT_COMMITTER_NAME": "T", "GIT_COMMITTER_EMAIL": "t@example.org",
        "GIT_AUTHOR_DATE": "2008-01-24T22:58:00Z", "GIT_COMMITTER_DATE": "2008-01-24T22:58:00Z",
    }  # fmt: skip
    run = subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        input=content,
        capture_output=True,
        check=True,
        env=environment,
    )
    return run.stdout


def git_tree(files: Files, repository: Path) -> str:
    """The id that git itself gives to *files*, which are then in *repository*."""
    if not (repository / "HEAD").exists():
        repository.mkdir(parents=True, exist_ok=True)
        git("init", "--quiet", "--bare", ".", cwd=repository)
    rows = []
    for path, (mode, data) in files.items():
        blob = git("hash-object", "-w", "--stdin", cwd=repository, content=data).decode().strip()
        rows.append(f"{mode:o} {blob}\t{path}".encode(errors="surrogateescape") + b"\0")
    git("read-tree", "--empty", cwd=repository)
    git("update-index", "-z", "--add", "--index-info", cwd=repository, content=b"".join(rows))
    return git("write-tree", cwd=repository).decode().strip()


def read_tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """What is below *root*, as :func:`kernel_files` describes it."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = (LINK, os.fsencode(path.readlink()))
        elif path.is_file():
            executable = path.stat().st_mode & 0o100
            found[name] = (EXECUTABLE if executable else FILE, path.read_bytes())
    return found


# -- keys ------------------------------------------------------------------------------------


class KeyRing:
    """Real OpenPGP keys in a home of their own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)

    def make(self, name: str, *, expire: str = "never", when: str = "") -> str:
        """A new key; its fingerprint."""
        faked = ["--faked-system-time", when] if when else []
        self.gpg(*faked, "--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign",
                 expire)  # fmt: skip
        listing = self.gpg("--list-keys", "--with-colons", f"{name}@example.org").decode()
        return next(line.split(":")[9] for line in listing.splitlines() if line[:4] == "fpr:")

    def public(self, name: str) -> bytes:
        """The public key of *name*, armoured."""
        return self.gpg("--armor", "--export", f"{name}@example.org")

    def detach(self, name: str, data: bytes, *, when: str = "", expire: str = "") -> bytes:
        """A detached signature of *name* over *data*."""
        return self.gpg(*_options(when, expire), "--armor", "--local-user", f"{name}@example.org",
                        "--detach-sign", content=data)  # fmt: skip

    def clear(self, name: str, data: bytes) -> bytes:
        """*data*, signed in line by *name*."""
        return self.gpg("--local-user", f"{name}@example.org", "--clear-sign", content=data)

    def gpg(self, *arguments: str, content: bytes = b"") -> bytes:
        """Run gpg here; what it printed."""
        run = subprocess.run(
            ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--no-tty", "--passphrase",
             "", "--pinentry-mode", "loopback", *arguments],
            input=content, capture_output=True, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr.decode()
        return run.stdout

    def stop(self) -> None:
        """End the agent that gpg started."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False)


def _options(when: str, expire: str) -> list[str]:
    options = ["--faked-system-time", when] if when else []
    return [*options, *(["--default-sig-expire", expire] if expire else [])]


# -- the server ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer; *after* counts bytes of its body.

    With *status* it is that answer; with *cut* the connection ends after so many bytes, with
    *stall* it falls silent for so many seconds, with *location* it redirects.
    """

    status: int = 200
    after: int = 0
    cut: bool = False
    stall: float = 0.0
    location: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    ranges: bool = True
    length: bool = True


@dataclass
class Site:
    """Files by path, the faults of the next answers for each, and who asked for what."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    requests: list[tuple[str, str]] = field(default_factory=list)
    pace: float = 0.0  # seconds between chunks of 16 KiB

    def fail(self, path: str, *faults: Fault) -> None:
        """The next answers for *path* go wrong, one after the other."""
        self.faults[path].extend(faults)

    def asked(self, path: str) -> list[str]:
        """The Range headers of the requests for *path*."""
        return [range_ for asked, range_ in self.requests if asked == path]


@contextmanager
def https(site: Site, certificate: Path) -> Iterator[Site]:
    """Serve *site* on loopback with the key and *certificate* in one file."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            site.requests.append((path, self.headers.get("Range", "")))
            self.close_connection = True
            faults = site.faults[path]
            with suppress(OSError):  # the client goes away, as some tests want it to
                self._answer(path, faults.pop(0) if faults else Fault())

        def _answer(self, path: str, fault: Fault) -> None:
            content = fault.body if fault.body is not None else site.files.get(path)
            status = fault.status
            if fault.location:
                status, content = 302, b""
            elif content is None:
                status, content = 404, b"<html>no such file</html>"
            elif status != 200:
                content = b"<html>failed</html>"
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            start = 0
            wanted = self.headers.get("Range", "")
            fresh = self.headers.get("If-Range") in {None, tag}
            if status == 200 and wanted and fault.ranges and fresh:
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
                if start >= len(content):
                    status, start, content = 416, 0, b""
                else:
                    status = 206
            self.send_response(status)
            if fault.location:
                self.send_header("Location", fault.location)
            if status == 416:
                self.send_header("Content-Range", f"bytes */{len(site.files[path])}")
            if status == 206:
                end = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
            if status in {200, 206}:
                self.send_header("ETag", tag)
            if fault.length:
                self.send_header("Content-Length", str(len(content) - start))
            for name, value in fault.headers:
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self._send(content[start:], fault)

        def _send(self, body: bytes, fault: Fault) -> None:
            first = body[: fault.after] if fault.cut or fault.stall else body
            for at in range(0, len(first), 1 << 14):
                self.wfile.write(first[at : at + (1 << 14)])
                if site.pace:
                    time.sleep(site.pace)
            if fault.stall:
                time.sleep(fault.stall)
                self.wfile.write(body[fault.after :])

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # killed clients are meant
    server.daemon_threads = True
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"https://localhost:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost with its key, in one file."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    both = folder / "server.pem"
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


# -- a catalogue -----------------------------------------------------------------------------


def write_catalogue(
    folder: Path,
    *,
    keys: Sequence[tuple[str, str, str, bytes | None]] = (),
    kernels: Sequence[Release[KernelVersion]] = (),
    iptables: Sequence[Release[IptablesVersion]] = (),
    tarballs: Mapping[str, Digest] | None = None,
    kernel_mirrors: Sequence[str] = (),
    iptables_mirrors: Sequence[str] = (),
    releases: str = "",
    key_urls: Mapping[str, str] | None = None,
    retired: Sequence[str] = (),
) -> Catalogue:
    """A catalogue of the test's own; *keys* are name, fingerprint, role and public key."""
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    text = ""
    for name, fingerprint, role, public in keys:
        text += f'[[key]]\nname = "{name}"\nfingerprint = "{fingerprint}"\nsigns = ["{role}"]\n'
        if public is not None:
            text += f'file = "{name}.asc"\n'
            (folder / "keys" / f"{name}.asc").write_bytes(public)
        if key_urls and name in key_urls:
            text += f'urls = ["{key_urls[name]}"]\n'
        if name in retired:
            text += "retired = true\n"
    (folder / "keys.toml").write_text(text or "key = []\n")
    (folder / "mirrors.toml").write_text(
        f"kernel = {list(kernel_mirrors)!r}\ncandidates = {list(kernel_mirrors)!r}\n"
        f"iptables = {list(iptables_mirrors)!r}\nreleases = {releases!r}\n"
    )
    (folder / "kernels.tsv").write_text("release\tdate\tcommit\ttree\n")
    (folder / "iptables.tsv").write_text("release\tdate\tcommit\ttree\n")
    (folder / "tarballs.tsv").write_text("file\tsha256\tbasis\n")
    empty = Catalogue.load(folder)
    write(
        Catalogue(
            folder=folder,
            kernels={release.version: release for release in kernels},
            iptables={release.version: release for release in iptables},
            tarballs=tarballs or {},
            keys=empty.keys,
            places=empty.places,
        )
    )
    return Catalogue.load(folder)
