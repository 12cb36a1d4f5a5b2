"""A repository as it stands: signatures, then indexes, then packages, as apt would check them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.publish import keys
from tarpit_builder.publish.incoming import File, digest
from tarpit_builder.publish.keys import Key

KEY = "tarpit-builder.asc"
DISTS = "dists"
BUILT_USING = re.compile(r"\blinux \(= (\S+)\)")
"""How a package of modules, like Debian's own kernels, names the kernel's source."""


def audit(top: Path, key: Key | None = None, *, expired: bool = False) -> dict[str, File]:
    """Check all of the repository at *top*; its files by their place in the pool.

    :param key: who must have signed it; None for the key that lies beside it.
    :param expired: whether that key may have expired.
    :raises UserError: if there is no repository, or another key signed it.
    :raises SourceError: if a signature is not good (any more).
    :raises CheckFailedError: if an index or a package is not what was signed.
    """
    if not (top / DISTS).is_dir():
        raise UserError(f"there is no repository in {top}", hint="`invoke repo` makes one")
    beside = (top / KEY).read_bytes() if (top / KEY).is_file() else b""
    # Beside it may lie the key as it was before its owner extended it.
    public = beside + key.public() if key else beside
    found: dict[str, File] = {}
    for suite in sorted(path for path in (top / DISTS).iterdir() if path.is_dir()):
        signer, text = keys.verify(suite / "InRelease", public, expired=expired)
        if key and signer != key.fingerprint:
            raise UserError(
                f"{suite / 'InRelease'} is signed by the key {signer[-16:]}, "
                f"not {key.fingerprint[-16:]}, and users know only that one",
                hint="name the same --key; or --new-key, and tell all users to fetch it",
            )
        for name, expected in checksums(text).items():
            if digest(suite / name) != expected:
                raise CheckFailedError(
                    f"{suite / name} is not what was signed",
                    hint="somebody changed it; restore it, or remove the repository and begin anew",
                )
        for file in entries(top, suite):
            if digest(file.path) != file.sha256:
                raise CheckFailedError(
                    f"{file.path} is not what was published: it has another SHA-256",
                    hint="somebody changed it; restore it from a backup or from dist/",
                )
            found[file.pool] = file
    return found


def checksums(release: bytes) -> dict[str, str]:
    """The SHA-256 of every index that a Release file names."""
    found: dict[str, str] = {}
    section = ""
    for line in release.decode(errors="replace").splitlines():
        if not line.startswith(" "):
            section = line
        elif section == "SHA256:":
            value, _, name = line.split()
            found[name] = value
    return found


def entries(top: Path, suite: Path) -> Iterator[File]:
    """What the indexes of *suite* (a folder below ``dists``) name."""
    from debian.deb822 import Packages, Sources

    for index in sorted(suite.glob("main/binary-*/Packages")):
        with index.open("rb") as file:
            for stanza in Packages.iter_paragraphs(file, use_apt_pkg=False):
                name = stanza["Filename"]
                kernel = BUILT_USING.search(stanza.get("Built-Using", ""))
                yield File(
                    suite.name,
                    Path(name).name,
                    stanza["SHA256"],
                    top / name,
                    kernel[1] if kernel else "",
                )
    for index in sorted(suite.glob("main/source/Sources")):
        with index.open("rb") as file:
            for stanza in Sources.iter_paragraphs(file, use_apt_pkg=False):
                for item in stanza["Checksums-Sha256"]:
                    path = top / stanza["Directory"] / item["name"]
                    yield File(suite.name, item["name"], item["sha256"], path)


def sha256(data: bytes) -> str:
    """The SHA-256 of *data*."""
    return hashlib.sha256(data).hexdigest()
