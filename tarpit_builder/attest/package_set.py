"""A package set: what one build left in a folder, as its manifest says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tarpit_builder import digests
from tarpit_builder.attest import strict
from tarpit_builder.build import FORMAT, MANIFEST
from tarpit_builder.errors import UserError

PACKAGE = ".deb"
DIGESTS = {"sha256": "sha256", "git-tree": "gitTree", "git-commit": "gitCommit"}
"""Digests of sources: how manifests call them, and in-toto's DigestSet."""


@dataclass(frozen=True, slots=True)
class AttestedSet:
    """The folder *folder*, with the bytes of its manifest and what they say.

    *outputs* are the SHA-256 of all files that were built, by name.
    """

    folder: Path
    raw: bytes
    manifest: Mapping[str, Any]
    outputs: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the build calls itself: its kernel."""
        return str(self.plan.get("kernel") or self.folder.name)

    @property
    def plan(self) -> Mapping[str, Any]:
        """What was decided before it was built."""
        plan = self.manifest.get("plan")
        return plan if isinstance(plan, dict) else {}

    @property
    def version(self) -> str:
        """The version of the packages, of signed ones that of the modules; ``""`` if none."""
        signed = "signed" in self.manifest
        for name in sorted(self.outputs, key=lambda name: (signed and "+signed" not in name, name)):
            if name.endswith(PACKAGE) and name.count("_") == 2:
                return name.split("_")[1]
        return str(self.plan.get("version") or "")

    @property
    def proven(self) -> Mapping[str, str]:
        """Of the outputs, those that a proof is about: the packages, or all if there are none."""
        packages = {name: value for name, value in self.outputs.items() if name.endswith(PACKAGE)}
        return packages or self.outputs

    @property
    def sha256(self) -> str:
        """The digest of the manifest."""
        return digests.content(self.raw)


def load(folder: Path, raw: bytes | None = None) -> AttestedSet:
    """The package set in *folder*; what its manifest says is well-formed, and no more.

    :param raw: the manifest, if it was read already.
    :raises UserError: if there is no manifest.
    :raises CheckFailedError: if it is not one that can be read.
    """
    path = folder / MANIFEST
    if raw is None:
        if not path.is_file():
            raise UserError(
                f"there is no {MANIFEST} in {folder}",
                hint="name a folder that `invoke build` made, such as dist/KERNEL",
            )
        raw = strict.read(path)
    manifest = strict.parse(raw, path)
    if manifest.get("format") != FORMAT:
        raise strict.wrong(path, "is of a format that this release does not know")
    listed = manifest.get("outputs")
    if not isinstance(listed, list) or not listed:
        raise strict.wrong(path, "lists no outputs")
    outputs: dict[str, str] = {}
    for item in listed:
        if not isinstance(item, dict):
            raise strict.wrong(path, "lists an output that has no name")
        name = strict.file_name(item.get("file"), path)
        if name in outputs:
            raise strict.wrong(path, f"lists {name} twice")
        outputs[name] = strict.sha256(item.get("sha256"), path)
    return AttestedSet(folder, raw, manifest, outputs)


def sources(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sources of a build, each with a name, where it is from, its version and its digests.

    The digests have the names that in-toto gives them (``sha256``, ``gitTree``).
    """
    found = []
    for source in manifest.get("sources", ()):
        said = {**source.get("digests", {}), **source}
        name = source.get("package") or source.get("name") or source.get("origin") or "source"
        found.append(
            {
                "name": str(name),
                "version": str(source.get("version") or ""),
                "uri": _uri(str(source.get("url") or source.get("origin") or "")),
                "digest": {to: str(said[key]) for key, to in DIGESTS.items() if said.get(key)},
            }
        )
    return found


def toolchain(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The packages of the toolchain, with their versions."""
    rows = (re.fullmatch(r"([a-z0-9][a-z0-9+.:-]+) (\S+)", str(t)) for t in manifest["toolchain"])
    return {row[1].partition(":")[0]: row[2] for row in rows if row}


def _uri(origin: str) -> str:
    """Where a source is from, as a URI; a name that is none is left out."""
    if origin.startswith("/"):
        return Path(origin).as_uri()
    return origin if re.match(r"[a-z][a-z0-9+.-]*:", origin) else ""
