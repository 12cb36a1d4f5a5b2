"""What the proving machine boots: kernel, user land and the packages under proof, as one initramfs.

Three layers, concatenated (the kernel unpacks one cpio archive after the other): device nodes,
the user land of the suite, and the kernel's modules with the packages under proof.  Each is made
once for its inputs and kept in the cache; none is compressed, because a guest without hardware
virtualisation takes longer to uncompress than the host to read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tarpit_builder import architectures, paths, suites
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe, locked
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.sources.mirrors import Mirrors

MODULES = (
    # cards and links
    *(
        "virtio_net",
        "virtio_pci",
        "virtio_console",
        "e1000",
        "veth",
        "bridge",
        "br_netfilter",
        "8021q",
        "vrf",
        "bonding",
    ),
    *("dummy", "ifb", "tun", "ip_gre", "sit", "vxlan"),
    # tables
    *("ip_tables", "ip6_tables", "iptable_filter", "iptable_mangle", "iptable_raw"),
    *("iptable_security", "iptable_nat", "ip6table_filter", "ip6table_mangle", "ip6table_raw"),
    *("ip6table_security", "ip6table_nat", "nf_tables", "nft_compat", "nft_chain_nat"),
    # targets and matches of the recipes and checks
    *("x_tables", "xt_tcpudp", "xt_string", "ts_bm", "ts_kmp", "xt_limit", "xt_hashlimit"),
    *("xt_conntrack", "xt_CT", "xt_mark", "xt_comment", "xt_REDIRECT", "xt_multiport"),
    *("ipt_REJECT", "ip6t_REJECT", "nft_reject", "nft_reject_inet", "xt_physdev"),
    *("nf_conntrack", "nf_conntrack_netlink", "nf_defrag_ipv4", "nf_defrag_ipv6", "xt_owner"),
    *("xt_TCPMSS", "xt_TRACE", "nf_log_syslog", "tcp_diag", "inet_diag", "sch_netem"),
    *("nft_fwd_netdev", "sch_ingress", "cls_flower", "cls_matchall", "act_mirred"),
    "xfrm_user",
    *("nft_counter", "nft_limit", "nft_ct", "nft_redir", "xt_LOG", "nf_log_ipv4"),
)
"""Modules that a check may need, with what they need themselves; a kernel may lack any of them."""

SCRIPTS = paths.PROJECT / "containers" / "proof"


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What QEMU is given, and the release that it should turn out to be (empty if unknown).

    *absent* are those of :data:`MODULES` that a kernel's packages do not have, not even built in.
    """

    kernel: Path
    initrd: Path
    release: str
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UserLand:
    """The suite that the guest's programs are taken from."""

    suite: str
    arch: str = "amd64"
    mirror: str = field(default_factory=lambda: Mirrors.choose(None).main)
    apt_sources: tuple[str, ...] = field(default=())
    distribution: str = suites.DEBIAN
    keyring: str = ""

    def recipe(self) -> Recipe:
        """The image that holds them."""
        return Recipe(
            template="proof",
            suite=self.suite,
            arch=architectures.BUILD,
            apt_sources=self.apt_sources or (f"deb {self.mirror} {self.suite} main",),
            mirror=self.mirror,
            distribution=self.distribution,
            keyring=self.keyring,
            variables={
                "host": self.arch,
                "compiler": architectures.compiler("gcc", self.arch),
                "triplet": architectures.c(self.arch).triplet,
            },
        )


def digest(parts: Iterable[str | bytes | Path]) -> str:
    """A short digest of texts, bytes and contents of files."""
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as stream:
                inner = hashlib.file_digest(stream, "sha256").digest()
        else:
            inner = hashlib.sha256(part if isinstance(part, bytes) else part.encode()).digest()
        whole.update(inner)
    return whole.hexdigest()[:24]


