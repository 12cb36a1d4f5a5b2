"""A system of the kernel's own age as the userland: a static iptables, packages of that time."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder.container import Files, Input, Recipe
from tarpit_builder.digests import content
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules, steps
from tarpit_builder.kernels.kernel import Choice, Userland
from tarpit_builder.kernels.own import demand_provable
from tarpit_builder.kernels.source import SCRIPTS, Source, for_modules, whole
from tarpit_builder.kernels.toolchain import Layer
from tarpit_builder.leftovers import scratch
from tarpit_builder.packaging import changelog, contents
from tarpit_builder.packaging import period as packages
from tarpit_builder.sealed import Workshop
from tarpit_builder.versions import IptablesVersion, KernelVersion, VersionRange

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.proof import Subject
    from tarpit_builder.sources import FetchedTree
    from tarpit_builder.sources.mirrors import Mirrors

GROUPS = ("smoke", "wire", "honeypot", "reset", "stall", "storms")
"""Groups of checks that need no more userland than a static iptables."""

SHARED_METRICS = VersionRange.parse("2.6.39-3.0", KernelVersion)
"""Where IPv6 routes keep their metrics with the address, whatever the prefix: neighbour discovery's
hop limit of 255 then shows in packets to elsewhere, the first after a while (seen with 3.0.1)."""

BOOT_SECONDS = 180.0  # a loaded machine takes its time; an idle one boots these in a second


@dataclass(frozen=True, slots=True)
class Iptables:
    """The iptables that is built along, and *why* this one: the *whole*, or an extension for it."""

    version: IptablesVersion
    rule: rules.IptablesRule
    whole: bool
    layer: Layer
    why: str

    @property
    def families(self) -> tuple[int, ...]:
        """The address families that the extension for it serves."""
        return families(self.version)


@dataclass(slots=True)
class Period(Userland):
    """What goes with *tree*; *recipe* is our image, *rule* says what the module is called."""

    tree: Source
    rule: rules.KernelRule
    iptables: Iptables | None
    recipe: Recipe
    mirrors: Mirrors
    _tools: tuple[FetchedTree, ...] = ()

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The kernel's part runs in the user's image, where they name one; iptables in ours."""
        theirs, ours = self.tree.recipe, self.recipe
        return (ours,) if theirs == ours else (theirs, ours)

    def choices(self) -> tuple[Choice, ...]:
        """The iptables, and what is packed."""
        with_kernel = self.tree.places.request.with_kernel
        return (
            *self._iptables_choices(),
            Choice(
                "packages",
                ", ".join(["xt-tarpit-modules", "xt-tarpit-dkms", *self._tools_packages]),
                "in the form that dpkg of 2007 reads: gzip, no field that it does not know",
            ),
            *(
                [Choice("image", self.tree.image, "asked for with --with-kernel")]
                if with_kernel
                else []
            ),
        )

    def _iptables_choices(self) -> tuple[Choice, ...]:
        iptables, places = self.iptables, self.tree.places
        if iptables is None:
            asked = "asked for with --iptables none"
            return (
                Choice("iptables", "none", asked if places.request.iptables else self.rule.pairing),
            )
        headers = iptables.rule.headers
        why = self._warning or "the same for every kernel, so that one package serves them all"
        return (
            Choice("iptables", str(iptables.version), f"{iptables.why}; {iptables.rule.reason}"),
            *([Choice("headers", f"of Linux {headers}", why)] if headers else []),
            places.outlook(iptables.version),
            *(
                [places.outlook(headers, headers=True)]
                if headers and headers != self.tree.version
                else []
            ),
            *(Choice("  fix", fix.name, fix.why) for fix in iptables.layer.fixes),
        )

    @property
    def _tools_packages(self) -> tuple[str, ...]:
        """The packages of iptables."""
        if self.iptables is None:
            return ()
        return ("iptables",) if self.iptables.whole else ("xt-tarpit-extension",)

    @property
    def _warning(self) -> str:
        return self.iptables.rule.warning_for(self.tree.version) if self.iptables else ""

    def warnings(self) -> tuple[str, ...]:
        """What to say about this iptables with this kernel."""
        return (self._warning,) if self._warning else ()

    def facts(self) -> dict[str, Any]:
        """The iptables, what else is made, and the version of the packages."""
        iptables, request = self.iptables, self.tree.places.request
        return {
            "iptables": str(iptables.version) if iptables else None,
            "iptables-headers": str(iptables.rule.headers or "") if iptables else None,
            **({"extension": True} if request.extension else {}),
            "release": request.release,
            "with-kernel": request.with_kernel,
            "version": changelog.version(),
        }

    def inputs(self) -> tuple[str, ...]:
        """Digests of toolchains, packages and scripts."""
        iptables = self.iptables
        layers = [iptables.layer] if iptables else []
        layers += [self.tree.image_layer] if self.tree.places.request.with_kernel else []
        patch = iptables and rules.patch(iptables.version)
        return (
            self.recipe.identity,
            *(content(*layer.files().values()) for layer in layers),
            content(*packages.everything(self.rule.module)),
            content(*(path.read_bytes() for path in sorted(SCRIPTS.iterdir()))),
            content(*([patch.read_bytes()] if patch else [])),
            contents.extension_source().digest,
        )

    def fetch(self, console: Console) -> tuple[str, ...]:
        """Fetch and verify the trees of iptables, and of the kernel whose headers it takes."""
        return tuple(tree.tree for tree in self.tools(console))

    def tools(self, console: Console) -> tuple[FetchedTree, ...]:
        """The same as trees; none if no iptables is built."""
        if self.iptables and not self._tools:
            version = self.iptables.rule.headers
            self._tools = (self.tree.places.iptables(self.iptables.version, console),)
            if version == self.tree.version:
                self._tools += (self.tree.tree(console),)
            elif version:
                self._tools += (self.tree.places.headers(version, console),)
        return self._tools

    def manifest(self) -> list[dict[str, object]]:
        """Those trees."""
        return [tree.manifest() for tree in self._tools]

    def source(self) -> Files:
        """The module's source, under the name that it has at this age."""
        return contents.module_source(self.rule.module)

    def build(self, workshop: Workshop, stage: Path) -> None:
        """The module, iptables and, if asked for, the kernel; then the packages of them."""
        module = self.rule.module
        with scratch("results") as results:
            steps.module(self.tree, module, workshop, results)
            if self.iptables and not self.iptables.whole:
                made = self._extension(workshop, self.iptables)
                for place in (results, stage):
                    shutil.copyfile(made / packages.EXTENSION, place / packages.EXTENSION)
            elif self.iptables:
                shutil.copytree(self._programs(workshop, self.iptables), results / "iptables")
                if patch := rules.patch(self.iptables.version):
                    shutil.copyfile(patch, stage / patch.name)
            with_kernel = self.tree.places.request.with_kernel
            image = steps.image(self.tree, module, workshop) if with_kernel else None
            steps.collect(self.tree, results, image, stage)
            iptables = str(self.iptables.version) if self.iptables else ""
            for deb in packages.make(module, self.tree.arch, iptables, results):
                (stage / deb.file_name).write_bytes(deb.build())

    def install(self, manifest: Mapping[str, Any]) -> tuple[str, ...]:
        """By dpkg: apt installs files since 2014 only, and these are for another machine."""
        debs = [item["file"] for item in manifest["outputs"] if item["file"].endswith(".deb")]
        dkms = [name for name in debs if name.startswith("xt-tarpit-dkms_")]
        others = " ".join(sorted(set(debs) - set(dkms), reverse=True))
        return (
            f"on that machine, as root: dpkg -i {others}",
            *(f"where it has DKMS, {name} in place of the module" for name in dkms),
        )

    def demand_provable(self, *, given: bool, in_tree: str) -> None:
        """Refuse packages and configurations of the user's, and a patch that there is not."""
        if given:
            raise UserError(
                "--packages is for Debian's kernels",
                hint=f"Linux {self.tree.version} is proven with what `invoke build` makes for it",
            )
        demand_provable(self.tree, in_tree)
        if self.iptables is None or not self.iptables.whole:
            raise UserError(
                f"without an iptables there is nothing to prove Linux {self.tree.version} with",
                hint="leave --iptables and --extension out: one that fits is then built along",
            )

    def subject(
        self, workshop: Workshop, packages: tuple[Path, ...], built: Path | None, in_tree: str
    ) -> Subject:
        """A small image of the kernel, with what was built and a static iptables."""
        from tarpit_builder.proof import Subject, UserLand
        from tarpit_builder.proof.initramfs import SCRIPTS as PROOF_SCRIPTS
        from tarpit_builder.proof.lab import Tools

        module = self.rule.module
        assert built
        assert self.iptables
        image = steps.image(self.tree, module, workshop, in_tree)
        modules = {f"/lib/modules/{module}.ko": built / f"{module}.ko"}
        if in_tree:
            modules = {f"/lib/modules/{path.name}": path for path in image.glob("modules/*.ko")}
        guest = self._guest(workshop, self.iptables, PROOF_SCRIPTS / "agent.c")
        programs = self._programs(workshop, self.iptables) / "sbin"
        return Subject(
            land=UserLand(suite=self.recipe.suite, arch=self.tree.arch, mirror=self.mirrors.main),
            kernel_image=image,
            files={
                "/init": guest / "init",
                "/sbin/modprobe": guest / "modprobe",
                **modules,
                **{f"/sbin/{path.name}": path for path in programs.iterdir()},
            },
            groups=GROUPS,
            backends=("legacy",),
            boot_seconds=BOOT_SECONDS,
            tools=Tools(
                module=module,
                builtin=in_tree == "y",
                families=self.iptables.families,
                suffixes=False,
                wait=(),
                card="e1000",
                hop_limits=(64, 255) if self.tree.version in SHARED_METRICS else (64,),
            ),
        )

    # -- steps -------------------------------------------------------------------------------

    def _programs(self, workshop: Workshop, wanted: Iptables) -> Path:
        """A static iptables: ``sbin/`` and ``man/``."""
        source, *headers = self.tools(workshop.console)
        patch = rules.patch(wanted.version)
        step = steps.step(
            self.tree,
            ("iptables.sh", "lib.sh") if patch else ("xtables.sh", "lib.sh"),
            wanted.layer,
            (
                whole(source, "/iptables"),
                *map(for_modules, headers),
                steps.request({}, patch) if patch else Input("/src", [contents.extension_source()]),
            ),
            title=f"iptables {wanted.version} ({self.tree.arch})",
        )
        told = step.environment if patch else {**step.environment, "IPTABLES": str(wanted.version)}
        step = replace(step, recipe=self.recipe, environment=told)
        return workshop.kept(f"iptables-{wanted.version}", step)

    def _extension(self, workshop: Workshop, wanted: Iptables) -> Path:
        """The extension alone, for an iptables that loads it."""
        (source,) = self.tools(workshop.console)
        step = steps.step(
            self.tree,
            ("extension.sh",),
            wanted.layer,
            (whole(source, "/iptables"), Input("/src", [contents.extension_source()])),
            title=f"extension for iptables {wanted.version} ({self.tree.arch})",
        )
        told = {**step.environment, "IPTABLES": str(wanted.version)}
        step = replace(step, recipe=self.recipe, environment=told)
        return workshop.kept(f"extension-{wanted.version}", step)

    def _guest(self, workshop: Workshop, wanted: Iptables, agent: Path) -> Path:
        """What else a guest has: ``init``, made from *agent*, and ``modprobe``."""
        given = (Input("/request", [Files({"agent.c": agent})]),)
        step = steps.step(
            self.tree, ("guest.sh", "modprobe.c"), Layer(wanted.layer.compiler), given
        )
        return workshop.kept(f"guest-{self.tree.arch}", replace(step, recipe=self.recipe))


def families(version: IptablesVersion) -> tuple[int, ...]:
    """The address families that the extension for *version* serves."""
    patch = rules.patch(version)
    both = patch is None or "extensions/libip6t_TARPIT.c" in patch.read_text()
    return (4, 6) if both else (4,)
