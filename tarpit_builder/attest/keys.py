"""Keys that sign attestations, and those that a stranger trusts.

Signing is securesystemslib's: a key file, GnuPG, or any token or service that it has a URI for.
A secret key is only ever read; a passphrase is in no argument, log or file.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import paths
from tarpit_builder.errors import InfrastructureError, TarpitError, ToolMissingError, UserError
from tarpit_builder.gnupg import (
    ARMOUR,
    GnuPGError,
    Row,
    gpg,
    listed,
)
from tarpit_builder.leftovers import scratch

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer

PASSPHRASE = "TARPIT_ATTEST_PASSPHRASE"  # noqa: S105  (the name of a variable)
GNUPG = "gnupg"
FILES = ("file", "file2")
EXTRAS = {"hv": "vault"}
"""What the library calls the extra of a scheme, where that is not the scheme's own name."""

LARGEST = 1 << 20  # bytes of a file with keys
SECRET = b"PRIVATE KEY"
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out attest.pem"
SHOW_KEY = "openssl pkey -in attest.pem -pubout -out attest.pub"
WEAKEST_RSA = 2048  # bits


@dataclass(frozen=True, slots=True)
class Trusted:
    """A public key of the file *source*; *ended* says when it expired or was revoked, if it was."""

    key: Key
    source: str
    ended: str = ""

    @property
    def label(self) -> str:
        """What a table calls it."""
        return f"{self.key.keytype} {self.key.keyid[:16]} ({self.source})"


def signer(uri: str, public: Path | None = None) -> Signer:
    """Who signs: a file with a secret key, ``env:NAME`` for one in a variable of the environment,
    ``gnupg:KEY``, or a URI of securesystemslib.


    :param public: the file with the public key, for what cannot tell it itself.
    :raises UserError: if there is no such key, or it cannot be used.
    :raises ToolMissingError: if a program or a library for it is not installed.
    """
    scheme, colon, rest = uri.partition(":")
    if not uri:
        raise UserError(
            "no key was named to sign with",
            hint=f"--key FILE takes a secret key, which `{MAKE_KEY}` makes; --key gnupg:ID one of "
            "your GnuPG",
        )
    if not colon or scheme in FILES or Path(uri).exists():
        path = Path(rest if colon and scheme in FILES else uri).expanduser()
        return _of_pem(_content(path), path)
    if scheme == "env":
        return _of_pem(os.environ.get(rest, "").encode(), f"what {rest} holds")
    if scheme == GNUPG:
        return _of_gnupg(rest)
    return _of_uri(uri, scheme, public)


@contextmanager
def trusted(files: Sequence[Path]) -> Iterator[tuple[Trusted, ...]]:
    """The public keys in *files*, PEM or OpenPGP.

    :raises UserError: if a file has none, or a secret one.
    """
    if not files:
        raise UserError(
            "no public key was named to check with",
            hint="--key FILE takes the one that the distributor gave you by another way than the "
            "packages",
        )
    found: list[Trusted] = []
    with ExitStack() as stack:
        for file in files:
            data = _content(file)
            if SECRET in data:
                raise UserError(
                    f"{file} is a secret key, which nobody needs to check with",
                    hint=f"name the public one: {SHOW_KEY}",
                )
            if ARMOUR in data:
                home = stack.enter_context(scratch("keys"))
                found += _openpgp(data, home, file)
            else:
                found.append(Trusted(_pem(data, file), file.name))
        yield tuple(found)


def _of_pem(data: bytes, path: object) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    try:
        try:
            secret = load_pem_private_key(data, None)
        except TypeError:  # it is encrypted
            secret = load_pem_private_key(data, _passphrase(f"passphrase of {path}").encode())
        made = CryptoSigner(secret)  # which refuses what it cannot use
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(
            f"{path} is no secret key that can be used, or its passphrase is another one",
            hint=f"a key in PEM (PKCS #8) is made by: {MAKE_KEY}",
        ) from error
    _demand_strong(made.public_key, path)
    return made


def _of_gnupg(name: str) -> Signer:
    """The signer for *name*, by the key that GnuPG itself would choose to sign with."""
    from securesystemslib.signer import GPGSigner

    from tarpit_builder.publish import keys

    key = keys.find(name)
    rows = listed("--list-secret-keys", key.fingerprint)
    usable = [of for of in _each_key(rows) if "s" in of.capabilities and not of.ended]
    chosen = next((of for of in reversed(usable) if of.kind == "ssb"), usable[0])
    try:
        _, public = GPGSigner.import_(chosen.fingerprint.lower())
    except Exception as error:
        raise _unusable(f"{GNUPG}:{name}", error) from error
    return GPGSigner(public)


