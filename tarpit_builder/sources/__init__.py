"""Where kernels, headers and iptables come from; nothing leaves here unverified.

:func:`fetch_kernel` and :func:`fetch_iptables` take any kind of source and return a tree that was
checked against the catalogue, a signature, or what was trusted before::

    tree = fetch_kernel(Tarball(KernelVersion.parse("2.6.24")), Store(paths.cache_dir()), console)
    tree.unpack(Path("linux-2.6.24"), only=MODULE_BUILD)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic

from tarpit_builder.console import Console
from tarpit_builder.errors import UserError
from tarpit_builder.sources.context import Context, SourceOptions
from tarpit_builder.sources.store import Store
from tarpit_builder.sources.tree import MODULE_BUILD, FetchedTree
from tarpit_builder.versions import AnyVersion, IptablesVersion, KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.sources.debian import Archive

__all__ = [
    "MODULE_BUILD",
    "DebianSource",
    "FetchedTree",
    "GitRepository",
    "IptablesSource",
    "KernelSource",
    "LocalTree",
    "SourceOptions",
    "Tarball",
    "fetch_iptables",
    "fetch_kernel",
    "kernel_source",
]


@dataclass(frozen=True, slots=True)
class Tarball(Generic[AnyVersion]):
    """The release tarball of *version* from kernel.org, netfilter.org or a mirror."""

    version: AnyVersion


@dataclass(frozen=True, slots=True)
class GitRepository(Generic[AnyVersion]):
    """The release *version* (or *ref*, if given) from the repository at *location*."""

    location: str
    version: AnyVersion | None = None
    ref: str = ""


@dataclass(frozen=True, slots=True)
class DebianSource:
    """The newest *package* (``linux-source-6.1``) of a Debian *suite*, of any if none is named."""

    package: str
    suite: str
    archive: Archive


@dataclass(frozen=True, slots=True)
class LocalTree:
    """A kernel tree, or a tarball of one, at *path*."""

    path: Path


KernelSource = Tarball[KernelVersion] | GitRepository[KernelVersion] | DebianSource | LocalTree
IptablesSource = Tarball[IptablesVersion] | GitRepository[IptablesVersion]


def kernel_source(
    version: KernelVersion | None,
    *,
    git: str = "",
    ref: str = "",
    tree: str = "",
    archive: Archive | None = None,
) -> KernelSource:
    """What ``--kernel``, ``--kernel-git``, ``--ref`` and ``--kernel-tree`` mean together.

    :param archive: where ``--kernel-tree linux-source-6.1``, or ``linux-source-6.1/bookworm``,
        is looked for.
    :raises UserError: if they contradict each other, or say nothing.
    """
    if tree and (git or ref):
        raise UserError(
            "--kernel-tree excludes --kernel-git and --ref", hint="name one source, not two"
        )
    if ref and not git:
        raise UserError("--ref names a commit of a repository", hint="add --kernel-git URL|PATH")
    if tree and archive and tree.startswith("linux-source-"):
        package, _, suite = tree.partition("/")
        return DebianSource(package, suite, archive)
    if tree:
        return LocalTree(Path(tree))
    if git:
        if not (version or ref):
            raise UserError(
                "--kernel-git does not say which release", hint="add --kernel 2.6.24 or --ref TAG"
            )
        return GitRepository(git, version, ref)
    if version is None:
        raise UserError("no kernel is named", hint="add --kernel 2.6.24 or --kernel-tree DIR|FILE")
    return Tarball(version)


def fetch_kernel(
    source: KernelSource, store: Store, console: Console, *, options: SourceOptions | None = None
) -> FetchedTree:
    """The verified kernel tree of *source*.

    :raises UserError: if there is no such source.
    :raises SourceError: if it cannot be verified, or cannot be had offline.
    :raises NetworkError: if no place that has it can be reached.
    :raises InfrastructureError: if the disk refuses or is full.
    """
    from tarpit_builder.sources import archive, linux_source, local, releases, repository

    context = Context.of(store, console, options or SourceOptions())
    match source:
        case Tarball(version):
            return releases.fetch_kernel(version, context)
        case LocalTree(path):
            return local.fetch_kernel(path, context)
        case DebianSource(package, suite, debian):
            return linux_source.fetch(package, suite, debian, context)
        case GitRepository(location, version, ref):
            version, ref = _release_of(ref, version, KernelVersion)
            wanted = repository.Wanted(
                location=location,
                version=version,
                ref=ref,
                release=context.catalogue.kernel(version) if version else None,
                known=tuple(context.catalogue.kernels),
                role="kernel",
                limits=archive.KERNEL,
            )
            return repository.fetch(wanted, context)


def fetch_iptables(
    source: IptablesSource, store: Store, console: Console, *, options: SourceOptions | None = None
) -> FetchedTree:
    """The verified iptables tree of *source*; raises what :func:`fetch_kernel` raises.

    A tarball and the git tree of the same release differ (generated files), so their tree ids do.
    """
    from tarpit_builder.sources import archive, releases, repository

    context = Context.of(store, console, options or SourceOptions())
    match source:
        case Tarball(version):
            return releases.fetch_iptables(version, context)
        case GitRepository(location, version, ref):
            version, ref = _release_of(ref, version, IptablesVersion)
            wanted = repository.Wanted(
                location=location,
                version=version,
                ref=ref,
                release=context.catalogue.iptables_release(version) if version else None,
                known=tuple(context.catalogue.iptables),
                role="iptables",
                limits=archive.IPTABLES,
            )
            return repository.fetch(wanted, context)


def _release_of(
    ref: str, version: AnyVersion | None, kind: type[AnyVersion]
) -> tuple[AnyVersion | None, str]:
    """A *ref* that is a release's tag means that release, which can be found without the tag."""
    name = ref.removeprefix("refs/tags/")
    try:
        tagged = kind.parse(name) if name.startswith("v") else None
    except UserError:
        tagged = None
    if tagged is not None and version in {None, tagged}:
        return tagged, ""
    return version, ref
