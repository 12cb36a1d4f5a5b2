"""A package set judged as a stranger would: signatures, then bytes, then what was proven.

Nothing of it is believed but what one of the given keys signed, and what agrees with that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tarpit_builder import digests, evidence
from tarpit_builder.attest import envelope, package_set, results, sbom, strict
from tarpit_builder.attest.documents import (
    BUILD_TYPE,
    KINDS,
    PLAIN_SBOM,
    PROVENANCE,
    RESULT,
    SBOM,
    UNPUBLISHED,
)
from tarpit_builder.attest.envelope import Statement
from tarpit_builder.attest.keys import Trusted
from tarpit_builder.attest.package_set import AttestedSet
from tarpit_builder.build import MANIFEST
from tarpit_builder.errors import CheckFailedError

BESIDE = frozenset({MANIFEST, *UNPUBLISHED, evidence.EVIDENCE, PLAIN_SBOM, *KINDS})
"""Files of a package set that are no outputs; the attestations vouch for each, too."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of a proof: these *groups* of checks passed, unless there may be none."""

    groups: tuple[str, ...] = ("smoke",)
    unproven: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """A package set that is as it was attested.

    *keys* are those that signed it, *builder* is the URI of what built it, *booted* the kernel
    that it was proven on and *passed* how many checks; *files* were looked at, by SHA-256.
    """

    name: str
    version: str
    builder: str
    keys: tuple[str, ...]
    booted: str
    passed: int
    groups: tuple[str, ...]
    finished: str
    files: Mapping[str, str]


def check(
    folder: Path,
    keys: Sequence[Trusted],
    policy: Policy,
    *,
    find: Callable[[str], Path | None] | None = None,
    name: str = "",
) -> Checked:
    """Judge the package set whose manifest and attestations are in *folder*.

    :param find: where each output is; None where it is not handed out (any more).  By default all
        are in *folder*, and nothing else.
    :param name: what errors call the folder.
    :raises SourceError: if none of *keys* signed an attestation.
    :raises CheckFailedError: if anything is not as attested, or the *policy* is not met.
    """
    name = name or folder.name
    of = package_set.load(folder, strict.read(folder / MANIFEST))
    statements = {
        document: _statement(folder / document, f"{name}/{document}", keys)
        for document in KINDS
        if document != RESULT or not policy.unproven or (folder / RESULT).is_file()
    }
    built, bill = statements[PROVENANCE], statements[SBOM]
    proof = statements.get(RESULT)
    for document, statement in statements.items():
        _same_subject(f"{name}/{document}", statement, of, proof=document == RESULT)
    builder = _provenance(f"{name}/{PROVENANCE}", built.predicate, of)
    _bill(f"{name}/{SBOM}", bill.predicate, of)
    groups, booted = _proof(f"{name}/{RESULT}", proof, of, policy) if proof else ((), "")
    files = _files(of, name, find)
    return Checked(
        name=of.name,
        version=of.version,
        builder=builder,
        keys=tuple(dict.fromkeys(statement.by.label for statement in statements.values())),
        booted=booted,
        passed=len(proof.predicate["passedTests"]) if proof else 0,
        groups=groups,
        finished=str((built.predicate["runDetails"].get("metadata") or {}).get("finishedOn", "")),
        files=files,
    )


def _statement(path: Path, where: str, keys: Sequence[Trusted]) -> Statement:
    """The statement of the kind that *path* is called after."""
    kind = KINDS[path.name]
    if not path.is_file():
        hint = "get it from whoever built the packages"
        if path.name == RESULT:
            hint += ", or leave out the proof with --unproven"
        raise CheckFailedError(f"{where} is missing: there is no signed {kind.title}", hint=hint)
    found = envelope.read(strict.read(path), where, keys)
    if found.predicate_type != kind.predicate_type:
        known = {one.predicate_type: one.title for one in KINDS.values()}
        what = known.get(found.predicate_type) or f"of the kind {found.predicate_type[:120]!r}"
        raise strict.wrong(where, f"is {what}, where the {kind.title} should be")
    return found


def _same_subject(where: str, statement: Statement, of: AttestedSet, *, proof: bool) -> None:
    """See that *statement* is about the very bytes that *of* lists."""
    expected = of.proven if proof else of.outputs
    if statement.subject == expected:
        return
    if not statement.subject.keys() & expected.keys():
        raise strict.wrong(where, f"is about another package set, with {min(statement.subject)}")
    names = sorted(
        name
        for name in statement.subject.keys() | expected.keys()
        if statement.subject.get(name) != expected.get(name)
    )
    raise strict.wrong(where, f"is about other bytes than {MANIFEST} lists: {names[0]} differs")


