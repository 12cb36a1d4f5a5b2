"""From the options of a task to the right builder: a kernel of Debian, or one of kernel.org."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import build as debian
from tarpit_builder import names
from tarpit_builder import plan as planning
from tarpit_builder.build import BuildResult
from tarpit_builder.errors import UserError
from tarpit_builder.plan import BuildPlan, Request
from tarpit_builder.versions import KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.bench import Measurement
    from tarpit_builder.console import Console
    from tarpit_builder.proof import VerifyReport
    from tarpit_builder.prove import Options
    from tarpit_builder.sources.debian import Archive
    from tarpit_builder.upstream.plan import UpstreamPlan, UpstreamRequest
    from tarpit_builder.upstream.trees import Trees


@dataclass(frozen=True, slots=True)
class Wish:
    """The options of ``invoke build`` and ``explain``, as typed; ``""`` is an option left out."""

    kernel: str
    arch: str = "amd64"
    flavour: str = ""
    iptables: str = ""
    config: str = ""
    symvers: str = ""
    release: str = ""
    image: str = ""
    with_kernel: bool = False
    kernel_git: str = ""
    ref: str = ""
    kernel_tree: str = ""
    iptables_git: str = ""
    trust_on_first_use: bool = False

    def __post_init__(self) -> None:
        """What people call a kernel is read once, here.

        :raises UserError: if it is no kernel, and what is meant can be guessed.
        """
        object.__setattr__(self, "kernel", names.kernel(self.kernel))
        object.__setattr__(self, "arch", names.architecture(self.arch))

    @property
    def is_release(self) -> bool:
        """Whether the kernel is a release of kernel.org, such as 2.6.24."""
        return is_release(self.kernel)


def is_release(kernel: str) -> bool:
    """Whether *kernel* is written as a release of kernel.org, such as 2.6.24 or v6.12-rc1."""
    try:
        KernelVersion.parse(kernel)
    except UserError:
        return False
    return True


def build(wish: Wish, archive: Archive, console: Console, *, force: bool = False) -> BuildResult:
    """Build the packages for *wish*, unless they are in ``dist/`` already.

    :raises TarpitError: of the kind of what went wrong.
    """
    if not wish.is_release:
        _refuse_upstream_options(wish)
        return debian.build(debian_request(wish), archive, console, force=force)
    from tarpit_builder.upstream.build import build as build_upstream

    return build_upstream(
        _upstream_request(wish, archive),
        trees(wish, archive),
        console,
        mirrors=archive.mirrors,
        force=force,
    )


def plan(wish: Wish, archive: Archive) -> BuildPlan | UpstreamPlan:
    """What :func:`build` would do.

    :raises UserError: if *wish* cannot be met.
    """
    if not wish.is_release:
        _refuse_upstream_options(wish)
        request = debian_request(wish)
        return planning.make(request, planning.resolve(request, archive), archive)
    from tarpit_builder.upstream import inputs
    from tarpit_builder.upstream.build import plan_for

    wanted = _upstream_request(wish, archive)
    files = inputs.read(wanted)
    made = plan_for(wanted, archive.mirrors, trees(wish, archive))
    return replace(made, warnings=(*made.warnings, *files.warnings))


def verify(
    wish: Wish, options: Options, archive: Archive, console: Console, *, in_tree: str = ""
) -> VerifyReport:
    """Boot the kernel of *wish* and judge the packages.

    :param in_tree: for a release of kernel.org, ``m`` or ``y`` to patch TARPIT into its tree.
    :raises UserError: if *wish* cannot be met.
    :raises InfrastructureError: if nothing can be booted.
    """
    options.check()
    if not wish.is_release:
        _refuse_upstream_options(wish)
        if in_tree:
            raise UserError(
                "--in-tree is for releases of kernel.org",
                hint="name one that has a patch, such as --kernel 2.6.24",
            )
        from tarpit_builder.prove import prove

        return prove(debian_request(wish), options, archive, console)
    if options.packages:
        raise UserError(
            "--packages is for Debian's kernels",
            hint=f"Linux {wish.kernel} is proven with what `invoke build` makes for it",
        )
    from tarpit_builder.upstream.prove import prove as prove_upstream

    return prove_upstream(
        _upstream_request(wish, archive),
        options,
        trees(wish, archive),
        console,
        mirrors=archive.mirrors,
        in_tree=in_tree,
    )


def measure(wish: Wish, archive: Archive, console: Console) -> list[Measurement]:
    """How long sources and builds of a release of kernel.org take.

    :raises TarpitError: as a build does.
    """
    from tarpit_builder import bench
    from tarpit_builder.upstream.bench import measure as measure_builds

    request, places = _upstream_request(wish, archive), trees(wish, archive)
    return [
        *bench.run_sources(
            request.kernel, kernel_git=places.kernel_git, store=archive.store, console=console
        ),
        *measure_builds(request, places, archive.mirrors, console),
    ]


def trees(wish: Wish, archive: Archive) -> Trees:
    """Where the source trees for *wish* come from; the environment names git mirrors, too."""
    import os

    from tarpit_builder.sources import Options as SourceOptions
    from tarpit_builder.upstream.trees import Trees

    options = SourceOptions(trust_on_first_use=wish.trust_on_first_use)
    kernel_git = wish.kernel_git
    if not kernel_git and not wish.kernel_tree:
        kernel_git = os.environ.get("TARPIT_KERNEL_GIT", "")
    return Trees(
        store=archive.store,
        kernel_git=kernel_git,
        ref=wish.ref,
        kernel_tree=wish.kernel_tree,
        iptables_git=wish.iptables_git or os.environ.get("TARPIT_IPTABLES_GIT", ""),
        options=options,
    )


def debian_request(wish: Wish) -> Request:
    """What *wish* says of a kernel of Debian's."""
    return Request(wish.kernel, wish.arch, wish.flavour)


