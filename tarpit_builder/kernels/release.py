"""Releases of kernel.org: 2.6.24, v2.6.24-rc1, or one of a range."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import architectures, records, suites
from tarpit_builder.container import Recipe
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import configuration, machine, own, rules, toolchain
from tarpit_builder.kernels.kernel import Choice, Kernel, Origin
from tarpit_builder.kernels.period import Iptables, Period
from tarpit_builder.kernels.source import (
    DEFAULT_CONFIG,
    KERNEL_ARCHITECTURES,
    SCRIPTS,
    SUITE_CONFIG,
    Source,
    SourcePlaces,
)
from tarpit_builder.suites import Suite
from tarpit_builder.versions import IptablesVersion, KernelVersion, VersionRange, suggest

if TYPE_CHECKING:
    from tarpit_builder.request import Request
    from tarpit_builder.sources.catalogue import Catalogue
    from tarpit_builder.sources.debian import Archive
    from tarpit_builder.sources.mirrors import Mirrors

PERIOD = "period"
RELEASE_SUFFIX = re.compile(r"[-+.][A-Za-z0-9.+~_-]{0,60}", re.ASCII)


class KernelOrg(Origin):
    """kernel.org."""

    architectures = tuple(KERNEL_ARCHITECTURES)
    takes = frozenset(
        {
            *(
                "iptables",
                "extension",
                "userland",
                "config",
                "symvers",
                "release",
                "image",
                "with_kernel",
                "debug",
            ),
            *("kernel_git", "ref", "kernel_tree", "iptables_git", "trust_on_first_use"),
        }
    )
    shares_image = True

    def owns(self, name: str, tree: str = "") -> bool:
        """Whether *name* is a version, such as 2.6.24 or v6.12-rc1, and *tree* has to be built."""
        if machine.is_ready(tree):
            return False
        try:
            KernelVersion.parse(name)
        except UserError:
            return False
        return True

    def find(self, request: Request, archive: Archive) -> Kernel:
        """The release, with the toolchain and the iptables that its age takes.

        :raises UserError: if the tables refuse it, or parts of *request* contradict each other.
        """
        version = KernelVersion.parse(request.kernel)
        rule = rules.kernel(version)
        _check(request, version)
        places = SourcePlaces.of(request.but(kernel=str(version)), archive)
        layer, image_layer = _layers(request, version)
        ours = toolchain.image(archive.mirrors, request.arch)
        suite = _suite(request, rule)
        source = Source(
            version=version,
            arch=request.arch,
            places=places,
            layer=layer,
            image_layer=image_layer,
            recipe=_users_image(request, archive.mirrors) if request.image else ours,
            files=configuration.read(request),
            fragments=_fragments(request, suite),
            untried=_untried(request, version, archive),
            suffix=f"-{request.debug}"
            if request.debug
            else request.release.removeprefix(str(version)),
        )
        release = f"{version}{source.suffix}"
        others = [f"-iptables-{request.iptables}" if request.iptables else ""]
        others += ["-extension" if request.extension else ""]
        others += [f"-{request.userland}" if request.userland else ""]
        mirrors = archive.mirrors
        return Kernel(
            request=places.request,
            name=f"{release}-{request.arch}{''.join(others)}",
            tree=source,
            userland=own.userland(source, rule, suite, mirrors)
            if suite
            else Period(source, rule, _iptables(request, version, rule), ours, mirrors),
            choices=(
                Choice("kernel", f"Linux {version}, {request.arch}", _why(version)),
                Choice("module", f"{rule.module}, from dkms/", rule.reason),
            ),
            facts={"kernel": str(version), "arch": request.arch, "module": rule.module}
            | ({"debug": request.debug} if request.debug else {}),
        )

    def expand(self, name: str, take: str, catalogue: Catalogue) -> tuple[str, ...]:
        """The releases of the catalogue in the range *name*, or the one that it is.

        :raises UserError: if there are none, or one of them is not built.
        """
        wanted = VersionRange.parse(name, KernelVersion)
        if len(wanted.bounds) == 1 and wanted.bounds[0][0] == "=":
            version = wanted.bounds[0][1]
            # The catalogue lacks some point releases, which are vouched for by signatures.
            if not {version, version.series} & catalogue.releases():
                near = suggest(str(version), map(str, catalogue.releases()))
                raise UserError(
                    f"there is no Linux {version} in the catalogue",
                    hint=f"did you mean {' or '.join(near)}?"
                    if near
                    else "`invoke catalog-update` looks for new releases",
                )
            found = [version]
        else:
            found = sorted(v for v in catalogue.releases() if v.rc is None and v in wanted)
            if take != "all":
                series: dict[KernelVersion, KernelVersion] = {}
                for version in found if take == "last" else reversed(found):
                    series[version.series] = version
                found = sorted(series.values())
            if not found:
                raise UserError(
                    f"no release of the catalogue is in the range {name}",
                    hint="widen it, or `invoke catalog-update` looks for new releases",
                )
        for version in found:
            rules.kernel(version)
        return tuple(map(str, found))

    def refusal(self, option: str, kernel: str) -> UserError:
        """The option that only a distribution's kernels take."""
        return UserError(
            f"{option} is for Debian's kernels", hint=f"Linux {kernel} takes --config FILE instead"
        )


def _fragments(request: Request, suite: Suite | None) -> tuple[Path, ...]:
    """What our configuration is made of: for all, for a *suite*, and for the architecture."""
    own = SCRIPTS / f"{request.arch}.config"
    more = [SUITE_CONFIG] if suite else []
    more += [SCRIPTS / rules.debug(request.debug).config] if request.debug else []
    return (DEFAULT_CONFIG, *more, *([own] if own.is_file() else []))


