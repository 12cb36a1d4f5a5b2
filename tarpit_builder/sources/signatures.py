"""OpenPGP signatures, checked by Debian's gpgv against keys that are pinned by fingerprint.

gpgv and not Sequoia's sqv, because every Debian has it: apt depended on it for twenty years.  Its
exit status is not enough, for it accepts any key of the keyring and does not know which of them
may sign what; the decision is made here from its status lines (GnuPG's doc/DETAILS).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tarpit_builder import paths
from tarpit_builder.errors import (
    InfrastructureError,
    NetworkError,
    SourceError,
    ToolMissingError,
    UserError,
)
from tarpit_builder.leftovers import scratch
from tarpit_builder.packaging import changelog
from tarpit_builder.sources.store import Store

KEY_LIMIT = 1 << 20  # bytes of a public key file
_ZBASE32 = "ybndrfg8ejkmcpqxot1uwisza345h769"


class UnknownSignerError(SourceError):
    """The signature may be good, but nobody whose word counts made it."""


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A key that counts for what it *signs*; see ``catalogue/keys.toml``."""

    name: str
    fingerprint: str
    signs: tuple[str, ...]
    material: Path | None = None
    urls: tuple[str, ...] = ()
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that counts: who made it, and when."""

    key: PinnedKey
    made: datetime

    def __str__(self) -> str:
        return f"signed by {self.key.name} ({self.key.fingerprint}) on {self.made:%Y-%m-%d}"


def load_keys(folder: Path) -> tuple[PinnedKey, ...]:
    """The keys that ``keys.toml`` in *folder* pins."""
    found = tomllib.loads((folder / "keys.toml").read_text())
    return tuple(
        PinnedKey(
            name=row["name"],
            fingerprint=row["fingerprint"],
            signs=tuple(row["signs"]),
            material=folder / "keys" / row["file"] if "file" in row else None,
            urls=(*_wkd(row.get("wkd", "")), *row.get("urls", ())),
            retired=row.get("retired", False),
        )
        for row in found["key"]
    )


@dataclass(slots=True)
class Keys:
    """The pinned keys, and the *store* that keeps those which have to be fetched."""

    pinned: Sequence[PinnedKey]
    store: Store
    _missing: set[str] = field(default_factory=set)

    def verify_clear(self, text: bytes, what: str, role: str) -> tuple[bytes, Signature]:
        """The part of clear-signed *text* that the signature covers, and the signature.

        :raises SourceError: unless a pinned key for *role* made it.
        """
        with self._keyring(role) as keyring, scratch("gpgv") as folder:
            signed, plain = folder / "signed", folder / "plain"
            signed.write_bytes(text)
            run = subprocess.run(
                [*_gpgv(keyring), "--output", plain, signed], capture_output=True, check=False
            )
            # Of several texts in one file gpgv prints all that it can, whoever signed which.
            if run.stdout.count(b"[GNUPG:] NEWSIG") > 1:
                raise SourceError(
                    f"{what} has more than one signature",
                    hint="somebody added to it on the way: use another --mirror",
                )
            signature = self._judge(run.stdout, what, role)
            return plain.read_bytes(), signature

    def verify(self, data: bytes, signature: bytes, what: str, role: str) -> Signature:
        """The detached *signature* over *data*.

        :raises SourceError: unless a pinned key for *role* made it.
        """
        with self.detached(signature, what, role) as check:
            check.feed(data)
        return check.result

    @contextmanager
    def detached(self, signature: bytes, what: str, role: str) -> Iterator[DetachedCheck]:
        """Check *signature* over what the block feeds; ``result`` is there when it has ended.

        :raises SourceError: unless a pinned key for *role* made it.
        """
        with self._keyring(role) as keyring, scratch("gpgv") as folder:
            file = folder / "signature"
            file.write_bytes(dearmored(signature, what))
            process = subprocess.Popen(
                [*_gpgv(keyring), file, "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert process.stdin is not None
            check = DetachedCheck(process.stdin)
            try:
                yield check
                status, _ = process.communicate()
            except BaseException:
                process.kill()
                process.communicate()
                raise
            check.result = self._judge(status, what, role)

    def _judge(self, status: bytes, what: str, role: str) -> Signature:
        lines = [
            line.split()[1:]
            for line in status.decode(errors="replace").splitlines()
            if line.startswith("[GNUPG:] ")
        ]
        words = {line[0]: line for line in lines if line}
        by_fingerprint = {key.fingerprint: key for key in self.pinned if role in key.signs}
        if "BADSIG" in words:
            raise SourceError(
                f"the signature of {what} does not fit its content",
                hint="somebody changed it on the way: use another --mirror; nothing was kept",
            )
        valid = words.get("VALIDSIG", [])
        key = by_fingerprint.get(valid[1]) if len(valid) > 4 else None
        if key is None:
            demand_clock()
            signer = next((words[word][1] for word in ("ERRSIG", "NO_PUBKEY") if word in words), "")
            known = next((key for key in by_fingerprint.values() if _names(key, signer)), None)
            if known is not None and known.name in self._missing:
                raise NetworkError(
                    f"{what} is signed by {known.name}, whose key {known.fingerprint} cannot be "
                    "fetched",
                    hint=f"put it into {self._kept(known)}, or try again with a network",
                )
            raise UnknownSignerError(
                f"{what} is not signed by anyone whose word counts for it"
                + (f" (key {signer or valid[1]})" if signer or valid else ""),
                hint="use another --mirror; who counts is listed in catalogue/keys.toml",
            )
        made = datetime.fromtimestamp(int(valid[3]), UTC)
        ends = int(valid[4])
        if "EXPSIG" in words or (ends and ends < datetime.now(UTC).timestamp()):
            raise SourceError(
                f"the signature of {what} has expired",
                hint="use another --mirror, or check this machine's clock",
            )
        if "REVKEYSIG" in words:
            raise SourceError(
                f"{what} is signed with a key that {key.name} has revoked",
                hint="use another --mirror, or a release whose tree the catalogue knows",
            )
        if "EXPKEYSIG" in words and not self._was_valid(key, words, made):
            raise SourceError(
                f"{what} is signed with an expired key of {key.name}",
                hint="check this machine's clock; if it is right, update tarpit-builder",
            )
        if not {"GOODSIG", "EXPKEYSIG"} & words.keys():
            raise SourceError(
                f"gpgv does not accept the signature of {what}",
                hint="use another --mirror; nothing was kept",
            )
        return Signature(key, made)

    def _was_valid(self, key: PinnedKey, words: dict[str, list[str]], made: datetime) -> bool:
        """Whether a *key* known to be retired made the signature while it was valid."""
        expired = words.get("KEYEXPIRED", [])
        return (
            key.retired
            and len(expired) > 1
            and expired[1].isdigit()
            and made.timestamp() < int(expired[1])
        )

    # -- key material ------------------------------------------------------------------------

    @contextmanager
    def _keyring(self, role: str) -> Iterator[Path]:
        """A keyring file with the keys for *role* that can be had."""
        with scratch("gpgv") as folder:
            keyring = folder / "keys.gpg"
            with keyring.open("wb") as out:
                for key in self.pinned:
                    if role in key.signs and (material := self._material(key)):
                        out.write(dearmored(material, f"the key of {key.name}"))
            yield keyring

    def _material(self, key: PinnedKey) -> bytes | None:
        kept = self._kept(key)
        for path in filter(None, (key.material, kept)):
            with suppress(OSError):
                return path.read_bytes()
        if self.store.offline or key.name in self._missing:
            self._missing.add(key.name)
            return None
        name = f"key-{key.fingerprint}"
        for url in key.urls:
            with self.store.lock(name), suppress(NetworkError, SourceError):
                data = self.store.read(name, [url], limit=KEY_LIMIT)
                if has_key(dearmored(data, key.name), key.fingerprint):
                    with paths.replacing(kept) as stage:
                        stage.write_bytes(data)
                    return data
        self._missing.add(key.name)
        return None

    def _kept(self, key: PinnedKey) -> Path:
        return self.store.root / "keys" / f"{key.fingerprint}.asc"


class DetachedCheck:
    """A gpgv that waits for data; ``result`` is set once all of it was fed."""

    result: Signature

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe

    def feed(self, chunk: bytes) -> None:
        """Hand over the next part of the signed data."""
        with suppress(BrokenPipeError):  # gpgv has seen enough; its status says why
            self._pipe.write(chunk)


def demand_clock() -> None:
    """Called where a signature is refused: keys of the future look like no keys at all.

    :raises InfrastructureError: if this machine's clock shows a time before this program was made.
    """
    now = time.time()
    if now < changelog.source_date_epoch():
        raise InfrastructureError(
            f"this machine's clock shows {datetime.fromtimestamp(now, UTC):%Y-%m-%d}, which is "
            "before this program was made",
            hint="set it (timedatectl set-ntp true); signatures cannot be checked by such a clock",
        )


def _gpgv(keyring: Path) -> list[str | Path]:
    program = shutil.which("gpgv")
    if program is None:
        raise ToolMissingError(
            "gpgv, which checks signatures, is not installed",
            hint="apt-get install gpgv, or run ./bootstrap",
        )
    # A wrong clock must not make good signatures bad; expiry is judged from the status lines.
    return [
        program,
        "--homedir",
        keyring.parent,
        "--keyring",
        keyring,
        "--status-fd",
        "1",
        "--ignore-time-conflict",
        "--quiet",
    ]


def _names(key: PinnedKey, signer: str) -> bool:
    return bool(signer) and key.fingerprint.endswith(signer)


def dearmored(data: bytes, what: str) -> bytes:
    """*data* without its ASCII armour, if it has one (RFC 9580, 6.2); gpgv wants keys bare.

    :raises SourceError: if the armour is damaged.
    """
    if not data.lstrip().startswith(b"-----BEGIN PGP"):
        return data
    out = b""
    for block in re.findall(
        rb"-----BEGIN PGP [A-Z ]+-----\r?\n(.*?)-----END PGP [A-Z ]+-----", data, re.DOTALL
    ):
        _, _, body = (b"\n" + re.sub(rb"\r\n?", b"\n", block)).partition(b"\n\n")
        lines = [line.strip() for line in body.split(b"\n")]
        try:
            out += base64.b64decode(
                b"".join(line for line in lines if not line.startswith(b"=")), validate=True
            )
        except binascii.Error:
            out = b""
            break
    if not out:
        raise SourceError(
            f"{what} is damaged", hint="fetch it again, from another --mirror if this happens twice"
        )
    return out


def public_keys(keyring: Path) -> bytes:
    """The keys in the file *keyring*, without their armour, as gpgv and apt want them.

    :raises UserError: if there are none.
    """
    keys = dearmored(keyring.read_bytes(), str(keyring))
    if not any(fingerprints(keys)):
        raise UserError(
            f"{keyring} holds no OpenPGP key",
            hint="name a file of public keys, as /usr/share/keyrings has them",
        )
    return keys


def has_key(material: bytes, fingerprint: str) -> bool:
    """Whether a primary or subkey in *material* (without armour) has *fingerprint*."""
    return fingerprint in set(fingerprints(material))


def fingerprints(data: bytes) -> Iterable[str]:
    """Fingerprints of the version 4 key packets in *data* (RFC 9580, 4.2 and 5.5.4.2)."""
    at = 0
    while at + 2 <= len(data):
        tag, first = data[at], data[at + 1]
        if tag & 0x40:
            kind = tag & 0x3F
            if first < 192:
                start, length = at + 2, first
            elif first < 224:
                start, length = at + 3, ((first - 192) << 8) + data[at + 2] + 192
            elif first == 255:
                start, length = at + 6, int.from_bytes(data[at + 2 : at + 6])
            else:
                return
        else:
            kind = (tag >> 2) & 0xF
            width = (1, 2, 4, 0)[tag & 3]
            if not width:
                return
            start, length = at + 1 + width, int.from_bytes(data[at + 1 : at + 1 + width])
        body = data[start : start + length]
        if kind in {6, 14} and body[:1] == b"\x04":
            packet = b"\x99" + len(body).to_bytes(2) + body
            yield hashlib.sha1(packet, usedforsecurity=False).hexdigest().upper()
        at = start + length


def _wkd(address: str) -> tuple[str, ...]:
    """Where the Web Key Directory has the key of a mail *address* (draft-koch-openpgp-webkey)."""
    local, _, domain = address.partition("@")
    if not domain:
        return ()
    number = int.from_bytes(hashlib.sha1(local.lower().encode(), usedforsecurity=False).digest())
    digest = "".join(_ZBASE32[number >> shift & 31] for shift in range(155, -1, -5))
    return (
        f"https://openpgpkey.{domain}/.well-known/openpgpkey/{domain}/hu/{digest}?l={local}",
        f"https://{domain}/.well-known/openpgpkey/hu/{digest}?l={local}",
    )
