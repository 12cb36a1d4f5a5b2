"""What a system without dpkg gets: tar archives that are unpacked at ``/``.

They hold files and no folders: unpacking one must not change what a folder of the system is, of
which several, such as ``/lib``, may be links.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping

from tarpit_builder.container import Files
from tarpit_builder.packaging import changelog, contents
from tarpit_builder.packaging.deb import from_files

PLACES = {
    "xt-tarpit.8": "/usr/share/man/man8",
    "tarpit.4": "/usr/share/man/man4",
    "host/xt-tarpit-chain.8": "/usr/share/man/man8",
    "host/xt-tarpit-chain": "/usr/sbin",
    "host/xt-tarpit.service": "/usr/lib/systemd/system",
    "host/chain.v[46]": "/usr/share/doc/xt-tarpit/examples",
    "examples/*": "/usr/share/doc/xt-tarpit/examples",
}
"""Patterns below ``dkms/``, and where what fits them goes: nothing that an administrator changes,
as unpacking the archive anew would undo that."""


def archive(files: Mapping[str, tuple[bytes, int]], epoch: int | None = None) -> bytes:
    """*files*, absolute path → content and mode, as a compressed tar: the same bytes each time.

    :param epoch: their time in seconds since 1970; by default that of all that is built.
    """
    when = changelog.source_date_epoch() if epoch is None else epoch
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, (content, mode) in sorted(files.items()):
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode, info.mtime = len(content), mode, when
            info.uname = info.gname = "root"
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), mtime=0)


def common() -> dict[str, tuple[bytes, int]]:
    """What does not depend on the kernel, by absolute path."""
    return {
        f"{where}/{path.name}": (path.read_bytes(), 0o755 if path.stat().st_mode & 0o100 else 0o644)
        for pattern, where in PLACES.items()
        for path in contents.matching((pattern,))
    }


def dkms_name() -> str:
    """The name of the archive of :func:`dkms`."""
    return f"xt-tarpit-dkms-{changelog.version()}.tar.gz"


def dkms() -> dict[str, tuple[bytes, int]]:
    """The module's source where DKMS looks for it, by absolute path."""
    version = changelog.version()
    folder = f"/usr/src/xt-tarpit-{version}"
    conf = (contents.DKMS / "dkms.conf").read_text().replace("#MODULE_VERSION#", version)
    return {
        **from_files(contents.module_source(), folder),
        f"{folder}/dkms.conf": (conf.encode(), 0o644),
    }


def sources() -> Files:
    """All that is handed out beside the module."""
    members = {path.lstrip("/"): content for path, (content, _) in common().items()}
    return Files(
        {
            **members,
            **contents.extension_source().members,
            "dkms.conf": contents.DKMS / "dkms.conf",
        }
    )
