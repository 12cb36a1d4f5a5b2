"""Keys that cannot sign are refused with one line, before anything is made."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarpit_builder import clean
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.publish import keys


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty GnuPG home; its path is short, as it holds sockets."""
    folder = tmp_path_factory.mktemp("gpg")
    folder.chmod(0o700)
    yield folder
    subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "all"], check=False)


def gpg(home: Path, *arguments: str) -> None:
    """Run gpg as its owner would."""
    subprocess.run(
        ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", *arguments],
        check=True,
        capture_output=True,
    )


def test_throwaway_key_is_made_once(home: Path) -> None:
    first = keys.throwaway(home / "test-key")
    assert keys.throwaway(home / "test-key") == first
    assert "trials only" in first.owner
    assert (home / "test-key").stat().st_mode & 0o077 == 0


def test_what_is_signed_verifies_and_what_is_changed_does_not(home: Path, tmp_path: Path) -> None:
    key = keys.throwaway(home / "k")
    file = tmp_path / "InRelease"
    file.write_bytes(key.clearsign(b"Suite: trixie\n"))
    assert keys.verify(file, key.public()) == (key.fingerprint, b"Suite: trixie\n")
    file.write_bytes(file.read_bytes().replace(b"trixie", b"forged"))
    with pytest.raises(SourceError, match="no good signature"):
        keys.verify(file, key.public())


def test_signature_of_another_key_does_not_count(home: Path, tmp_path: Path) -> None:
    ours, theirs = keys.throwaway(home / "a"), keys.throwaway(home / "b")
    file = tmp_path / "InRelease"
    file.write_bytes(theirs.clearsign(b"x\n"))
    with pytest.raises(SourceError, match="no good signature"):
        keys.verify(file, ours.public())


def test_expired_key_is_named_with_its_day_and_the_way_to_extend_it(home: Path) -> None:
    gpg(home, "--quick-generate-key", "old@example.org", "ed25519", "sign", "seconds=1")
    time.sleep(2)
    with pytest.raises(UserError, match=r"old@example.org\) expired on \d{4}-") as caught:
        keys.find("old@example.org", home)
    command = re.findall(r"`gpg (--quick-set-expire \w+ 1y)`", caught.value.hint)[0]
    gpg(home, *command.split())
    assert keys.find("old@example.org", home).expires > time.time()


def test_signature_of_a_key_that_expired_since_is_refused(home: Path, tmp_path: Path) -> None:
    gpg(home, "--quick-generate-key", "old@example.org", "ed25519", "sign", "seconds=3")
    key = keys.find("old@example.org", home)
    file = tmp_path / "InRelease"
    file.write_bytes(key.clearsign(b"x\n"))
    time.sleep(max(0.0, key.expires - time.time()) + 1.1)
    with pytest.raises(SourceError, match="a key that has expired"):
        keys.verify(file, key.public())
    assert keys.verify(file, key.public(), expired=True)[0] == key.fingerprint


def test_expired_throwaway_key_is_replaced(home: Path) -> None:
    old = keys.throwaway(home / "k", lifetime="seconds=1")
    time.sleep(2)
    assert keys.throwaway(home / "k").fingerprint != old.fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [("nobody@example.org", "no secret key"), ("@example.org", "several"), ("enc@", "cannot sign")],
)
def test_key_that_will_not_do(home: Path, name: str, message: str) -> None:
    for owner, use in (("one@example.org", "sign"), ("two@example.org", "sign")):
        gpg(home, "--quick-generate-key", owner, "ed25519", use, "never")
    gpg(home, "--quick-generate-key", "enc@example.net", "rsa2048", "cert", "never")
    with pytest.raises(UserError, match=message):
        keys.find(name, home)


def test_signature_of_a_subkey_is_the_key_s(home: Path, tmp_path: Path) -> None:
    gpg(home, "--quick-generate-key", "s@example.org", "ed25519", "cert", "never")
    primary = keys._fingerprints(home)[0]
    gpg(home, "--quick-add-key", primary, "ed25519", "sign", "never")
    key = keys.find("s@example.org", home)
    file = tmp_path / "InRelease"
    file.write_bytes(key.clearsign(b"x\n"))
    assert keys.verify(file, key.public()) == (primary, b"x\n")
    assert key.fingerprint == primary


def revoke(home: Path) -> None:
    """Revoke the only key of *home*."""
    certificate = next((home / "openpgp-revocs.d").glob("*.rev"))
    certificate.write_text(certificate.read_text().replace(":-----BEGIN", "-----BEGIN"))
    gpg(home, "--import", str(certificate))


@pytest.mark.parametrize("expired", [False, True])
def test_signature_of_a_key_that_was_revoked_since(
    home: Path, tmp_path: Path, *, expired: bool
) -> None:
    gpg(home, "--quick-generate-key", "r@example.org", "ed25519", "sign", "never")
    key = keys.find("r@example.org", home)
    file = tmp_path / "InRelease"
    file.write_bytes(key.clearsign(b"x\n"))
    revoke(home)
    with pytest.raises(SourceError, match="was revoked"):
        keys.verify(file, key.public(), expired=expired)


def test_revoked_key(home: Path) -> None:
    gpg(home, "--quick-generate-key", "r@example.org", "ed25519", "sign", "never")
    revoke(home)
    with pytest.raises(UserError, match="was revoked"):
        keys.find("r@example.org", home)


def test_a_key_must_be_named_and_only_one() -> None:
    with pytest.raises(UserError, match="no key was named"):
        keys.choose("")
    with pytest.raises(UserError, match="contradict"):
        keys.choose("me@example.org", test=True)


def test_warning_before_a_key_expires(home: Path) -> None:
    assert not keys.throwaway(home / "a").warning
    assert "expires on" in keys.throwaway(home / "b", lifetime="10d").warning


def test_key_for_trials_outlives_clean(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TARPIT_CACHE", str(home / "cache"))
    monkeypatch.setenv("TARPIT_STATE", str(home / "state"))
    # Where a former tarpit-builder kept it, clean would have removed it.
    former = keys.throwaway(home / "cache/test-key")
    assert keys.choose("", test=True).fingerprint == former.fingerprint
    clean.run(dist=False, images=False)
    assert not (home / "cache").exists()
    assert keys.choose("", test=True).fingerprint == former.fingerprint
