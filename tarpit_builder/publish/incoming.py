"""What of ``dist/`` goes into a repository: whole results, exactly as they were built."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tarpit_builder import digests, suites
from tarpit_builder.build import MANIFEST
from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.packaging.contents import MODULES

UPSTREAM = "upstream"
"""The suite of packages for kernels of kernel.org, which belong to no suite of Debian's."""

BINARY, SOURCE = ".deb", (".dsc", ".tar.xz")


@dataclass(frozen=True, slots=True)
class File:
    """A file of the pool; *path* is where it can be read.

    Of a package of modules, *kernel* is the version of the Debian kernel that it was built for.
    """

    suite: str
    name: str
    sha256: str
    path: Path
    kernel: str = ""

    @property
    def pool(self) -> str:
        """Its place in the repository."""
        return f"pool/{self.suite}/{self.name}"

    @property
    def package(self) -> str:
        """What versions are counted of: the package and its architecture, or the source."""
        name, _, rest = self.name.partition("_")
        return f"{name} {rest.rpartition('_')[2] if self.name.endswith(BINARY) else 'source'}"

    @property
    def version(self) -> str:
        """Its version; package files are called ``NAME_VERSION_ARCH.deb``, ``NAME_VERSION.dsc``."""
        rest = self.name.partition("_")[2]
        if self.name.endswith(BINARY):
            return rest.rpartition("_")[0]
        return next(rest.removesuffix(end) for end in SOURCE if rest.endswith(end))

    @property
    def architecture(self) -> str:
        """Debian's name of it; ``""`` of a source."""
        if not self.name.endswith(BINARY):
            return ""
        return self.name.removesuffix(BINARY).rpartition("_")[2]


def collect(dist: Path, wanted: Sequence[str] = (), *, optional: bool = False) -> dict[str, File]:
    """The files of all results in *dist*, by their place in the pool; *wanted* limits the suites.

    :param optional: whether there may be nothing.
    :raises UserError: if there is nothing, or a suite of *wanted* is not there.
    :raises CheckFailedError: if a file is not what was built, or two results disagree on one.
    """
    files: dict[str, File] = {}
    for folder, manifest in _results(dist):
        suite = _suite(manifest)
        if wanted and suite not in wanted:
            continue
        for item in manifest["outputs"]:
            name = str(item["file"])
            if "/" in name or not name.endswith((BINARY, *SOURCE)):
                continue
            kernel = _kernel(manifest) if name.startswith(f"{MODULES}-") else ""
            file = File(suite, name, str(item["sha256"]), folder / name, kernel)
            if digest(file.path) != file.sha256:
                raise CheckFailedError(
                    f"{file.path} is not what was built: it has another SHA-256",
                    hint=f"find out who changed it; {manifest['command']} makes it again",
                )
            other = files.setdefault(file.pool, file)
            if other.sha256 != file.sha256:
                raise CheckFailedError(
                    f"{name} differs between {other.path.parent.name} and {folder.name}: they were "
                    "built from different states of the source",
                    hint="`invoke clean --stale` removes what this checkout would build "
                    "differently; build that again if its kernel can still be had, and publish",
                )
    present = {file.suite for file in files.values()}
    for suite in wanted:
        if suite not in present:
            raise UserError(
                f"nothing in {dist} is for the suite {suite!r}",
                hint=f"there are {', '.join(sorted(present))}" if present else "build it first",
            )
    if not files and not optional:
        raise UserError(
            f"there is nothing to publish in {dist}", hint="build first: invoke matrix --run"
        )
    return files


def results(dist: Path) -> Iterator[tuple[Path, str]]:
    """The folder of each result in *dist*, and the suite that it is published for.

    :raises CheckFailedError: if the manifest of one cannot be read.
    """
    for folder, manifest in _results(dist):
        yield folder, _suite(manifest)


def digest(path: Path) -> str:
    """The SHA-256 of the file at *path*; ``""`` if it is not there."""
    try:
        return digests.file(path)
    except FileNotFoundError:
        return ""


def _results(dist: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in sorted(dist.glob(f"*/{MANIFEST}")):
        try:
            manifest = json.loads(path.read_text())
            _ = manifest["outputs"], manifest["plan"], manifest["command"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckFailedError(
                f"{path} cannot be read: {error}",
                hint=f"remove {path.parent}, or build it again with --force",
            ) from error
        yield path.parent, manifest


def _kernel(manifest: Mapping[str, Any]) -> str:
    return str(manifest["plan"].get("kernel-package-version", ""))


def _suite(manifest: Mapping[str, Any]) -> str:
    plan = manifest["plan"]
    suite = suites.find(plan.get("distribution", suites.DEBIAN), plan.get("suite", ""))
    return suite.repository if suite else UPSTREAM
