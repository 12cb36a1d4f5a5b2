"""JSON that nobody vouches for yet: limited in size, with one meaning only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from tarpit_builder.errors import CheckFailedError

LIMIT = 16 << 20  # bytes of one document; the largest of ours has some 100 kB
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.,:~_@-]{0,254}")
"""A part of a file's name in a document; none begins with a dot or has a slash."""
SHA256 = re.compile(r"[0-9a-f]{64}")
FROM_BUILDER = "get it anew from whoever built the packages"


def wrong(where: object, what: str) -> CheckFailedError:
    """What to raise of the document *where*."""
    return CheckFailedError(f"{where} {what}", hint=FROM_BUILDER)


def parse(data: bytes, where: object) -> dict[str, Any]:
    """The JSON object that *data* is.

    Readers differ on a key that comes twice (RFC 8259, 4), so it is refused, as are numbers that
    JSON has not.

    :raises CheckFailedError: if it is none, or ambiguous, or too large or too deep.
    """
    if len(data) > LIMIT:
        raise wrong(where, f"is larger than {LIMIT >> 20} MiB, which no such document is")
    try:
        found = json.loads(
            data.decode("utf-8"), object_pairs_hook=_single, parse_constant=_constant
        )
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise wrong(where, f"is not the JSON that it should be: {reason}") from error
    if not isinstance(found, dict):
        raise wrong(where, "is no JSON object")
    return found


def read(path: Path, limit: int = LIMIT) -> bytes:
    """The content of *path*, a regular file of at most *limit* bytes.

    :raises CheckFailedError: if it is anything else, or not there.
    """
    if path.is_symlink() or not path.is_file():
        raise CheckFailedError(f"{path} is missing, or no regular file", hint=FROM_BUILDER)
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise wrong(path, f"is larger than {limit >> 20} MiB, which no such document is")
    return data


def file_name(text: object, where: object) -> str:
    """*text* as the name of a file, or a path of few, that stays below the folder it is for.

    :raises CheckFailedError: if it does not.
    """
    parts = text.split("/") if isinstance(text, str) else []
    if not parts or len(parts) > 8 or not all(NAME.fullmatch(part) for part in parts):
        raise wrong(where, f"names a file that nobody would name so: {str(text)[:80]!r}")
    return str(text)


def sha256(text: object, where: object) -> str:
    """*text* as a SHA-256 in hexadecimal.

    :raises CheckFailedError: if it is none.
    """
    if not isinstance(text, str) or not SHA256.fullmatch(text):
        raise wrong(where, f"has no SHA-256 where one should be: {str(text)[:80]!r}")
    return text


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON's")
