"""Debian's ``linux-source`` packages: the tree that Debian's kernels are built from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tarpit_builder import paths, suites
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.sources import archive
from tarpit_builder.sources.context import Context
from tarpit_builder.sources.debian import Archive, Package, did_you_mean
from tarpit_builder.sources.releases import makefile_version
from tarpit_builder.sources.tree import FetchedTree, archive_opener
from tarpit_builder.versions import KernelVersion


def fetch(package: str, suite: str, archive_of: Archive, context: Context) -> FetchedTree:
    """The tree in the newest *package* (``linux-source-6.1``) of *suite*, vouched for by apt.

    :param suite: one of Debian's; all are looked at if it is ``""``.
    :raises UserError: if there is no such package.
    :raises SourceError: if a signature or digest of the archive is wrong.
    :raises NetworkError: if the mirror cannot be reached.
    """
    found = newest(package, suite, archive_of)
    name = f"{found.name}_{found.version}"
    store = context.store
    with store.lock(name):
        record = store.record(name)
        path = store.checked(str(record["sha256"])) if record else None
        cached = path is not None
        if record is None or path is None or record.get("package") != found.sha256:
            with context.console.stage(f"fetch {name}") as stage:
                deb = store.get(found.blob(), stage)
                stage.note("unpacking")
                path = _tarball(deb, found, context)
                store.discard(found.blob())  # it holds nothing else
                with archive_opener(path, name, archive.KERNEL)() as entries:
                    content = archive.examine(entries, name)
                record = {
                    "package": found.sha256,
                    "sha256": path.name,
                    "tree": content.tree,
                    "version": str(makefile_version(content.heads.get("Makefile", b"")) or ""),
                }
                store.write_record(name, record)
    version = str(record["version"])
    return FetchedTree(
        name=name,
        version=KernelVersion.parse(version) if version else None,
        tree=str(record["tree"]),
        origin=found.url,
        digests={"sha256": str(record["sha256"]), "package-sha256": found.sha256},
        vouchers=(f"Debian's archive names SHA-256 {found.sha256} for {name}",),
        opener=archive_opener(path, name, archive.KERNEL),
        path=path,
        cached=cached,
    )


def newest(package: str, suite: str, archive_of: Archive) -> Package:
    """The newest *package* of *suite*, or of any suite of Debian's if it is ``""``.

    :raises UserError: if there is none.
    :raises SourceError: if a signature or digest of the archive is wrong.
    :raises NetworkError: if the mirror cannot be reached.
    """
    from debian.debian_support import NativeVersion

    if suite:
        looked = [suites.known()[archive_of.codename(suite)]]
    else:
        looked = [known for known in suites.known().values() if known.base == known.name]
    packages = [
        found
        for known in looked
        for pocket in (known.name, *known.pockets)
        for found in archive_of.index(pocket, "amd64").packages
        if re.fullmatch(r"linux-source-[0-9.]+", found.name)
    ]
    chosen = [found for found in packages if found.name == package]
    if not chosen:
        names = sorted({found.name for found in packages})
        raise UserError(
            f"{suite or 'Debian'} has no package {package!r}{did_you_mean(package, names)}",
            hint=f"it has {', '.join(names) or 'no linux-source at all'}",
        )
    return max(chosen, key=lambda found: NativeVersion(found.version))


def _tarball(deb: Path, package: Package, context: Context) -> Path:
    """The tarball inside *deb*, moved to the cache."""
    from debian.arfile import ArError
    from debian.debfile import DebError, DebFile

    partial = context.store.partial(f"{package.name}_{package.version}.tar")
    member = f"./usr/src/{package.name}.tar.xz"
    try:
        with DebFile(filename=str(deb)) as opened, partial.open("wb") as out:
            inside = opened.data.tgz().extractfile(member)
            if inside is not None:
                shutil.copyfileobj(inside, out, 1 << 20)
    except OSError as error:
        raise paths.explain_os_error(error, partial) from error
    except (ArError, DebError, KeyError) as error:
        raise SourceError(
            f"{deb.name} holds no {member}: {error}",
            hint="Debian changed the package; use --kernel-tree with a tree of your own",
        ) from error
    return context.store.adopt(partial, partial.name, package.url)
