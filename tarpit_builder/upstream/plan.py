"""From a kernel release to a plan, with the reason of every choice; pure."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tarpit_builder import __version__
from tarpit_builder.container import Recipe
from tarpit_builder.errors import UserError
from tarpit_builder.plan import Choice
from tarpit_builder.upstream import rules, toolchain
from tarpit_builder.upstream.rules import IptablesRule, KernelRule
from tarpit_builder.upstream.toolchain import Layer
from tarpit_builder.versions import IptablesVersion, KernelVersion

ARCHITECTURES: Mapping[str, str] = {"amd64": "x86_64", "i386": "i386"}
"""Debian's names and the kernel's."""

IMAGE_ARCHITECTURE = "amd64"
"""What the building image runs on; its compiler makes both."""

RELEASE_SUFFIX = re.compile(r"[-+.][A-Za-z0-9.+~_-]{0,60}", re.ASCII)


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """What the user asked for.

    *iptables* is a version, ``""`` for the one that fits, or ``none``.  *config* and *symvers* are
    ``.config`` and ``Module.symvers`` of the kernel that the module is for, and *release* what
    ``uname -r`` says there.  *image* names a container image with a compiler of the kernel's age.
    """

    kernel: KernelVersion
    arch: str = "amd64"
    iptables: str = ""
    config: Path | None = None
    symvers: Path | None = None
    release: str = ""
    image: str = ""
    with_kernel: bool = False


@dataclass(frozen=True, slots=True)
class IptablesPlan:
    """The iptables that is built along; *warning* is what to say about it with this kernel."""

    version: IptablesVersion
    rule: IptablesRule
    layer: Layer
    warning: str


@dataclass(frozen=True, slots=True)
class UpstreamPlan:
    """Everything that a build does, decided before it starts.

    The kernel's part runs in the image of *kernel_recipe*, iptables in that of *recipe*; they
    differ only if the user brings an image.
    """

    request: UpstreamRequest
    rule: KernelRule
    layer: Layer
    image_layer: Layer | None
    recipe: Recipe
    kernel_recipe: Recipe
    iptables: IptablesPlan | None
    choices: tuple[Choice, ...]
    warnings: tuple[str, ...]
    options: tuple[str, ...] = ()
    """What else the command needs to be the same: where the sources come from."""

    @property
    def kernel(self) -> KernelVersion:
        """The release that is built for."""
        return self.request.kernel

    @property
    def arch(self) -> str:
        """The architecture, by Debian's name."""
        return self.request.arch

    @property
    def karch(self) -> str:
        """The architecture, by the kernel's name."""
        return ARCHITECTURES[self.arch]

    @property
    def suffix(self) -> str:
        """What follows the version in the kernel's ``uname -r``, if the request says so."""
        return self.request.release.removeprefix(str(self.kernel))

    @property
    def version(self) -> str:
        """The version of the packages."""
        return __version__

    @property
    def image(self) -> str:
        """The image that the kernel's part runs in: the user's own by the name they gave it."""
        return self.request.image or self.kernel_recipe.tag

    @property
    def name(self) -> str:
        """The folder of the result below ``dist/``."""
        request = self.request
        iptables = f"-iptables-{request.iptables}" if request.iptables else ""
        return f"{request.release or request.kernel}-{request.arch}{iptables}"

    @property
    def command(self) -> str:
        """The command that makes the same again."""
        request = self.request
        words = ["invoke", "build", "--kernel", str(request.kernel)]
        words += ["--arch", request.arch] if request.arch != "amd64" else []
        words += ["--iptables", request.iptables] if request.iptables else []
        words += ["--config", str(request.config)] if request.config else []
        words += ["--symvers", str(request.symvers)] if request.symvers else []
        words += ["--release", request.release] if request.release else []
        words += ["--image", request.image] if request.image else []
        words += ["--with-kernel"] if request.with_kernel else []
        return shlex.join([*words, *self.options])

    def facts(self) -> dict[str, Any]:
        """The plan as plain data, for the manifest."""
        iptables = self.iptables
        return {
            "kernel": str(self.kernel),
            "arch": self.arch,
            "module": self.rule.module,
            "iptables": str(iptables.version) if iptables else None,
            "iptables-headers": str(iptables.rule.headers) if iptables else None,
            "toolchain": list(self.layer.names),
            "image": self.image,
            "version": self.version,
            "choices": [asdict(choice) for choice in self.choices],
            "warnings": list(self.warnings),
        }

    def key(self) -> str:
        """A digest of every input that the plan names; trees, files and scripts come on top."""
        facts = self.facts()
        for prose in ("choices", "warnings"):
            del facts[prose]
        layers = [self.layer, self.image_layer, self.iptables.layer if self.iptables else None]
        facts["layers"] = [
            {name: content.decode() for name, content in layer.files().items()} if layer else None
            for layer in layers
        ]
        facts["release"] = self.request.release
        facts["with-kernel"] = self.request.with_kernel
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def make(request: UpstreamRequest, apt_sources: tuple[str, ...], mirror: str) -> UpstreamPlan:
    """The plan for *request*.

    :param apt_sources: ``sources.list`` lines of the building image's suite.
    :param mirror: the Debian mirror that the suite is bootstrapped from.
    :raises UserError: if the tables refuse it, or its parts contradict each other.
    """
    if request.arch not in ARCHITECTURES:
        raise UserError(
            f"architecture {request.arch!r} is not supported for kernels of kernel.org",
            hint=f"supported: {', '.join(ARCHITECTURES)}",
        )
    rule = rules.kernel(request.kernel)
    _check_toolchain(request)
    _check_release(request)
    if request.symvers and not request.config:
        raise UserError(
            "--symvers without --config: the checksums in it hold for one configuration only",
            hint="add --config /boot/config-RELEASE of the same kernel",
        )
    recipe, kernel_recipe = _recipes(request, apt_sources, mirror)
    layer, image_layer = _layers(request)
    iptables = _iptables(request, rule)
    warnings = [iptables.warning] if iptables and iptables.warning else []
    if not request.config:
        warnings.append(
            "built for this project's default configuration, which is not that of a distribution's "
            "kernel; --config names another"
        )
    return UpstreamPlan(
        request=request,
        rule=rule,
        layer=layer,
        image_layer=image_layer,
        recipe=recipe,
        kernel_recipe=kernel_recipe,
        iptables=iptables,
        choices=_choices(request, rule, layer, recipe, iptables),
        warnings=tuple(warnings),
    )