def _upstream_request(wish: Wish, archive: Archive) -> UpstreamRequest:
    from tarpit_builder.upstream.plan import UpstreamRequest

    if wish.flavour:
        raise UserError(
            "--flavour is for Debian's kernels",
            hint=f"Linux {wish.kernel} takes --config FILE instead",
        )
    version = KernelVersion.parse(wish.kernel)
    if not wish.image:
        _refuse_unproven(version, archive)
    return UpstreamRequest(
        kernel=version,
        arch=wish.arch,
        iptables=wish.iptables,
        config=_path(wish.config),
        symvers=_path(wish.symvers),
        release=wish.release,
        image=wish.image,
        with_kernel=wish.with_kernel,
    )


def _refuse_unproven(version: KernelVersion, archive: Archive) -> None:
    """Refuse a release that is not built here, and name the Debian kernels that are of its series.

    :raises UserError: if it is none of the releases that are built.
    """
    from tarpit_builder.upstream import rules, toolchain

    rules.kernel(version)  # has its own reasons
    if version in toolchain.proven():
        return
    near = archive.of_series(str(version.series))
    if near:
        hint = f"Debian's own {version.series}: --kernel " + ", or --kernel ".join(near)
    elif rules.patch(version):
        hint = (
            f"`invoke patch --kernel {version} --output FILE` writes the patch for its tree; "
            "--image builds with a compiler of its age"
        )
    else:
        hint = (
            "`invoke kernels` lists what is; --image builds with a compiler of its age, and on the "
            "machine itself xt-tarpit-dkms does"
        )
    raise UserError(
        f"Linux {version} of kernel.org is not built here, only {toolchain.proven()}", hint=hint
    )


def _refuse_upstream_options(wish: Wish) -> None:
    given = {
        "--iptables": wish.iptables,
        "--config": wish.config,
        "--symvers": wish.symvers,
        "--release": wish.release,
        "--image": wish.image,
        "--with-kernel": wish.with_kernel,
        "--kernel-git": wish.kernel_git,
        "--kernel-tree": wish.kernel_tree,
        "--ref": wish.ref,
        "--iptables-git": wish.iptables_git,
        "--trust-on-first-use": wish.trust_on_first_use,
    }
    for option, value in given.items():
        if value:
            raise UserError(
                f"{option} is for releases of kernel.org, and {wish.kernel} is not one",
                hint=f"leave {option} out, or name a release such as --kernel 2.6.24",
            )


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None
