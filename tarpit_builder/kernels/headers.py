"""A build tree from a distribution's header packages, which are ready to build against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tarpit_builder.console import Console
from tarpit_builder.container import Input, Tar
from tarpit_builder.digests import digest
from tarpit_builder.kernels.kernel import Choice, KernelTree
from tarpit_builder.sources.deb import deb_data
from tarpit_builder.sources.debian import Archive, DebianKernel, Package


@dataclass(frozen=True, slots=True)
class Headers(KernelTree):
    """The header packages of *kernel* in *archive*."""

    kernel: DebianKernel
    archive: Archive

    def choices(self) -> tuple[Choice, ...]:
        """The packages, and what vouches for each."""
        packages, title = self.kernel.packages, self.kernel.suite.of.title
        return (
            Choice(
                "headers",
                f"{len(packages)} packages, {self.kernel.version}",
                f"{title}'s own for exactly this kernel, verified as apt does",
            ),
            *(
                Choice(
                    "  source",
                    package.url,
                    f"SHA-256 {package.sha256[:16]}… in the index of {package.suite}, which a key "
                    f"of {self.archive.mirrors.signer()} signs",
                )
                for package in packages
            ),
        )

    def warnings(self) -> tuple[str, ...]:
        """That the index is an old one, if it is."""
        if not self.kernel.expired:
            return ()
        return (
            f"the mirror's index of {self.kernel.suite.name} expired on {self.kernel.expired}: "
            "newer kernels may exist that it does not show",
        )

    def facts(self) -> dict[str, Any]:
        """The version of the packages."""
        return {"kernel-package-version": self.kernel.version}

    def inputs(self) -> tuple[str, ...]:
        """The packages' digests."""
        return tuple(package.sha256 for package in self.kernel.packages)

    def manifest(self) -> list[dict[str, object]]:
        """The packages."""
        return [
            {
                "package": package.name,
                "version": package.version,
                "url": package.url,
                "size": package.size,
                "sha256": package.sha256,
            }
            for package in self.kernel.packages
        ]

    def input(self, console: Console) -> Input:
        """The packages, unpacked below ``/kernel``; the volume is kept for the next build."""
        title = f"headers {self.kernel.abi}"
        files = obtain(self.kernel.packages, title, self.archive, console)
        archives = [Tar(partial(deb_data, path)) for path in files]
        return Input("/kernel", archives, digest(self.inputs()))


def obtain(
    packages: Iterable[Package], title: str, archive: Archive, console: Console
) -> list[Path]:
    """*packages* as verified files; with a stage *title* in the progress if they are not there yet.

    :raises SourceError: if one is not what the index says.
    :raises NetworkError: if one cannot be reached.
    """
    blobs = [package.blob() for package in packages]
    if all(archive.store.has(blob) for blob in blobs):
        return [archive.store.path(blob) for blob in blobs]
    with console.stage(title) as stage:
        return [archive.store.get(blob, stage) for blob in blobs]
