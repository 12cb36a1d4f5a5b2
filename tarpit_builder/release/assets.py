"""What users download: an archive of each package set, the report, the public keys, the sums."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tarpit_builder import digests, paths
from tarpit_builder.attest import package_set
from tarpit_builder.errors import CheckFailedError
from tarpit_builder.packaging import rootfs
from tarpit_builder.publish.attestations import FILES

SUMS = "SHA256SUMS"
KEY = ".key"  # what the files were made of; no asset itself
REPORT = "report.tar.gz"
STRANGE = re.compile(r"[^A-Za-z0-9._-]+")
"""What forges would rename in the name of a file."""


def archive_name(version: str, folder: Path) -> str:
    """What the archive of the package set in *folder* is called."""
    return f"xt-tarpit-{version}-{STRANGE.sub('-', folder.name)}.tar.gz"


def archive(folder: Path, epoch: int) -> bytes:
    """The package set in *folder*, with manifest and attestations: the same bytes each time.

    Logs stay behind, as they do where a repository is published.
    """
    of = package_set.load(folder)
    names = [*of.outputs, *(name for name in FILES if (folder / name).is_file())]
    return tar({f"{folder.name}/{name}": folder / name for name in names}, epoch)


def tar(files: Mapping[str, Path], epoch: int) -> bytes:
    """*files* by name as a compressed tar, each of the time *epoch*, in seconds since 1970."""
    return rootfs.archive({name: (path.read_bytes(), 0o644) for name, path in files.items()}, epoch)


def key_of(sets: Sequence[Path], others: Sequence[Path]) -> str:
    """A digest of all that the assets are made of but for the report."""
    files: dict[str, Path | bytes] = {path.name: path for path in others}
    for folder in sets:
        for name in (*package_set.load(folder).outputs, *FILES):
            if (folder / name).is_file():
                files[f"{folder.name}/{name}"] = folder / name
    return digests.tree(files)


def make(
    target: Path,
    version: str,
    epoch: int,
    sets: Sequence[Path],
    others: Sequence[Path],
    report: Path,
) -> None:
    """Write the assets into the folder *target*, which is there as a whole or not at all.

    :param others: files that become assets as they are, such as public keys.
    :param report: the folder with the report.
    :raises CheckFailedError: if two would have the same name.
    """
    with paths.staged_dir(target) as stage:
        for folder in sets:
            where = stage / archive_name(version, folder)
            if where.exists():
                raise CheckFailedError(
                    f"two package sets would both be called {where.name}",
                    hint="release them one after the other, with --only",
                )
            where.write_bytes(archive(folder, epoch))
        pages = {
            str(path.relative_to(report)): path for path in report.rglob("*") if path.is_file()
        }
        (stage / REPORT).write_bytes(tar(pages, epoch))
        for path in others:
            shutil.copyfile(path, stage / STRANGE.sub("-", path.name))
        lines = [f"{digests.file(path)}  {path.name}\n" for path in sorted(stage.iterdir())]
        (stage / SUMS).write_text("".join(lines))
        (stage / KEY).write_text(key_of(sets, others))


def load(folder: Path, key: str = "") -> dict[str, Path]:
    """The assets in *folder* by name; none if they are not whole, or not those with the *key*."""
    try:
        if key and (folder / KEY).read_text() != key:
            return {}
        rows = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
        if any(digests.file(folder / name) != value for value, name in rows):
            return {}
    except (OSError, ValueError):
        return {}
    return {name: folder / name for name in (*(name for _, name in rows), SUMS)}
