"""Files that somebody else wrote, or that were cut off: read with care, and never believed.

What is wrong with one is a :class:`DamageError` with a sentence for people; nothing else is raised.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

LARGEST = 32 << 20  # bytes of a record; the largest seen, with every check, has a quarter MB
CONTROL = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""What a terminal or a browser would obey instead of showing it."""
DATE = re.compile(r"\d{4}-\d\d-\d\d")


class DamageError(Exception):
    """A record that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON object of the file *name*; what is asked of it is of the type asked for, or damage."""

    name: str
    data: dict[str, Any]

    def text(self, key: str, default: str | None = None) -> str:
        """A string.

        :raises DamageError: if there is none and no *default*, or it is something else.
        """
        value = self.data.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key)
        return clean(value)

    def number(self, key: str, default: float | None = None) -> float:
        """A number.

        :raises DamageError: as :meth:`text`; also if it is not finite.
        """
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key)
        if not abs(value) < 1e15:
            raise self._wrong(key)
        return value

    def integer(self, key: str) -> int:
        """A number without a fraction, 0 where there is none.

        :raises DamageError: if it is something else.
        """
        value = self.data.get(key) or 0
        if not isinstance(value, int) or not abs(value) < 1 << 53:
            raise self._wrong(key)
        return int(value)

    def node(self, key: str) -> Node | None:
        """An object, None where there is none.

        :raises DamageError: if it is something else.
        """
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self._wrong(key)
        return Node(self.name, value)

    def need(self, key: str) -> Node:
        """The same, where one must be."""
        if (found := self.node(key)) is None:
            raise self._wrong(key)
        return found

    def objects(self, key: str) -> list[dict[str, Any]]:
        """A list of objects as they are, in the same way."""
        values = self._list(key)
        if not all(isinstance(value, dict) for value in values):
            raise self._wrong(key)
        return values

    def nodes(self, key: str) -> list[Node]:
        """A list of objects, empty where there is none.

        :raises DamageError: if it is something else.
        """
        return [self._as_node(key, value) for value in self._list(key)]

    def texts(self, key: str) -> list[str]:
        """A list of strings, in the same way."""
        values = self._list(key)
        if not all(isinstance(value, str) for value in values):
            raise self._wrong(key)
        return [clean(value) for value in values]

    def pairs(self, key: str) -> list[tuple[str, float]]:
        """A list of names with numbers, in the same way."""
        found = []
        for value in self._list(key):
            if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)):
                raise self._wrong(key)
            found.append((clean(value[0]), Node(self.name, {key: value[1]}).number(key)))
        return found

    def _list(self, key: str) -> list[Any]:
        value = self.data.get(key) or []
        if not isinstance(value, list):
            raise self._wrong(key)
        return value

    def _as_node(self, key: str, value: object) -> Node:
        if not isinstance(value, dict):
            raise self._wrong(key)
        return Node(self.name, value)

    def _wrong(self, key: str) -> DamageError:
        return DamageError(f"{self.name}: {key!r} is missing, or not what it should be")


def load(path: Path, top: Path) -> Node:
    """The JSON object in *path*, which lies below *top*.

    :raises DamageError: if it cannot be read, is none, or lies somewhere else.
    """
    name = str(path.relative_to(top))
    try:
        content = regular(path, top)
        data = json.loads(content)
    except OSError as error:
        raise DamageError(f"{name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{name} is no JSON: it was cut off, or changed") from error
    if not isinstance(data, dict):
        raise DamageError(f"{name} is no JSON object")
    return Node(name, data)


def regular(path: Path, top: Path, *, most: int = LARGEST, tail: int = 0) -> bytes:
    """The content of an ordinary file below *top*, of it the last *tail* bytes if that is given.

    :raises OSError: if it cannot be read.
    :raises DamageError: if it is no ordinary file, or a link to a place outside, or too large.
    """
    if leads_out(path, top):
        raise DamageError(f"{path.name} is a link that leads out of the results")
    # A FIFO must not keep us waiting for ever.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise DamageError(f"{path.name} is no ordinary file")
        if tail:
            file.seek(max(0, status.st_size - tail))
            return file.read(tail)
        if status.st_size > most:
            raise DamageError(f"{path.name} has {status.st_size:,} bytes, more than any record")
        return file.read()


def leads_out(path: Path, top: Path) -> bool:
    """Whether *path*, of a name that a record has, is a way out of *top*.

    :raises OSError: as the file system does.
    """
    name, base = os.fspath(path), os.fspath(top)
    rest = name.removeprefix(base + os.sep)
    folder = os.path.dirname(name)  # noqa: PTH120  (asked of every file, and pathlib is slow)
    plain = rest != name and ".." not in rest and rest.count(os.sep) <= 1
    links = [one for one in (name, folder) if one != base and os.path.islink(one)]  # noqa: PTH114
    if plain and not links:
        return False
    return not path.resolve().is_relative_to(top.resolve())


def clean(text: str) -> str:
    """*text* without what a terminal would obey; what is no Unicode is replaced."""
    if text.isascii() and text.isprintable():
        return text  # nearly all are, and there are many
    return CONTROL.sub("", text).encode("utf-8", "replace").decode()


def moment(text: str) -> str:
    """*text* as a moment (UTC, to the minute) if it is one in ISO 8601, or its date, else ''."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return ""
    if DATE.fullmatch(text):
        return text
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def written(path: Path) -> str:
    """When the file was written, by the file system."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M")
