"""Small package sets to attest: packages, manifest and proof as builds and proofs leave them."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tarpit_builder import digests, evidence
from tarpit_builder.attest import envelope, keys
from tarpit_builder.build import BuildResult
from tarpit_builder.packaging import contents
from tarpit_builder.proof.report import CheckResult, Verdict, VerifyReport
from tests.publish.kit import modules_deb, small_deb

ABI = "6.12.117+deb13-amd64"
KERNEL = "6.12.117-1"
SUMS = digests.members(contents.module_source().members)


def package_set(
    dist: Path,
    *,
    abi: str = ABI,
    version: str = "1.0.0+deb13",
    groups: tuple[str, ...] = ("smoke", "wire"),
) -> Path:
    """A finished build for *abi* in *dist*, proven by checks of *groups* if there are any."""
    folder = dist / abi
    folder.mkdir(parents=True)
    for deb in (
        small_deb("xt-tarpit-dkms", version, text=version),
        small_deb("xt-tarpit-common", version, "amd64", text=version),
        modules_deb(abi, KERNEL, version),
    ):
        (folder / deb.file_name).write_bytes(deb.build())
    (folder / f"xt-tarpit_{version}_amd64.buildinfo").write_text(
        "Installed-Build-Depends:\n gcc-14 (= 14.2.0-19),\n libxtables-dev:amd64 (= 1.8.11-2)\n"
    )
    outputs = [
        {"file": path.name, "size": path.stat().st_size, "sha256": digests.file(path)}
        for path in sorted(folder.iterdir())
    ]
    header = f"linux-headers-{abi}"
    manifest = {
        "format": 1,
        "key": digests.digest([abi, version]),
        "command": f"invoke build --kernel {abi}",
        "maintainer": "Tests <tests@example.org>",
        "homepage": "",
        "plan": {
            "kernel": abi,
            "arch": "amd64",
            "flavour": "default",
            "suite": "trixie",
            "kernel-package-version": KERNEL,
            "compiler": "gcc-14",
            "version": version,
            "choices": [],
            "warnings": [],
        },
        "sources": [
            {
                "package": header,
                "version": KERNEL,
                "url": f"http://example.org/debian/pool/main/l/linux/{header}_{KERNEL}_amd64.deb",
                "size": 1000,
                "sha256": digests.content(abi.encode()),
            }
        ],
        "module": {f"xt-tarpit-{version}/{name}": value for name, value in SUMS.items()},
        "image": {
            "tag": "localhost/tarpit-builder/build:trixie-amd64-0123456789ab",
            "id": f"sha256:{digests.content(b'image')}",
            "engine": "Engine 28",
        },
        "toolchain": ["gcc-14 (Debian 14.2.0-19) 14.2.0", "libxtables-dev 1.8.11-2"],
        "outputs": outputs,
        "builder": {
            "version": "1.0.0",
            "commit": "1" * 40,
            "changed": False,
            "lock": digests.content(b"lock"),
            "python": "3.11.7",
        },
        "started": "2026-11-30T05:00:00Z",
        "finished": "2026-11-30T05:01:00Z",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    (folder / "build.log").write_text("== build\n")
    if groups:
        prove(folder, groups)
    return folder


def prove(folder: Path, groups: tuple[str, ...], *, abi: str = "") -> None:
    """Record a proof, by checks of *groups*, of the packages in *folder* as they are now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    packages = sorted(folder.glob("*.deb"))
    results = tuple(
        CheckResult(group, "", f"{group} holds", "1", 4, Verdict.PASS, 0.1) for group in groups
    )
    report = VerifyReport(
        abi or manifest["plan"]["kernel"],
        tuple(path.name for path in packages),
        "tcg",
        1,
        2.0,
        results,
        proven={path.name: digests.file(path) for path in packages},
        booted={"vmlinuz": digests.content(b"vmlinuz")},
    )
    evidence.record(BuildResult(folder, manifest, fresh=True), report)


def key_pair(
    folder: Path, name: str = "attest", *, kind: tuple[str, ...] = ("ed25519",), secret: str = ""
) -> tuple[Path, Path]:
    """A key pair as the documents tell to make one: the secret file, the public one."""
    pem, pub = folder / f"{name}.pem", folder / f"{name}.pub"
    locked = ("-aes-256-cbc", "-pass", f"pass:{secret}") if secret else ()
    openssl("genpkey", "-algorithm", *kind, *locked, "-out", str(pem))
    unlock = ("-passin", f"pass:{secret}") if secret else ()
    openssl("pkey", "-in", str(pem), *unlock, "-pubout", "-out", str(pub))
    return pem, pub


def openssl(*arguments: str) -> bytes:
    """Run openssl; what it prints."""
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True).stdout


def payload(file: Path) -> dict[str, Any]:
    """The statement in the envelope *file*, signed or not."""
    found: dict[str, Any] = json.loads(base64.b64decode(json.loads(file.read_text())["payload"]))
    return found


def signed_anew(file: Path, pem: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Have the owner of *pem* sign what *change* makes of the statement in *file*."""
    statement = payload(file)
    change(statement)
    signed_text(file, pem, json.dumps(statement))


def signed_text(file: Path, pem: Path, text: str) -> None:
    """Have the owner of *pem* sign *text* as a statement, whatever it is."""
    from securesystemslib.dsse import Envelope

    made = Envelope(text.encode(), envelope.PAYLOAD_TYPE, {})
    made.sign(keys.signer(str(pem)))
    file.write_text(json.dumps(made.to_dict()))


def changed(file: Path, **fields: object) -> None:
    """Put *fields* into the JSON object in *file*."""
    document: Mapping[str, object] = json.loads(file.read_text())
    file.write_text(json.dumps({**document, **fields}))
