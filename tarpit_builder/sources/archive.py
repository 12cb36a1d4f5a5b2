"""Tar archives and folders as streams of entries: their git tree id, and unpacking them safely.

Everything that arrives is hostile until its tree id or a signature says otherwise, so the reader
accepts exactly what ``git archive`` and ``make dist`` write (regular files, folders, symbolic
links that stay inside) and refuses the rest.  It is a reader of its own rather than ``tarfile``
because that one takes three times as long and forgives too much.
"""

from __future__ import annotations

import bz2
import fnmatch
import hashlib
import lzma
import os
import posixpath
import queue
import re
import stat
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from tarpit_builder import paths
from tarpit_builder.errors import SourceError

BLOCK = 512
CHUNK = 1 << 20
AHEAD = 8  # chunks that are decompressed before somebody asks for them
XZ_MEMORY = 256 << 20  # bytes; xz -9 needs 65 MiB
PATH_LIMIT = 4096  # bytes, PATH_MAX
RECORD_LIMIT = 1 << 16  # bytes of an extended header

FILE, EXECUTABLE, LINK, FOLDER = 0o100644, 0o100755, 0o120000, 0o040000
"""The modes that a git tree knows (gitformat: fast-import, ``filemodify``)."""


class Entry(NamedTuple):
    """One file or symbolic link; *path* is relative to the tree, *mode* as git writes it.

    *data* is the content, or where a link points; *mtime* is in seconds since the epoch.
    """

    path: str
    mode: int
    data: bytes
    mtime: int


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """What an archive may unpack to: *total* and *file* in bytes, *entries* in number."""

    total: int = 4 << 30  # linux 7.x is 1.7 GB
    file: int = 128 << 20
    entries: int = 400_000  # linux 7.x has 95,000


KERNEL = TreeLimits()
IPTABLES = TreeLimits(total=64 << 20, file=8 << 20, entries=5_000)


class ByteReader(Protocol):
    """What :func:`decompressed` reads from."""

    def read(self, size: int, /) -> bytes: ...


# -- decompression ---------------------------------------------------------------------------


def decompressed(source: ByteReader, name: str) -> Iterator[bytes]:
    """The content of *source*, which may be gzip, bzip2 or xz, in chunks.

    :raises SourceError: if the data is truncated, corrupt, or needs too much memory.
    """
    head = source.read(CHUNK)
    try:
        if head.startswith(b"\x1f\x8b"):
            yield from _inflated(source, head)
        elif head.startswith(b"BZh"):
            yield from _expanded(source, head, bz2.BZ2Decompressor)
        elif head.startswith(b"\xfd7zXZ\x00"):
            yield from _expanded(
                source, head, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)
            )
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            raise SourceError(
                f"{name} is compressed with zstd, which is not supported",
                hint="unpack it with `zstd -d` and name the .tar",
            )
        else:
            while head:
                yield head
                head = source.read(CHUNK)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise SourceError(
            f"{name} is damaged: {error or 'it ends too early'}",
            hint="fetch it again, from another --mirror if this happens twice",
        ) from error


def _expanded(
    source: ByteReader,
    data: bytes,
    make: Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor],
) -> Iterator[bytes]:
    """Streams one after the other, as pbzip2 and pixz write them; zero padding is allowed."""
    engine = make()
    while True:
        while not engine.eof:
            chunk = engine.decompress(data, CHUNK)
            if chunk:
                yield chunk
            data = b""
            if engine.needs_input and not engine.eof and not (data := source.read(CHUNK)):
                raise EOFError
        data = (engine.unused_data or source.read(CHUNK)).lstrip(b"\0")
        while not data:
            if not (block := source.read(CHUNK)):
                return
            data = block.lstrip(b"\0")
        engine = make()


def _inflated(source: ByteReader, data: bytes) -> Iterator[bytes]:
    engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
    while True:
        chunk = engine.decompress(data, CHUNK)
        if chunk:
            yield chunk
        data = engine.unconsumed_tail
        if engine.eof:
            data = (engine.unused_data or source.read(CHUNK)).lstrip(b"\0")
            if not data:
                return
            engine = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif not data and len(chunk) < CHUNK and not (data := source.read(CHUNK)):
            raise EOFError


