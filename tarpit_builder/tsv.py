"""Tables in files of the project, which commands write and nobody by hand: a header, then rows."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from tarpit_builder import paths
from tarpit_builder.errors import InfrastructureError

Row = TypeVar("Row")


def read(row: type[Row], file: Path) -> list[Row]:
    """The rows of *file*, each a dataclass *row*; none if there is no such file.

    :raises InfrastructureError: if it is damaged.
    """
    try:
        with file.open(newline="") as stream:
            return [row(**found) for found in csv.DictReader(stream, dialect="excel-tab")]
    except FileNotFoundError:
        return []
    except (TypeError, ValueError) as error:
        raise InfrastructureError(
            f"{file.name} is damaged: {error}", hint="`git checkout` brings it back"
        ) from error


def write(row: Any, rows: Iterable[Any], file: Path) -> None:
    """Write *rows*, each a dataclass *row*, to *file*."""
    with paths.replacing(file) as stage, stage.open("w", newline="") as stream:
        names = [field.name for field in fields(row)]
        table = csv.DictWriter(stream, names, dialect="excel-tab", lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(one) for one in rows)
