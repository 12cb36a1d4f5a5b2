"""A small Debian archive of the test's own, signed by a key of the test's own."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import lzma
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    ".xz": lzma.compress,
    ".gz": gzip.compress,
    "": bytes,
}


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and honours If-Modified-Since, without a line per request."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(root: Path) -> Iterator[str]:
    """An HTTP server of *root* on a free port of loopback; its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Signer:
    """A throw-away OpenPGP key in *home*."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)
        self._gpg(
            "--quick-generate-key", "Test Archive <archive@example.org>", "ed25519", "sign", "never"
        )
        self.keyring = home / "keyring.gpg"
        self.keyring.write_bytes(self._gpg("--export"))

    def clearsign(self, text: str) -> bytes:
        """*text*, signed in line."""
        return self._gpg("--clearsign", content=text.encode())

    def stop(self) -> None:
        """End the agent that gpg started."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False)

    def _gpg(self, *arguments: str, content: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--passphrase", ""]
        command += ["--pinentry-mode", "loopback", *arguments]
        return subprocess.run(command, input=content, capture_output=True, check=True).stdout


class FakeArchive:
    """Suites below *root*, as :mod:`sources.debian` reads them."""

    def __init__(self, root: Path, signer: Signer) -> None:
        self.root = root
        self.signer = signer

    def suite(
        self,
        pocket: str,
        stanzas: list[Mapping[str, str]],
        *,
        codename: str = "",
        valid_for: int | None = None,
        made: int | None = None,
        archive: str = "debian",
        component: str = "main",
        suffix: str = ".xz",
    ) -> None:
        """Publish *pocket* (``security:NAME`` for the security mirror) with *stanzas*.

        :param made: when, in seconds since the epoch, as its Date has it.
        """
        place, _, name = pocket.rpartition(":")
        top = self.root / ("debian-security" if place else archive) / "dists" / name
        lines = [f"Suite: {name}", f"Codename: {codename or name}"]
        if valid_for is not None:
            until = email.utils.formatdate(time.time() + valid_for).replace("-0000", "UTC")
            lines.append(f"Valid-Until: {until}")
        if made is not None:
            lines.append(f"Date: {email.utils.formatdate(made).replace('-0000', 'UTC')}")
        lines.append("SHA256:")
        for arch in sorted({"amd64", *(stanza["Architecture"] for stanza in stanzas)} - {"all"}):
            there = [stanza for stanza in stanzas if stanza["Architecture"] in {arch, "all"}]
            text = "\n".join(
                "".join(f"{key}: {value}\n" for key, value in stanza.items()) for stanza in there
            )
            packed = COMPRESS[suffix](text.encode())
            digest = hashlib.sha256(packed).hexdigest()
            index = top / f"{component}/binary-{arch}/Packages{suffix}"
            index.parent.mkdir(parents=True, exist_ok=True)
            index.write_bytes(packed)
            lines.append(f" {digest} {len(packed)} {index.relative_to(top)}")
        (top / "InRelease").write_bytes(self.signer.clearsign("\n".join(lines) + "\n"))


def package(name: str, version: str, *, arch: str = "amd64", depends: str = "") -> dict[str, str]:
    """A stanza of a Packages file; its .deb does not exist."""
    return {
        "Package": name,
        "Version": version,
        "Architecture": arch,
        "Depends": depends,
        "Filename": f"pool/main/l/linux/{name}_{version}_{arch}.deb",
        "Size": "1000",
        "SHA256": hashlib.sha256(f"{name} {version}".encode()).hexdigest(),
    }


def kernel(
    abi: str, version: str, *, compiler: str = "gcc-14", arch: str = "amd64"
) -> list[Mapping[str, str]]:
    """The packages of one kernel, laid out as in trixie."""
    stem = abi.partition("-")[0]
    depends = f"linux-headers-{stem}-common (= {version}), linux-kbuild-{stem}, {compiler}"
    return [
        package(f"linux-headers-{abi}", version, arch=arch, depends=depends),
        package(f"linux-headers-{stem}-common", version, arch="all"),
        package(f"linux-kbuild-{stem}", version, arch=arch),
        package(f"linux-image-{abi}", version, arch=arch),
    ]


def meta(version: str, abi: str, *, flavour: str = "") -> Mapping[str, str]:
    """The metapackage that names the current headers."""
    stem = f"{flavour}-amd64" if flavour else "amd64"
    return package(f"linux-headers-{stem}", version, depends=f"linux-headers-{abi} (= {version})")
