"""Signatures by openssl: of key files, of tokens, and those that were made elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tarpit_builder.errors import CheckFailedError, ToolMissingError, UserError
from tarpit_builder.signing import signature
from tests.signing.kit import Pair, pair

SOFTHSM = ("softhsm2", "softhsm2-common", "libsofthsm2", "libengine-pkcs11-openssl")
"""Debian's packages of a token in software, and of openssl's way to it."""


def elsewhere(module: Path, by: Pair, *options: str) -> bytes:
    """A signature as somebody else makes it, with more *options* of ``openssl cms -sign``."""
    command = [
        *("openssl", "cms", "-sign", "-binary", "-outform", "DER"),
        *("-signer", str(by.crt), "-inkey", str(by.key), "-in", str(module), *options),
    ]
    return subprocess.run(command, check=True, capture_output=True).stdout


PLAIN = ("-noattr", "-nocerts", "-nosmimecap", "-md", "sha256")


def test_the_same_key_makes_the_same_bytes(module: Path, ours: Pair) -> None:
    made = signature.make(module, str(ours.key), ours.certificate)
    assert made == signature.make(module, str(ours.key), ours.certificate)
    assert made == elsewhere(module, ours, *PLAIN)


def test_passphrase_comes_from_the_environment(
    module: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phrase = "open sesame"
    locked = pair(tmp_path, "locked", passphrase=phrase)
    monkeypatch.setenv(signature.PASSPHRASE, phrase)
    assert signature.make(module, str(locked.key), locked.certificate)
    monkeypatch.setenv(signature.PASSPHRASE, "open barley")
    with pytest.raises(UserError, match="cannot be used to sign: Could not read signing key"):
        signature.make(module, str(locked.key), locked.certificate)
    monkeypatch.delenv(signature.PASSPHRASE)
    with pytest.raises(UserError, match="cannot be used to sign"):
        signature.make(module, str(locked.key), locked.certificate)


def test_key_that_is_not_there_or_another(module: Path, ours: Pair, stranger: Pair) -> None:
    with pytest.raises(UserError, match="no file with a key, and no PKCS #11 URI"):
        signature.make(module, "/nonexistent.key", ours.certificate)
    with pytest.raises(UserError, match="is not the key of that certificate"):
        signature.make(module, str(stranger.key), ours.certificate)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-nocerts", "-md", "sha256"), "signs attributes"),
        (("-noattr", "-nocerts", "-md", "sha1"), "is by sha1"),
    ],
)
def test_signatures_that_kernels_refuse(
    options: tuple[str, ...], told: str, module: Path, ours: Pair
) -> None:
    with pytest.raises(CheckFailedError, match=told):
        signature.check(elsewhere(module, ours, *options), module, ours.certificate, "it")


def test_signature_of_something_else(module: Path, ours: Pair, stranger: Pair) -> None:
    good = elsewhere(module, ours, *PLAIN)
    signature.check(good, module, ours.certificate, "it")
    other = module.with_name("other.ko")
    other.write_bytes(module.read_bytes() + b"\n")
    with pytest.raises(CheckFailedError, match='no signature of other.ko by the key of "Modules'):
        signature.check(good, other, ours.certificate, "it")
    with pytest.raises(CheckFailedError, match="no signature of xt_TARPIT.ko"):
        signature.check(good, module, stranger.certificate, "it")
    with pytest.raises(CheckFailedError, match="no signature of xt_TARPIT.ko"):
        signature.check(elsewhere(module, stranger, *PLAIN), module, ours.certificate, "it")
    for garbage in (b"", b"\x30\x03\x02\x01\x00", b"-----BEGIN CMS-----", good[:-1]):
        with pytest.raises(CheckFailedError, match="no CMS signature|no signature of"):
            signature.check(garbage, module, ours.certificate, "it")
    with pytest.raises(CheckFailedError, match="larger than any signature"):
        signature.check(bytes(signature.LARGEST + 1), module, ours.certificate, "it")


def test_a_crash_once_it_has_signed_is_no_matter(
    module: Path, ours: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = signature.make(module, str(ours.key), ours.certificate)
    program = tmp_path / "openssl"
    real = shutil.which("openssl")
    program.write_text(f'#!/bin/sh\n{real} "$@" || exit\n[ "$2" != -sign ] || kill -SEGV $$\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert signature.make(module, str(ours.key), ours.certificate) == expected
    (tmp_path / "none.key").write_text("no key")
    with pytest.raises(UserError, match="cannot be used to sign"):
        signature.make(module, str(tmp_path / "none.key"), ours.certificate)


def test_a_tokens_library_that_is_not_found_is_named() -> None:
    said = "Could not open file or uri\n…:p11prov_ctx_status:…:Module initialization failed!\n"
    error = signature._unusable("pkcs11:token=ours", said)
    assert "PKCS11_PROVIDER_MODULE" in error.hint


# -- tokens ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory, ours: Pair) -> Iterator[str]:
    """The URI of our key on a token, in software; nothing is installed for it."""
    folder = tmp_path_factory.mktemp("token")
    for command in (
        ["apt-get", "download", "-qq", *SOFTHSM],
        ["sh", "-c", 'for deb in *.deb; do dpkg-deb -x "$deb" root; done'],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no token to try: {command[0]} says {done.stderr.strip()[-200:]}")
    library = folder / "root/usr/lib/softhsm/libsofthsm2.so"
    [engine] = (folder / "root").glob("usr/lib/*/engines-3")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "conf"))
        patch.setenv("PKCS11_MODULE_PATH", str(library))
        patch.setenv("OPENSSL_ENGINES", str(engine))
        signature._token_support.cache_clear()
        program = [str(folder / "root/usr/bin/softhsm2-util"), "--module", str(library)]
        for options in (
            ("--init-token", "--free", "--label", "ours", "--so-pin", "0000", "--pin", "1234"),
            *[("--import", str(ours.key), "--token", "ours", "--label", "modules", "--id", "01")],
        ):
            pin = () if "--pin" in options else ("--pin", "1234")
            subprocess.run([*program, *options, *pin], check=True, capture_output=True)
        yield "pkcs11:token=ours;object=modules"
    signature._token_support.cache_clear()


def test_key_on_a_token_signs_the_same(
    token: str, module: Path, ours: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(signature.PASSPHRASE, "1234")
    made = signature.make(module, token, ours.certificate)
    assert made == signature.make(module, str(ours.key), ours.certificate)
    monkeypatch.setenv(signature.PASSPHRASE, "9999")
    with pytest.raises(UserError, match="the key on the token cannot be used to sign: the PIN is"):
        signature.make(module, token, ours.certificate)


def test_without_support_of_tokens_it_says_what_to_install(
    module: Path, ours: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature._token_support.cache_clear()
    monkeypatch.setenv("OPENSSL_ENGINES", str(tmp_path))
    monkeypatch.setenv("OPENSSL_MODULES", str(tmp_path))
    with pytest.raises(ToolMissingError, match="pkcs11-provider"):
        signature.make(module, "pkcs11:token=ours;object=modules", ours.certificate)
    signature._token_support.cache_clear()


def test_without_openssl_it_says_what_to_install(
    module: Path, ours: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = ours.certificate
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="apt-get install openssl"):
        signature.make(module, str(ours.key), certificate)
    assert "PATH" in os.environ
