"""Small results to publish: real packages with next to nothing in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tarpit_builder.deb import Deb


def small_deb(name: str, version: str, arch: str = "all", text: str = "") -> Deb:
    """A package *name* with one file, of *text*."""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n"
        "Maintainer: Tests <tests@example.org>\nPriority: optional\nSection: misc\n"
        f"Description: {name}\n for the tests\n"
    )
    return Deb(control=control, files={f"/usr/share/{name}": (text.encode(), 0o644)}, epoch=1)


def modules_deb(abi: str, kernel: str, version: str = "1.0.0+deb13", depends: str = "") -> Deb:
    """A package of modules for the kernel *abi*, built against its package's version *kernel*."""
    control = (
        f"Package: xt-tarpit-modules-{abi}\nVersion: {version}\nArchitecture: amd64\n"
        "Maintainer: Tests <tests@example.org>\nPriority: optional\nSection: kernel\n"
        + (f"Depends: {depends}\n" if depends else "")
        + f"Built-Using: linux (= {kernel})\n"
        f"Description: modules for {abi}\n for the tests\n"
    )
    path = f"/usr/lib/xt-tarpit/{abi}/xt_TARPIT.ko"
    return Deb(control=control, files={path: (kernel.encode(), 0o644)}, epoch=1)


def result(dist: Path, folder: str, suite: str, *debs: Deb, kernel: str = "") -> Path:
    """A finished build in *dist*, as ``invoke build`` leaves it."""
    place = dist / folder
    place.mkdir(parents=True, exist_ok=True)
    outputs = []
    for deb in debs:
        data = deb.build()
        (place / deb.file_name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        outputs.append({"file": deb.file_name, "size": len(data), "sha256": digest})
    manifest = {
        "format": 1,
        "key": "0",
        "command": f"invoke build --kernel {folder}",
        "plan": {"suite": suite, "kernel-package-version": kernel} if suite else {},
        "outputs": outputs,
    }
    (place / "manifest.json").write_text(json.dumps(manifest))
    return place


def release(dist: Path, version: str, *, size: int = 1) -> None:
    """The packages *version* of two suites, with *size* kB in each."""
    for suite, number in (("bookworm", "12"), ("trixie", "13")):
        full = f"{version}+deb{number}"
        result(
            dist,
            f"kernel-of-{suite}",
            suite,
            small_deb("xt-tarpit-dkms", full, text=full * size * 100),
            small_deb("xt-tarpit-common", full, "amd64"),
        )
