"""A build tree that lies ready on a machine, or was unpacked somewhere: which files it consists of.

Distributions spread one over several places that refer to each other, by links and by the
``include`` of a Makefile of two lines: Debian and Ubuntu over ``/usr/src/linux-headers-*`` and
``/usr/lib/linux-kbuild-*``, openSUSE over ``/usr/src/linux-*`` and ``/usr/src/linux-*-obj``.  What
was unpacked below another folder than ``/`` refers to itself as if that were ``/``.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import posixpath
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO

from tarpit_builder import digests
from tarpit_builder.errors import InfrastructureError, SourceError, UserError

MOUNT = "/kernel"
"""Where a tree lies in the build, with its places below."""

STUB = 8192  # bytes; a Makefile that only leads to another has some hundred, a kernel's 60,000
FILES = 300_000
BYTES = 2 << 30  # Debian's trees have 90 MB
LINKS = 40  # as path_resolution(7)

WHOLE_SOURCE = "init/main.c"
"""What a kernel's whole source has, and no package of headers."""

OF_SOURCE = (
    *("*.h", "Makefile*", "*/Makefile*", "*Kbuild*", "*Kconfig*", "*.lds", "*.S"),
    *(".config", "Module.symvers", "include/*", "scripts/*", "tools/objtool/*", "tools/include/*"),
    *("tools/build/*", "tools/lib/*", "tools/scripts/*", "tools/bpf/resolve_btfids/*"),
)
"""What building a module takes of a whole source in which a kernel was built."""

_REFERS = re.compile(r"^\s*(?:export\s+)?(?P<what>include|KBUILD_OUTPUT|srctree|MAKEARGS)\b")
_PATH = re.compile(r"(?<![\w$()/.-])(?:/|\.\./)[\w./+~@-]+")


