"""Archives: git's own ids, exact unpacking, and nothing that a release would not hold."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tarpit_builder.errors import SourceError, TarpitError
from tarpit_builder.sources import archive
from tarpit_builder.versions import KernelVersion
from tests.sources.kit import (
    COMPRESS,
    EXECUTABLE,
    FILE,
    LINK,
    MTIME,
    Files,
    git,
    git_tree,
    kernel_files,
    read_tree,
    tar_of,
)

KERNEL = kernel_files(KernelVersion.parse("2.6.24"))
names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]),
    min_size=1,
    max_size=8,
).filter(lambda name: name not in {".", ".."} and name.lower() != ".git")


@st.composite
def trees(draw: st.DrawFn) -> Files:
    """Trees with names that are hard to sort."""
    found: dict[str, tuple[int, bytes]] = {}
    pool = [*draw(st.lists(names, min_size=1, max_size=4)), "a", "a.b", "a-", "a0"]
    for parts in draw(
        st.lists(st.lists(st.sampled_from(pool), min_size=1, max_size=3), max_size=9)
    ):
        path = "/".join(parts)
        parents = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        below = any(other.startswith(path + "/") for other in found)
        if path not in found and not below and not parents & found.keys():
            mode = draw(st.sampled_from([FILE, EXECUTABLE]))
            found[path] = (mode, draw(st.binary(max_size=40)))
    return found or {"only": (FILE, b"")}


def stream(
    data: bytes, limits: archive.TreeLimits = archive.KERNEL
) -> Iterator[tuple[str, archive.Entry]]:
    return archive.entries(archive.decompressed(io.BytesIO(data), "x.tar"), "x.tar", limits)


def tree_id(data: bytes) -> str:
    return archive.examine(stream(data), "x.tar").tree


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees())
def test_the_id_is_the_one_that_git_computes(
    tmp_path_factory: pytest.TempPathFactory, files: Files
) -> None:
    assert tree_id(tar_of(files, "top")) == git_tree(files, tmp_path_factory.mktemp("git"))


def test_links_modes_and_long_names_are_part_of_the_id(tmp_path: Path) -> None:
    files = {**KERNEL, f"{'d' * 90}/{'e' * 90}/{'f' * 90}": (FILE, b"deep"), "ü/ß": (FILE, b"")}
    repository = tmp_path / "git"
    assert tree_id(tar_of(files, "linux")) == git_tree(files, repository)
    for path, change in (
        ("scripts/mkcompile_h", (FILE, b"#!/bin/sh\n")),
        ("include/asm", (LINK, b"asm-i386")),
        ("Makefile", (FILE, b"VERSION = 2\n")),
    ):
        assert tree_id(tar_of({**KERNEL, path: change}, "linux")) != git_tree(KERNEL, repository)


def test_what_git_archive_writes_is_read_back(tmp_path: Path) -> None:
    repository = tmp_path / "git"
    tree = git_tree(KERNEL, repository)
    packed = git("archive", "--prefix=linux-2.6.24/", tree, cwd=repository)
    assert tree_id(packed) == tree


@pytest.mark.parametrize("suffix", COMPRESS)
def test_every_compression_holds_the_same_tree(suffix: str) -> None:
    plain = tar_of(KERNEL, "linux")
    assert tree_id(COMPRESS[suffix](plain)) == tree_id(plain)


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_streams_one_after_the_other_are_one_archive(suffix: str) -> None:
    plain = tar_of(KERNEL, "linux")
    parts = [COMPRESS[suffix](plain[at : at + 7000]) for at in range(0, len(plain), 7000)]
    assert tree_id(b"".join(parts)) == tree_id(plain)
    assert tree_id(b"".join(parts) + bytes(512)) == tree_id(plain)


def test_a_folder_has_the_id_of_its_content_without_git(tmp_path: Path) -> None:
    tree = archive.unpack(stream(tar_of(KERNEL, "linux")), tmp_path, "x.tar")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("[core]\n")
    (tmp_path / "empty").mkdir()
    assert archive.examine(archive.folder_entries(tmp_path), "folder").tree == tree


# -- unpacking -------------------------------------------------------------------------------


def test_unpacking_brings_every_byte_mode_link_and_time(tmp_path: Path) -> None:
    assert archive.unpack(stream(tar_of(KERNEL, "linux")), tmp_path, "x.tar") == tree_id(
        tar_of(KERNEL, "linux")
    )
    assert read_tree(tmp_path) == KERNEL
    assert (tmp_path / "Makefile").stat().st_mtime == MTIME
    assert (tmp_path / "Makefile").stat().st_mode & 0o777 == 0o644 & ~_umask()


def test_a_part_is_unpacked_but_the_whole_is_hashed(tmp_path: Path) -> None:
    tree = archive.unpack(
        stream(tar_of(KERNEL, "linux")), tmp_path, "x.tar", ["include/", "Makefile", "net/*.c"]
    )
    assert tree == tree_id(tar_of(KERNEL, "linux"))
    wanted = {p for p in KERNEL if p.startswith(("include/", "net/")) or p == "Makefile"}
    assert set(read_tree(tmp_path)) == wanted


def test_a_tar_of_a_part_depends_on_nothing_but_content() -> None:
    made = []
    for order in (sorted, lambda items: sorted(items, reverse=True)):
        out = io.BytesIO()
        files = dict(order(KERNEL.items()))
        tree = archive.write_tar(stream(tar_of(files, "x")), out, "x.tar", ["include/"], "k")
        assert tree == tree_id(tar_of(KERNEL, "x"))
        out.seek(0)
        with tarfile.open(fileobj=out) as packed:
            made.append({(info.name, info.mode, info.type, info.uid) for info in packed})
    assert made[0] == made[1]
    assert ("k/include/asm", 0o644, tarfile.SYMTYPE, 0) in made[0]


# -- hostile archives ------------------------------------------------------------------------


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    padding = bytes(-len(data) % 512)
    return info.tobuf(tarfile.GNU_FORMAT) + data + padding


HOSTILE = {
    "parent": ("dangerous path", member("top/../../etc/passwd")),
    "absolute": ("one folder", member("/etc/passwd")),
    "dot": ("dangerous path", member("top/./x")),
    "empty part": ("dangerous path", member("top//x")),
    "git": ("dangerous path", member("top/.GIT/hooks/post-checkout")),
    "other top": ("one folder", member("top/x") + member("elsewhere/x")),
    "no top": ("dangerous path", member("x")),
    "link out": ("leads out", member("top/x", tarfile.SYMTYPE, "../../etc")),
    "absolute link": ("leads out", member("top/x", tarfile.SYMTYPE, "/etc/passwd")),
    "empty link": ("leads out", member("top/x", tarfile.SYMTYPE, "")),
    "through a link": (
        "below a file or link",
        member("top/x", tarfile.SYMTYPE, "y") + member("top/x/z"),
    ),
    "below a file": ("below a file or link", member("top/x") + member("top/x/z")),
    "file over folder": ("twice", member("top/x/z") + member("top/x")),
    "twice": ("twice", member("top/x") + member("top/x")),
    "hard link": ("no file, folder or link", member("top/x", tarfile.LNKTYPE, "top/y")),
    "device": ("no file, folder or link", member("top/x", tarfile.CHRTYPE)),
    "fifo": ("no file, folder or link", member("top/x", tarfile.FIFOTYPE)),
    "sparse": ("no file, folder or link", member("top/x", tarfile.GNUTYPE_SPARSE)),
    "contiguous": ("no file, folder or link", member("top/x", tarfile.CONTTYPE)),
    "link with content": ("link with content", member("top/x", tarfile.SYMTYPE, "y", b"?")),
    "long name": (
        "dangerous path",
        member("././@LongLink", b"L", data=b"top/../x\0") + member("short"),
    ),
    "pax path": (
        "one folder",
        member("top/p", b"x", data=b"18 path=/etc/cron\n") + member("top/x"),
    ),
    "bad pax": ("bad header", member("top/p", b"x", data=b"999 path=x\n") + member("top/x")),
    "zero pax": ("bad header", member("top/p", b"x", data=b"0 path=x\n") + member("top/x")),
    "huge pax": ("oversized extended", member("top/p", b"x", data=bytes(70_000))),
    "empty": ("empty", b""),
    "text": ("not a tar", b"<html>please log in to this network</html>".ljust(512)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_no_release_holds_is_refused(what: str, tmp_path: Path) -> None:
    problem, data = HOSTILE[what]
    with pytest.raises(SourceError, match=problem):
        archive.examine(stream(data + bytes(1024)), "x.tar")
    root = tmp_path / "root"
    root.mkdir()
    if data:
        with pytest.raises(SourceError, match=problem):
            archive.unpack(stream(data + bytes(1024)), root, "x.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_checksum_guards_each_header() -> None:
    data = bytearray(member("top/x") + bytes(1024))
    data[3] ^= 1
    with pytest.raises(SourceError, match="not a tar archive"):
        tree_id(bytes(data))


@pytest.mark.parametrize("suffix", COMPRESS)
def test_truncated_anywhere_it_is_refused(suffix: str) -> None:
    data = COMPRESS[suffix](tar_of(KERNEL, "linux"))
    end = len(data) if suffix != ".tar" else len(data.rstrip(b"\0"))
    for cut in {1, 300, *range(1, end, max(1, end // 40)), end - 1}:
        with pytest.raises(SourceError):
            tree_id(data[:cut])


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_flipped_bit_is_noticed(suffix: str) -> None:
    plain = tar_of(KERNEL, "linux")
    data = bytearray(COMPRESS[suffix](plain))
    for at in range(20, len(data) - 20, max(1, len(data) // 30)):
        data[at] ^= 4
        try:
            same = tree_id(bytes(data)) == tree_id(plain)
        except SourceError:
            same = False
        assert not same, at
        data[at] ^= 4


def bomb(compress: Callable[[bytes], bytes], size: int) -> bytes:
    info = tarfile.TarInfo("top/zeros")
    info.size = size
    return compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(size) + bytes(1024))


@pytest.mark.parametrize("suffix", [".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_bomb_goes_off_early(suffix: str) -> None:
    data = bomb(COMPRESS[suffix], 40 << 20)
    assert len(data) < 400_000
    limits = archive.TreeLimits(total=8 << 20, file=64 << 20)
    with pytest.raises(SourceError, match="more than any release"):
        archive.examine(stream(data, limits), "x.tar")
    with pytest.raises(SourceError, match="oversized file"):
        archive.examine(stream(data, archive.TreeLimits(file=1 << 20)), "x.tar")


def test_an_endless_tail_behind_the_archive_is_cut_off() -> None:
    data = tar_of(KERNEL, "linux") + bytes(32 << 20)
    with pytest.raises(SourceError, match="more than any release"):
        archive.examine(stream(data, archive.TreeLimits(total=8 << 20)), "x.tar")


def test_too_many_entries_are_refused() -> None:
    data = b"".join(member(f"top/{number}") for number in range(20)) + bytes(1024)
    with pytest.raises(SourceError, match="more entries"):
        archive.examine(stream(data, archive.TreeLimits(entries=10)), "x.tar")


def test_xz_may_not_ask_for_gigabytes() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    data = lzma.compress(tar_of(KERNEL, "linux"), format=lzma.FORMAT_XZ, filters=filters)
    with pytest.raises(SourceError, match="damaged"):
        tree_id(data)


def test_zstd_is_named_in_the_refusal() -> None:
    with pytest.raises(SourceError, match="zstd"):
        tree_id(b"\x28\xb5\x2f\xfd" + bytes(600))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2048), st.integers(0, 20000))
def test_noise_never_escapes_as_another_error(noise: bytes, at: int) -> None:
    data = bytearray(tar_of(KERNEL, "linux"))
    data[at : at + len(noise)] = noise
    with suppress(TarpitError):
        archive.examine(stream(bytes(data)), "x.tar")


def test_the_thread_that_reads_ahead_ends_with_its_reader() -> None:
    import threading

    before = threading.active_count()
    endless = iter(lambda: b"x" * 1000, b"")
    with archive.ahead(endless) as chunks:
        assert next(chunks)
    assert threading.active_count() == before


def test_a_failure_while_reading_ahead_reaches_the_reader() -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise SourceError("broken", hint="mend it")

    with pytest.raises(SourceError, match="broken"), archive.ahead(broken()) as chunks:
        list(chunks)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
