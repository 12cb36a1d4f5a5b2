"""The system of a machine as the userland: packages where it has dpkg, an archive where not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import architectures, suites
from tarpit_builder.container import Files, Input, Recipe
from tarpit_builder.errors import InfrastructureError, SourceError
from tarpit_builder.kernels import own, prepared, rules, toolchain
from tarpit_builder.kernels.kernel import Choice, Userland, refuse_in_tree
from tarpit_builder.kernels.prepared import Facts, Prepared
from tarpit_builder.leftovers import scratch
from tarpit_builder.packaging import changelog, contents, modern, rootfs
from tarpit_builder.packaging.contents import MODULE, MODULES
from tarpit_builder.sealed import Step, Workshop

if TYPE_CHECKING:
    from tarpit_builder.proof import Subject
    from tarpit_builder.sources.buildtree import BuildTree
    from tarpit_builder.sources.debian import Archive
    from tarpit_builder.sources.mirrors import Mirrors

ARCHIVE = "none"
"""What ``--userland`` calls a system without dpkg."""

EXTENSION = "libxt_TARPIT.so"
BOOT_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class System:
    """What a machine is, and *why* we think so.

    *suite* is whose packages it takes, None where it has no dpkg; then *modules* is where depmod
    looks, and *xtables* where iptables does.
    """

    title: str
    why: str
    suite: suites.Suite | None = None
    modules: str = ""
    xtables: str = ""

    @property
    def of(self) -> suites.Distribution:
        """Whose archive the image for it is made from."""
        return self.suite.of if self.suite else suites.distributions()[suites.DEBIAN]

    @property
    def debian(self) -> str:
        """The suite of Debian that it has, ``""`` if it has none."""
        is_debian = self.suite and self.suite.userland.distribution == suites.DEBIAN
        return self.suite.base if self.suite and is_debian else ""


def system(tree: BuildTree, facts: Facts, asked: str = "") -> System:
    """The system of the machine that *tree* lies on, or was taken from.

    :param asked: ``--userland``: a suite of Debian, or none.
    :raises UserError: if there is no such suite.
    """
    identity = os_release(tree.root)
    if not tree.installed and _row(facts.release)["release"]:
        identity = {}  # it was unpacked here, and is another machine's
    if asked:
        if asked == ARCHIVE:
            return _without_dpkg(tree, facts, identity, "asked for with --userland")
        suite = suites.userland(asked, ARCHIVE, "a system without dpkg")
        return System(f"Debian {asked}", "asked for with --userland", suite)
    return _with_dpkg(facts, identity) or _without_dpkg(tree, facts, identity)


def _with_dpkg(facts: Facts, identity: Mapping[str, str]) -> System | None:
    """A system whose packages are ours; None if it is none."""
    names = (identity.get("VERSION_CODENAME", ""), identity.get("DEBIAN_CODENAME", ""))
    it = suites.distributions().get(identity.get("ID", ""))
    for name in filter(None, names if it else ()):
        assert it
        if suite := it.suites.get(name):
            return System(f"{it.title} {name}", "as its os-release says", suite)
    like = {identity.get("ID", ""), *identity.get("ID_LIKE", "").split()}
    if like & {"debian", "ubuntu"}:
        suite = suites.known().get(names[1]) or suites.known()[toolchain.suite()]
        title = identity.get("PRETTY_NAME", "a system with dpkg")
        return System(title, f"has dpkg; the packages are those for Debian {suite.name}", suite)
    if not identity and architectures.of_kernel(facts.release):
        suite = suites.distributions()[suites.DEBIAN].likely(facts.release)[0].userland
        return System(f"Debian {suite.name}", "its kernels are called so", suite)
    return None


def _without_dpkg(
    tree: BuildTree, facts: Facts, identity: Mapping[str, str], why: str = ""
) -> System:
    rows = rules.table("machines.toml")["system"]
    row = next((row for row in rows if identity.get("ID") in row["ids"]), None)
    why = why or ("as its os-release says" if row else "its kernels are called so")
    if row is None:
        row = _row(facts.release)
    modules, xtables = row["modules"], row["xtables"]
    if identity:
        merged = (tree.root / "lib").is_symlink()
        modules = "/usr/lib/modules" if merged else modules
        for found in ("usr/lib64/xtables", "usr/lib/xtables", "lib64/xtables", "lib/xtables"):
            if any((tree.root / found).glob("libxt_*.so")):
                xtables = f"/{found}"
                break
    return System(identity.get("PRETTY_NAME") or row["title"], why, None, modules, xtables)


def _row(release: str) -> dict[str, Any]:
    """The row of the systems whose kernels are called like *release*."""
    rows: list[dict[str, Any]] = rules.table("machines.toml")["system"]
    return next(row for row in rows if re.search(row["release"], release))


def os_release(root: Path) -> dict[str, str]:
    """What os-release(5) of the system at *root* says; nothing if there is none."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        try:
            lines = (root / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        pairs = (line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))
        return {key: value.strip().strip("\"'") for key, value in pairs}
    return {}


