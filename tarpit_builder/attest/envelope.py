"""A statement of in-toto in a signed envelope (DSSE 1.0, payload ``application/vnd.in-toto+json``).

Both are written by their own libraries; what is read is checked by them after the signature is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tarpit_builder.attest import strict
from tarpit_builder.errors import CheckFailedError, InfrastructureError, SourceError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from tarpit_builder.attest.keys import Trusted

PAYLOAD_TYPE = "application/vnd.in-toto+json"
SIGNATURES = 16  # of one envelope; more than anybody has keys


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody says of *subject*, SHA-256 by name, and *by* whose key it is signed."""

    subject: Mapping[str, str]
    predicate_type: str
    predicate: Mapping[str, Any]
    by: Trusted


def write(
    subject: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any], by: Signer
) -> bytes:
    """The signed envelope with the statement; the same each time but for the signature.

    :raises InfrastructureError: if *by* does not sign.
    """
    from google.protobuf import json_format
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement as InToto
    from securesystemslib.dsse import Envelope

    descriptors = [
        ResourceDescriptor(name=name, digest={"sha256": value}).pb
        for name, value in sorted(subject.items())
    ]
    statement = InToto(descriptors, predicate_type, dict(predicate))
    statement.validate()
    document = _whole(json_format.MessageToDict(statement.pb))
    envelope = Envelope(json.dumps(document, sort_keys=True).encode(), PAYLOAD_TYPE, {})
    try:
        envelope.sign(by)
    except Exception as error:  # each kind of key has its own
        said = str(error).strip().splitlines()
        raise InfrastructureError(
            f"nothing was signed: {said[-1] if said else type(error).__name__}",
            hint="see that the key, its passphrase and what holds it are at hand",
        ) from error
    return (json.dumps(envelope.to_dict(), sort_keys=True) + "\n").encode()


def read(data: bytes, where: object, keys: Sequence[Trusted]) -> Statement:
    """The statement in the envelope *data*, signed by one of *keys*.

    :raises SourceError: if none of *keys* signed it.
    :raises CheckFailedError: if what they signed is no statement.
    """
    payload, by = _verified(strict.parse(data, where), where, keys)
    document = strict.parse(payload, where)
    return _statement(document, where, by)


def _whole(value: Any) -> Any:
    """*value* with whole numbers as such: protobuf knows fractions only, and readers mind."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _verified(
    document: dict[str, Any], where: object, keys: Sequence[Trusted]
) -> tuple[bytes, Trusted]:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import Error
    from securesystemslib.signer import Signature

    signatures = document.get("signatures")
    if not isinstance(signatures, list) or not 1 <= len(signatures) <= SIGNATURES:
        raise strict.wrong(where, "has no signature, or too many")
    try:
        envelope = Envelope.from_dict(document)
        if envelope.payload_type != PAYLOAD_TYPE:
            raise strict.wrong(where, f"is an envelope with something else than {PAYLOAD_TYPE}")
        pae = envelope.pae()
    except (KeyError, ValueError, TypeError, AttributeError, Error) as error:
        raise strict.wrong(where, "is no signed envelope") from error
    ended: Trusted | None = None
    for signature in envelope.signatures.values():
        for one in keys:
            # Some tools leave the key's name out; it is a hint and no more (DSSE 1.0).
            if signature.keyid not in {"", one.key.keyid}:
                continue
            named = Signature(
                one.key.keyid, signature.signature, dict(signature.unrecognized_fields)
            )
            try:
                one.key.verify_signature(named, pae)
            except Exception:  # noqa: S112  (whatever it is, this key does not vouch for it)
                continue
            if not one.ended:
                return envelope.payload, one
            ended = one
    if ended:
        raise SourceError(
            f"{where} is signed by a key that {ended.ended}: {ended.label}",
            hint="ask the distributor for the key as it is now, or for attestations by the new one",
        )
    names = ", ".join(sorted(name[:16] or "unnamed" for name in envelope.signatures))
    given = ", ".join(one.label for one in keys)
    raise SourceError(
        f"{where} has no good signature of a key that you named: it says {names}, you say {given}",
        hint="it was changed, or another key signed it; --key may be repeated for old and new keys",
    )


def _statement(document: dict[str, Any], where: object, by: Trusted) -> Statement:
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement as InToto

    try:
        message = json_format.ParseDict(
            document, statement_pb2.Statement(), ignore_unknown_fields=True
        )
        InToto.copy_from_pb(message).validate()
        predicate, kind = document["predicate"], str(document["predicateType"])
        subject: dict[str, str] = {}
        for item in document["subject"]:
            name = strict.file_name(item.get("name"), where)
            if name in subject:
                raise strict.wrong(where, f"is about {name} twice")
            subject[name] = strict.sha256(item["digest"].get("sha256"), where)
    except CheckFailedError:
        raise
    except (json_format.ParseError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise strict.wrong(where, f"is no statement of in-toto: {error}") from error
    return Statement(subject, kind, predicate, by)
