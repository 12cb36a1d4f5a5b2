"""A tree or tarball that the user has: ``--kernel-tree DIR|FILE``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tarpit_builder.errors import UserError
from tarpit_builder.sources import archive
from tarpit_builder.sources.context import Context
from tarpit_builder.sources.releases import makefile_version
from tarpit_builder.sources.store import sha256_of
from tarpit_builder.sources.tree import Entries, FetchedTree, archive_opener
from tarpit_builder.versions import KernelVersion


def fetch_kernel(path: Path, context: Context) -> FetchedTree:
    """The kernel tree in the folder or tarball *path*, which stays where it is.

    :raises UserError: if it is no kernel tree.
    :raises SourceError: if it is no release and the user did not ask to trust it.
    """
    path = path.expanduser().absolute()
    opener: Callable[[], AbstractContextManager[Entries]]
    if path.is_dir():
        _ = release_of(path)  # for a folder that is no kernel may be all of somebody's home
        opener = _folder_opener(path)
    elif path.is_file():
        opener = archive_opener(path, path.name, archive.KERNEL)
    else:
        raise _absent(path)
    with context.console.stage(f"check {path.name}") as stage:
        with opener() as entries:
            content = archive.examine(entries, str(path))
        version = makefile_version(content.heads.get("Makefile", b""))
        if version is None:
            raise _no_kernel(path)
        release = context.catalogue.kernel(version)
        expected = release.tree if release.tree == content.tree else ""
        vouchers = context.judge.vouchers(
            version.stem if expected else str(path),
            content.tree,
            expected=expected,
            vouchers=(),
            origin=str(path),
        )
        stage.done(vouchers[0])
    return FetchedTree(
        name=version.stem,
        version=version,
        tree=content.tree,
        origin=str(path),
        digests={"sha256": sha256_of(path)} if path.is_file() else {},
        vouchers=vouchers,
        opener=opener,
        path=path if path.is_file() else None,
        cached=True,
    )


def release_of(path: Path) -> KernelVersion | None:
    """The release that the tree *path* says it is; None for a tarball, which has to be read first.

    :raises UserError: if there is nothing at *path*, or a folder that is no kernel tree.
    """
    path = path.expanduser()
    if path.is_dir():
        version = makefile_version(_top_makefile(path))
        if version is None:
            raise _no_kernel(path)
        return version
    if not path.is_file():
        raise _absent(path)
    return None


def _absent(path: Path) -> UserError:
    return UserError(f"there is no {path}", hint="name a kernel tree or a tarball of one")


def _top_makefile(folder: Path) -> bytes:
    """The beginning of *folder*'s Makefile; nothing if there is none."""
    path = folder / "Makefile"
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(4096)


def _no_kernel(path: Path) -> UserError:
    return UserError(
        f"{path} is no kernel tree: it has no Makefile that names a version",
        hint="name the folder that holds the kernel's top Makefile, or a tarball of it",
    )


def _folder_opener(path: Path) -> Callable[[], AbstractContextManager[Entries]]:
    @contextmanager
    def opened() -> Iterator[Entries]:
        yield archive.folder_entries(path)

    return opened