@dataclass(slots=True)
class HostUserland(Userland):
    """What goes with *tree* on *system*; *archive_of* has what the images for it are made of."""

    tree: Prepared
    system: System
    archive_of: Archive

    @property
    def mirrors(self) -> Mirrors:
        """Where the images for it come from."""
        return self.archive_of.mirrors

    @property
    def kernel(self) -> Facts:
        """What the tree says of its kernel."""
        return self.tree.kernel

    @property
    def recipe(self) -> Recipe:
        """The image with package tools, or just an iptables to build for; often the module's."""
        theirs = self.tree.recipe
        suite = self.system.suite.userland if self.system.suite else suites.known()[theirs.suite]
        if theirs.template == "build" and theirs.suite == suite.name:
            return theirs
        return prepared.image(suite, self.kernel.arch, "", self.archive_of)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """That of the module, and that of the rest."""
        same = self.tree.recipe == self.recipe
        return (self.recipe,) if same else (self.tree.recipe, self.recipe)

    @property
    def packages(self) -> modern.PackageSet:
        """What the packages are made for."""
        suite, of = self.system.suite, self.kernel
        assert suite
        return modern.PackageSet(
            version=f"{changelog.version()}{suite.suffix}",
            suite=suite.base,
            arch=of.arch,
            abi=of.release,
            kernel_version="",
            module_dir=suite.module_dir,
            distribution=suite.distribution,
        )

    @property
    def archive(self) -> str:
        """The name of the archive for a system without dpkg."""
        return f"xt-tarpit-{changelog.version()}-{self.kernel.release}-{self.kernel.arch}.tar.gz"

    def choices(self) -> tuple[Choice, ...]:
        """The system, and what is packed for it."""
        it, of = self.system, self.kernel
        if it.suite:
            return (
                Choice("userland", it.title, it.why),
                Choice(
                    "packages",
                    f"{MODULES}-{contents.in_package_name(of.release)}, xt-tarpit-dkms, -common "
                    f"{self.packages.version}",
                    "the module needs no package of the kernel, which need not have one",
                ),
            )
        return (
            Choice("userland", it.title, it.why),
            Choice(
                "archive",
                self.archive,
                f"to be unpacked at /: {it.modules}/{of.release}/updates/{MODULE}.ko, "
                f"{it.xtables}/{EXTENSION}, xt-tarpit-chain, its service, manual pages, examples",
            ),
            Choice(
                "  sources",
                rootfs.dkms_name(),
                "the module's, for DKMS, which builds it for this and each later kernel",
            ),
        )

    def facts(self) -> dict[str, Any]:
        """The system, and the version of the packages."""
        it = self.system
        return {
            "system": it.title,
            "userland": it.suite.base if it.suite else ARCHIVE,
            "version": self.packages.version if it.suite else changelog.version(),
            "places": [it.modules, it.xtables],
        }

    def inputs(self) -> tuple[str, ...]:
        """Digests of the images' recipes, the sources and the scripts."""
        handed_out = modern.source_files(self.packages) if self.system.suite else rootfs.sources()
        return (
            *(recipe.identity for recipe in self.recipes),
            handed_out.digest,
            modern.build_scripts().digest,
            prepared.scripts("extension.sh").digest,
        )

    def source(self) -> Files:
        """The module's source."""
        return contents.module_source()

    def build(self, workshop: Workshop, stage: Path) -> None:
        """The module in its tree; then packages, by the suite's tools, or an archive."""
        with scratch("results") as results:
            self.tree.module(workshop, results)
            if self.system.suite:
                own.pack(self.packages, self.recipe, results, workshop, stage)
            else:
                self._pack(results, workshop, stage)
            for module in results.glob("*.ko"):
                shutil.copyfile(module, stage / module.name)
            toolchain_file = stage / "toolchain.txt"
            packages = toolchain_file.read_text() if toolchain_file.is_file() else ""
            toolchain_file.write_text((results / "toolchain.txt").read_text() + packages)

    def _pack(self, results: Path, workshop: Workshop, stage: Path) -> None:
        """The extension, and the archives."""
        of, it = self.kernel, self.system
        workshop.run(
            Step(
                title=f"extension for {it.title}",
                script="extension.sh",
                scripts=prepared.scripts("extension.sh"),
                recipe=self.recipe,
                inputs=(Input("/src", [contents.extension_source()]),),
                environment={
                    "COMPILER": f"{architectures.c(of.arch).triplet}-"
                    + architectures.native(str(self.recipe.variables["compiler"]), of.arch),
                    "HOST_ARCH": of.arch,
                },
            ),
            stage,
        )
        files = {
            **{
                f"{it.modules}/{of.release}/updates/{path.name}": (path.read_bytes(), 0o644)
                for path in sorted(results.glob("*.ko"))
            },
            f"{it.xtables}/{EXTENSION}": ((stage / EXTENSION).read_bytes(), 0o755),
            **rootfs.common(),
        }
        (stage / self.archive).write_bytes(rootfs.archive(files))
        (stage / rootfs.dkms_name()).write_bytes(rootfs.archive(rootfs.dkms()))

    def install(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """By apt, or by tar and depmod."""
        release = self.kernel.release
        if self.system.suite:
            name = f"{MODULES}-{contents.in_package_name(release)}"
            return (
                "cd {folder}",
                f"{modern.APT_INSTALL} ./{name}_*.deb",
                "or, for this and each later kernel whose headers are installed, with DKMS:",
                f"{modern.APT_INSTALL} ./xt-tarpit-dkms_*.deb",
            )
        version = changelog.version()
        return (
            f"copy {{folder}}/{self.archive} to that machine, and there, as root:",
            f"tar -C / -xf {self.archive} && depmod {release} && modprobe {MODULE}",
            f"for this and each later kernel with DKMS in place of depmod, {rootfs.dkms_name()}:",
            f"tar -C / -xf {rootfs.dkms_name()} && dkms install xt-tarpit/{version}",
        )

    # -- proof -------------------------------------------------------------------------------

    def demand_provable(self, *, given: bool, in_tree: str) -> None:
        """Refuse a tree of the kernel's own, and a kernel that is not there or cannot be read."""
        refuse_in_tree(in_tree)
        self._installed()

    def _installed(self) -> tuple[Path, Path]:
        """The kernel's image and the folder of its modules.

        :raises SourceError: if they are not there.
        :raises InfrastructureError: if this user may not read them.
        """
        root, release = self.tree.tree.root, self.kernel.release
        folders = [root / name / "modules" / release for name in ("lib", "usr/lib")]
        modules = next((one for one in folders if (one / "modules.order").is_file()), None)
        images = [root / "boot" / f"vmlinuz-{release}", *(one / "vmlinuz" for one in folders)]
        image = next((one for one in images if one.is_file()), None)
        if image is None or modules is None:
            what = f"its image, {images[0]}" if image is None else f"its modules, {folders[0]}"
            raise SourceError(
                f"there is a build tree of {release} to build in, but no kernel to boot: {what}, "
                "is not there",
                hint=f"unpack the kernel's own package below {root} as well"
                if root != Path("/")
                else "install that kernel here, or prove it where it is installed",
            )
        if not os.access(image, os.R_OK):
            raise InfrastructureError(
                f"{image} cannot be read by this user",
                hint="run this as root, or let the user read it: chmod a+r",
            )
        return image, modules

    def subject(
        self, workshop: Workshop, packages: tuple[Path, ...], built: Path | None, in_tree: str
    ) -> Subject:
        """The kernel as it is installed, below programs of Debian's."""
        from tarpit_builder.proof import Subject, UserLand

        image, modules = self._installed()
        suite = self.system.suite
        if suite is None and built:
            packages = (*sorted(built.glob("*.ko")), built / EXTENSION)
        base = suite.userland if suite else suites.known()[self.recipe.suite]
        return Subject(
            land=UserLand(
                suite=base.name,
                arch=self.kernel.arch,
                mirror=self.mirrors.main,
                apt_sources=self.mirrors.apt_sources(base),
                distribution=base.distribution,
                keyring=self.mirrors.keyring,
            ),
            installed=(image, modules),
            packages=packages,
            given=built is None,
            boot_seconds=BOOT_SECONDS,
        )
