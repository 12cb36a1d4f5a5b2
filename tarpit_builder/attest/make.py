"""Attestations of the package sets in ``dist/``, beside what they are about."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import digests, paths
from tarpit_builder.attest import envelope, package_set, provenance, results, sbom
from tarpit_builder.attest.documents import KINDS, PLAIN_SBOM, PROVENANCE, RESULT, SBOM
from tarpit_builder.build import MANIFEST, holding
from tarpit_builder.console import format_table
from tarpit_builder.errors import CheckFailedError, UserError

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from tarpit_builder.attest.package_set import AttestedSet

UNPROVEN = "nothing: `invoke verify` makes one"


@dataclass(frozen=True, slots=True)
class Attested:
    """A package set whose attestations were written, and what was proven of it (checks passed)."""

    of: AttestedSet
    checks: int


def attest(
    dist: Path, signer: Signer, *, only: Sequence[str] = (), builder: str = ""
) -> tuple[Attested, ...]:
    """Write and sign the attestations of all package sets in *dist*, or of those that fit *only*.

    :param builder: the URI of what built them; by default that of CI, or of a local machine.
    :raises UserError: if there are none.
    :raises CheckFailedError: if a file is not what was built, or the proof is of other bytes.
    :raises InfrastructureError: if the key does not sign.
    """
    folders = [path.parent for path in sorted(dist.glob(f"*/{MANIFEST}"))]
    chosen = [f for f in folders if not only or any(fnmatch.fnmatch(f.name, one) for one in only)]
    if not chosen:
        raise UserError(
            f"there is no package set {f'called {only[0]!r} ' if only else ''}in {dist}",
            hint=f"there are {', '.join(f.name for f in folders)}" if folders else "build one",
        )
    return tuple(_attest(folder, signer, provenance.builder_id(builder)) for folder in chosen)


def table(done: Sequence[Attested], signer: Signer) -> str:
    """What was attested, and by which key."""
    rows = [
        (one.of.name, one.of.version, f"{one.checks} checks passed" if one.checks else UNPROVEN)
        for one in done
    ]
    key = signer.public_key
    return "\n".join(
        [
            format_table(rows, header=("package set", "version", "proof")),
            "",
            f"signed by {key.keytype} {key.keyid[:16]}; `invoke check` takes its public key",
        ]
    )


def documents(of: AttestedSet, builder: str) -> dict[str, tuple[Mapping[str, str], dict[str, Any]]]:
    """Subject and predicate of each attestation of *of*, by the name of its file."""
    found = results.of_folder(of)
    made: dict[str, tuple[Mapping[str, str], dict[str, Any]]] = {
        PROVENANCE: (of.outputs, provenance.predicate(of, builder)),
        SBOM: (of.outputs, sbom.document(of)),
    }
    if found is not None:
        made[RESULT] = (of.proven, results.predicate(of, found))
    return made


def _attest(folder: Path, signer: Signer, builder: str) -> Attested:
    with holding(folder):
        of = package_set.load(folder)
        for name, value in of.outputs.items():
            path = folder / name
            if not path.is_file() or digests.file(path) != value:
                raise CheckFailedError(
                    f"{path} is not what was built: it has another SHA-256, or is not there",
                    hint=f"find out who changed it; {of.manifest['command']} makes it again",
                )
        made = documents(of, builder)
        signed = {
            name: envelope.write(subject, KINDS[name].predicate_type, predicate, signer)
            for name, (subject, predicate) in made.items()
        }
        signed[PLAIN_SBOM] = (json.dumps(made[SBOM][1], indent=1) + "\n").encode()
        for name, data in signed.items():
            with paths.replacing(folder / name) as stage:
                stage.write_bytes(data)
        if RESULT not in signed:
            (folder / RESULT).unlink(missing_ok=True)
    passed = made[RESULT][1]["passedTests"] if RESULT in made else ()
    return Attested(of, len(passed))