@contextmanager
def ahead(chunks: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
    """Run *chunks* in a thread, a few steps ahead: decompressors release the GIL."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()

    def put(item: bytes | BaseException | None) -> bool:
        while not stop.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def produce() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
        except BaseException as error:
            put(error)
        else:
            put(None)

    def consume() -> Iterator[bytes]:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    worker = threading.Thread(target=produce, name="decompress", daemon=True)
    worker.start()
    try:
        yield consume()
    finally:
        stop.set()
        worker.join()


# -- reading tar -----------------------------------------------------------------------------


class _Bytes:
    """Chunks as one stream of which exact numbers of bytes can be taken."""

    def __init__(self, chunks: Iterator[bytes], limit: int, name: str) -> None:
        self._chunks = chunks
        self._left = limit
        self._name = name
        self._chunk = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        parts = [self._chunk[self._at :]]
        missing = count - len(parts[0])
        while missing:
            if not self._next():
                raise SourceError(
                    f"{self._name} ends in the middle of a file",
                    hint="fetch it again, from another --mirror if this happens twice",
                )
            parts.append(self._chunk[:missing])
            self._at = len(parts[-1])
            missing -= self._at
        return b"".join(parts)

    def drain(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        self._chunk = next(self._chunks, b"")
        self._at = 0
        self._left -= len(self._chunk)
        if self._left < 0:
            raise SourceError(
                f"{self._name} unpacks to more than any release did",
                hint="it is no release; nothing of it was kept",
            )
        return bool(self._chunk)


def entries(
    chunks: Iterator[bytes], name: str, limits: TreeLimits = KERNEL
) -> Iterator[tuple[str, Entry]]:
    """Each file and link of a tar archive, with the name of the one folder that holds them all.

    The stream is read to its end, past the end mark, because signatures cover all of it.

    :raises SourceError: if the archive is truncated, corrupt or over *limits*, or holds anything
        that a release does not: absolute paths, ``..``, hard links, devices, links that lead out.
    """
    stream = _Bytes(chunks, limits.total, name)
    top = ""
    extended: dict[str, str] = {}
    count = 0
    while True:
        header = stream.take(BLOCK)
        if not header.strip(b"\0"):
            stream.drain()
            return
        kind, size, mode, mtime = _header(header, name)
        if kind in b"xgLK":
            _check(size <= RECORD_LIMIT, name, "has an oversized extended header")
            data = _padded(stream, size)
            if kind == b"L"[0]:
                extended["path"] = os.fsdecode(data.rstrip(b"\0"))
            elif kind == b"K"[0]:
                extended["linkpath"] = os.fsdecode(data.rstrip(b"\0"))
            elif kind == b"x"[0]:
                extended.update(_records(data, name))
            continue
        path = extended.get("path") or _name(header)
        if "size" in extended:
            _check(extended["size"].isdigit(), name, "has a bad size")
            size = int(extended["size"])
        link = extended.get("linkpath") or _text(header[157:257])
        extended = {}
        count += 1
        _check(count <= limits.entries, name, "has more entries than any release")
        _check(size <= limits.file, name, f"has an oversized file ({size} bytes)")
        folder, _, inside = path.removeprefix("./").rstrip("/").partition("/")
        top = top or folder
        _check(
            folder == top and folder not in {"", ".", ".."},
            name,
            f"does not unpack into one folder ({path!r} is outside {top!r})",
        )
        if kind in b"0\0":
            _check_path(inside, name)
            executable = mode & stat.S_IXUSR
            yield (
                top,
                Entry(inside, EXECUTABLE if executable else FILE, _padded(stream, size), mtime),
            )
        elif kind == b"2"[0]:
            _check(size == 0, name, "has a link with content")
            _check_path(inside, name)
            _check_link(inside, link, name)
            yield top, Entry(inside, LINK, os.fsencode(link), mtime)
        elif kind == b"5"[0]:
            _check(size == 0, name, "has a folder with content")
            if inside:
                _check_path(inside, name)
        else:
            _check(False, name, f"has something that is no file, folder or link: {path!r}")


def _header(header: bytes, name: str) -> tuple[int, int, int, int]:
    """Type, size, permissions and time of a header block, once its checksum fits."""
    try:
        checksum = int(header[148:156].strip(b" \0"), 8)
        size = int(header[124:136].strip(b" \0") or b"0", 8)
        mode = int(header[100:108].strip(b" \0") or b"0", 8)
        mtime = int(header[136:148].strip(b" \0") or b"0", 8)
    except ValueError:
        checksum = size = mode = mtime = -1
    _check(
        checksum == sum(header) - sum(header[148:156]) + 8 * 32 and size >= 0,
        name,
        "is not a tar archive, or a damaged one",
    )
    return header[156], size, mode, mtime


def _name(header: bytes) -> str:
    path = _text(header[:100])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        return f"{prefix}/{path}"
    return path


def _text(field: bytes) -> str:
    return os.fsdecode(field.split(b"\0", 1)[0])


def _padded(stream: _Bytes, size: int) -> bytes:
    data = stream.take(size)
    if rest := -size % BLOCK:
        stream.take(rest)
    return data


def _records(data: bytes, name: str) -> Iterator[tuple[str, str]]:
    """The records of a pax header, ``"<length> <key>=<value>\\n"`` each (pax(1))."""
    while data:
        length, _, _ = data.partition(b" ")
        _check(length.isdigit() and 0 < int(length) <= len(data), name, "has a bad header")
        record = data[len(length) + 1 : int(length) - 1]
        key, _, value = record.partition(b"=")
        yield os.fsdecode(key), os.fsdecode(value)
        data = data[int(length) :]


def _check(condition: object, name: str, problem: str) -> None:
    if not condition:
        raise SourceError(
            f"{name} {problem}", hint="it is no release; nothing of it was kept: try a --mirror"
        )


def _check_path(path: str, name: str) -> None:
    parts = path.split("/")
    _check(
        len(path) <= PATH_LIMIT
        and "\0" not in path
        and not any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts),
        name,
        f"has a dangerous path: {path!r}",
    )


def _check_link(path: str, target: str, name: str) -> None:
    end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    _check(
        target and "\0" not in target and not target.startswith("/") and end.split("/")[0] != "..",
        name,
        f"has a link that leads out of it: {path!r} → {target!r}",
    )


# -- folders ---------------------------------------------------------------------------------


def folder_entries(root: Path) -> Iterator[tuple[str, Entry]]:
    """Each file and link below *root* as :func:`entries` yields them; ``.git`` is left out.

    :raises SourceError: if something there is neither file, folder nor link.
    :raises InfrastructureError: if something cannot be read.
    """
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as found:
                items = sorted(found, key=lambda item: item.name)
            for item in items:
                if item.name == ".git":
                    continue
                path = Path(item.path).relative_to(root).as_posix()
                state = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(state.st_mode):
                    pending.append(Path(item.path))
                elif stat.S_ISLNK(state.st_mode):
                    yield root.name, Entry(path, LINK, os.fsencode(os.readlink(item.path)), 0)  # noqa: PTH115
                elif stat.S_ISREG(state.st_mode):
                    mode = EXECUTABLE if state.st_mode & stat.S_IXUSR else FILE
                    yield (
                        root.name,
                        Entry(path, mode, Path(item.path).read_bytes(), int(state.st_mtime)),
                    )
                else:
                    _check(False, str(root), f"has something that is no file or link: {path}")
        except OSError as error:
            raise paths.explain_os_error(error, folder) from error


# -- the git tree id -------------------------------------------------------------------------

_Folder = dict[str, "tuple[int, bytes] | _Folder"]


class TreeHasher:
    """Computes the id of the git tree that the added entries make (gitformat: git-hash-object).

    The id is SHA-1.  It pins content that its own authors published, for which a second preimage
    would be needed; signatures (SHA-256 and better) are checked beside it where there are any.
    """

    def __init__(self) -> None:
        self._root: _Folder = {}

    def add(self, entry: Entry, name: str) -> None:
        """Take *entry* in.

        :raises SourceError: if its path is there already, or leads through a file or link.
        """
        *parents, last = entry.path.split("/")
        folder = self._root
        for part in parents:
            below = folder.setdefault(part, {})
            if not isinstance(below, dict):
                _check(False, name, f"has something below a file or link: {entry.path!r}")
                return
            folder = below
        _check(last not in folder, name, f"has {entry.path!r} twice")
        data = entry.data
        blob = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
        blob.update(data)
        folder[last] = (entry.mode, blob.digest())

    def tree_id(self) -> str:
        """The id, in hexadecimal."""
        return _tree(self._root).hex()


def _tree(folder: _Folder) -> bytes:
    rows = []
    for name, node in folder.items():
        raw = os.fsencode(name)
        if isinstance(node, dict):
            rows.append((raw + b"/", b"40000 %s\0%s" % (raw, _tree(node))))
        else:
            rows.append((raw, b"%o %s\0%s" % (node[0], raw, node[1])))
    body = b"".join(row for _, row in sorted(rows))
    return hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).digest()


# -- consumers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Content:
    """What a pass over a tree found: its id, its folder's name, and the *heads* asked for."""

    tree: str
    folder: str
    heads: dict[str, bytes]
    size: int
    count: int


def examine(
    stream: Iterable[tuple[str, Entry]], name: str, heads: Sequence[str] = ("Makefile",)
) -> Content:
    """Read *stream* to its end and say what it is; nothing touches the disk."""
    hasher = TreeHasher()
    found: dict[str, bytes] = {}
    folder, size, count = "", 0, 0
    for top, entry in stream:
        folder = top
        hasher.add(entry, name)
        size += len(entry.data)
        count += 1
        if entry.path in heads:
            found[entry.path] = entry.data
    _check(count, name, "is empty")
    return Content(hasher.tree_id(), folder, found, size, count)


class Selection:
    """Paths that any of *globs* matches; ``*`` also crosses ``/``, and no glob means all."""

    def __init__(self, globs: Sequence[str] = ()) -> None:
        patterns = [fnmatch.translate(glob + "*" if glob.endswith("/") else glob) for glob in globs]
        self._match = re.compile("|".join(patterns) or "").match

    def __contains__(self, path: str) -> bool:
        return self._match(path) is not None


def unpack(
    stream: Iterable[tuple[str, Entry]], into: Path, name: str, globs: Sequence[str] = ()
) -> str:
    """Write what *globs* select to the empty folder *into*; the id of the **whole** tree.

    The caller must compare the id and throw *into* away if it differs.

    :raises SourceError: as :func:`entries` and :meth:`TreeHasher.add` do.
    :raises InfrastructureError: if the disk refuses, or cannot tell upper from lower case.
    """
    hasher = TreeHasher()
    selection = Selection(globs)
    made: set[str] = set()
    links: list[Entry] = []
    base = os.fspath(into)
    for _, entry in stream:
        hasher.add(entry, name)
        if entry.path not in selection:
            continue
        parent = posixpath.dirname(entry.path)
        target = f"{base}/{entry.path}"
        try:
            if parent not in made:
                os.makedirs(f"{base}/{parent}", exist_ok=True)  # noqa: PTH103  (a hot path)
                made.add(parent)
            if entry.mode == LINK:
                links.append(entry)
                continue
            handle = os.open(
                target,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW,
                0o755 if entry.mode == EXECUTABLE else 0o644,
            )
            try:
                _write(handle, entry.data)
                os.utime(handle, (entry.mtime, entry.mtime))
            finally:
                os.close(handle)
        except OSError as error:
            raise paths.explain_os_error(error, Path(target)) from error
    # Links come last, so that nothing can ever be written through one.
    for entry in links:
        try:
            os.symlink(entry.data, os.fsencode(f"{base}/{entry.path}"))  # noqa: PTH211
        except OSError as error:
            raise paths.explain_os_error(error, into / entry.path) from error
    return hasher.tree_id()


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def write_tar(
    stream: Iterable[tuple[str, Entry]],
    out: IO[bytes],
    name: str,
    globs: Sequence[str] = (),
    folder: str = "",
) -> str:
    """Write what *globs* select to *out* as a tar archive, below *folder*; the whole tree's id.

    Owners, permissions and order depend on the content alone.
    """
    import io
    import tarfile

    hasher = TreeHasher()
    selection = Selection(globs)
    made: set[str] = set()
    with closing(tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT)) as archive:
        for _, entry in stream:
            hasher.add(entry, name)
            if entry.path not in selection:
                continue
            path = posixpath.join(folder, entry.path)
            for parent in _parents(path):
                if parent not in made:
                    made.add(parent)
                    info = tarfile.TarInfo(parent)
                    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, entry.mtime
                    archive.addfile(info)
            info = tarfile.TarInfo(path)
            info.mtime = entry.mtime
            if entry.mode == LINK:
                info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(entry.data)
                archive.addfile(info)
            else:
                info.mode = entry.mode & 0o777
                info.size = len(entry.data)
                archive.addfile(info, io.BytesIO(entry.data))
    return hasher.tree_id()


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: index + 1]) for index in range(len(parts))]
