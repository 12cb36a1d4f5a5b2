"""Debian packages in the form of 2007: what ``dpkg-deb --build`` wrote then, byte for byte.

``dpkg-deb`` of today compresses with zstd or xz unless told otherwise; this writes gzip members,
the old GNU tar format, and no field that a dpkg of that time would not know.  It needs no
container, and the result depends on its input alone.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from tarpit_builder.container import Files

AR_MAGIC = b"!<arch>\n"
LARGE = 1 << 16  # bytes; what is the same and smaller is not worth a link
NAME_LIMIT = 16  # bytes of a member's name in an ar archive


@dataclass(frozen=True, slots=True)
class Deb:
    """One binary package.

    *control* is the control file but for ``Installed-Size``; *files* maps absolute paths to
    content and mode; *scripts* are the maintainer scripts by name; *epoch* is the time of all
    that is inside, in seconds since 1970.
    """

    control: str
    files: Mapping[str, tuple[bytes, int]]
    scripts: Mapping[str, str] = field(default_factory=dict)
    epoch: int = 0

    @property
    def file_name(self) -> str:
        """``PACKAGE_VERSION_ARCHITECTURE.deb``."""
        fields = (self.field(name) for name in ("Package", "Version", "Architecture"))
        return "_".join(fields) + ".deb"

    def field(self, name: str) -> str:
        """A field of one line."""
        found = re.search(rf"^{name}: (.*)$", self.control, re.MULTILINE)
        assert found is not None, f"the control file has no {name}"
        return found[1]

    def build(self) -> bytes:
        """The package."""
        data = self._tar((path.lstrip("/"), *item) for path, item in sorted(self.files.items()))
        size = sum(-(-len(content) // 1024) for content in {c for c, _ in self.files.values()})
        before, after = self.control.split("\nDescription:", 1)
        text = f"{before}\nInstalled-Size: {size}\nDescription:{after}"
        sums = "".join(
            f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {path.lstrip('/')}\n"
            for path, (content, _) in sorted(self.files.items())
        )
        control = self._tar(
            [
                ("control", text.encode(), 0o644),
                ("md5sums", sums.encode(), 0o644),
                *((name, script.encode(), 0o755) for name, script in sorted(self.scripts.items())),
            ]
        )
        members = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": control,
            "data.tar.gz": data,
        }
        return AR_MAGIC + b"".join(self._member(name, body) for name, body in members.items())

    def _member(self, name: str, body: bytes) -> bytes:
        assert len(name) <= NAME_LIMIT
        header = f"{name:<16}{self.epoch:<12}{0:<6}{0:<6}{'100644':<8}{len(body):<10}`\n"
        return header.encode("ascii") + body + b"\n" * (len(body) % 2)

    def _tar(self, members: Iterable[tuple[str, bytes, int]]) -> bytes:
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as archive:
            made = {"."}
            # A program that goes by several names is one file; dpkg knows hard links since ever.
            first: dict[tuple[bytes, int], str] = {}
            self._add(archive, "./", None, 0o755)
            for name, content, mode in members:
                for parent in reversed(PurePosixPath(name).parents[:-1]):
                    if str(parent) not in made:
                        made.add(str(parent))
                        self._add(archive, f"./{parent}/", None, 0o755)
                link = first.setdefault((content, mode), name) if len(content) > LARGE else name
                self._add(archive, f"./{name}", content, mode, link if link != name else "")
        return gzip.compress(raw.getvalue(), mtime=0)

    def _add(
        self,
        archive: tarfile.TarFile,
        name: str,
        content: bytes | None,
        mode: int,
        link: str = "",
    ) -> None:
        info = tarfile.TarInfo(name)
        info.mode, info.mtime, info.uname, info.gname = mode, self.epoch, "root", "root"
        if content is None:
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        elif link:
            info.type, info.linkname = tarfile.LNKTYPE, f"./{link}"
            archive.addfile(info)
        else:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def from_files(files: Files, prefix: str) -> dict[str, tuple[bytes, int]]:
    """*files* below *prefix*, as :class:`Deb` takes them."""
    out = {}
    for name, content in files.members.items():
        data = content if isinstance(content, bytes) else content.read_bytes()
        executable = not isinstance(content, bytes) and content.stat().st_mode & 0o111
        out[f"{prefix}/{name}"] = (data, 0o755 if executable else 0o644)
    return out
