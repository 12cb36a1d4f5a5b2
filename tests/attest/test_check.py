"""`invoke check` of a folder, by a stranger who has the public key and nothing else."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.attest import keys, make, strict, verdict
from tarpit_builder.attest.check import Checked, Policy, check
from tarpit_builder.attest.documents import KINDS, PLAIN_SBOM, PROVENANCE, RESULT, SBOM
from tarpit_builder.console import Console
from tarpit_builder.errors import CheckFailedError, SourceError, TarpitError, UserError
from tarpit_builder.publish import keys as gpg
from tests.attest.kit import (
    ABI,
    changed,
    package_set,
    payload,
    prove,
    signed_anew,
    signed_text,
)

INVOKE = str(Path(sys.executable).parent / "invoke")
DKMS = "xt-tarpit-dkms_1.0.0+deb13_all.deb"


def checked(folder: Path, *files: Path, policy: Policy | None = None) -> Checked:
    """What is found in *folder* with the public keys in *files*."""
    with keys.trusted(files) as trusted:
        return check(folder, trusted, policy or Policy())


def test_what_is_as_attested_is_good(original: Path, pair: tuple[Path, Path]) -> None:
    found = checked(original, pair[1])
    assert (found.name, found.version, found.passed) == (ABI, "1.0.0+deb13", 2)
    assert (found.booted, found.groups) == (f"Linux {ABI}", ("smoke", "wire"))
    assert found.files.keys() == {path.name for path in original.iterdir()} - {
        *KINDS,
        *("manifest.json", "build.log", "verify.json", "proof.json", PLAIN_SBOM),
    }
    assert [label.split()[0] for label in found.keys] == ["ed25519"]


def test_what_is_not_an_output_may_be_left_out(attested: Path, pair: tuple[Path, Path]) -> None:
    for name in ("build.log", "verify.json", PLAIN_SBOM):
        (attested / name).unlink()
    assert checked(attested, pair[1]).passed == 2


# -- signatures --------------------------------------------------------------------------------


def test_another_key_is_none(
    original: Path, pair: tuple[Path, Path], stranger: tuple[Path, Path]
) -> None:
    with pytest.raises(SourceError, match="no good signature of a key that you named"):
        checked(original, stranger[1])
    assert checked(original, stranger[1], pair[1]).passed == 2


def test_after_a_change_of_keys_both_are_named(
    tmp_path: Path, original: Path, pair: tuple[Path, Path], stranger: tuple[Path, Path]
) -> None:
    newer = package_set(tmp_path / "dist", abi="6.12.118+deb13-amd64", version="1.1.0+deb13")
    make.attest(newer.parent, keys.signer(str(stranger[0])))
    shutil.copytree(original, newer.parent / original.name)
    outcome = verdict.judge(
        str(newer.parent), [pair[1], stranger[1]], Policy(), Console(quiet=True)
    )
    assert not outcome.wrong
    labels = {one.version: one.keys for one in outcome.sets}
    assert "attest.pub" in labels["1.0.0+deb13"][0]
    assert "stranger.pub" in labels["1.1.0+deb13"][0]


def test_signature_of_a_tool_that_names_no_key_counts(
    attested: Path, pair: tuple[Path, Path]
) -> None:
    document = json.loads((attested / PROVENANCE).read_text())
    document["signatures"][0]["keyid"] = ""
    (attested / PROVENANCE).write_text(json.dumps(document))
    assert checked(attested, pair[1]).passed == 2


def test_openpgp_key_signs_until_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "gnupg"
    key = gpg.throwaway(home, lifetime="seconds=4")
    began = time.monotonic()
    public = tmp_path / "key.asc"
    public.write_bytes(key.public())
    folder = package_set(tmp_path / "dist")
    monkeypatch.setenv("GNUPGHOME", str(home))
    make.attest(folder.parent, keys.signer(f"gnupg:{key.fingerprint}"))
    monkeypatch.delenv("GNUPGHOME")
    assert checked(folder, public).keys[0].startswith("eddsa ")
    time.sleep(max(0.0, began + 5.1 - time.monotonic()))
    with pytest.raises(SourceError, match="signed by a key that expired on"):
        checked(folder, public)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


# -- bytes -------------------------------------------------------------------------------------

Change = Callable[[Path, Path], None]
"""What somebody does to a folder; with the distributor's secret key, which only some have."""