def _users_image(request: Request, mirrors: Mirrors) -> Recipe:
    return Recipe("period", "none", request.arch, (), mirrors.main, foreign=request.image)


def _layers(request: Request, version: KernelVersion) -> tuple[toolchain.Layer, toolchain.Layer]:
    """The toolchain for the module, and for a whole kernel."""
    if request.image:
        layer = toolchain.for_period_image(version, request.arch)
        return layer, layer
    module, whole = (
        toolchain.for_kernel(version, request.arch, image=image) for image in (False, True)
    )
    return module, whole


def _check(request: Request, version: KernelVersion) -> None:
    """Refuse what contradicts itself or cannot be built.

    :raises UserError: naming it.
    """
    if request.arch not in KERNEL_ARCHITECTURES:
        raise UserError(
            f"architecture {request.arch!r} is not supported for kernels of kernel.org",
            hint=f"supported: {', '.join(KERNEL_ARCHITECTURES)}",
        )
    built = architectures.sources()[request.arch]
    if version not in VersionRange.parse(built.releases, KernelVersion):
        raise UserError(
            f"Linux {version} is not built for {request.arch}: {built.why}",
            hint=f"releases {built.releases} are, and others for amd64 and i386",
        )
    suffix = request.release.removeprefix(str(version))
    if request.release and (
        suffix == request.release or (suffix and not RELEASE_SUFFIX.fullmatch(suffix))
    ):
        raise UserError(
            f"--release {request.release!r} does not begin with the version {version}",
            hint=f"give what `uname -r` says on that machine, such as {version}-1-686",
        )
    if request.extension and request.iptables in {"", "none"}:
        raise UserError(
            "--extension without --iptables: an extension is for one release of it",
            hint="add what `iptables --version` says on that machine, such as --iptables 1.4.8",
        )
    if request.debug:
        _check_debug(request, version)
    if request.symvers and not request.config:
        raise UserError(
            "--symvers without --config: the checksums in it hold for one configuration only",
            hint="add --config /boot/config-RELEASE of the same kernel",
        )


def _check_debug(request: Request, version: KernelVersion) -> None:
    """Refuse a debug kernel that there cannot be, or that is another than asked for.

    :raises UserError: naming why.
    """
    rule = rules.debug(request.debug)
    if version not in rule.releases or request.arch not in rule.architectures:
        raise UserError(
            f"there is no {request.debug.upper()} for Linux {version} on {request.arch}: "
            f"{rule.reason}",
            hint=f"name one of {rule.releases}, on {' or '.join(rule.architectures)}",
        )
    for name in ("--config", "--image", "--release", "--iptables"):
        if name in request.given():
            raise UserError(
                f"{name} with --debug: a debug kernel is of our own configuration and compiler",
                hint=f"leave {name} out",
            )
    if request.userland == PERIOD:
        raise UserError(
            "a debug kernel is proven below the programs of a suite of Debian",
            hint=f"leave --userland {PERIOD} out",
        )


def _untried(request: Request, version: KernelVersion, archive: Archive) -> tuple[str, ...]:
    """What to say of a release of a series that was not seen to build here."""
    if request.image or records.tried(version):
        return ()
    near = archive.of_series(str(version.series))
    debian = f"; Debian's own {version.series}: --kernel {near[0]}" if near else ""
    tried = records.series(one for one in records.read() if not one.distribution)
    return (
        f"{toolchain.compiler()} was not yet seen to build Linux {version.series}, only {tried}: "
        f"tell us if it does not{debian}",
    )


def _suite(request: Request, rule: rules.KernelRule) -> Suite | None:
    """The suite that the packages are for; none if they are for a system of the kernel's age.

    :raises UserError: if there is no such suite, or an iptables is asked for that it does not take.
    """
    # Whoever asks for an iptables means the one that is built along.
    name = request.userland or (PERIOD if request.iptables else rule.userland)
    if name == PERIOD and request.arch not in toolchain.period_architectures():
        raise UserError(
            f"packages with an iptables that is built along are not made for {request.arch}, only "
            f"for {' and '.join(toolchain.period_architectures())}",
            hint=f"leave out --iptables and --userland {PERIOD}: a suite of Debian has its own",
        )
    if name == PERIOD:
        return None
    if request.iptables:
        raise UserError(
            f"--iptables is for --userland {PERIOD}: Debian {name} has its own",
            hint="leave one of the two out",
        )
    return suites.userland(name, PERIOD, "a system of the kernel's age")


def _iptables(request: Request, kernel: KernelVersion, rule: rules.KernelRule) -> Iptables | None:
    """The iptables for *kernel*, as asked for or by *rule*.

    :raises UserError: if it is none that is built here, or its extension is not built on its own.
    """
    if request.iptables == "none":
        return None
    version = IptablesVersion.parse(request.iptables) if request.iptables else rule.iptables
    if version is None:
        return None
    chosen = rules.iptables(version)
    if request.extension and not chosen.alone:
        raise UserError(
            f"iptables {version} takes no extension that was built on its own",
            hint="leave --extension out: its package takes the place of the machine's iptables",
        )
    whole = chosen.whole_for(kernel) and not request.extension
    why = "asked for with --iptables" if request.iptables else rule.pairing
    layer = toolchain.for_iptables(version, request.arch, whole=whole)
    return Iptables(version, chosen, whole, layer, why)


def _why(version: KernelVersion) -> str:
    if version.is_series:
        return "asked for by name"
    return f"asked for by name; the rules are those of {version.series}"
