"""The programs of a build tree, which were compiled on some machine and must run in an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tarpit_builder.kernels import rules

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Needs:
    """What programs need to run: the C library *glibc*, ``()`` if any will do.

    *foreign* says why one of them runs in no image, ``""`` if there is no such thing.
    """

    glibc: Version = ()
    foreign: str = ""

    @property
    def text(self) -> str:
        """The C library, as people write it."""
        return ".".join(map(str, self.glibc))


def version(text: str) -> Version:
    """A version of the C library, such as 2.36; ``()`` for what is none."""
    numbers = text.split(".")
    return tuple(map(int, numbers)) if all(number.isdigit() for number in numbers) else ()


def needs(programs: Iterable[Path]) -> Needs:
    """What *programs* need; those that are scripts, or damaged, need nothing of it.

    Read from their ELF headers: machine, interpreter, needed libraries (``DT_NEEDED``) and versions
    of symbols (``.gnu.version_r``), as ld.so(8) does.
    """
    glibc: Version = ()
    for path in programs:
        with path.open("rb") as stream:
            if stream.read(4) != b"\x7fELF":
                continue
            found = _of(stream, path.name)
        if found.foreign:
            return found
        glibc = max(glibc, found.glibc)
    return Needs(glibc)


def _of(stream: IO[bytes], name: str) -> Needs:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import InterpSegment

    table = rules.table("machines.toml")["programs"]
    try:
        elf = ELFFile(stream)
        if (elf["e_machine"], elf.elfclass) != ("EM_X86_64", 64):
            return Needs(foreign=f"{name} is a program for {elf.get_machine_arch()}")
        for segment in elf.iter_segments("PT_INTERP"):
            assert isinstance(segment, InterpSegment)
            if (loader := segment.get_interp_name()) != table["loader"]:
                return Needs(foreign=f"{name} is loaded by {loader}")
        known = [*table["libraries"], table["loader"].rpartition("/")[2]]
        if strange := [one for one in _libraries(elf) if one not in known]:
            return Needs(foreign=f"{name} needs {strange[0]}")
        return Needs(max(_versions(elf), default=()))
    except (ELFError, AttributeError, KeyError, UnicodeDecodeError) as error:
        return Needs(foreign=f"{name} is damaged: {error}")


def _libraries(elf: Any) -> list[str]:
    return [
        tag.needed
        for segment in elf.iter_segments("PT_DYNAMIC")
        for tag in segment.iter_tags("DT_NEEDED")
    ]


def _versions(elf: Any) -> list[Version]:
    section = elf.get_section_by_name(".gnu.version_r")
    if section is None:
        return []
    names = (one.name for _, used in section.iter_versions() for one in used)
    return [version(name.removeprefix("GLIBC_")) for name in names if name.startswith("GLIBC_2")]
