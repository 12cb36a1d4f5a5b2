"""Signing with GnuPG on this machine: private keys go into no image, container or folder of ours.

So a smart card, an agent or a passphrase works as it does anywhere else.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.gnupg import (
    ARMOUR,
    GnuPGError,
    call,
    gpg,
    listed,
)
from tarpit_builder.leftovers import scratch

THROWAWAY = "tarpit-builder throw-away key, for trials only"
THROWAWAY_DAYS = 90
SOON = 30 * 86400  # seconds before its end that a key is warned of


class BadSignatureError(SourceError):
    """What was signed is not what is there, or another key signed it."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that can sign; *home* of None is the user's own GnuPG, *expires* 0 is never."""

    fingerprint: str
    owner: str
    expires: int = 0
    home: Path | None = None

    @property
    def warning(self) -> str:
        """What its owner should know, if anything."""
        if self.expires and self.expires - time.time() < SOON:
            return (
                f"the key {self.fingerprint[-16:]} expires on {_day(self.expires)}, and apt then "
                "refuses the repository: gpg --quick-set-expire extends it"
            )
        return ""

    def public(self) -> bytes:
        """The public key, as a file for ``Signed-By``."""
        minimal = ("--export-options", "export-minimal")
        return gpg("--armor", *minimal, "--export", self.fingerprint, home=self.home)

    def clearsign(self, text: bytes) -> bytes:
        """*text*, signed in line: an ``InRelease``.

        :raises InfrastructureError: if GnuPG does not sign.
        """
        return self._sign("--clearsign", text)

    def detach_sign(self, text: bytes) -> bytes:
        """The signature of *text* alone: a ``Release.gpg``.

        :raises InfrastructureError: if GnuPG does not sign.
        """
        return self._sign("--detach-sign", text)

    def _sign(self, how: str, text: bytes) -> bytes:
        by = ("--digest-algo", "SHA512", "--local-user", self.fingerprint)
        return gpg("--armor", *by, how, home=self.home, content=text)


def choose(name: str, home: Path | None = None, *, test: bool = False) -> Key:
    """The key to sign with: the one called *name*, or with *test* one that is made for trials.

    :raises UserError: if that is not one key that can sign.
    """
    if test and (name or home):
        raise UserError("--test-key and a key of yours contradict each other", hint="name one")
    if test:
        return throwaway(test_key_home())
    if not name:
        raise UserError(
            "no key was named to sign with",
            hint="--key ID takes one of your GnuPG; --test-key makes one for trials",
        )
    return find(name, home)


def test_key_home() -> Path:
    """Where the key for trials is: with what cannot be made again, out of the reach of clean."""
    home = paths.state_dir() / "test-key"
    former = paths.cache_dir() / "test-key"
    if former.is_dir() and not home.exists():
        paths.make_dir(home.parent)
        shutil.move(former, home)
    return home


def find(name: str, home: Path | None = None) -> Key:
    """The secret key that *name* (fingerprint, id or address) means.

    :raises UserError: if there is none, or several, or it is expired, revoked or cannot sign.
    """
    try:
        rows = listed("--list-secret-keys", name, home=home)
    except GnuPGError as error:
        raise UserError(
            f"there is no secret key {name!r}",
            hint="gpg --list-secret-keys shows those there are; GNUPGHOME or --gpg-home names "
            "another keyring; --test-key makes one for trials",
        ) from error
    if sum(row.kind == "sec" for row in rows) > 1:
        raise UserError(f"{name!r} fits several secret keys", hint="name one by its fingerprint")
    primary = next(row for row in rows if row.kind == "sec")
    fingerprint = next(row.value for row in rows if row.kind == "fpr")
    owner = next((row.value for row in rows if row.kind == "uid"), "nobody")
    short = fingerprint[-16:]
    if primary.has_expired:
        raise UserError(
            f"the key {short} ({owner}) expired on {_day(primary.expires)}",
            hint=f"extend it with `gpg --quick-set-expire {fingerprint} 1y`, or name another --key",
        )
    if primary.is_void:
        state = {"r": "was revoked", "d": "is disabled", "i": "is not valid"}
        raise UserError(
            f"the key {short} ({owner}) {state[primary.validity]}", hint="name another --key"
        )
    if "S" not in primary.capabilities:
        raise UserError(
            f"the key {short} ({owner}) cannot sign (any more)",
            hint="a signing subkey may have expired: see `gpg --list-secret-keys`, or name another",
        )
    return Key(fingerprint, owner, primary.expires, home)


def throwaway(home: Path, *, lifetime: str = f"{THROWAWAY_DAYS}d") -> Key:
    """The key for trials in *home*, made there if it is not yet, or not any more.

    :param lifetime: as gpg writes it: ``30d``, ``seconds=60``.
    :raises ToolMissingError: if GnuPG is not installed.
    """
    if not home.is_dir():
        paths.make_dir(home.parent)
        home.mkdir(mode=0o700)
    try:
        return find(THROWAWAY, home)
    except UserError:
        pass
    for fingerprint in _fingerprints(home):
        gpg("--yes", "--delete-secret-and-public-key", fingerprint, home=home)
    how = ("--passphrase", "", "--quick-generate-key")
    gpg(*how, THROWAWAY, "ed25519", "sign", lifetime, home=home)
    return find(THROWAWAY, home)


def verify(signed: Path, public: bytes, *, expired: bool = False) -> tuple[str, bytes]:
    """Who signed the file *signed* in line, by the primary key's fingerprint, and the text.

    :param public: armoured keys that count.
    :param expired: whether the key may have expired.
    :raises SourceError: if the signature is not of the key *public*, is damaged, or is of a key
        that has expired or was revoked.
    """
    with scratch("key") as folder:
        keyring, text = folder / "keyring.gpg", folder / "text"
        for block in public.split(ARMOUR)[1:]:
            with keyring.open("ab") as file:
                file.write(gpg("--dearmor", home=folder, content=ARMOUR + block, agent=False))
        command = ["gpgv", "--status-fd", "1", "--keyring", str(keyring), "--output", str(text)]
        run = call([*command, str(signed)])
        status = [
            line.split()[1:] for line in run.stdout.decode().splitlines() if "[GNUPG:]" in line
        ]
        kinds = {words[0]: words for words in status if words}
        if "EXPKEYSIG" in kinds and not expired:
            raise SourceError(
                f"{signed} is signed by a key that has expired: apt refuses it",
                hint="extend the key with `gpg --quick-set-expire`, then `invoke repo` again",
            )
        if "REVKEYSIG" in kinds:  # gpgv ends well all the same
            raise SourceError(
                f"{signed} is signed by a key that was revoked: apt refuses it",
                hint="whoever holds it now is not to be trusted; publish with another key",
            )
        if run.returncode != 0 or "VALIDSIG" not in kinds:
            raise BadSignatureError(
                f"{signed} has no good signature of the repository's key",
                hint="it was changed or half copied, or another key signed it",
            )
        # Last in the line is the primary key; the first is what signed, perhaps a subkey of it.
        return kinds["VALIDSIG"][-1], text.read_bytes()


def _fingerprints(home: Path) -> list[str]:
    """All primary keys in *home*."""
    rows = listed("--list-keys", home=home)
    return [rows[number + 1].value for number, row in enumerate(rows) if row.kind == "pub"]


def _day(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d}"