def _provenance(where: str, predicate: Mapping[str, Any], of: AttestedSet) -> str:
    """The builder, once provenance and manifest agree."""
    try:
        definition, details = predicate["buildDefinition"], predicate["runDetails"]
        kind = definition["buildType"]
        if kind != BUILD_TYPE:
            raise strict.wrong(
                where, f"is of a kind of build that is not known: {str(kind)[:80]!r}"
            )
        named = {str(item.get("name")): item["digest"] for item in details["byproducts"]}
        if named.get(MANIFEST) != {"sha256": of.sha256}:
            raise strict.wrong(where, f"is about another {MANIFEST} than the one beside it")
        for name in UNPUBLISHED:
            file = of.folder / name
            if file.is_file() and named.get(name) != {"sha256": digests.file(file)}:
                raise strict.wrong(where, f"is about another {name} than the one beside it")
        if definition["internalParameters"]["key"] != of.manifest["key"]:
            raise strict.wrong(where, f"and {MANIFEST} are about different builds")
        have = [
            (str(item.get("name")), item["digest"]) for item in definition["resolvedDependencies"]
        ]
        for source in package_set.sources(of.manifest):
            if (source["name"], source["digest"]) not in have:
                raise strict.wrong(where, f"and {MANIFEST} differ on the source {source['name']}")
        for member, value in of.manifest["module"].items():
            if (f"source/{member}", {"sha256": value}) not in have:
                raise strict.wrong(where, f"and {MANIFEST} differ on the source {member}")
        return str(details["builder"]["id"])
    except (KeyError, TypeError, AttributeError) as error:
        raise strict.wrong(where, f"lacks what SLSA asks for: {error}") from error


def _bill(where: str, predicate: Mapping[str, Any], of: AttestedSet) -> None:
    """See that the bill of materials is of *of*, and the plain one the same."""
    try:
        if predicate.get("bomFormat") != "CycloneDX":
            raise strict.wrong(where, "is no bill of materials of CycloneDX")
        if sbom.packages_of(dict(predicate)) != of.outputs:
            raise strict.wrong(where, f"lists other packages than {MANIFEST}")
        if sbom.property_of(dict(predicate), "manifest-sha256") != of.sha256:
            raise strict.wrong(where, f"is about another {MANIFEST} than the one beside it")
    except (KeyError, TypeError, AttributeError) as error:
        raise strict.wrong(where, f"is not as CycloneDX has it: {error}") from error
    plain = of.folder / PLAIN_SBOM
    if plain.exists() and strict.parse(strict.read(plain), plain.name) != predicate:
        raise CheckFailedError(
            f"{where.rpartition('/')[0]}/{PLAIN_SBOM} is not what was signed as {SBOM}",
            hint=strict.FROM_BUILDER,
        )


def _proof(
    where: str, statement: Statement, of: AttestedSet, policy: Policy
) -> tuple[tuple[str, ...], str]:
    """Groups of checks that passed, and the kernel, once the proof says what *policy* asks for."""
    predicate = statement.predicate
    try:
        if predicate["result"] != results.PASSED or predicate.get("failedTests"):
            raise strict.wrong(
                where, f"says {str(predicate['result'])[:20]}: not all checks passed"
            )
        passed = [str(name) for name in predicate.get("passedTests", ())]
        groups = tuple(dict.fromkeys(re.split(r"[/ :]", name)[0] for name in passed))
        settings = {str(row["name"]): row for row in predicate["configuration"]}
        kept = settings[evidence.EVIDENCE]["digest"]["sha256"]
        booted = {
            str(row["annotations"]["booted"])
            for row in settings.values()
            if "booted" in row.get("annotations", {})
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise strict.wrong(where, f"lacks what a proof has: {error}") from error
    if missing := [group for group in policy.groups if group not in groups]:
        raise CheckFailedError(
            f"{where} has no passed check of {', '.join(missing)}, only of {', '.join(groups)}",
            hint="ask for a fuller proof, or for less with --require",
        )
    kernel = min(booted, default="")
    # A release of one's own has a suffix; 6.1 is not the beginning of 6.12.
    if len(booted) != 1 or not re.match(rf"Linux {re.escape(of.name)}(?![0-9])", kernel):
        raise strict.wrong(where, f"is of {kernel or 'no kernel'}, and the packages for {of.name}")
    beside = of.folder / evidence.EVIDENCE
    if beside.exists() and digests.content(strict.read(beside)) != kept:
        raise CheckFailedError(
            f"{where.rpartition('/')[0]}/{evidence.EVIDENCE} is not what was signed as {RESULT}",
            hint=strict.FROM_BUILDER,
        )
    return groups, kernel


def _files(of: AttestedSet, name: str, find: Callable[[str], Path | None] | None) -> dict[str, str]:
    """The files that are there, each as attested; nothing else is in the folder."""
    found = {}
    for file, value in of.outputs.items():
        path = find(file) if find else of.folder / file
        if path is None:
            continue
        if path.is_symlink() or not path.is_file():
            raise CheckFailedError(f"{name}/{file} is missing", hint=strict.FROM_BUILDER)
        if digests.file(path) != value:
            raise CheckFailedError(
                f"{name}/{file} is not what was attested: it has another SHA-256",
                hint="do not install it; get it anew, and tell whoever built it",
            )
        found[file] = value
    known = BESIDE | of.outputs.keys()
    for path in sorted(of.folder.rglob("*")):
        file = str(path.relative_to(of.folder))
        if path.is_symlink() or not (path.is_dir() or (path.is_file() and file in known)):
            raise CheckFailedError(
                f"{name}/{file} is a file that nothing vouches for",
                hint="remove it, or ask whoever built the packages what it is",
            )
    return found
