"""Attestations as they are made: valid by their libraries and schemas, the same each time."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from tarpit_builder import digests
from tarpit_builder.attest import keys, make
from tarpit_builder.attest import package_set as package_set_module
from tarpit_builder.attest.documents import KINDS, PLAIN_SBOM, PROVENANCE, RESULT, SBOM
from tarpit_builder.attest.keys import PASSPHRASE
from tarpit_builder.errors import CheckFailedError, ToolMissingError, UserError
from tests.attest.kit import ABI, changed, key_pair, openssl, package_set, payload


@pytest.mark.parametrize("name", KINDS)
def test_each_is_a_statement_of_in_toto(original: Path, name: str) -> None:
    document = payload(original / name)
    message = json_format.ParseDict(document, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    assert document["predicateType"] == KINDS[name].predicate_type


@pytest.mark.parametrize(
    ("name", "kind"),
    [(PROVENANCE, provenance_pb2.Provenance), (RESULT, test_result_pb2.TestResult)],
)
def test_predicates_have_no_field_that_is_not_of_their_kind(
    original: Path, name: str, kind: type
) -> None:
    json_format.ParseDict(payload(original / name)["predicate"], kind())


def test_bill_of_materials_is_valid_by_its_schema(original: Path) -> None:
    text = (original / PLAIN_SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text) == payload(original / SBOM)["predicate"]


def test_numbers_stay_whole(original: Path) -> None:
    text = json.dumps(payload(original / SBOM))
    assert '"version": 1,' in text or '"version": 1}' in text


def test_subjects_are_what_was_built(original: Path) -> None:
    outputs = {
        item["file"]: item["sha256"]
        for item in json.loads((original / "manifest.json").read_text())["outputs"]
    }
    for name in (PROVENANCE, SBOM):
        found = {s["name"]: s["digest"]["sha256"] for s in payload(original / name)["subject"]}
        assert found == outputs
    proven = {s["name"] for s in payload(original / RESULT)["subject"]}
    assert proven == {name for name in outputs if name.endswith(".deb")}


def test_provenance_tells_what_was_asked_for_and_every_source(original: Path) -> None:
    definition = payload(original / PROVENANCE)["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["request"] == {"kernel": ABI}
    used = {item["name"]: item["digest"] for item in definition["resolvedDependencies"]}
    manifest = json.loads((original / "manifest.json").read_text())
    assert used[f"linux-headers-{ABI}"] == {"sha256": manifest["sources"][0]["sha256"]}
    assert {f"source/{name}" for name in manifest["module"]} <= used.keys()
    assert used["tarpit-builder"] == {"gitCommit": "1" * 40}


def test_bill_names_sources_toolchain_and_userland(original: Path) -> None:
    bill = json.loads((original / PLAIN_SBOM).read_text())
    by_name = {row["name"]: row for row in bill["components"]}
    assert by_name[f"linux-headers-{ABI}"]["version"] == "6.12.117-1"
    assert by_name["gcc-14"]["purl"] == "pkg:deb/debian/gcc-14@14.2.0-19"
    licence = by_name[f"xt-tarpit-modules-{ABI}_1.0.0+deb13_amd64.deb"]["licenses"]
    assert licence == [{"license": {"id": "GPL-2.0-only"}}]
    own = {row["name"] for row in by_name["xt-tarpit source"]["components"]}
    assert "xt-tarpit-1.0.0+deb13/xt_TARPIT.c" in own
    facts = {row["name"]: row["value"] for row in bill["metadata"]["component"]["properties"]}
    assert facts["tag:tarpit-builder,2026:userland"] == "trixie, iptables 1.8.11-2"


def test_proof_names_kernel_and_checks(original: Path) -> None:
    predicate = payload(original / RESULT)["predicate"]
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == ["smoke IPv4: smoke holds", "wire IPv4: wire holds"]
    booted = predicate["configuration"][0]
    assert booted["annotations"] == {"booted": f"Linux {ABI}"}
    assert booted["digest"] == {"sha256": digests.content(b"vmlinuz")}


def test_made_twice_they_are_the_same(attested: Path, pair: tuple[Path, Path]) -> None:
    before = {name: (attested / name).read_bytes() for name in (*KINDS, PLAIN_SBOM)}
    make.attest(attested.parent, keys.signer(str(pair[0])))
    assert before == {name: (attested / name).read_bytes() for name in before}


def test_what_was_changed_is_not_attested(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    folder = package_set(tmp_path)
    (folder / "xt-tarpit-dkms_1.0.0+deb13_all.deb").write_bytes(b"other")
    with pytest.raises(CheckFailedError, match="not what was built"):
        make.attest(tmp_path, keys.signer(str(pair[0])))
    assert not (folder / PROVENANCE).exists()


def test_proof_that_does_not_say_of_which_bytes_is_not_attested(
    tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    folder = package_set(tmp_path)
    document = json.loads((folder / "verify.json").read_text())
    (folder / "verify.json").write_text(
        json.dumps({key: value for key, value in document.items() if key != "proven"})
    )
    with pytest.raises(CheckFailedError, match=f"invoke verify --kernel {ABI}".replace("+", r"\+")):
        make.attest(tmp_path, keys.signer(str(pair[0])))


def test_proof_of_other_bytes_is_not_attested(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    folder = package_set(tmp_path)
    changed(folder / "verify.json", proven={"xt-tarpit-dkms_1.0.0+deb13_all.deb": "0" * 64})
    with pytest.raises(CheckFailedError, match="other packages than those beside it"):
        make.attest(tmp_path, keys.signer(str(pair[0])))


def test_without_a_proof_there_is_no_result_any_more(
    attested: Path, pair: tuple[Path, Path]
) -> None:
    (attested / "verify.json").unlink()
    (done,) = make.attest(attested.parent, keys.signer(str(pair[0])))
    assert done.checks == 0
    assert not (attested / RESULT).exists()


def test_patterns_choose(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    signer = keys.signer(str(pair[0]))
    for abi in (ABI, "6.1.0-50-amd64"):
        package_set(tmp_path, abi=abi)
    (done,) = make.attest(tmp_path, signer, only=("6.1.0-*",))
    assert done.of.name == "6.1.0-50-amd64"
    with pytest.raises(UserError, match=r"called '7\.\*'"):
        make.attest(tmp_path, signer, only=("7.*",))


@pytest.mark.parametrize(
    ("environment", "builder"),
    [
        ({}, "tag:tarpit-builder,2026:builder/local"),
        (
            {
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_WORKFLOW_REF": "a/b/.github/workflows/matrix.yml@refs/heads/main",
            },
            "https://github.com/a/b/.github/workflows/matrix.yml@refs/heads/main",
        ),
        ({"CI_PROJECT_URL": "https://gitlab.com/a/b"}, "https://gitlab.com/a/b"),
    ],
)
def test_builder_is_the_workflow_where_there_is_one(
    tmp_path: Path,
    pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    builder: str,
) -> None:
    for name in ("GITHUB_SERVER_URL", "GITHUB_WORKFLOW_REF", "CI_PROJECT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    folder = package_set(tmp_path, groups=())
    make.attest(tmp_path, keys.signer(str(pair[0])))
    found = payload(folder / PROVENANCE)["predicate"]["runDetails"]["builder"]["id"]
    assert found == builder


# -- keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        ("RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    ],
    ids=lambda kind: kind[0],
)
def test_keys_of_other_kinds_sign(tmp_path: Path, kind: tuple[str, ...]) -> None:
    from tarpit_builder.attest.check import Policy, check

    pem, pub = key_pair(tmp_path, kind=kind)
    folder = package_set(tmp_path / "dist")
    make.attest(folder.parent, keys.signer(str(pem)))
    with keys.trusted([pub]) as trusted:
        assert check(folder, trusted, Policy()).passed == 2


def test_passphrase_comes_from_the_environment_and_goes_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "correct horse battery staple"
    pem, _ = key_pair(tmp_path, secret=secret)
    folder = package_set(tmp_path / "dist")
    monkeypatch.setenv(PASSPHRASE, secret)
    make.attest(folder.parent, keys.signer(str(pem)))
    bare = openssl("pkey", "-in", str(pem), "-passin", f"pass:{secret}", "-outform", "DER")[-32:]
    for path in folder.iterdir():
        data = path.read_bytes()
        assert secret.encode() not in data
        assert bare not in data
        assert bare.hex().encode() not in data
    assert secret not in "".join(capfd.readouterr())


def test_key_may_come_from_the_environment_of_a_pipeline(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTEST_KEY", pair[0].read_text())
    folder = package_set(tmp_path)
    make.attest(tmp_path, keys.signer("env:ATTEST_KEY"))
    assert (folder / PROVENANCE).is_file()
    monkeypatch.setenv("ATTEST_KEY", "")
    with pytest.raises(UserError, match="what ATTEST_KEY holds is no secret key"):
        keys.signer("env:ATTEST_KEY")


@pytest.mark.parametrize("given", ["wrong", None])
def test_without_the_passphrase_nothing_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    pem, _ = key_pair(tmp_path, secret="right")  # noqa: S106
    monkeypatch.delenv(PASSPHRASE, raising=False)
    if given:
        monkeypatch.setenv(PASSPHRASE, given)
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        with pytest.raises(UserError) as caught:
            keys.signer(str(pem))
    assert ("passphrase is another one" if given else PASSPHRASE) in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "no key was named"),
        ("/nowhere/attest.pem", "is no file with a key"),
        ("nonsense:1", "no such kind of key"),
        ("hsm:2", "add --public"),
        ("gnupg:nobody@example.org", "there is no secret key"),
    ],
)
def test_what_is_no_key_is_refused_in_a_line(uri: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        keys.signer(uri)
    assert "\n" not in str(caught.value)


def test_library_that_a_token_needs_is_named(pair: tuple[Path, Path]) -> None:
    name = "gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
    with pytest.raises(ToolMissingError, match=r"securesystemslib\[gcpkms\]"):
        keys.signer(name, pair[1])


def test_public_key_does_not_sign_and_secret_one_does_not_check(pair: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="is no secret key"):
        keys.signer(str(pair[1]))
    with pytest.raises(UserError, match="is a secret key"), keys.trusted([pair[0]]):
        pass


def test_weak_key_is_refused(tmp_path: Path) -> None:
    pem, _ = key_pair(tmp_path, kind=("RSA", "-pkeyopt", "rsa_keygen_bits:1024"))
    with pytest.raises(UserError, match="1024 bits, which can be broken"):
        keys.signer(str(pem))


def test_sources_of_a_release_keep_their_digests_under_names_of_in_toto() -> None:
    tarball = {
        "name": "linux-2.6.24",
        "version": "2.6.24",
        "git-tree": "a" * 40,
        "origin": "https://cdn.kernel.org/pub/linux/kernel/v2.6/linux-2.6.24.tar.xz",
        "digests": {"sha256": "b" * 64, "package-sha256": "c" * 64},
        "verified": ["signature"],
    }
    clone = {"name": "iptables-1.4.0", "version": None, "git-tree": "d" * 40, "origin": "/srv/git",
             "digests": {"git-commit": "e" * 40}}  # fmt: skip
    first, second = package_set_module.sources({"sources": [tarball, clone]})
    assert first["digest"] == {"sha256": "b" * 64, "gitTree": "a" * 40}
    assert first["uri"].startswith("https://cdn.kernel.org/")
    assert second["digest"] == {"gitTree": "d" * 40, "gitCommit": "e" * 40}
    assert (second["uri"], second["version"]) == ("file:///srv/git", "")
