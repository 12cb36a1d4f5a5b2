"""The proof of a package set, as in-toto's test result.

https://in-toto.io/attestation/test-result/v0.1
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tarpit_builder import digests, evidence
from tarpit_builder.attest.package_set import AttestedSet
from tarpit_builder.errors import CheckFailedError

PASSED = "PASSED"
ACCEL = "accelerator"


def of_folder(of: AttestedSet) -> Mapping[str, Any] | None:
    """What was proven of *of*, None if nothing was.

    :raises CheckFailedError: if it does not say of which bytes, or of others.
    """
    found = evidence.proven(of.folder)
    if found is None:
        return None
    if "proven" not in found or "booted" not in found:
        raise CheckFailedError(
            f"{of.folder / evidence.EVIDENCE} is of an older release, and does not say which bytes "
            "were proven",
            hint=f"prove them again: {of.manifest['command'].replace(' build', ' verify', 1)}",
        )
    if {name: of.outputs.get(name) for name in found["proven"]} != found["proven"]:
        raise CheckFailedError(
            f"{of.folder / evidence.EVIDENCE} is about other packages than those beside it",
            hint="prove these with `invoke verify`",
        )
    return found


def predicate(of: AttestedSet, found: Mapping[str, Any]) -> dict[str, Any]:
    """The predicate of the proof *found* of *of*."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2

    kernel = f"Linux {found['kernel']}"
    configuration = [
        {"name": name, "digest": {"sha256": value}, "annotations": {"booted": kernel}}
        for name, value in sorted(found["booted"].items())
    ]
    configuration.append(
        {
            "name": evidence.EVIDENCE,
            "digest": {"sha256": digests.file(of.folder / evidence.EVIDENCE)},
            "annotations": {
                ACCEL: found["accel"],
                "processors": found["cpus"],
                "groups": found["groups"],
                "finished": found["finished"],
            },
        }
    )
    document = {
        "result": PASSED,
        "configuration": configuration,
        "passedTests": [row["name"] for row in found["checks"] if row["outcome"] == "pass"],
    }
    message = json_format.ParseDict(document, test_result_pb2.TestResult())
    made: dict[str, Any] = json_format.MessageToDict(message)
    return made
