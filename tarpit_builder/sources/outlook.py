"""What can be said of a source before anything is fetched: where it is, and how it is checked.

Nothing here touches the network or writes a file; ``invoke explain`` is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tarpit_builder.errors import UserError
from tarpit_builder.sources import (
    DebianSource,
    GitRepository,
    IptablesSource,
    KernelSource,
    LocalTree,
    releases,
)
from tarpit_builder.sources.catalogue import Release
from tarpit_builder.sources.context import Context
from tarpit_builder.sources.download import public_url
from tarpit_builder.versions import IptablesVersion, KernelVersion


@dataclass(frozen=True, slots=True)
class Outlook:
    """*place*, for people, and how what is there will be *verified*."""

    place: str
    verified: str


def of_kernel(source: KernelSource, version: KernelVersion, context: Context) -> Outlook:
    """The outlook for the kernel *version* from *source*.

    :raises UserError: if *source* is on this machine, and is not there or is something else.
    """
    release = context.catalogue.kernel(version)
    match source:
        case LocalTree(path):
            return Outlook(str(_tree(path, version)), _by_tree(release, context))
        case DebianSource(package, suite, _):
            where = f" of {suite}" if suite else ""
            return Outlook(f"Debian's package {package}{where}", "Debian's archive, as by apt")
        case GitRepository(location, _, ref):
            return _repository(location, ref or version.tag, _by_tree(release, context))
    places = context.places("TARPIT_KERNEL_MIRROR", context.catalogue.places.kernel)
    folder = f"/{version.folders[-1]}" if version.folders else ""
    name = releases.kernel_files(version, context)[0]
    return Outlook(
        _kept(version.stem, context) or f"{places[0]}{folder}/{name}",
        _by_tree(release, context)
        if release.tree
        else _by_digest(name, context)
        or "a signature of kernel.org or of who releases it, by a key that the catalogue pins",
    )


def of_iptables(source: IptablesSource, version: IptablesVersion, context: Context) -> Outlook:
    """The outlook for iptables *version* from *source*.

    :raises UserError: if *source* is on this machine and is not there.
    """
    release = context.catalogue.iptables_release(version)
    if isinstance(source, GitRepository):
        by_tree = _by_tree(release, context)
        return _repository(source.location, source.ref or version.tag, by_tree)
    places = context.places("TARPIT_IPTABLES_MIRROR", context.catalogue.places.iptables)
    name = releases.iptables_files(version, context)[0]
    return Outlook(
        _kept(version.stem, context) or f"{places[0]}/{name}",
        _by_digest(name, context)
        or "the signature of the Netfilter Core Team, by a key that the catalogue pins",
    )


def _by_digest(name: str, context: Context) -> str:
    digest = context.catalogue.tarballs.get(name)
    return f"its SHA-256 is in {digest}" if digest and digest.is_proof else ""


def _kept(name: str, context: Context) -> str:
    """Where *name* is in the cache, if it is."""
    store = context.store
    record = store.record(name) or {}
    path = store.root / "blobs" / str(record.get("sha256", ""))[:2] / str(record.get("sha256", ""))
    return f"the cache, from {record['origin']}" if record.get("sha256") and path.is_file() else ""


def _by_tree(release: Release[KernelVersion] | Release[IptablesVersion], context: Context) -> str:
    if release.tree:
        return f"its git tree must be {release.tree[:16]}…, which the catalogue pins"
    if context.judge.may_accept(release.version.stem):
        return "not known to the catalogue: accepted as --trust-on-first-use asks, and then pinned"
    return "a signed tag, or --trust-on-first-use: the catalogue does not know its git tree"


def _tree(path: Path, version: KernelVersion) -> Path:
    from tarpit_builder.sources import local

    found = local.release_of(path)
    if found is not None and found != version:
        raise UserError(
            f"{path} is Linux {found}, not {version}",
            hint=f"add --kernel {found}, or name another tree",
        )
    return path.expanduser()


def _repository(location: str, name: str, verified: str) -> Outlook:
    from tarpit_builder.sources import repository

    repository.check_place(location)
    return Outlook(f"{name} in the git repository {public_url(location)}", verified)
