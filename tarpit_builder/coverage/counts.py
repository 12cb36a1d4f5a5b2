"""How often each line and branch of the module's source was executed, out of what gcov prints."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tarpit_builder.errors import InfrastructureError

Key = tuple[str, int]
"""A file of ``dkms/``, by its name there, and a line of it."""


@dataclass(frozen=True, slots=True)
class Line:
    """How often a line was executed, in which functions it lies, how often each branch was taken.

    A line of a header lies in as many functions as there are modules with it.
    """

    count: int = 0
    branches: tuple[int, ...] = ()
    functions: tuple[str, ...] = ()

    def __add__(self, other: Line) -> Line:
        """Both together; branches that one has and the other lacks are of another compilation."""
        longer, shorter = sorted((self.branches, other.branches), key=len, reverse=True)
        padded = (*shorter, *(0 for _ in longer[len(shorter) :]))
        return Line(
            self.count + other.count,
            tuple(one + two for one, two in zip(longer, padded, strict=True)),
            tuple(dict.fromkeys((*self.functions, *other.functions))),
        )


Counts = Mapping[Key, Line]


def read(folder: Path, own: Iterable[str]) -> dict[Key, Line]:
    """The sum over every document of ``gcov --json-format`` in *folder* and the folders in it.

    :param own: the names of the files that count; the kernel's headers do not.
    :raises InfrastructureError: if one is not such a document.
    """
    names = {PurePosixPath(name).name: name for name in own}
    total: dict[Key, Line] = defaultdict(Line)
    for path in sorted(folder.rglob("*.json")):
        try:
            for file in json.loads(path.read_text())["files"]:
                if name := names.get(PurePosixPath(file["file"]).name):
                    _add(total, name, file["lines"])
        except (ValueError, KeyError, TypeError) as error:
            raise InfrastructureError(
                f"gcov printed what cannot be read: {path.parent.name}/{path.name}: {error}",
                hint="its format may have changed with the compiler (gcov(1), --json-format)",
            ) from error
    return dict(total)


def _add(total: dict[Key, Line], name: str, lines: Iterable[Mapping[str, Any]]) -> None:
    for line in lines:
        branches = tuple(int(branch["count"]) for branch in line["branches"])
        functions = (line["function_name"],) if "function_name" in line else ()
        total[name, int(line["line_number"])] += Line(int(line["count"]), branches, functions)


def together(*parts: Counts) -> dict[Key, Line]:
    """The sum of *parts*."""
    total: dict[Key, Line] = defaultdict(Line)
    for part in parts:
        for key, line in part.items():
            total[key] += line
    return dict(total)


def dump(counts: Counts) -> dict[str, dict[str, list[Any]]]:
    """*counts* for a JSON document."""
    out: dict[str, dict[str, list[Any]]] = {}
    for (file, number), line in sorted(counts.items()):
        out.setdefault(file, {})[str(number)] = [line.count, line.branches, line.functions]
    return out


def load(data: Mapping[str, Mapping[str, list[Any]]]) -> dict[Key, Line]:
    """The reverse of :func:`dump`.

    :raises (ValueError, TypeError): if *data* is something else.
    """
    return {
        (file, int(number)): Line(int(count), tuple(branches), tuple(functions))
        for file, lines in data.items()
        for number, (count, branches, functions) in lines.items()
    }
