"""Output in a locale without Unicode: plain signs in place of an exception or an escape."""

from __future__ import annotations

import codecs
import io
import sys

PLAIN = {
    "…": "...",
    "–": "-",
    "—": "-",
    "─": "-",
    "×": "x",
    "✓": "+",
    "✗": "x",
    "→": "->",
    "≤": "<=",
}


def settle() -> None:
    """Make standard output and standard error take every text."""
    codecs.register_error("tarpit", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tarpit")


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    bad = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in bad), error.end
