"""A detached signature of a module: CMS, without attributes and certificates, by openssl.

These are the bytes that the kernel's ``sign-file`` makes of a key itself (CMS_NOATTR, CMS_NOCERTS,
CMS_BINARY; scripts/sign-file.c).  Kernels refuse a module's signature with attributes
(crypto/asymmetric_keys/pkcs7_verify.c).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tarpit_builder.errors import CheckFailedError, ToolMissingError, UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.signing.certificate import Certificate

PASSPHRASE = "TARPIT_SIGN_PASSPHRASE"  # noqa: S105  (the name of a variable)
TOKEN = "pkcs11:"  # noqa: S105  (how a URI of a token begins, RFC 7512)
SUFFIX = ".p7s"
LARGEST = 1 << 16  # bytes of a signature; those of RSA have less than 1 kB
HASHES = ("sha256", "sha384", "sha512")
HOW = (
    "openssl cms -sign -binary -noattr -nocerts -nosmimecap -md sha256 -outform DER "
    f"-signer CERTIFICATE -inkey KEY -in MODULE.ko -out MODULE.ko{SUFFIX}"
)
"""How a signature is made elsewhere; ``sign-file -d`` does the same."""

_ATTRIBUTES = re.compile(r"^ *signedAttrs:\s+(\S+)", re.MULTILINE)  # of each signer
_ALGORITHM = re.compile(r"digestAlgorithm:\s+algorithm: (\S+)")


def make(module: Path, key: str, certificate: Certificate) -> bytes:
    """The signature of the file *module* by *key*, a file or the PKCS #11 URI of one on a token.

    :raises UserError: if the key cannot be used, or is not that of *certificate*.
    :raises ToolMissingError: if openssl, or its support of tokens, is not installed.
    """
    with _files(certificate) as (folder, signer):
        out = folder / "signature"
        command = [
            *("openssl", "cms", "-sign", "-binary", "-noattr", "-nocerts", "-nosmimecap"),
            *("-md", HASHES[0], "-outform", "DER", "-signer", str(signer), *_key(key)),
            *("-in", str(module), "-out", str(out)),
        ]
        # Without a passphrase in the environment, openssl asks at the terminal, where there is one.
        if PASSPHRASE in os.environ:
            command += ["-passin", f"env:{PASSPHRASE}"]
        run = _openssl(command, ask=PASSPHRASE not in os.environ)
        made = out.read_bytes() if out.is_file() else b""
        # With a token's library by way of p11-kit, openssl may crash once it has signed.
        if run.returncode > 0 or not made:
            raise _unusable(key, run.stderr)
    check(made, module, certificate, module.name)
    return made


def check(signature: bytes, module: Path, certificate: Certificate, where: object) -> None:
    """See that *signature* is one of the file *module* that kernels accept, by *certificate*'s key.

    :param where: what a message calls the signature.
    :raises CheckFailedError: if it is not.
    """
    if len(signature) > LARGEST:
        raise CheckFailedError(
            f"{where} is larger than any signature", hint=f"it is made by: {HOW}"
        )
    with _files(certificate) as (folder, signer):
        given = folder / "given"
        given.write_bytes(signature)
        place = ("-inform", "DER", "-in", str(given))
        shown = _openssl(["openssl", "cms", "-cmsout", "-noout", "-print", *place])
        if shown.returncode:
            raise CheckFailedError(
                f"{where} is no CMS signature in DER", hint=f"one is made by: {HOW}"
            )
        if _ATTRIBUTES.findall(shown.stdout) != ["<ABSENT>"]:
            raise CheckFailedError(
                f"{where} signs attributes, or holds several signatures: kernels refuse it",
                hint=f"add -noattr, as in: {HOW}",
            )
        if (used := _ALGORITHM.findall(shown.stdout)) and used[-1] not in HASHES:
            raise CheckFailedError(
                f"{where} is by {used[-1]}, which is weak or unknown to kernels",
                hint=f"sign with {HASHES[0]}: {HOW}",
            )
        run = _openssl(
            [
                *("openssl", "cms", "-verify", "-binary", "-noverify", "-nointern"),
                *(*place, "-content", str(module), "-certfile", str(signer)),
                *("-out", os.devnull),
            ]
        )
    if run.returncode:
        raise CheckFailedError(
            f'{where} is no signature of {module.name} by the key of "{certificate.signer}"',
            hint="was it made of these very bytes, and by the key of that certificate?",
        )


@contextmanager
def _files(certificate: Certificate) -> Iterator[tuple[Path, Path]]:
    """A folder for openssl's files, and the certificate in it."""
    with scratch("sign") as folder:
        signer = folder / "certificate.pem"
        signer.write_bytes(certificate.pem)
        yield folder, signer


def _key(key: str) -> Sequence[str]:
    """openssl's options for *key*."""
    if key.startswith(TOKEN):
        return (*_token_support(), "-inkey", key)
    path = Path(key).expanduser()
    if not path.is_file():
        raise UserError(
            f"{key} is no file with a key, and no PKCS #11 URI",
            hint=f"name a file in PEM, or a key on a token as {TOKEN}token=NAME;object=KEY",
        )
    return ("-inkey", str(path))


@cache
def _token_support() -> tuple[str, ...]:
    """How openssl is told to look at tokens: by its provider, or by the engine before that."""
    provider = ("-provider", "pkcs11", "-provider", "default")
    if not _openssl(["openssl", "list", "-providers", *provider]).returncode:
        return provider
    if not _openssl(["openssl", "engine", "-t", "pkcs11"]).returncode:
        return ("-engine", "pkcs11", "-keyform", "engine")
    raise ToolMissingError(
        "openssl here cannot use keys on tokens",
        hint="apt-get install pkcs11-provider, or libengine-pkcs11-openssl before trixie",
    )


def _openssl(command: Sequence[str], *, ask: bool = False) -> subprocess.CompletedProcess[str]:
    """Run *command*; it may *ask* for a passphrase, where there is somebody."""
    if shutil.which(command[0]) is None:
        raise ToolMissingError("openssl is not installed", hint="apt-get install openssl")
    return subprocess.run(
        command,
        stdin=None if ask and sys.stdin.isatty() else subprocess.DEVNULL,
        start_new_session=not (ask and sys.stdin.isatty()),  # which leaves it no terminal to ask at
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _unusable(key: str, said: str) -> UserError:
    """What to raise of *key*, of which openssl *said* something."""
    what = "the key on the token" if key.startswith(TOKEN) else key
    if "key values mismatch" in said or "does not match" in said:
        return UserError(
            f"{what} is not the key of that certificate", hint="name those that belong together"
        )
    lines = [line for line in said.splitlines() if line.strip()] or ["openssl does not say why"]
    reason = next((line for line in lines if line.startswith("Could not")), lines[-1])
    if "PIN incorrect" in said:
        reason = "the PIN is wrong"
    if "Module initialization failed" in said:
        return UserError(
            f"{what} cannot be used to sign: openssl does not find the library of the token",
            hint="set PKCS11_PROVIDER_MODULE to it, or apt-get install p11-kit-modules",
        )
    return UserError(
        f"{what} cannot be used to sign: {reason}",
        hint=f"is it there, and {PASSPHRASE} its passphrase or PIN? where that is not set, openssl "
        "asks at the terminal",
    )
