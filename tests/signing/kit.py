"""Keys and certificates to sign modules with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from tarpit_builder.signing import certificate as certificates
from tarpit_builder.signing.certificate import Certificate

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A secret *key* and its certificate, in PEM and in DER."""

    key: Path
    crt: Path
    der: Path

    @property
    def certificate(self) -> Certificate:
        """What the product makes of it, whenever it was valid."""
        begins = x509.load_pem_x509_certificate(self.crt.read_bytes()).not_valid_before_utc
        return certificates.load(self.crt, now=begins + DAY / 2)


def pair(
    folder: Path,
    name: str,
    *,
    begins: datetime | None = None,
    days: int = 30,
    bits: int = 2048,
    curve: bool = False,
    usage: bool | None = True,
    common_name: bool = True,
    passphrase: str = "",
) -> Pair:
    """A new key and a certificate for it called *name*, valid for *days* from *begins* on.

    :param usage: whether the certificate says that the key signs; None if it says nothing.
    """
    key = (
        ec.generate_private_key(ec.SECP256R1()) if curve else rsa.generate_private_key(65537, bits)
    )
    kind = NameOID.COMMON_NAME if common_name else NameOID.ORGANIZATION_NAME
    subject = x509.Name([x509.NameAttribute(kind, name)])
    begins = begins or datetime.now(UTC) - DAY
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
    )
    if usage is not None:
        names = (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        )
        said = {**dict.fromkeys(names, False), "digital_signature": usage, "crl_sign": not usage}
        builder = builder.add_extension(x509.KeyUsage(**said), critical=True)
    made = builder.sign(key, hashes.SHA256())
    found = Pair(folder / f"{name}.key", folder / f"{name}.crt", folder / f"{name}.der")
    locked = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    found.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    found.crt.write_bytes(made.public_bytes(Encoding.PEM))
    found.der.write_bytes(made.public_bytes(Encoding.DER))
    return found
