"""A system of the kernel's own age as the userland: a static iptables, packages of that time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder.container import Files, Input, Recipe
from tarpit_builder.digests import content
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules
from tarpit_builder.kernels.kernel import Choice, Userland
from tarpit_builder.kernels.source import SCRIPTS, Source, for_modules, layer_input, whole
from tarpit_builder.kernels.toolchain import Layer
from tarpit_builder.leftovers import scratch
from tarpit_builder.packaging import changelog, contents
from tarpit_builder.packaging import period as packages
from tarpit_builder.sealed import Step, Workshop
from tarpit_builder.versions import IptablesVersion, KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.proof import Subject
    from tarpit_builder.sources import FetchedTree
    from tarpit_builder.sources.mirrors import Mirrors

GROUPS = ("smoke", "wire", "honeypot", "reset", "storms")
"""Groups of checks that need no more userland than a static iptables."""

SETTINGS = {"ipt_TARPIT": "IP_NF_TARGET_TARPIT", "xt_TARPIT": "NETFILTER_XT_TARGET_TARPIT"}
"""What the patches call the setting for each module."""

BOOT_SECONDS = 180.0  # a loaded machine takes its time; an idle one boots these in a second


@dataclass(frozen=True, slots=True)
class Iptables:
    """The iptables that is built along, and *why* this one."""

    version: IptablesVersion
    rule: rules.IptablesRule
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

    period = True

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
                f"xt-tarpit-modules, xt-tarpit-dkms{', iptables' if self.iptables else ''}",
                "in the form that dpkg of 2007 reads: gzip, no field that it does not know",
            ),
            *([Choice("image", "bzImage", "asked for with --with-kernel")] if with_kernel else []),
        )

    def _iptables_choices(self) -> tuple[Choice, ...]:
        iptables, places = self.iptables, self.tree.places
        if iptables is None:
            asked = "asked for with --iptables none"
            return (
                Choice("iptables", "none", asked if places.request.iptables else self.rule.pairing),
            )
        headers = iptables.rule.headers
        return (
            Choice("iptables", str(iptables.version), f"{iptables.why}; {iptables.rule.reason}"),
            Choice(
                "headers",
                f"of Linux {headers}",
                self._warning or "the same for every kernel, so that one package serves them all",
            ),
            places.outlook(iptables.version),
            *([places.outlook(headers, headers=True)] if headers != self.tree.version else []),
            *(Choice("  fix", fix.name, fix.why) for fix in iptables.layer.fixes),
        )

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
            "iptables-headers": str(iptables.rule.headers) if iptables else None,
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
        )

    def fetch(self, console: Console) -> tuple[str, ...]:
        """Fetch and verify the trees of iptables, and of the kernel whose headers it takes."""
        return tuple(tree.tree for tree in self.tools(console))

    def tools(self, console: Console) -> tuple[FetchedTree, ...]:
        """The same as trees; none if no iptables is built."""
        if self.iptables and not self._tools:
            version: KernelVersion = self.iptables.rule.headers
            self._tools = (
                self.tree.places.iptables(self.iptables.version, console),
                self.tree.tree(console)
                if version == self.tree.version
                else self.tree.places.headers(version, console),
            )
        return self._tools

    def manifest(self) -> list[dict[str, object]]:
        """Those trees."""
        return [tree.manifest() for tree in self._tools]

    def source(self) -> Files:
        """The module's source, under the name that it has at this age."""
        return contents.module_source(self.rule.module)

    def build(self, workshop: Workshop, stage: Path) -> None:
        """The module, iptables and, if asked for, the kernel; then the packages of them."""
        with scratch("results") as results:
            self._module(workshop, results)
            if self.iptables:
                shutil.copytree(self._programs(workshop, self.iptables), results / "iptables")
            if self.tree.places.request.with_kernel:
                shutil.copytree(self._kernel(workshop), results / "image")
            self._collect(results, stage)

    def demand_provable(self, *, given: bool, in_tree: str) -> None:
        """Refuse packages and configurations of the user's, and a patch that there is not."""
        request = self.tree.places.request
        if given:
            raise UserError(
                "--packages is for Debian's kernels",
                hint=f"Linux {self.tree.version} is proven with what `invoke build` makes for it",
            )
        if request.config or request.image or self.iptables is None:
            raise UserError(
                "a kernel of kernel.org is proven in the default configuration, with an iptables",
                hint="leave --config, --image and --iptables none out",
            )
        if in_tree and self.tree.patch is None:
            raise UserError(
                f"there is no in-tree patch for Linux {self.tree.version}",
                hint="`invoke patch` lists the releases that have one",
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
        image = self._kernel(workshop, in_tree)
        modules = {f"/lib/modules/{module}.ko": built / f"{module}.ko"}
        if in_tree:
            modules = {f"/lib/modules/{path.name}": path for path in image.glob("modules/*.ko")}
        guest = self._guest(workshop, self.iptables, PROOF_SCRIPTS / "agent.c")
        programs = _under_all_names(self._programs(workshop, self.iptables) / "sbin")
        return Subject(
            land=UserLand(suite=self.recipe.suite, arch=self.tree.arch, mirror=self.mirrors.main),
            kernel_image=image / "bzImage",
            files={
                "/init": guest / "init",
                "/sbin/modprobe": guest / "modprobe",
                **modules,
                **programs,
            },
            groups=GROUPS,
            backends=("legacy",),
            boot_seconds=BOOT_SECONDS,
            tools=Tools(
                module=module,
                builtin=in_tree == "y",
                families=self.iptables.families,
                wait=(),
                card="e1000",
            ),
        )

    # -- steps -------------------------------------------------------------------------------

    def _module(self, workshop: Workshop, output: Path) -> None:
        """The module, in *output*, with its kernel's release and configuration."""
        tree, module = self.tree, self.rule.module
        step = self._step(
            ("module.sh", "configure.sh", "lib.sh", "plain-calls.pl"),
            tree.layer,
            (
                for_modules(tree.tree(workshop.console)),
                Input("/src", [self.source()]),
                _request(tree.configuration(), tree.patch),
            ),
            title=f"{module} for {workshop.name}",
            done=_release,
        )
        told = {"MODULE": module, "TARPIT_VERSION": changelog.version()}
        workshop.run(replace(step, environment={**step.environment, **told}), output)

    def _kernel(self, workshop: Workshop, in_tree: str = "") -> Path:
        """A whole kernel: ``bzImage``, ``release``, ``config`` and its ``modules/``, if any.

        :param in_tree: ``m`` or ``y`` to have TARPIT in it, by the patch.
        """
        tree = self.tree
        settings = f"CONFIG_{SETTINGS[self.rule.module]}={in_tree}\n" if in_tree else ""
        step = self._step(
            ("image.sh", "configure.sh", "lib.sh", "plain-calls.pl"),
            tree.image_layer,
            (
                whole(tree.tree(workshop.console), "/kernel"),
                _request(tree.configuration(settings), tree.patch if in_tree else None),
            ),
            title=f"kernel image {workshop.name}",
            done=_release,
        )
        name = f"image-{tree.version}-{tree.arch}"
        return workshop.kept(name, step, *tree.fetch(workshop.console))

    def _programs(self, workshop: Workshop, wanted: Iptables) -> Path:
        """A static iptables: ``sbin/`` and ``man/``."""
        source, headers = self.tools(workshop.console)
        step = self._step(
            ("iptables.sh", "lib.sh"),
            wanted.layer,
            (
                whole(source, "/iptables"),
                for_modules(headers),
                _request({}, rules.patch(wanted.version)),
            ),
            title=f"iptables {wanted.version} ({self.tree.arch})",
        )
        return workshop.kept(f"iptables-{wanted.version}", replace(step, recipe=self.recipe))

    def _guest(self, workshop: Workshop, wanted: Iptables, agent: Path) -> Path:
        """What else a guest has: ``init``, made from *agent*, and ``modprobe``."""
        given = (Input("/request", [Files({"agent.c": agent})]),)
        step = self._step(("guest.sh", "modprobe.c"), Layer(wanted.layer.compiler), given)
        return workshop.kept(f"guest-{self.tree.arch}", replace(step, recipe=self.recipe))

    def _step(
        self,
        scripts: tuple[str, ...],
        layer: Layer,
        inputs: tuple[Input, ...],
        *,
        title: str = "",
        done: Callable[[Path], str] = lambda _: "",
    ) -> Step:
        """The first of *scripts* of ``containers/upstream/``, with the compiler of *layer*."""
        return Step(
            script=scripts[0],
            scripts=Files({name: SCRIPTS / name for name in scripts}),
            recipe=self.tree.recipe,
            inputs=(*inputs, layer_input(layer)),
            environment={"KARCH": self.tree.karch, "SUFFIX": self.tree.suffix},
            title=title,
            done=done,
        )

    # -- results -----------------------------------------------------------------------------

    def _collect(self, results: Path, stage: Path) -> None:
        """Put what the user gets from *results* into *stage*."""
        release = _release(results)
        module = f"{self.rule.module}.ko"
        shutil.copyfile(results / module, stage / module)
        shutil.copyfile(results / "config", stage / f"config-{release}")
        shutil.copyfile(results / "toolchain.txt", stage / "toolchain.txt")
        patches = [self.tree.patch]
        patches += [rules.patch(self.iptables.version)] if self.iptables else []
        for patch in filter(None, patches):
            shutil.copyfile(patch, stage / patch.name)
        if (results / "patched").is_dir():
            shutil.copytree(results / "patched", stage / "patched")
        if (results / "image").is_dir():
            shutil.copyfile(results / "image" / "bzImage", stage / f"vmlinuz-{release}")
            if (results / "image" / "modules").is_dir():
                shutil.copytree(results / "image" / "modules", stage / "modules")
        iptables = str(self.iptables.version) if self.iptables else ""
        for deb in packages.make(self.rule.module, self.tree.arch, iptables, results):
            (stage / deb.file_name).write_bytes(deb.build())


def families(version: IptablesVersion) -> tuple[int, ...]:
    """The address families that the extension for *version* serves."""
    patch = rules.patch(version)
    both = patch is not None and "extensions/libip6t_TARPIT.c" in patch.read_text()
    return (4, 6) if both else (4,)


def _release(results: Path) -> str:
    """What ``uname -r`` says of the kernel that *results* are for."""
    return (results / "release").read_text().strip()


def _request(files: Mapping[str, bytes], patch: Path | None) -> Input:
    """What the scripts are asked to do."""
    return Input("/request", [Files({**files, **({"patch": patch} if patch else {})})])


def _under_all_names(folder: Path) -> Mapping[str, Path]:
    """The programs under their own names, and under those that the checks call."""
    files = {}
    for path in folder.iterdir():
        files[f"/sbin/{path.name}"] = path
        files[f"/sbin/{path.name.replace('tables', 'tables-legacy', 1)}"] = path
    return files
