"""SLSA provenance v1 of a package set: who built it, as what was asked, from what.

https://slsa.dev/spec/v1.0/provenance; what our buildType means is in ``docs/attestations.md``.
"""

from __future__ import annotations

import os
import shlex
from typing import Any

from tarpit_builder import digests
from tarpit_builder.attest import package_set
from tarpit_builder.attest.documents import BUILD_TYPE, LOCAL_BUILDER, UNPUBLISHED
from tarpit_builder.attest.package_set import AttestedSet
from tarpit_builder.build import MANIFEST


def builder_id(asked: str) -> str:
    """The URI of what built: *asked*, else the workflow of CI that this is, else a local one."""
    if asked:
        return asked
    environment = os.environ
    if (server := environment.get("GITHUB_SERVER_URL")) and (
        workflow := environment.get("GITHUB_WORKFLOW_REF")
    ):
        return f"{server}/{workflow}"
    return environment.get("CI_PROJECT_URL") or LOCAL_BUILDER


def predicate(of: AttestedSet, builder: str) -> dict[str, Any]:
    """The predicate about *of*, which *builder* (a URI) built.

    It is made by in-toto's own types, so that it can have no field that SLSA does not know.
    """
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2

    manifest = of.manifest
    facts = manifest.get("builder") or {}
    image = manifest["image"]
    metadata = {"invocationId": f"{manifest['key']}/{manifest.get('finished', '')}"}
    for ours, theirs in (("started", "startedOn"), ("finished", "finishedOn")):
        if manifest.get(ours):
            metadata[theirs] = manifest[ours]
    document = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "command": manifest["command"],
                "request": request(manifest["command"]),
                "maintainer": manifest["maintainer"],
                "homepage": manifest.get("homepage", ""),
            },
            "internalParameters": {
                "key": manifest["key"],
                "plan": {
                    name: value
                    for name, value in manifest["plan"].items()
                    if name not in {"choices", "warnings"}
                },
                "toolchain": manifest["toolchain"],
            },
            "resolvedDependencies": [*_sources(of), *_own(of), *_builder(facts)],
        },
        "runDetails": {
            "builder": {
                "id": builder,
                "version": {
                    "tarpit-builder": facts.get("version", ""),
                    "engine": image["engine"],
                },
                "builderDependencies": [_image(image), *_lock(facts)],
            },
            "metadata": metadata,
            "byproducts": [
                {"name": name, "digest": {"sha256": value}}
                for name, value in byproducts(of).items()
            ],
        },
    }
    message = json_format.ParseDict(document, provenance_pb2.Provenance())
    made: dict[str, Any] = json_format.MessageToDict(message)
    return made


def byproducts(of: AttestedSet) -> dict[str, str]:
    """What lies beside the outputs: the manifest, and what is not published, if it is there."""
    there = (of.folder / name for name in UNPUBLISHED)
    return {MANIFEST: of.sha256} | {
        file.name: digests.file(file) for file in there if file.is_file()
    }


def request(command: str) -> dict[str, str | bool]:
    """The options of *command*, as it was typed: what was asked for."""
    words = shlex.split(command)[2:]
    found: dict[str, str | bool] = {}
    for number, word in enumerate(words):
        if word.startswith("--"):
            after = words[number + 1] if number + 1 < len(words) else "--"
            found[word.removeprefix("--")] = True if after.startswith("--") else after
    return found


def _sources(of: AttestedSet) -> list[dict[str, Any]]:
    return [
        {
            "name": source["name"],
            "uri": source["uri"],
            "digest": source["digest"],
            "annotations": {"version": source["version"]},
        }
        for source in package_set.sources(of.manifest)
    ]


def _own(of: AttestedSet) -> list[dict[str, Any]]:
    """Every file of this project that the packages are made of."""
    return [
        {"name": f"source/{name}", "digest": {"sha256": value}}
        for name, value in sorted(of.manifest["module"].items())
    ]


def _builder(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The commit of this project, where it is known."""
    if not facts.get("commit"):
        return []
    return [
        {
            "name": "tarpit-builder",
            "digest": {"gitCommit": facts["commit"]},
            "annotations": {"changed": bool(facts.get("changed"))},
        }
    ]


def _image(image: dict[str, Any]) -> dict[str, Any]:
    """The image of the toolchain; its digest is the id that the container engine knows it by."""
    return {"name": image["tag"], "digest": {"sha256": image["id"].rpartition(":")[2]}}


def _lock(facts: dict[str, Any]) -> list[dict[str, Any]]:
    if not facts.get("lock"):
        return []
    return [{"name": "requirements.lock", "digest": {"sha256": facts["lock"]}}]
