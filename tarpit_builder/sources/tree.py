"""A source tree that was verified, wherever it is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tarpit_builder import paths
from tarpit_builder.errors import SourceError
from tarpit_builder.sources import archive
from tarpit_builder.versions import Version

Entries = Iterator[tuple[str, archive.Entry]]

MODULE_BUILD = (
    "Makefile*",
    "Kbuild",
    ".config",
    "*/Makefile*",
    "*.mk",
    "*Kconfig*",
    "*/Kbuild*",
    "include/",
    "scripts/",
    "tools/",
    "arch/x86/",
    "arch/i386/",
    "arch/x86_64/",
    "drivers/lguest/",
    "kernel/",
    "lib/*lock*.c",
    "security/selinux/",
    "net/bridge/",
    "net/ipv4/",
    "net/ipv6/",
    "net/netfilter/",
    "usr/",
    "certs/",
)
"""What configuring a kernel for x86 and building a netfilter module against it takes.

``drivers/lguest/`` is for asm-offsets of i386, which include a header there since 2.6.23; RHEL 7
makes some of ``kernel/`` from locks in ``lib/``, by a ``Makefile.qlock`` at the top.
"""


@dataclass(frozen=True, slots=True)
class FetchedTree:
    """A tree whose content is what upstream released, or what the user chose to trust.

    *name* is its folder (``linux-2.6.24``); *tree* its git tree id; *origin* a URL or path without
    credentials; *digests* by algorithm; *vouchers* say in words why it is trusted; *path* is the
    verified archive, or ``None`` where there is no file (a repository, a folder).  *cached* tells
    whether the network was left alone.
    """

    name: str
    version: Version | None
    tree: str
    origin: str
    digests: Mapping[str, str]
    vouchers: tuple[str, ...]
    opener: Callable[[], AbstractContextManager[Entries]] = field(repr=False, compare=False)
    path: Path | None = None
    cached: bool = False

    def stream(self) -> AbstractContextManager[Entries]:
        """Its files and links one by one; **unchecked**, use :meth:`unpack` or :meth:`tar`."""
        return self.opener()

    def unpack(self, into: Path, only: Sequence[str] = ()) -> None:
        """Put the tree, or what the globs *only* select, at *into*, which is replaced.

        ``*`` in a glob also crosses ``/``; one that ends in ``/`` means all below.  The whole
        tree is read and checked whatever is selected, and *into* appears only if it was right.

        :raises SourceError: if the content is no longer what was verified.
        :raises InfrastructureError: if the disk refuses or is full.
        """
        with paths.staged_dir(into) as stage, self.stream() as entries:
            self._check(archive.unpack(entries, stage, self.name, only))

    def tar(self, only: Sequence[str] = (), folder: str = "") -> IO[bytes]:
        """The same as an uncompressed tar archive, below *folder*, in an unnamed file at its start.

        :raises SourceError: if the content is no longer what was verified.
        """
        spool = tempfile.TemporaryFile(prefix="tarpit-source-")  # noqa: SIM115  (handed on)
        try:
            with self.stream() as entries:
                self._check(archive.write_tar(entries, spool, self.name, only, folder))
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        return spool

    def _check(self, tree: str) -> None:
        if tree != self.tree:
            raise SourceError(
                f"{self.name} from {self.origin} changed while it was used",
                hint="run the command again; `invoke cache verify` checks what is kept",
            )

    def manifest(self) -> dict[str, object]:
        """What a build's manifest says of it."""
        return {
            "name": self.name,
            "version": str(self.version) if self.version else None,
            "git-tree": self.tree,
            "origin": self.origin,
            "digests": dict(self.digests),
            "verified": list(self.vouchers),
        }


def archive_opener(
    path: Path,
    name: str,
    limits: archive.TreeLimits,
    tap: Callable[[bytes], None] | None = None,
) -> Callable[[], AbstractContextManager[Entries]]:
    """Opens the tar archive at *path*, in whatever compression, as often as needed.

    *tap* is handed the whole uncompressed tar, chunk by chunk.
    """

    @contextmanager
    def opened() -> Iterator[Entries]:
        try:
            file = path.open("rb")
        except OSError as error:
            raise paths.explain_os_error(error, path) from error
        content = archive.decompressed(file, name)
        with file, archive.ahead(_tapped(content, tap) if tap else content) as chunks:
            yield archive.entries(chunks, name, limits)

    return opened


def _tapped(chunks: Iterator[bytes], tap: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        tap(chunk)
        yield chunk
