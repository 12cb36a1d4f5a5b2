"""Stand-ins for other distributions' archives: their layout, names and signatures, Debian's bytes.

Kernels are packages of Debian's, unpacked and packed again as the other distribution has them; the
userland, where it is asked for, is Debian's own, whose list of packages is served as a component
and whose files are fetched from Debian's mirror by a redirection.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import requests

from tarpit_builder.sources.debian import DebianKernel
from tests.mirror import COMPRESS, QuietHandler, Signer

ENGINE = "172.17.0.1"  # this machine, as containers of Docker see it
MODES = {"ubuntu": "zstd", "proxmox": "xz"}


class Redirecting(QuietHandler):
    """Serves files, and what it does not have from *elsewhere*."""

    elsewhere = ""

    def send_head(self) -> object:  # type: ignore[override]
        """What the base class opens, or the address of the same at Debian's mirror."""
        if (
            self.path.startswith("/ubuntu/pool/")
            and not Path(self.translate_path(self.path)).exists()
        ):
            self.send_response(302)
            self.send_header("Location", self.elsewhere + self.path.removeprefix("/ubuntu"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return super().send_head()


@contextmanager
def serve(root: Path, elsewhere: str = "", address: str = ENGINE) -> Iterator[str]:
    """An HTTP server of *root*, which containers reach as well; its URL."""
    handler = type("Handler", (Redirecting,), {"elsewhere": elsewhere})
    server = ThreadingHTTPServer((address, 0), partial(handler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def publish(
    top: Path, suite: str, lists: Mapping[str, bytes], signer: Signer, *, suffix: str = ".xz"
) -> None:
    """Sign *suite* of the archive at *top*; *lists* are of its packages, by component."""
    lines = [
        f"Suite: {suite}",
        f"Codename: {suite}",
        f"Components: {' '.join(dict.fromkeys(name.partition('/')[0] for name in lists))}",
        "Architectures: amd64 arm64",
        "Acquire-By-Hash: no",
        "Date: Thu, 26 Nov 2026 00:00:00 UTC",
        "SHA256:",
    ]
    for component, packed in lists.items():
        # "main", or "main/arm64"
        name, _, arch = component.partition("/")
        listing = f"{name}/binary-{arch or 'amd64'}/Packages{suffix}"
        path = top / "dists" / suite / listing
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(packed)
        plain = (lzma if suffix == ".xz" else gzip).decompress(packed)
        # apt looks for the plain one in the list, and fetches the other.
        for name, data in ((listing.removesuffix(suffix), plain), (listing, packed)):
            lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}")
    (top / "dists" / suite / "InRelease").write_bytes(signer.clearsign("\n".join(lines) + "\n"))


def stanzas(found: Sequence[str], suffix: str = ".xz") -> bytes:
    """A list of packages."""
    return COMPRESS[suffix]("\n".join(found).encode())


class Packer:
    """Makes packages in the pool of the archive at *top*, out of trees in *work*."""

    def __init__(self, top: Path, work: Path, compression: str) -> None:
        self.top, self.work, self.compression = top, work, compression

    def pack(self, name: str, version: str, depends: str = "", arch: str = "amd64") -> str:
        """The stanza of the package *name*, whose files are below *work* under its name."""
        tree = self.work / name
        control = tree / "DEBIAN" / "control"
        control.parent.mkdir(parents=True)
        fields = {
            "Package": name,
            "Version": version,
            "Architecture": arch,
            "Maintainer": "Stand-in <standin@example.org>",
            "Depends": depends,
            "Description": "stand-in",
        }
        text = "".join(f"{key}: {value}\n" for key, value in fields.items() if value)
        control.write_text(text)
        file = self.top / "pool" / f"{name}_{version.rpartition(':')[2]}_{arch}.deb"
        file.parent.mkdir(parents=True, exist_ok=True)
        command = ["dpkg-deb", f"-Z{self.compression}", "-z1", "--root-owner-group", "--build"]
        subprocess.run([*command, tree, file], check=True, capture_output=True)
        shutil.rmtree(tree)
        content = file.read_bytes()
        return (
            f"{text}Filename: {file.relative_to(self.top)}\nSize: {len(content)}\n"
            f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
        )


def unpack(files: Sequence[Path], target: Path) -> None:
    """All packages *files* below *target*."""
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        subprocess.run(["dpkg-deb", "--extract", file, target], check=True)


def whole_tree(unpacked: Path, kernel: DebianKernel, abi: str, target: Path) -> None:
    """One build tree at *target*, out of the three that Debian's packages make, for *abi*."""
    source = unpacked / "usr/src"
    (common,) = source.glob("linux-headers-*-common")
    (kbuild,) = (unpacked / "usr/lib").glob("linux-kbuild-*")
    copy = partial(shutil.copytree, symlinks=True, dirs_exist_ok=True)
    others = {path.name for path in (common / "arch").iterdir()} - {"x86"}
    copy(common, target, ignore=shutil.ignore_patterns("scripts", "tools", *others))
    # The folder's own Makefile only leads to the common one.
    skipped = shutil.ignore_patterns("scripts", "tools", ".kernelvariables")
    makefile = (target / "Makefile").read_bytes()
    copy(source / f"linux-headers-{kernel.abi}", target, ignore=skipped)
    (target / "Makefile").write_bytes(makefile)
    # Thousands of empty files, one for each option, which only rebuilding the kernel looks at.
    for path in (target / "include/config").iterdir():
        if path.is_file() and not path.stat().st_size:
            path.unlink()
    for name in ("scripts", "tools"):
        copy(kbuild / name, target / name)
    for name, text in (
        ("include/config/kernel.release", f"{abi}\n"),
        ("include/generated/utsrelease.h", f'#define UTS_RELEASE "{abi}"\n'),
    ):
        (target / name).write_text(text)


def split_tree(whole: Path, shared: Path) -> None:
    """Leave in *whole* what belongs to one flavour, and links to the rest, moved to *shared*."""
    own = {"scripts", "tools", "Module.symvers", ".config"}
    _split(whole, shared, own, {"include", "arch", "arch/x86", "arch/x86/include"}, "")


def _split(whole: Path, shared: Path, own: set[str], mixed: set[str], below: str) -> None:
    shared.mkdir(parents=True, exist_ok=True)
    up = "../" * (below.count("/") + 1 if below else 0)
    for path in sorted(whole.iterdir()):
        name = f"{below}/{path.name}" if below else path.name
        if name in own or path.name in {"generated", "config"}:
            continue
        if name in mixed:
            _split(path, shared / path.name, own, mixed, name)
            continue
        shutil.move(path, shared / path.name)
        root = shared
        for _ in range(name.count("/")):
            root = root.parent
        path.symlink_to(f"../{up}{root.name}/{name}")


def build_link(tree: Path, abi: str) -> None:
    """What leads from a kernel's modules to its build tree."""
    folder = tree / "lib/modules" / abi
    folder.mkdir(parents=True)
    (folder / "build").symlink_to(f"/usr/src/linux-headers-{abi}")


@dataclass(frozen=True, slots=True)
class Original:
    """A kernel of Debian's: *unpacked* are its headers, *image* the packages of what boots."""

    kernel: DebianKernel
    unpacked: Path
    image: Sequence[Path]


def kernel_of(of: Original, abi: str, target: Path) -> None:
    """What boots of the kernel, below *target*, as *abi*.

    The image is what it unpacks itself to, which QEMU starts as well, with the other name in it.
    Its modules are taken as they are: they have symbol versions, and so no name is looked at.
    """
    kernel = of.kernel
    unpack(of.image, target)
    for name in ("usr/share", f"boot/System.map-{kernel.abi}"):
        path = target / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (target / f"boot/config-{kernel.abi}").rename(target / f"boot/config-{abi}")
    (target / f"lib/modules/{kernel.abi}").rename(target / f"lib/modules/{abi}")
    packed = target / f"boot/vmlinuz-{kernel.abi}"
    data = packed.read_bytes()
    # See Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length.
    begin = (data[0x1F1] + 1) * 512 + struct.unpack_from("<I", data, 0x248)[0]
    (size,) = struct.unpack_from("<I", data, 0x24C)
    image = lzma.LZMADecompressor().decompress(data[begin : begin + size])
    # `uname -r` is a field of 65 bytes.
    old, new = (name.encode().ljust(65, b"\0") for name in (kernel.abi, abi))
    assert old in image
    (target / f"boot/vmlinuz-{abi}").write_bytes(image.replace(old, new))
    packed.unlink()


def ubuntu(top: Path, work: Path, of: Original, abi: str) -> list[str]:
    """Stanzas of a kernel as Ubuntu has it, with the name *abi*, in the archive at *top*."""
    packer = Packer(top, work, MODES["ubuntu"])
    bootable, modules = f"linux-image-{abi}", f"linux-modules-{abi}"
    kernel_of(of, abi, work / bootable)
    (work / modules).mkdir()
    (work / bootable / "lib").rename(work / modules / "lib")
    name, shared = f"linux-headers-{abi}", f"linux-headers-{abi.rpartition('-')[0]}"
    version = f"{abi.rpartition('-')[0]}.63"
    whole_tree(of.unpacked, of.kernel, abi, work / name / "usr/src" / name)
    split_tree(work / name / "usr/src" / name, work / shared / "usr/src" / shared)
    build_link(work / name, abi)
    return [
        packer.pack(name, version, f"{shared}, libc6, libelf1, libssl3"),
        packer.pack(shared, version, arch="all"),
        packer.pack(bootable, version, modules),
        packer.pack(modules, version),
        packer.pack("linux-headers-generic", version, name),
    ]


def proxmox(top: Path, work: Path, of: Original, abi: str) -> list[str]:
    """Stanzas of a kernel as Proxmox VE has it, with the name *abi*, in the archive at *top*."""
    packer = Packer(top, work, MODES["proxmox"])
    name, version = f"proxmox-headers-{abi}", abi.removesuffix("-pve")
    bootable = f"proxmox-kernel-{abi}-signed"
    kernel_of(of, abi, work / bootable)
    whole_tree(of.unpacked, of.kernel, abi, work / name / "usr/src" / f"linux-headers-{abi}")
    build_link(work / name, abi)
    return [
        packer.pack(name, version),
        packer.pack(bootable, version),
        packer.pack("proxmox-headers-6.8", version, name, arch="all"),
        packer.pack("proxmox-default-headers", "1.1.0", "proxmox-headers-6.8", arch="all"),
    ]


def raspios(
    top: Path, work: Path, kernel: DebianKernel, files: Sequence[Path], version: str
) -> list[str]:
    """Stanzas of the arm64 *kernel* as Raspberry Pi OS has it, of *version* (``6.12.25+rpt``).

    It is packaged as Debian's is, so its *files* are unpacked one by one and given other names.
    """
    packer = Packer(top, work, "xz")
    old = kernel.abi.removesuffix("-arm64")
    names = {
        f"linux-headers-{kernel.abi}": f"linux-headers-{version}-rpi-v8",
        f"linux-headers-{old}-common": f"linux-headers-{version}-common-rpi",
        kernel.packages[-1].name: f"linux-kbuild-{version}",
    }
    for (name, new), file in zip(names.items(), files, strict=True):
        unpack([file], work / new)
        for path in sorted((work / new / "usr").rglob("linux-*"), reverse=True):
            if path.name in names:
                path.rename(path.with_name(names[path.name]))
        for path in (work / new).rglob("*"):
            if path.is_symlink():
                target = _renamed(str(path.readlink()), names)
                path.unlink()
                path.symlink_to(target)
        for path in (
            work / new / "usr/src" / new / part for part in ("Makefile", ".kernelvariables")
        ):
            if path.is_file() and name != f"linux-headers-{old}-common":
                path.write_text(_renamed(path.read_text(), {**names, kernel.abi: new[14:]}))
    flavour, common, kbuild = names.values()
    return [
        packer.pack(flavour, "1:1+rpt1", f"{common} (= 1:1+rpt1), {kbuild}, gcc-12", arch="arm64"),
        packer.pack(common, "1:1+rpt1", arch="all"),
        packer.pack(kbuild, "1:1+rpt1"),
        packer.pack("linux-headers-rpi-v8", "1:1+rpt1", flavour, arch="arm64"),
    ]


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return text


def debians_list(mirror: str, suite: str) -> bytes:
    """Debian's list of the packages of *suite*, compressed."""
    url = f"{mirror}/dists/{suite}/main/binary-amd64/Packages.xz"
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    return answer.content


def empty() -> bytes:
    """A list of no packages."""
    return lzma.compress(b"")


def reachable() -> bool:
    """Whether this machine has the address that containers of Docker know it by."""
    return Path("/sys/class/net/docker0").exists()
