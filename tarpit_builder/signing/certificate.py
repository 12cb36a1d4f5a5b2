"""The certificate that belongs to a signing key: what users enroll."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tarpit_builder import digests, paths
from tarpit_builder.errors import UserError

LARGEST = 1 << 16  # bytes of a certificate's file
SIZES = range(2048, 4097)  # bits of an RSA key; shim and firmware know no longer ones
PEM = b"-----BEGIN CERTIFICATE-----"
MODULE_SIGNING = "1.3.6.1.4.1.2312.16.1.2"
"""The extended key usage of a key that signs modules only: shim does not boot what it signed."""
MAKE = (
    "openssl req -new -x509 -newkey rsa:2048 -sha256 -days 3650 -subj '/CN=Modules of example/' "
    f"-addext keyUsage=critical,digitalSignature -addext extendedKeyUsage={MODULE_SIGNING} "
    "-keyout modules.key -out modules.crt"
)
"""Makes a key, with a passphrase, and its certificate."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """An X.509 certificate in *der*; *signer* is the name that ``modinfo`` shows."""

    der: bytes
    pem: bytes
    signer: str
    begins: datetime
    ends: datetime

    @property
    def sha256(self) -> str:
        """The digest of the file that users enroll."""
        return digests.content(self.der)


def load(path: Path, now: datetime | None = None) -> Certificate:
    """The certificate in the file *path*, PEM or DER.

    :param now: the time to judge by; the clock's by default.
    :raises UserError: if there is none, or kernels or shim would not take what its key signs, or it
        is not valid now.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    data = _content(path)
    try:
        read = x509.load_pem_x509_certificate if PEM in data else x509.load_der_x509_certificate
        found = read(data)
        names = found.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        _demand_suitable(found, path)
    except ValueError as error:
        raise UserError(
            f"{path} is no certificate that can be read: {error}",
            hint=f"name one in PEM or DER; key and certificate are made by: {MAKE}",
        ) from error
    if not names:
        raise UserError(
            f"the certificate {path} has no common name, which modinfo would show",
            hint=f"make one that has: {MAKE}",
        )
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    if not begins <= (now or datetime.now(UTC)) <= ends:
        raise UserError(
            f"the certificate {path} is valid from {begins:%Y-%m-%d} to {ends:%Y-%m-%d} only",
            hint="is the clock right? else sign with one that is valid, and have it enrolled",
        )
    return Certificate(
        found.public_bytes(Encoding.DER),
        found.public_bytes(Encoding.PEM),
        str(names[0].value),
        begins,
        ends,
    )


def _demand_suitable(found: object, path: Path) -> None:
    """See that kernels and shim take what the key of *found* signs."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    assert isinstance(found, x509.Certificate)
    key = found.public_key()
    if not isinstance(key, RSAPublicKey) or key.key_size not in SIZES:
        raise UserError(
            f"the key of {path} is not RSA of {SIZES[0]} to {SIZES[-1]} bits, which is all that "
            "shim, firmware and every kernel know",
            hint=f"make one: {MAKE}",
        )
    try:
        usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise UserError(
            f"the certificate {path} says that its key makes no digital signatures",
            hint=f"make one that may: {MAKE}",
        )


def _content(path: Path) -> bytes:
    hint = f"name one with --certificate; key and certificate are made by: {MAKE}"
    return paths.small_file(path, LARGEST, "a certificate", hint)
