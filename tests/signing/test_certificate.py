"""Which certificates are taken, and what is said of the others."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tarpit_builder.errors import UserError
from tarpit_builder.signing import certificate as certificates
from tests.signing.kit import Pair, pair


def test_pem_and_der_are_the_same(ours: Pair) -> None:
    found = certificates.load(ours.crt)
    assert found == certificates.load(ours.der)
    assert (found.signer, found.der) == ("Modules of example", ours.der.read_bytes())


def test_certificate_that_says_nothing_of_its_use_will_do(tmp_path: Path) -> None:
    assert certificates.load(pair(tmp_path, "old", usage=None).crt).signer == "old"


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"bits": 1024}, "not RSA of 2048 to 4096 bits"),
        ({"curve": True}, "not RSA of 2048 to 4096 bits"),
        ({"usage": False}, "makes no digital signatures"),
        ({"common_name": False}, "no common name"),
        ({"begins": datetime(2019, 1, 1, tzinfo=UTC)}, "valid from 2019-01-01 to 2019-01-31 only"),
        ({"begins": datetime.now(UTC) + timedelta(days=2)}, r"valid from \S+ to \S+ only"),
    ],
)
def test_what_no_kernel_or_shim_would_take(
    how: dict[str, object], told: str, tmp_path: Path
) -> None:
    made = pair(tmp_path, "unsuitable", **how)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=told):
        certificates.load(made.crt)


def test_no_certificate_at_all(ours: Pair, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no certificate that can be read"):
        certificates.load(ours.key)
    with pytest.raises(UserError, match="is no file with a certificate"):
        certificates.load(tmp_path / "absent.crt")
    with pytest.raises(UserError, match="is no file with a certificate"):
        certificates.load(tmp_path)


def test_command_that_is_told_makes_one_that_will_do(tmp_path: Path) -> None:
    import shlex
    import subprocess

    command = [*shlex.split(certificates.MAKE), "-passout", "pass:secret"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    found = certificates.load(tmp_path / "modules.crt")
    assert found.signer == "Modules of example"
    # A browser's or a shim's key it is not.
    shown = subprocess.run(
        ["openssl", "x509", "-in", "modules.crt", "-noout", "-text"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert certificates.MODULE_SIGNING in shown
    assert re.search(r"Key Usage: critical\s+Digital Signature\n", shown)
