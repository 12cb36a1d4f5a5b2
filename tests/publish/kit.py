"""Small results to publish: real packages with next to nothing in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tarpit_builder.container import Files
from tarpit_builder.packaging.deb import Deb


def small_deb(name: str, version: str, arch: str = "all", text: str = "") -> Deb:
    """A package *name* with one file, of *text*."""
    control = (
        f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n"
        "Maintainer: Tests <tests@example.org>\nPriority: optional\nSection: misc\n"
        f"Description: {name}\n for the tests\n"
    )
    return Deb(control=control, files={f"/usr/share/{name}": (text.encode(), 0o644)}, epoch=1)


def modules_deb(abi: str, kernel: str, version: str = "1.0.0+deb13") -> Deb:
    """A package of modules for the kernel *abi*, built against its package's version *kernel*."""
    control = (
        f"Package: xt-tarpit-modules-{abi}\nVersion: {version}\nArchitecture: amd64\n"
        "Maintainer: Tests <tests@example.org>\nPriority: optional\nSection: kernel\n"
        f"Depends: linux-image-{abi}, xt-tarpit-common\n"
        "Provides: xt-tarpit-modules\n"
        f"Built-Using: linux (= {kernel})\n"
        f"Description: modules for {abi}\n for the tests\n"
    )
    path = f"/usr/lib/xt-tarpit/{abi}/xt_TARPIT.ko"
    return Deb(control=control, files={path: (kernel.encode(), 0o644)}, epoch=1)


def kernel_debs(abi: str, version: str) -> tuple[Deb, Deb]:
    """What stands in for Debian's kernel *abi*, and the metapackage that installs it."""
    head = "Architecture: amd64\nMaintainer: Tests <tests@example.org>\nSection: kernel\n"
    image = Deb(
        control=f"Package: linux-image-{abi}\nVersion: {version}\n{head}"
        "Description: stand-in\n for the tests\n",
        files={f"/boot/vmlinuz-{abi}": (b"", 0o644)},
        scripts={
            "postinst": "#!/bin/sh\nset -e\n[ ! -d /etc/kernel/postinst.d ] || "
            f"run-parts --arg={abi} --arg=/boot/vmlinuz-{abi} /etc/kernel/postinst.d\n"
        },
        epoch=1,
    )
    meta = Deb(
        control=f"Package: linux-image-amd64\nVersion: {version}\n{head}"
        f"Depends: linux-image-{abi} (= {version})\nDescription: stand-in\n for the tests\n",
        files={},
        epoch=1,
    )
    return image, meta


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


def state(top: Path) -> Files:
    """The valid state of the repository at *top*, without the link that makes it so."""
    dists = (top / "dists").resolve()
    members: dict[str, Path | bytes] = {}
    for folder, prefix in ((dists, "dists"), (top / "pool", "pool")):
        for path in folder.rglob("*"):
            if path.is_file():
                members[f"{prefix}/{path.relative_to(folder)}"] = path
    members |= {path.name: path for path in top.iterdir() if path.is_file()}
    return Files(members)