class Assembly:
    """Makes boot files in sealed containers and keeps their layers in the cache."""

    def __init__(self, engine: Engine, console: Console, land: UserLand) -> None:
        self._engine = engine
        self._console = console
        self._land = land
        self._recipe = land.recipe()
        self._cache = paths.cache_dir() / "proof"

    def debian(self, kernel: Iterable[Path], packages: Iterable[Path], work: Path) -> BootFiles:
        """Boot files from a Debian kernel's packages and the packages under proof.

        *packages* may also be bare modules (``.ko``) and iptables extensions (``.so``).

        :raises UserError: if *kernel* are not the packages of one kernel, or a package cannot
            be unpacked.
        """
        debs = sorted(kernel)
        return self._picked({path.name: path for path in debs}, debs, packages, work)

    def installed(
        self, image: Path, modules: Path, packages: Iterable[Path], work: Path
    ) -> BootFiles:
        """The same for a kernel as it is installed: its *image* and the folder of its *modules*.

        :raises UserError: if a package cannot be unpacked.
        """
        release = modules.name
        files = {f"tree/boot/vmlinuz-{release}": image}
        for path in sorted(modules.rglob("*")):
            if path.is_file() and not path.is_symlink():
                files[f"tree/lib/modules/{release}/{path.relative_to(modules)}"] = path
        # The image has a digest of its own build, and the modules are named by their sizes.
        known = [f"{name} {path.stat().st_size}" for name, path in files.items()]
        return self._picked(files, [image, *known], packages, work)

    def _picked(
        self,
        files: Mapping[str, Path],
        known: Iterable[str | Path],
        packages: Iterable[Path],
        work: Path,
    ) -> BootFiles:
        folder = self._kernel(files, known)
        tree = folder / "modules"
        modules = {str(p.relative_to(tree)): p for p in tree.rglob("*") if p.is_file()}
        return self._boot(folder, folder / "vmlinuz", modules, tuple(packages), work)

    def built(self, kernel: Path, packages: Iterable[Path], work: Path) -> BootFiles:
        """The same for a kernel that was built: *kernel* is the folder of its image and modules."""
        release = (kernel / "release").read_text().strip()
        tree = f"lib/modules/{release}"
        modules: dict[str, Path | bytes] = {
            f"{tree}/kernel/{path.name}": path for path in sorted((kernel / "modules").glob("*.ko"))
        }
        # depmod looks for both.
        modules |= {f"{tree}/modules.order": b"", f"{tree}/modules.builtin": b""}
        return self._boot(kernel, kernel / "vmlinuz", modules, tuple(packages), work)

    def _boot(
        self,
        folder: Path,
        kernel: Path,
        modules: Mapping[str, Path | bytes],
        packages: tuple[Path, ...],
        work: Path,
    ) -> BootFiles:
        release = (folder / "release").read_text().strip()
        overlay = self._overlay(folder.name, release, modules, packages)
        initrd = work / "initrd"
        with initrd.open("wb") as out:
            out.write(nodes())
            for layer in (self._rootfs() / "rootfs.cpio", overlay / "overlay.cpio"):
                out.write(bytes(-out.tell() % 4))
                with layer.open("rb") as stream:
                    shutil.copyfileobj(stream, out, 1 << 20)
        return BootFiles(kernel, initrd, release, _absent(folder))

    def bare(self, kernel: Path, files: Mapping[str, Path], work: Path) -> BootFiles:
        """Boot files from the folder of a kernel, the agent and *files* (path in the guest → file).

        For kernels that no suite's user land runs on; *files* bring a static iptables, and may
        bring the agent as ``/init``, where it has to be of another architecture.
        """
        agent = files.get("/init") or self._agent() / "agent"
        initrd = work / "initrd"
        with initrd.open("wb") as out:
            out.write(nodes(trailer=False))
            out.write(_archive({"init": agent, **{k.lstrip("/"): v for k, v in files.items()}}))
        return BootFiles(kernel / "vmlinuz", initrd, "")

    # -- layers ------------------------------------------------------------------------------

    def _layer(self, name: str, key: str, make: Callable[[Path], None]) -> Path:
        final = self._cache / f"{name}-{key}"
        with locked(f"proof-{name}-{key}"):
            if not final.exists():
                with paths.staged_dir(final) as stage:
                    make(stage)
        return final

    def _image(self) -> str:
        return self._engine.ensure_image(self._recipe, self._console)

    def _run(self, argv: list[str], inputs: list[Input], output: Path) -> None:
        scripts = Input("/in/scripts", [Files({p.name: p for p in SCRIPTS.iterdir()})])
        result = self._engine.run(
            self._image(),
            argv,
            inputs=[scripts, *inputs],
            output=output,
            limits=Limits(seconds=300),
        )
        if result.status:
            last = result.lines[-1] if result.lines else "no output"
            raise UserError(
                f"cannot assemble the proving machine: {last}",
                hint="are these the packages of one kernel, complete and of this architecture?",
            )

    def _rootfs(self) -> Path:
        scripts = (
            SCRIPTS / name for name in ("rootfs.sh", "agent.sh", "agent.c", "fuzz.c", "load.c")
        )

        def make(stage: Path) -> None:
            with self._console.stage(f"user land of {self._land.suite}"):
                self._run(["sh", "/in/scripts/rootfs.sh", "/in/scripts"], [], stage)

        return self._layer("rootfs", digest([self._recipe.tag, *scripts]), make)

    def _agent(self) -> Path:
        def make(stage: Path) -> None:
            with self._console.stage("agent"):
                self._run(["sh", "/in/scripts/agent.sh", "/in/scripts"], [], stage)

        script = SCRIPTS / "agent.sh"
        return self._layer("agent", digest([self._recipe.tag, script, SCRIPTS / "agent.c"]), make)

    def _kernel(self, files: Mapping[str, Path], known: Iterable[str | Path]) -> Path:
        def make(stage: Path) -> None:
            with self._console.stage("kernel and its modules"):
                source = Input("/in/kernel", [Files(files)])
                argv = ["sh", "/in/scripts/kernel.sh", "/in/kernel", *MODULES]
                self._run(argv, [source], stage)

        key = digest([SCRIPTS / "kernel.sh", " ".join(MODULES), *known])
        return self._layer("kernel", key, make)

    def _overlay(
        self,
        kernel: str,
        release: str,
        modules: Mapping[str, Path | bytes],
        packages: tuple[Path, ...],
    ) -> Path:
        def make(stage: Path) -> None:
            with self._console.stage("packages under proof"):
                inputs = [
                    Input("/in/modules", [Files(modules)]),
                    Input("/in/packages", [Files({p.name: p for p in packages})]),
                ]
                argv = ["sh", "/in/scripts/overlay.sh", release, "/in/modules", "/in/packages"]
                self._run(argv, inputs, stage)

        script = SCRIPTS / "overlay.sh"
        names = (path.name for path in packages)
        parts: list[str | Path] = [self._recipe.tag, script, kernel, *names, *packages]
        return self._layer("overlay", digest(parts), make)


