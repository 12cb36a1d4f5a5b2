"""Genomes, as ``containers/proof/fuzz.c`` reads them: a line of hexadecimal digits each."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import UserError

COMMITTED = Path(__file__).with_name("corpus.txt")
EMPTY = "-"  # the genome that chooses nothing
LONGEST = 192  # bytes; MAX_GENOME there
MOST = 8192  # MAX_GENOMES there
GENOME = re.compile(rf"(?:[0-9a-f]{{2}}){{1,{LONGEST}}}|{EMPTY}")


def read(file: Path) -> list[str]:
    """The genomes in *file*, without comments.

    :raises UserError: if a line is no genome, or there are too many.
    """
    genomes = []
    for number, line in enumerate(_text(file).splitlines(), 1):
        genome = line.partition("#")[0].strip()
        if not genome:
            continue
        if not GENOME.fullmatch(genome):
            raise UserError(
                f"{file}, line {number}: that is no genome: {genome[:40]!r}",
                hint="remove the line, or the file: the next run begins anew",
            )
        genomes.append(genome)
    if len(genomes) > MOST:
        raise UserError(
            f"{file} has {len(genomes)} genomes, more than {MOST}", hint="split the file"
        )
    return genomes


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file} cannot be read: {error}", hint="name a corpus with --corpus, or remove it"
        ) from error


def write(file: Path, genomes: list[str]) -> None:
    """Keep *genomes*, the short ones first."""
    with paths.replacing(file) as stage:
        stage.write_text("".join(f"{one}\n" for one in sorted(genomes, key=lambda g: (len(g), g))))


@contextmanager
def claimed(file: Path) -> Iterator[list[str]]:
    """The genomes in *file*, which is this run's alone meanwhile.

    :raises UserError: if another run has it, or it is damaged.
    """
    paths.make_dir(file.parent)
    with file.with_name(f".{file.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another run works with {file}", hint="wait for it, or name one with --corpus FILE"
            ) from error
        yield read(file)