@dataclass(frozen=True, slots=True)
class BuildTree:
    """One tree: *folder* as it was named, *tree* without links, both below *root*.

    *places* are all folders and files that it consists of, by real path, with the place that each
    has below :data:`MOUNT`; *makefile* is the kernel's own, *stub* what leads to it, if anything.
    """

    folder: Path
    root: Path
    tree: Path
    makefile: Path
    places: dict[Path, PurePosixPath] = field(default_factory=dict)
    stub: bytes | None = None

    @property
    def place(self) -> PurePosixPath:
        """Where the tree lies below :data:`MOUNT`."""
        return self.places[self.tree]

    @property
    def installed(self) -> bool:
        """Whether it lies where a system has its trees, so that :attr:`root` is that system."""
        return _home(self.tree, self.root) is not None

    def find(self, name: str) -> Path:
        """Where *name* in the tree really is; it need not be there.

        :raises UserError: if its links go in a circle.
        """
        return resolve(self.tree / name, self.root)

    def read(self, name: str) -> bytes:
        """The content of the file *name* in the tree; empty if there is none.

        :raises InfrastructureError: if this user may not read it.
        """
        path = self.find(name)
        try:
            return path.read_bytes() if path.is_file() else b""
        except OSError as error:
            raise _unreadable(path, error) from error

    def digest(self) -> str:
        """A digest of names, modes and contents.

        :raises InfrastructureError: if something cannot be read.
        """
        whole = hashlib.sha256()
        for name, member in _members(self):
            whole.update(f"{name}\0{member.kind}\0{member.digest()}\n".encode())
        return whole.hexdigest()

    def tar(self, expected: str) -> IO[bytes]:
        """The same as a tar archive, at its start.

        :param expected: the digest that it had.
        :raises SourceError: if it has changed since.
        """
        spool = tempfile.TemporaryFile(prefix="tarpit-tree-")  # noqa: SIM115  (handed on)
        whole = hashlib.sha256()
        made: set[str] = set()
        with tarfile.open(fileobj=spool, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, member in _members(self):
                for parent in reversed(PurePosixPath(name).parents[:-1]):
                    if str(parent) not in made:
                        made.add(str(parent))
                        info = tarfile.TarInfo(str(parent))
                        info.type, info.mode = tarfile.DIRTYPE, 0o755
                        archive.addfile(info)
                info = tarfile.TarInfo(name)
                data = member.data()
                if member.kind == "l":
                    info.type, info.linkname = tarfile.SYMTYPE, data.decode()
                    archive.addfile(info)
                else:
                    info.size, info.mode = len(data), 0o755 if member.kind == "x" else 0o644
                    archive.addfile(info, io.BytesIO(data))
                whole.update(f"{name}\0{member.kind}\0{digests.content(data)}\n".encode())
        if whole.hexdigest() != expected:
            spool.close()
            raise SourceError(
                f"{self.folder} changed while it was used", hint="run the command again"
            )
        spool.seek(0)
        return spool


@dataclass(frozen=True, slots=True)
class _Member:
    """A file (``f``, executable ``x``) or link (``l``) of a tree; *made* is other content."""

    kind: str
    path: Path
    made: bytes | None = None

    def data(self) -> bytes:
        """The content, or where the link points."""
        if self.made is not None:
            return self.made
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def digest(self) -> str:
        return digests.content(self.data())


def is_ready(folder: Path) -> bool:
    """Whether *folder* is a tree to build modules in, or part of one, and no source to begin with.

    A whole source counts only where the link of an installed kernel leads to it.
    """
    try:
        root = _root(folder.absolute())
        tree = resolve(folder.absolute(), root)

        def has(*names: str) -> bool:
            return any(resolve(tree / name, root).is_file() for name in names)

        configured = has("include/generated/autoconf.h", "include/linux/autoconf.h")
        if has(WHOLE_SOURCE):
            installed = "modules" in folder.absolute().parts
            return installed and configured and has("Module.symvers")
        return configured or has("include/linux/kernel.h") or (has(".config") and has("Makefile"))
    except (UserError, OSError):
        return False


def leads_nowhere(folder: Path) -> bool:
    """Whether nothing is at *folder*, which is written as a path."""
    return len(folder.parts) > 1 and not folder.exists()


def find(folder: Path) -> BuildTree:
    """The tree at *folder*, with all that it refers to; nothing is read but names and a Makefile.

    :raises UserError: if there is no such tree, or a part of it is missing.
    :raises InfrastructureError: if something cannot be read.
    """
    folder = folder.expanduser().absolute()
    root = _root(folder)
    tree = resolve(folder, root)
    if not tree.is_dir():
        there = f"leads to {tree}, which is not there" if folder.is_symlink() else "is not there"
        if tree.exists():
            there = "is no folder"
        raise UserError(
            f"the build tree {folder} {there}",
            hint="install the headers of that kernel, or name the folder where they are unpacked",
        )
    lies = _home(tree, root) is not None
    place = tree.relative_to(root) if lies else Path("usr/src/kernels") / tree.name
    places = {tree: PurePosixPath(place)}
    stub, makefile = _follow(tree, root, places)
    found = BuildTree(folder, root, tree, makefile, places, stub)
    for name in ("scripts", "include"):
        where = found.find(name)
        if not where.is_dir():
            raise UserError(
                f"the build tree {folder} has no {name}"
                + (f": {where} is not there" if where != tree / name else ""),
                hint="install or unpack the other packages of these headers as well, such as "
                "linux-kbuild and linux-headers-…-common",
            )
    pending = list(places)
    while pending:
        for _, target in _outside(pending.pop(), found):
            if (home := _add(target, root, places)) is not None:
                pending.append(home)
    return found


def resolve(path: Path, root: Path) -> Path:
    """*path*, which is below *root*, without links, as if *root* were ``/``.

    :raises UserError: if its links go in a circle.
    """
    pending = list(path.relative_to(root).parts)[::-1]
    at, links = root, 0
    while pending:
        part = pending.pop()
        if part == "..":
            at = at.parent if at != root else root
            continue
        step = at / part
        if not step.is_symlink():
            at = step
            continue
        links += 1
        if links > LINKS:
            raise UserError(f"the links of {path} go in a circle", hint="name another folder")
        target = step.readlink()
        if target.is_absolute():
            at = root
        pending += list(target.parts)[: 0 if target.is_absolute() else None : -1]
    return at


def _root(folder: Path) -> Path:
    """What *folder* takes for ``/``: where ``usr/src`` or ``lib/modules`` begins in it."""
    parts = folder.parts
    for at in range(len(parts) - 2, 0, -1):
        if parts[at : at + 2] in {("usr", "src"), ("lib", "modules")}:
            merged = parts[at] == "lib" and parts[at - 1] == "usr"
            return Path(*parts[: at - merged])
    return Path(folder.anchor)


def _home(path: Path, root: Path) -> Path | None:
    """The folder of the package that *path* is of; None if that is no place of packages."""
    parts = path.relative_to(root).parts
    length = 0
    if parts[:2] == ("usr", "src"):
        length = 4 if parts[2:3] == ("kernels",) else 3
    elif parts[:1] == ("lib",) or (parts[:1] == ("usr",) and parts[1:2] in {("lib",), ("share",)}):
        length = 2 if parts[0] == "lib" else 3
        if parts[length - 1 : length] == ("modules",):
            length += 2
    return root.joinpath(*parts[:length]) if length and len(parts) >= length else None


def _add(target: Path, root: Path, places: dict[Path, PurePosixPath]) -> Path | None:
    """Let *target* be one of *places*; what was added, if it was in none of them yet."""
    if any(target == place or place in target.parents for place in places):
        return None
    home = _home(target, root) or target
    if any(home in place.parents for place in places) or len(home.relative_to(root).parts) < 2:
        home = target
    places[home] = PurePosixPath(home.relative_to(root))
    return home


def _follow(tree: Path, root: Path, places: dict[Path, PurePosixPath]) -> tuple[bytes | None, Path]:
    """The Makefile of *tree* with its paths as below :data:`MOUNT`, and the kernel's own.

    :raises UserError: if one of them is missing.
    """
    makefile = resolve(tree / "Makefile", root)
    if not makefile.is_file():
        raise UserError(
            f"the build tree {tree} has no Makefile"
            + ("" if makefile == tree / "Makefile" else f": {makefile} is not there"),
            hint="name the folder that /lib/modules/RELEASE/build leads to, with all that it "
            "refers to",
        )
    try:
        text = makefile.read_text(errors="replace")
    except OSError as error:
        raise _unreadable(makefile, error) from error
    if len(text) > STUB:
        return None, makefile
    own = makefile
    lines = []
    for line in text.splitlines(keepends=True):
        refers = _REFERS.match(line)
        rest, out = line, ""
        while refers and (found := _PATH.search(rest)):
            target = resolve(_below(found[0], tree, root), root)
            if not target.exists():
                raise UserError(
                    f"the Makefile of {tree} leads to {found[0]}, which is not there",
                    hint="install or unpack that package of these headers as well",
                )
            _add(target, root, places)
            if refers["what"] == "include":
                own = target
            absolute = found[0].startswith("/")
            new = f"{MOUNT}/{_place(target, places)}" if absolute else found[0]
            out += rest[: found.start()] + new
            rest = rest[found.end() :]
        lines.append(out + rest)
    return "".join(lines).encode(), own


def _below(text: str, tree: Path, root: Path) -> Path:
    """The path *text* of a Makefile of *tree*, below *root*."""
    if text.startswith("/"):
        return root / text.lstrip("/")
    return root / posixpath.normpath(f"{tree.relative_to(root)}/{text}")


def _place(path: Path, places: dict[Path, PurePosixPath]) -> PurePosixPath:
    """Where the real *path*, which is in one of *places*, lies below :data:`MOUNT`."""
    for place, where in places.items():
        if path == place or place in path.parents:
            return where / path.relative_to(place)
    raise KeyError(path)


def _walk(place: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below the folder *place* that is a file or link, with its name there."""
    pending = [place]
    whole = (place / WHOLE_SOURCE).is_file()
    count = size = 0
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as found:
                items = list(found)
            for item in items:
                name = Path(item.path).relative_to(place).as_posix()
                if item.is_dir(follow_symlinks=False):
                    if item.name != ".git":
                        pending.append(Path(item.path))
                    continue
                if not item.is_symlink() and not item.is_file():
                    continue
                if whole and not item.is_symlink() and not _wanted(name):
                    continue
                count += 1
                size += item.stat(follow_symlinks=False).st_size
                if count > FILES or size > BYTES:
                    raise UserError(
                        f"{place} is larger than any tree to build modules in",
                        hint="name the folder of one kernel's headers",
                    )
                yield name, item
        except OSError as error:
            raise _unreadable(folder, error) from error


def _wanted(name: str) -> bool:
    """Whether the file *name* of a whole source is needed."""
    return not name.endswith((".o", ".ko", ".a", ".cmd")) and any(
        fnmatch(name, pattern) for pattern in OF_SOURCE
    )


def _outside(place: Path, tree: BuildTree) -> Iterator[tuple[Path, Path]]:
    """The links below *place* that lead out of it to something that is there."""
    if not place.is_dir():
        return
    for _, item in _walk(place):
        if item.is_symlink() and not _stays(Path(item.path), place):
            target = resolve(Path(item.path), tree.root)
            if target.exists() and target != tree.root:
                yield Path(item.path), target


def _stays(link: Path, place: Path) -> bool:
    """Whether *link* says by itself that it leads to something below *place*."""
    target = os.readlink(link)  # noqa: PTH115  (as it is written)
    if target.startswith("/"):
        return False
    end = posixpath.normpath(posixpath.join(link.relative_to(place).parent.as_posix(), target))
    return end.split("/")[0] != ".."


def _members(tree: BuildTree) -> Sequence[tuple[str, _Member]]:
    """All files and links, by the name below :data:`MOUNT`, in order."""
    found: dict[str, _Member] = {}
    for place, where in tree.places.items():
        if not place.is_dir():
            found[str(where)] = _Member("f", place)
            continue
        for name, item in _walk(place):
            path, here = Path(item.path), where / name
            if not item.is_symlink():
                executable = item.stat().st_mode & 0o100
                found[str(here)] = _Member("x" if executable else "f", path)
            elif _stays(path, place):
                found[str(here)] = _Member("l", path, os.fsencode(path.readlink()))
            else:
                target = resolve(path, tree.root)
                try:
                    there = _place(target, tree.places)
                except KeyError:
                    continue  # it leads nowhere
                link = posixpath.relpath(str(there), str(here.parent))
                found[str(here)] = _Member("l", path, link.encode())
    if tree.stub is not None:
        name = str(_place(resolve(tree.tree / "Makefile", tree.root), tree.places))
        found[name] = _Member("f", tree.tree, tree.stub)
    return sorted(found.items())


def _unreadable(path: Path, error: OSError) -> InfrastructureError:
    where = error.filename or path
    hint = "run this as a user who may read it"
    if error.errno not in {errno.EACCES, errno.EPERM}:
        hint = "`df -h` and `dmesg` tell how the disk is"
    return InfrastructureError(f"{where} cannot be read: {error.strerror or error}", hint=hint)
