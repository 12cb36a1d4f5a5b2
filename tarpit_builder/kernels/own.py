"""A Debian suite as the userland of a kernel that is no suite's, but built from source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import architectures
from tarpit_builder.container import Files, Input, Recipe
from tarpit_builder.digests import content
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules, steps
from tarpit_builder.kernels.kernel import Choice, Userland
from tarpit_builder.kernels.source import SCRIPTS, Source
from tarpit_builder.leftovers import scratch
from tarpit_builder.packaging import changelog, modern
from tarpit_builder.packaging.contents import MODULE, MODULES, module_source
from tarpit_builder.sealed import Step, Workshop
from tarpit_builder.suites import Suite
from tarpit_builder.versions import KernelVersion, VersionRange

if TYPE_CHECKING:
    from tarpit_builder.proof import Subject
    from tarpit_builder.sources.mirrors import Mirrors

PREBUILT = "/prebuilt"
BOOT_SECONDS = 180.0  # a loaded machine takes its time; an idle one boots these in two
NFT = VersionRange.parse(">=4.14", KernelVersion)
"""The kernels whose nf_tables today's iptables works with."""


@dataclass(frozen=True, slots=True)
class OwnKernel(Userland):
    """What goes with *tree* on *suite*; *why* that one."""

    tree: Source
    suite: Suite
    why: str
    mirrors: Mirrors

    @property
    def recipe(self) -> Recipe:
        """The image with the suite's package tools; what the module takes is in another."""
        return modern.recipe(self.suite, self.tree.arch, "gcc", self.mirrors, expired=False)

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """That of the module, and that of the packages."""
        return (self.tree.recipe, self.recipe)

    def packages(self, release: str) -> modern.PackageSet:
        """What the packages for the kernel *release* are made for."""
        return modern.PackageSet(
            version=f"{changelog.version()}+deb{self.suite.number}",
            suite=self.suite.name,
            arch=self.tree.arch,
            abi=release,
            kernel_version="",
            module_dir=self.suite.module_dir,
        )

    def choices(self) -> tuple[Choice, ...]:
        """The suite, and what is packed."""
        version = self.packages(str(self.tree.version)).version
        with_kernel = self.tree.places.request.with_kernel
        return (
            Choice("userland", f"Debian {self.suite.name}", self.why),
            Choice(
                "extension",
                f"libxt_TARPIT.so for the iptables of {self.suite.name}",
                "serves the legacy and the nft front end",
            ),
            Choice(
                "packages",
                f"{MODULES}-RELEASE, xt-tarpit-dkms, -common {version}",
                "the ordinary ones; RELEASE is what `uname -r` says there",
            ),
            *(
                [Choice("image", self.tree.image, "asked for with --with-kernel")]
                if with_kernel
                else []
            ),
        )

    def facts(self) -> dict[str, Any]:
        """The suite, what else is made, and the version of the packages."""
        request = self.tree.places.request
        return {
            "userland": self.suite.name,
            "release": request.release,
            "with-kernel": request.with_kernel,
            "version": self.packages("").version,
        }

    def inputs(self) -> tuple[str, ...]:
        """Digests of the images' recipes, the packages' source and the scripts."""
        layers = [self.tree.image_layer] if self.tree.places.request.with_kernel else []
        return (
            *(recipe.identity for recipe in self.recipes),
            *(content(*layer.files().values()) for layer in layers),
            modern.source_files(self.packages(str(self.tree.version))).digest,
            modern.build_scripts().digest,
            content(*(path.read_bytes() for path in sorted(SCRIPTS.iterdir()))),
        )

    def source(self) -> Files:
        """The module's source."""
        return module_source()

    def build(self, workshop: Workshop, stage: Path) -> None:
        """The module, by the toolchain of its kernel; then packages, by the suite's tools."""
        with scratch("results") as results:
            steps.module(self.tree, MODULE, workshop, results)
            release = steps.release(results)
            pack(self.packages(release), self.recipe, results, workshop, stage)
            with_kernel = self.tree.places.request.with_kernel
            image = steps.image(self.tree, MODULE, workshop) if with_kernel else None
            steps.collect(self.tree, results, image, stage)

    def install(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """By apt; headers of such a kernel are no package of the suite."""
        names = (item["file"] for item in manifest["outputs"])
        (modules,) = (
            name for name in names if name.startswith(f"{MODULES}-") and name.endswith(".deb")
        )
        return (
            "cd {folder}",
            f"{modern.APT_INSTALL} ./{modules.partition('_')[0]}_*.deb",
            "or, where this kernel's build tree is at hand, for DKMS:",
            f"{modern.APT_INSTALL} ./xt-tarpit-dkms_*.deb",
        )

    def demand_provable(self, *, given: bool, in_tree: str) -> None:
        """Refuse configurations of the user's, and a patch that there is not."""
        demand_provable(self.tree, in_tree)

    def subject(
        self, workshop: Workshop, packages: tuple[Path, ...], built: Path | None, in_tree: str
    ) -> Subject:
        """An image of the kernel below the suite's programs, with the packages installed."""
        from tarpit_builder.proof import Subject, UserLand
        from tarpit_builder.proof.lab import Tools

        if in_tree:
            packages = tuple(path for path in packages if not path.name.startswith(MODULES))
        subject = Subject(
            land=UserLand(
                suite=self.suite.name,
                arch=self.tree.arch,
                mirror=self.mirrors.main,
                apt_sources=self.mirrors.apt_sources(self.suite),
            ),
            kernel_image=steps.image(self.tree, MODULE, workshop, in_tree),
            packages=packages,
            given=built is None,
            backends=("legacy", "nft") if self.tree.version in NFT else ("legacy",),
            boot_seconds=BOOT_SECONDS,
            tools=Tools(builtin=in_tree == "y"),
        )
        if (debug := self.tree.debug) is None:
            return subject
        return replace(
            subject,
            boot_seconds=debug.boot_seconds,
            memory=debug.memory,
            cpus=debug.cpus,
            arguments=debug.arguments,
            tools=replace(subject.tools, leaks=debug.leaks, watched=not debug.on_request),
        )


def pack(
    packages: modern.PackageSet, recipe: Recipe, results: Path, workshop: Workshop, stage: Path
) -> None:
    """Put *packages* around the modules in *results*, with the tools of the image of *recipe*."""
    compiler = architectures.native(str(recipe.variables["compiler"]), packages.arch)
    workshop.run(
        Step(
            title=f"packages for {packages.abi}",
            script="build-packages.sh",
            scripts=modern.build_scripts(),
            recipe=recipe,
            inputs=(
                Input(PREBUILT, [Files({path.name: path for path in results.glob("*.ko")})]),
                Input("/src", [modern.source_files(packages)]),
            ),
            environment={
                **modern.build_environment(packages.abi, packages.arch, compiler),
                "PREBUILT": PREBUILT,
            },
            done=lambda output: f"{len(list(output.glob('*.deb')))} packages",
        ),
        stage,
    )


def demand_provable(source: Source, in_tree: str) -> None:
    """Refuse what is not booted.

    :raises UserError: if *source* is not in our own configuration, or has no in-tree patch.
    """
    request = source.places.request
    if request.config or request.image:
        raise UserError(
            "a kernel of kernel.org is proven in the default configuration, by our compiler",
            hint="leave --config and --image out",
        )
    if in_tree and source.patch is None:
        raise UserError(
            f"there is no in-tree patch for Linux {source.version}",
            hint="`invoke patch` lists the releases that have one",
        )


def userland(source: Source, rule: rules.KernelRule, suite: Suite, mirrors: Mirrors) -> OwnKernel:
    """*suite* for *source*, as asked for or by *rule*.

    :raises UserError: if the suite's programs do not run there.
    """
    if rule.no_suite:
        raise UserError(
            f"Debian {suite.name} does not run on Linux {source.version}: {rule.no_suite}",
            hint="leave --userland out: the packages are then for a system of the kernel's age",
        )
    asked = source.places.request.userland
    why = "asked for with --userland" if asked else rule.pairing
    return OwnKernel(source, suite, why, mirrors)
