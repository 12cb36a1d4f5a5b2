"""What the attestations of a package set are called, and which kind of statement each is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tarpit_builder import evidence
from tarpit_builder.build import LOG

PROVENANCE = "provenance.intoto.json"
SBOM = "sbom.intoto.json"
RESULT = "test-result.intoto.json"
PLAIN_SBOM = "sbom.cdx.json"
"""The predicate of :data:`SBOM` as tools for CycloneDX take it; the signed one vouches for it."""
UNPUBLISHED = (LOG, evidence.PROOF)
"""What lies beside the outputs and does not leave the machine; the provenance vouches for it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of attestation: what it is to people, and its predicateType."""

    title: str
    predicate_type: str


KINDS: Mapping[str, Kind] = {
    PROVENANCE: Kind("provenance", "https://slsa.dev/provenance/v1"),
    SBOM: Kind("SBOM", "https://cyclonedx.org/bom"),
    RESULT: Kind("proof", "https://in-toto.io/attestation/test-result/v0.1"),
}
"""By the name of the file."""

NAMESPACE = "tag:tarpit-builder,2026"
"""What our own URIs begin with (RFC 4151); ``docs/attestations.md`` says what each means."""

BUILD_TYPE = f"{NAMESPACE}:build/v1"
LOCAL_BUILDER = f"{NAMESPACE}:builder/local"
