"""A repository as it stands: signatures, then indexes, then packages, as apt would check them."""

from __future__ import annotations

import email.utils
import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tarpit_builder.errors import CheckFailedError, SourceError, UserError
from tarpit_builder.publish import keys
from tarpit_builder.publish.incoming import File, digest
from tarpit_builder.publish.keys import Key

KEY = "tarpit-builder.asc"
DISTS = "dists"
BY_HASH = "by-hash/SHA256"
REPAIR = (
    "`invoke repo --repair` keeps what is still as it was signed, takes the rest from dist/ and "
    "names what is lost"
)
VALID_UNTIL = re.compile(r"^Valid-Until: (.+)$", re.MULTILINE)
BUILT_USING = re.compile(r"\blinux \(= (\S+)\)")
"""How a package of modules, like Debian's own kernels, names the kernel's source."""


def audit(
    top: Path, key: Key | None = None, *, expired: bool = False, public: bytes | None = None
) -> dict[str, File]:
    """Check all of the repository at *top*; its files by their place in the pool.

    :param key: who must have signed it; None for the key that lies beside it.
    :param expired: whether that key may have expired.
    :param public: the armoured keys that may have signed it, in place of the one beside it.
    :raises UserError: if there is no repository, or another key signed it.
    :raises SourceError: if a signature is not good (any more).
    :raises CheckFailedError: if an index or a package is not what was signed, or an index cannot
        be had by its digest.
    """
    if not (top / DISTS).is_dir():
        raise UserError(f"there is no repository in {top}", hint="`invoke repo` makes one")
    public = known_keys(top, key) if public is None else public
    found: dict[str, File] = {}
    for suite in sorted(path for path in (top / DISTS).iterdir() if path.is_dir()):
        signer, text = _signed(suite / "InRelease", public, expired=expired)
        if key and signer != key.fingerprint:
            raise UserError(
                f"{suite / 'InRelease'} is signed by the key {signer[-16:]}, "
                f"not {key.fingerprint[-16:]}, and users know only that one",
                hint="name the same --key; or --new-key, and tell all users to fetch it",
            )
        for name, expected in checksums(text).items():
            by_hash = (suite / name).parent / BY_HASH / expected
            for index in (suite / name, by_hash):
                if digest(index) != expected:
                    raise CheckFailedError(
                        f"{index} is not what was signed", hint=f"somebody changed it: {REPAIR}"
                    )
        for file in entries(top, suite):
            if digest(file.path) != file.sha256:
                raise CheckFailedError(
                    f"{file.path} is not what was published: it has another SHA-256",
                    hint=f"somebody changed it: {REPAIR}",
                )
            found[file.pool] = file
    return found


def known_keys(top: Path, key: Key | None) -> bytes:
    """The keys that may have signed the repository at *top*, of which *key* is the owner's.

    Beside it may lie the key as it was before its owner extended it.
    """
    beside = (top / KEY).read_bytes() if (top / KEY).is_file() else b""
    return beside + key.public() if key else beside


def demand_valid(top: Path) -> str:
    """The day when the first suite of the repository at *top* expires: apt refuses it from then on.

    :raises CheckFailedError: if that is over, or no day is named.
    """
    found = []
    for path in sorted((top / DISTS).glob("*/Release")):
        match = VALID_UNTIL.search(path.read_text(errors="replace"))
        if match is None:
            raise CheckFailedError(
                f"{path} does not say until when it is valid, so old states can be replayed",
                hint="`invoke repo` signs it again, with an end",
            )
        found.append(email.utils.parsedate_to_datetime(match[1]))
    until = min(found)
    if until <= datetime.now(UTC):
        raise CheckFailedError(
            f"the repository in {top} was valid until {until:%Y-%m-%d %H:%M} UTC, and apt refuses "
            "it now",
            hint="`invoke repo` signs it again, with or without new packages",
        )
    return f"{until:%Y-%m-%d}"


def _signed(entry: Path, public: bytes, *, expired: bool) -> tuple[str, bytes]:
    try:
        return keys.verify(entry, public, expired=expired)
    except keys.BadSignatureError as error:
        raise SourceError(error.message, hint=f"it was changed or half copied: {REPAIR}") from error


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