def _of_uri(uri: str, scheme: str, public: Path | None) -> Signer:
    from securesystemslib.exceptions import UnsupportedLibraryError
    from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Signer

    if scheme not in SIGNER_FOR_URI_SCHEME:
        known = ", ".join(sorted(SIGNER_FOR_URI_SCHEME))
        raise UserError(
            f"--key {scheme}:…: no such kind of key is known",
            hint=f"name a file, {GNUPG}:ID, or a URI of securesystemslib: {known}",
        )
    if public is None:
        raise UserError(
            f"--key {scheme}:… does not say which public key belongs to it",
            hint="add --public FILE, in PEM",
        )
    try:
        return Signer.from_priv_key_uri(uri, _pem(_content(public), public), _passphrase)
    except UnsupportedLibraryError as error:
        raise ToolMissingError(
            f"--key {scheme}:… cannot be used: {error}",
            hint=f".venv/bin/pip install 'securesystemslib[{EXTRAS.get(scheme, scheme)}]'",
        ) from error
    except TarpitError:
        raise
    except Exception as error:
        raise _unusable(f"{scheme}:…", error) from error


def _unusable(what: str, error: Exception) -> InfrastructureError:
    return InfrastructureError(
        f"the key {what} cannot be used: {str(error).splitlines()[0] if str(error) else error!r}",
        hint="see that token, service or gpg-agent work, and try again",
    )


def _passphrase(name: str) -> str:
    """The secret that *name* tells of: of the environment, else asked for."""
    if (given := os.environ.get(PASSPHRASE)) is not None:
        return given
    if not sys.stdin.isatty():
        raise UserError(
            f"the {name} is needed, and there is nobody to ask", hint=f"set {PASSPHRASE}"
        )
    return getpass.getpass(f"{name}: ")


def _content(path: Path) -> bytes:
    return paths.small_file(path, LARGEST, "a key", f"name one; a new key is made by: {MAKE_KEY}")


def _pem(data: bytes, path: Path) -> Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        key = SSlibKey.from_crypto(load_pem_public_key(data))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(
            f"{path} has no public key, in PEM or of OpenPGP, that can be used",
            hint=f"the public key of a key file: {SHOW_KEY}; of GnuPG: gpg --armor --export ID",
        ) from error
    _demand_strong(key, path)
    return key


def _demand_strong(key: Key, path: object) -> None:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from securesystemslib.signer import SSlibKey

    crypto = key._crypto_key() if isinstance(key, SSlibKey) else None
    if isinstance(crypto, RSAPublicKey) and crypto.key_size < WEAKEST_RSA:
        raise UserError(
            f"{path} is an RSA key of {crypto.key_size} bits, which can be broken",
            hint=f"make a better one: {MAKE_KEY}",
        )


# -- OpenPGP ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _OpenPgpKey:
    """A primary key or a subkey, as gpg lists it."""

    kind: str
    fingerprint: str
    capabilities: str
    ended: str


def _openpgp(data: bytes, home: Path, file: Path) -> list[Trusted]:
    """The keys in *data* that may sign, by way of a keyring in the folder *home*."""
    from securesystemslib.signer import GPGSigner

    home.chmod(0o700)
    try:
        gpg("--import", home=home, content=data, agent=False)
    except GnuPGError as error:
        raise UserError(
            f"GnuPG does not take the key: {error.said}", hint="see `gpg --show-keys FILE`"
        ) from error
    found = []
    for of in _each_key(listed("--list-keys", home=home, agent=False)):
        if "s" not in of.capabilities:
            continue
        try:
            _, key = GPGSigner.import_(of.fingerprint.lower(), str(home))
        except Exception:  # noqa: S112  (of a kind that the library does not know)
            continue
        found.append(Trusted(key, file.name, of.ended))
    if not found:
        raise UserError(
            f"{file} has no key of OpenPGP that can have signed attestations",
            hint="RSA, DSA and ed25519 are understood",
        )
    return found


def _each_key(rows: list[Row]) -> list[_OpenPgpKey]:
    found = []
    for number, row in enumerate(rows):
        if row.kind not in {"pub", "sub", "sec", "ssb"}:
            continue
        fingerprint = next(r.value for r in rows[number:] if r.kind == "fpr")
        ended = "was revoked" if row.is_void else ""
        if row.has_expired:
            ended = f"expired on {datetime.fromtimestamp(row.expires, UTC):%Y-%m-%d}"
        found.append(_OpenPgpKey(row.kind, fingerprint, row.capabilities, ended))
    return found