def _recipes(
    request: UpstreamRequest, apt_sources: tuple[str, ...], mirror: str
) -> tuple[Recipe, Recipe]:
    """Our image, and the one for the kernel's part."""
    ours = Recipe(
        template="upstream",
        suite=toolchain.suite(),
        arch=IMAGE_ARCHITECTURE,
        apt_sources=apt_sources,
        mirror=mirror,
        variables={"compiler": toolchain.compiler()},
    )
    if not request.image:
        return ours, ours
    return ours, Recipe("period", "none", request.arch, (), mirror, foreign=request.image)


def _layers(request: UpstreamRequest) -> tuple[Layer, Layer | None]:
    """The layer for the module, and for the kernel's image if there is to be one."""
    if request.image:
        layer = toolchain.for_period_image(request.kernel, request.arch)
        return layer, layer if request.with_kernel else None
    layer, whole = (
        toolchain.for_kernel(request.kernel, request.arch, image=image) for image in (False, True)
    )
    return layer, whole if request.with_kernel else None


def _check_toolchain(request: UpstreamRequest) -> None:
    if not request.image and request.kernel not in toolchain.proven():
        raise UserError(
            f"{toolchain.compiler()} was not seen to build Linux {request.kernel}, "
            f"only {toolchain.proven()}",
            hint="--image names a container image with a compiler of its age; Debian's own kernels "
            "are --kernel debian:SUITE; on the machine itself use xt-tarpit-dkms",
        )


def _check_release(request: UpstreamRequest) -> None:
    release = request.release
    if not release:
        return
    suffix = release.removeprefix(str(request.kernel))
    if suffix == release or (suffix and not RELEASE_SUFFIX.fullmatch(suffix)):
        raise UserError(
            f"--release {release!r} does not begin with the version {request.kernel}",
            hint=f"give what `uname -r` says on that machine, such as {request.kernel}-1-686",
        )


def _iptables(request: UpstreamRequest, rule: KernelRule) -> IptablesPlan | None:
    if request.iptables == "none":
        return None
    version = IptablesVersion.parse(request.iptables) if request.iptables else rule.iptables
    chosen = rules.iptables(version)
    layer = toolchain.for_iptables(version, request.arch)
    return IptablesPlan(version, chosen, layer, chosen.warning_for(request.kernel))


def _choices(
    request: UpstreamRequest,
    rule: KernelRule,
    layer: Layer,
    recipe: Recipe,
    iptables: IptablesPlan | None,
) -> tuple[Choice, ...]:
    choices = [
        Choice("kernel", f"Linux {request.kernel}, {request.arch}", _why_kernel(request)),
        Choice("module", f"{rule.module}, from dkms/", rule.reason),
        _patch_choice(request.kernel),
        Choice(
            "config",
            str(request.config or "containers/upstream/default.config"),
            "of the kernel that the module is for"
            if request.config
            else "SMP, module unloading, no symbol versions; --config names another",
        ),
    ]
    choices += _compiler_choices(request, layer, recipe)
    choices += _iptables_choices(request, rule, iptables)
    choices.append(
        Choice(
            "packages",
            f"xt-tarpit-modules, xt-tarpit-dkms{', iptables' if iptables else ''}",
            "in the form that dpkg of 2007 reads: gzip, no field that it does not know",
        )
    )
    if request.with_kernel:
        choices.append(Choice("image", "bzImage", "asked for with --with-kernel"))
    return tuple(choices)


def _compiler_choices(request: UpstreamRequest, layer: Layer, recipe: Recipe) -> list[Choice]:
    if request.image:
        compiler = Choice("compiler", f"that of {request.image}", "asked for with --image")
    else:
        compiler = Choice(
            "compiler", toolchain.compiler(), f"that of Debian {recipe.suite}, still served"
        )
    return [compiler, *(Choice("  fix", fix.name, fix.why) for fix in layer.fixes)]


def _iptables_choices(
    request: UpstreamRequest, rule: KernelRule, iptables: IptablesPlan | None
) -> list[Choice]:
    if iptables is None:
        return [Choice("iptables", "none", "asked for with --iptables none")]
    why = "asked for with --iptables" if request.iptables else rule.pairing
    headers = iptables.warning or "the same for every kernel, so that one package serves them all"
    return [
        Choice("iptables", str(iptables.version), f"{why}; {iptables.rule.reason}"),
        Choice("headers", f"of Linux {iptables.rule.headers}", headers),
        *(Choice("  fix", fix.name, fix.why) for fix in iptables.layer.fixes),
    ]


def _patch_choice(version: KernelVersion) -> Choice:
    patch = rules.patch(version)
    if patch is None:
        return Choice("patch", "none", "there is none for this release; the module needs none")
    return Choice(
        "patch", patch.name, "the same source for the kernel's own tree, handed out along"
    )


def _why_kernel(request: UpstreamRequest) -> str:
    if request.kernel.is_series:
        return "asked for by name"
    return f"asked for by name; the rules are those of {request.kernel.series}"
