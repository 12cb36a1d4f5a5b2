"""What the documents say other tools can do with the attestations, done by these tools."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tarpit_builder import paths
from tests.attest.kit import signed_anew

DOCUMENT = paths.PROJECT / "docs" / "attestations.md"


def recipe(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the commands of the document in *folder*."""
    (commands,) = re.findall(r"^```sh stock\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)
    return subprocess.run(
        ["sh", "-euc", commands], cwd=folder, capture_output=True, text=True, check=False
    )


def test_openssl_verifies_the_provenance(
    attested: Path, pair: tuple[Path, Path], stranger: tuple[Path, Path]
) -> None:
    shutil.copyfile(pair[1], attested / "attest.pub")
    done = recipe(attested)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout
    assert "xt-tarpit-dkms_1.0.0+deb13_all.deb: OK" in done.stdout
    (attested / "xt-tarpit-dkms_1.0.0+deb13_all.deb").write_bytes(b"evil")
    assert "xt-tarpit-dkms_1.0.0+deb13_all.deb: FAILED" in recipe(attested).stdout
    signed_anew(attested / "provenance.intoto.json", stranger[0], lambda statement: None)
    assert recipe(attested).returncode != 0