def cut(name: str) -> Change:
    return lambda folder, _: (folder / name).unlink()


def written(name: str, data: bytes) -> Change:
    def change(folder: Path, _: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return change


def swapped(name: str, **other: str) -> Change:
    """Put the attestation *name* of another package set in its place, signed by the same key."""

    def change(folder: Path, pem: Path) -> None:
        made = package_set(folder.parent / "other", **other)  # type: ignore[arg-type]
        make.attest(made.parent, keys.signer(str(pem)))
        shutil.copyfile(made / name, folder / name)

    return change


def renamed(name: str, to: str) -> Change:
    def change(folder: Path, _: Path) -> None:
        shutil.copyfile(folder / name, folder / to)

    return change


def resigned(name: str, **fields: object) -> Change:
    """Have the distributor sign a statement in which *fields* are others."""
    return lambda folder, pem: signed_anew(folder / name, pem, lambda s: s.update(fields))


def resigned_predicate(name: str, **fields: object) -> Change:
    return lambda folder, pem: signed_anew(
        folder / name, pem, lambda s: s["predicate"].update(fields)
    )


def manifest_with(**fields: object) -> Change:
    return lambda folder, _: changed(folder / "manifest.json", **fields)


def output(name: object, sha256: object = "0" * 64) -> list[dict[str, object]]:
    return [{"file": name, "size": 1, "sha256": sha256}]


def twice(name: str) -> Change:
    """A key twice in the envelope."""

    def change(folder: Path, _: Path) -> None:
        text = (folder / name).read_text()
        (folder / name).write_text('{"payloadType": "x", ' + text.lstrip()[1:])

    return change


def twice_inside(folder: Path, pem: Path) -> None:
    """A key twice in the statement, which the distributor signed."""
    text = json.dumps(payload(folder / RESULT))
    signed_text(folder / RESULT, pem, '{"predicateType": "x", ' + text[1:])


def linked(folder: Path, _: Path) -> None:
    (folder / DKMS).rename(folder.parent / DKMS)
    (folder / DKMS).symlink_to(folder.parent / DKMS)


def piped(folder: Path, _: Path) -> None:
    (folder / DKMS).unlink()
    os.mkfifo(folder / DKMS)


def proven_elsewhere(folder: Path, pem: Path) -> None:
    """A proof of these very packages, on another kernel."""
    prove(folder, ("smoke",), abi="6.1.0-50-amd64")
    make.attest(folder.parent, keys.signer(str(pem)))


def only_wire(folder: Path, pem: Path) -> None:
    prove(folder, ("wire",))
    make.attest(folder.parent, keys.signer(str(pem)))


CHANGES: dict[str, tuple[Change, str]] = {
    "package changed": (written(DKMS, b"evil"), "is not what was attested"),
    "package missing": (cut(DKMS), "is missing"),
    "package is a link": (linked, "is missing"),
    "package is a pipe": (piped, "is missing"),
    "stranger": (written("extra.deb", b"evil"), "nothing vouches for"),
    "stranger in a folder": (written("more/extra.deb", b"evil"), "nothing vouches for"),
    "no manifest": (cut("manifest.json"), "is missing, or no regular file"),
    "manifest changed": (manifest_with(maintainer="E <e@e.e>"), "about another manifest.json"),
    "manifest of other bytes": (manifest_with(outputs=output(DKMS)), "about other bytes"),
    "manifest of nothing": (manifest_with(outputs=[]), "lists no outputs"),
    "manifest of the future": (manifest_with(format=2), "of a format that this release"),
    "way out": (manifest_with(outputs=output("../evil")), "nobody would name so"),
    "absolute": (manifest_with(outputs=output("/etc/passwd")), "nobody would name so"),
    "hidden": (manifest_with(outputs=output(".evil")), "nobody would name so"),
    "line break": (manifest_with(outputs=output("a\nb")), "nobody would name so"),
    "no name": (manifest_with(outputs=output(None)), "nobody would name so"),
    "no digest": (manifest_with(outputs=output("a", "xyz")), "has no SHA-256"),
    "twice": (manifest_with(outputs=output("a") * 2), "lists a twice"),
    "log changed": (written("build.log", b"nothing happened"), "about another build.log"),
    "record changed": (lambda f, _: changed(f / "verify.json", accel="kvm"), "not what was signed"),
    "plain bill changed": (
        lambda f, _: changed(f / PLAIN_SBOM, version=2),
        f"{PLAIN_SBOM} is not what was signed",
    ),
    "no provenance": (cut(PROVENANCE), "there is no signed provenance"),
    "no bill": (cut(SBOM), "there is no signed SBOM"),
    "no proof": (cut(RESULT), "there is no signed proof"),
    "provenance of another set": (
        swapped(PROVENANCE, abi="6.1.0-50-amd64"),
        "is about other bytes than manifest.json lists",
    ),
    "bill of another set": (swapped(SBOM, abi="6.1.0-50-amd64"), "is about other bytes"),
    "proof of another set": (swapped(RESULT, abi="6.1.0-50-amd64"), "is about other bytes"),
    "proof of an older version": (
        swapped(RESULT, version="0.9.0+deb13"),
        "is about another package set, with xt-tarpit-common_0.9.0",
    ),
    "proof in place of provenance": (renamed(RESULT, PROVENANCE), "is proof, where the prov"),
    "unknown kind": (
        resigned(PROVENANCE, predicateType="https://example.org/vibes/v1"),
        "is of the kind 'https://example.org/vibes/v1'",
    ),
    "no statement": (resigned(RESULT, _type="https://example.org/"), "Wrong statement type"),
    "about nothing": (resigned(RESULT, subject=[]), "At least one subject"),
    "no predicate": (resigned(RESULT, predicate={}), "Predicate object required"),
    "no list": (resigned(RESULT, subject=7), "no statement of in-toto"),
    "other build": (
        resigned_predicate(PROVENANCE, buildDefinition={"buildType": "https://example.org/x"}),
        "a kind of build that is not known",
    ),
    "half a provenance": (
        resigned_predicate(PROVENANCE, runDetails={}),
        "lacks what SLSA asks for",
    ),
    "no bill at all": (resigned_predicate(SBOM, bomFormat="SPDX"), "no bill of materials"),
    "bill of less": (resigned_predicate(SBOM, components=[]), "lists other packages"),
    "failed": (resigned_predicate(RESULT, result="FAILED"), "says FAILED"),
    "half failed": (resigned_predicate(RESULT, failedTests=["x"]), "not all checks passed"),
    "half a proof": (resigned_predicate(RESULT, configuration=[]), "lacks what a proof has"),
    "proven elsewhere": (proven_elsewhere, "is of Linux 6.1.0-50-amd64, and the packages for"),
    "not all that is asked for": (only_wire, "no passed check of smoke, only of wire"),
    "key twice": (twice(SBOM), "the key 'payloadType' is there twice"),
    "key twice inside": (twice_inside, "the key 'predicateType' is there twice"),
    "huge": (written(SBOM, b" " * (strict.LIMIT + 1)), "is larger than 16 MiB"),
    "deep": (written(SBOM, b"[" * 100_000), "not the JSON"),
    "deep object": (written(SBOM, b'{"a":' * 100_000), "not the JSON"),
    "list": (written(SBOM, b"[]"), "is no JSON object"),
    "not text": (written(SBOM, b"\xff\xfe"), "not the JSON"),
    "no number": (written(SBOM, b'{"a": NaN}'), "not the JSON"),
    "no envelope": (written(SBOM, b"{}"), "has no signature"),
    "unsigned": (written(SBOM, b'{"payload": "", "signatures": []}'), "has no signature"),
    "odd signature": (
        written(SBOM, b'{"payload": "", "payloadType": "x", "signatures": [7]}'),
        "no signed envelope",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_as_attested_is_told_in_a_line(
    attested: Path, pair: tuple[Path, Path], name: str
) -> None:
    change, message = CHANGES[name]
    change(attested, pair[0])
    with pytest.raises(CheckFailedError) as caught:
        checked(attested, pair[1])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_changed_statement_is_of_no_key(attested: Path, pair: tuple[Path, Path], name: str) -> None:
    document = json.loads((attested / name).read_text())
    statement = payload(attested / name) | {"extra": 1}
    document["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    (attested / name).write_text(json.dumps(document))
    with pytest.raises(SourceError, match="no good signature"):
        checked(attested, pair[1])


def test_any_changed_byte_is_noticed(attested: Path, pair: tuple[Path, Path]) -> None:
    chance = random.Random(7)
    files = sorted(path for path in attested.iterdir() if path.name != PLAIN_SBOM)
    for _ in range(60):
        path = chance.choice(files)
        before = path.read_bytes()
        data = bytearray(before)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            checked(attested, pair[1])
        except TarpitError as error:
            assert "\n" not in str(error)
        else:
            # Bits that say nothing: of white space, or after the last byte of base64.
            assert path.name in KINDS
            envelopes = [json.loads(text) for text in (before, bytes(data))]
            raw = [base64.b64decode(e["payload"]) for e in envelopes]
            assert raw[0] == raw[1]
        path.write_bytes(before)


def test_nothing_that_a_terminal_would_obey_is_printed(
    attested: Path, pair: tuple[Path, Path]
) -> None:
    (attested / "\x1b[2Jgood\n: all files").write_text("evil")
    with pytest.raises(CheckFailedError) as caught:
        checked(attested, pair[1])
    assert str(caught.value).isprintable()
    (attested / "\x1b[2Jgood\n: all files").unlink()
    document = json.loads((attested / SBOM).read_text())
    document["signatures"][0]["keyid"] = "\x1b[2Jgood"
    (attested / SBOM).write_text(json.dumps(document))
    with pytest.raises(SourceError) as missed:
        checked(attested, pair[1])
    assert str(missed.value).isprintable()


# -- policy ------------------------------------------------------------------------------------


def test_more_can_be_asked_of_a_proof(original: Path, pair: tuple[Path, Path]) -> None:
    assert checked(original, pair[1], policy=Policy(("smoke", "wire"))).passed == 2
    with pytest.raises(CheckFailedError, match="no passed check of storms"):
        checked(original, pair[1], policy=Policy(("storms",)))


def test_unproven_packages_pass_only_if_asked(attested: Path, pair: tuple[Path, Path]) -> None:
    (attested / RESULT).unlink()
    found = checked(attested, pair[1], policy=Policy(unproven=True))
    assert (found.booted, found.passed) == ("", 0)


# -- the verb ----------------------------------------------------------------------------------


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [INVOKE, "check", *arguments],
        cwd=paths.PROJECT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_verb_tells_what_was_verified_and_by_which_key(
    tmp_path: Path, original: Path, pair: tuple[Path, Path]
) -> None:
    result = tmp_path / "result.json"
    done = run(str(original), "--key", str(pair[1]), "--json", str(result))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"2 checks on Linux {ABI}" in done.stdout
    assert "(attest.pub)" in done.stdout
    assert "good: 4 files of 1 package sets" in done.stdout
    document = json.loads(result.read_text())
    assert document["good"]
    assert document["seconds"] > 0
    assert document["sets"][0]["files"][DKMS]


def test_verb_names_the_worst_first(
    tmp_path: Path, original: Path, pair: tuple[Path, Path], stranger: tuple[Path, Path]
) -> None:
    dist = tmp_path / "dist"
    shutil.copytree(original, dist / "a")
    shutil.copytree(original, dist / "b")
    (dist / "a" / "extra").write_text("x")
    done = run(str(dist), "--key", str(pair[1]))
    assert done.returncode == 1
    assert done.stderr == (
        "error: a/extra is a file that nothing vouches for — remove it, or ask whoever built the "
        "packages what it is\n"
    )
    assert "✓" in done.stdout
    assert run(str(dist), "--key", str(stranger[1])).returncode == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "no public key was named"),
        (["/nowhere", "--key", "{pub}"], "is no folder"),
        (["{empty}", "--key", "{pub}"], "has no manifest.json"),
        (["{empty}", "--key", "{empty}"], "is no file with a key"),
        (["ftp://example.org/", "--key", "{pub}"], "is no folder"),
    ],
)
def test_what_cannot_be_asked_for_is_the_callers_mistake(
    tmp_path: Path, pair: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=message):
        words = [word.format(pub=pair[1], empty=empty) for word in arguments]
        files = [Path(word) for word in words[2:]]
        verdict.judge(words[0], files, Policy(), Console(quiet=True))