def _absent(kernel: Path) -> frozenset[str]:
    """The modules that the kernel in that folder does not have, as ``kernel.sh`` says."""
    try:
        lines = (kernel / "absent").read_text().splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(line.removeprefix("absent ") for line in lines)


def nodes(*, trailer: bool = True) -> bytes:
    """A cpio archive with the device nodes that init needs before it can make any itself."""
    archive = _entry("dev", 0o040755) + _entry("dev/console", 0o020600, device=(5, 1))
    return archive + (_entry("TRAILER!!!", 0) if trailer else b"")


def _archive(members: Mapping[str, Path]) -> bytes:
    archive = b""
    made: set[str] = set()
    for name, path in members.items():
        for parent in reversed(Path(name).parents[:-1]):
            if str(parent) not in made:
                made.add(str(parent))
                archive += _entry(str(parent), 0o040755)
        archive += _entry(name, 0o100755, content=path.read_bytes())
    return archive + _entry("TRAILER!!!", 0)


def _entry(
    name: str, mode: int, *, content: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    """One member in the "new ASCII" format of cpio, which kernels of every age unpack."""
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device of the file, device of the node, check
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
    return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)


def require_space(path: Path, need: int) -> None:
    """Refuse to begin with less than *need* bytes free at *path*.

    :raises InfrastructureError: if there is less.
    """
    free = shutil.disk_usage(path).free
    if free < need:
        raise InfrastructureError(
            f"{path} has {free >> 20} MiB free; a proof needs {need >> 20} MiB",
            hint="free some, or point TMPDIR and TARPIT_CACHE elsewhere",
        )
