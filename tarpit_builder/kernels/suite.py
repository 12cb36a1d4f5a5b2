"""A suite as the userland: packages that its own tools build, for its own iptables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import architectures
from tarpit_builder.container import Files, Input, Recipe
from tarpit_builder.errors import SourceError
from tarpit_builder.kernels.headers import Headers, obtain
from tarpit_builder.kernels.kernel import Choice, Userland, refuse_in_tree
from tarpit_builder.packaging import modern
from tarpit_builder.sealed import Step, Workshop

if TYPE_CHECKING:
    from tarpit_builder.proof import Subject
    from tarpit_builder.sources.debian import Package


@dataclass(frozen=True, slots=True)
class SuiteUserland(Userland):
    """The suite that the kernel of *tree* is of."""

    tree: Headers

    @property
    def recipe(self) -> Recipe:
        """The image with the suite's package tools and the kernel's compiler."""
        kernel, mirrors = self.tree.kernel, self.tree.archive.userland().mirrors
        base = kernel.suite.userland
        # With the pockets that its kernels are in, where those are of the same archive.
        suite = kernel.suite if kernel.suite.of is base.of else base
        return modern.recipe(
            suite, kernel.arch, kernel.compiler, mirrors, expired=bool(kernel.expired)
        )

    @property
    def compiler(self) -> str:
        """The package of the compiler: the one that built the kernel, or the same for here."""
        return architectures.compiler(self.tree.kernel.compiler, self.tree.kernel.arch)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """That one image."""
        return (self.recipe,)

    @property
    def packages(self) -> modern.PackageSet:
        """What the packages are made for."""
        kernel = self.tree.kernel
        return modern.PackageSet.of(
            kernel.suite, kernel.arch, kernel.abi, kernel.version, kernel.packages[0].source
        )

    def choices(self) -> tuple[Choice, ...]:
        """Compiler, image, and what is built with them."""
        kernel, base = self.tree.kernel, self.recipe.suite
        return (
            Choice(
                "compiler",
                self.compiler,
                f"{kernel.compiler} built this kernel, as {kernel.packages[0].name} says",
            ),
            Choice("image", self.recipe.tag, f"userland of {base}, so that the packages fit it"),
            Choice(
                "module",
                "xt_TARPIT, from dkms/",
                "one source for all; probes adapt it to the headers",
            ),
            Choice(
                "extension",
                f"libxt_TARPIT.so for the iptables of {base}",
                "serves the legacy and the nft front end",
            ),
            Choice(
                "packages",
                f"xt-tarpit-dkms, -common, -modules-{kernel.abi} {self.packages.version}",
                "source for DKMS, the extension, and a prebuilt module for hosts without a "
                "compiler",
            ),
        )

    def facts(self) -> dict[str, Any]:
        """The compiler, the version of the packages, and what the kernel was built from."""
        packages = self.packages
        facts = {"compiler": self.compiler, "version": packages.version}
        if packages.kernel_source != "linux":
            facts["kernel-source"] = packages.kernel_source
        return facts

    def inputs(self) -> tuple[str, ...]:
        """Digests of the image's recipe, the packages' source and the scripts."""
        return (self.recipe.identity, self.source().digest, modern.build_scripts().digest)

    def source(self) -> Files:
        """The source packages."""
        return modern.source_files(self.packages)

    def environment(self) -> dict[str, str]:
        """What ``build-packages.sh`` has to know."""
        kernel = self.tree.kernel
        return {
            **modern.build_environment(kernel.abi, kernel.arch, kernel.compiler),
            "KERNEL_PACKAGES": " ".join(map(_installed, kernel.packages)),
        }

    def build(self, workshop: Workshop, stage: Path) -> None:
        """Everything in one sealed run, by the suite's ``dpkg-buildpackage``."""
        kernel = self.tree.kernel
        workshop.run(
            Step(
                title=f"build for {kernel.abi}",
                script="build-packages.sh",
                scripts=modern.build_scripts(),
                recipe=self.recipe,
                inputs=(self.tree.input(workshop.console), Input("/src", [self.source()])),
                environment=self.environment(),
                done=lambda output: f"{len(list(output.glob('*.deb')))} packages",
            ),
            stage,
        )

    def signing(self) -> Files:
        """``sign-modules.sh``."""
        return modern.signing_scripts()

    def sign(
        self, workshop: Workshop, package: Path, signatures: Files, version: str, stage: Path
    ) -> None:
        """In a sealed run, by the kernel's own ``sign-file`` and the suite's ``dpkg-deb``."""
        abi = self.tree.kernel.abi
        workshop.run(
            Step(
                title=f"sign for {abi}",
                script="sign-modules.sh",
                scripts=self.signing(),
                recipe=self.recipe,
                inputs=(
                    self.tree.input(workshop.console),
                    Input("/unsigned", [Files({package.name: package})]),
                    Input("/signatures", [signatures]),
                ),
                environment={"KERNEL_ABI": abi, "SIGNED_VERSION": version},
                done=lambda output: f"{len(list(output.glob('*.deb')))} package",
            ),
            stage,
        )

    def install(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """By apt, with the headers that follow the kernel from version to version."""
        abi = self.tree.kernel.abi
        # The metapackage, as headers of this kernel alone would leave out the next one.
        kernel = self.tree.kernel
        headers = kernel.metapackage or kernel.packages[0].name
        return (
            "cd {folder}",
            f"{modern.APT_INSTALL} ./xt-tarpit-dkms_*.deb {headers}",
            "or, on a host without a compiler, for this kernel alone:",
            f"{modern.APT_INSTALL} ./xt-tarpit-modules-{abi}_*.deb",
        )

    def demand_provable(self, *, given: bool, in_tree: str) -> None:
        """Refuse a tree of the kernel's own, and a kernel that cannot be had."""
        refuse_in_tree(in_tree)
        kernel = self.tree.kernel
        if not kernel.image:
            raise SourceError(
                f"{kernel.suite.name} has headers for {kernel.abi} but not the kernel itself",
                hint="prove another kernel of the suite; `invoke kernels --all` lists them",
            )

    def subject(
        self, workshop: Workshop, packages: tuple[Path, ...], built: Path | None, in_tree: str
    ) -> Subject:
        """The kernel's packages, under their own names; the store knows only digests."""
        from tarpit_builder.proof import Subject, UserLand

        kernel, archive = self.tree.kernel, self.tree.archive
        files = obtain(kernel.image, f"kernel {kernel.abi}", archive, workshop.console)
        named = tuple(workshop.log.parent / package.blob().name for package in kernel.image)
        for link, path in zip(named, files, strict=True):
            link.symlink_to(path)
        base, mirrors = kernel.suite.userland, archive.userland().mirrors
        land = UserLand(
            suite=base.name,
            arch=kernel.arch,
            mirror=mirrors.main,
            apt_sources=mirrors.apt_sources(base),
            distribution=base.distribution,
            keyring=mirrors.keyring,
        )
        return Subject(land, kernel_packages=named, packages=packages, given=built is None)


def _installed(package: Package) -> str:
    """*package* as a .buildinfo has it, in a word."""
    here = {"all", architectures.BUILD}
    name = package.name if package.arch in here else f"{package.name}:{package.arch}"
    return f"{name}={package.version}"
