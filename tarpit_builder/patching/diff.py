"""Patches as data: build them, read and write them, apply them without fuzz or offset.

Text is Latin-1 throughout: kernel trees hold bytes of several encodings, and this one gives all
of them back as they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

ENCODING = "latin-1"
CONTEXT = 3
REGULAR = "100644"
EXECUTABLE = "100755"

Fate = Literal["clean", "applied", "shifted", "crlf", "differs", "missing", "exists"]


class PatchSyntaxError(ValueError):
    """A file that is no patch of the form written here."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines from *old_start* on (1-based; 0 in a new file), each led by ``' '``, ``-`` or ``+``."""

    old_start: int
    new_start: int
    lines: tuple[str, ...]

    @property
    def old(self) -> tuple[str, ...]:
        """What has to be there before."""
        return tuple(line[1:] for line in self.lines if line[0] != "+")

    @property
    def new(self) -> tuple[str, ...]:
        """What is there afterwards."""
        return tuple(line[1:] for line in self.lines if line[0] != "-")

    def reversed(self) -> Hunk:
        """The hunk that takes this one back."""
        swap = {"+": "-", "-": "+", " ": " "}
        lines = tuple(swap[line[0]] + line[1:] for line in self.lines)
        return Hunk(self.new_start, self.old_start, lines)

    def __str__(self) -> str:
        old, new = len(self.old), len(self.new)
        head = f"@@ -{_span(self.old_start, old)} +{_span(self.new_start, new)} @@"
        return "\n".join([head, *self.lines]) + "\n"


@dataclass(frozen=True, slots=True)
class FilePatch:
    """What happens to *path*; *mode* is that of a file that the patch adds, else ``""``."""

    path: str
    hunks: tuple[Hunk, ...]
    mode: str = ""

    @property
    def adds(self) -> bool:
        """Whether the file is new."""
        return bool(self.mode)

    @property
    def content(self) -> str:
        """The text of an added file."""
        return _join(self.hunks[0].new)

    def apply(self, text: str | None) -> str:
        """*text* (``None``: no such file) with the patch applied at exactly its lines.

        :raises MismatchError: if a line differs from what the patch expects.
        """
        if self.adds:
            if text is not None:
                raise MismatchError(self.path, 1, "", "the file exists already")
            return self.content
        if text is None:
            raise MismatchError(self.path, 1, "", "there is no such file")
        return _splice(self.path, text, self.hunks)

    def reverse(self, text: str | None) -> str | None:
        """*text* as it was before; ``None`` for a file that the patch adds.

        :raises MismatchError: if a line differs from what the patch leaves behind.
        """
        if text is None:
            raise MismatchError(self.path, 1, "", "there is no such file")
        if self.adds:
            _splice(self.path, text, (self.hunks[0].reversed(),), whole=True)
            return None
        return _splice(self.path, text, [hunk.reversed() for hunk in self.hunks])

    def fate(self, text: str | None) -> Fate:
        """What *text* is to this patch."""
        if text is None:
            return "clean" if self.adds else "missing"
        if _fits(self.reverse, text):
            return "applied"
        if "\r\n" in text and self.fate(text.replace("\r\n", "\n")) in {"applied", "clean"}:
            return "crlf"
        return "exists" if self.adds else self._place(text)

    def _place(self, text: str) -> Fate:
        if _fits(self.apply, text):
            return "clean"
        lines = text.split("\n")
        found = all(_find(lines, hunk.old) for hunk in self.hunks)
        return "shifted" if found else "differs"


@dataclass(frozen=True, slots=True)
class Patch:
    """A patch to a tree: *files* in order, under a *description* in plain text."""

    files: tuple[FilePatch, ...]
    description: str = ""

    @property
    def body(self) -> str:
        """The patch without its description, as git writes it."""
        return "".join(map(_git_file, self.files))

    def __str__(self) -> str:
        return (self.description.rstrip("\n") + "\n\n" if self.description else "") + self.body


class MismatchError(ValueError):
    """The text does not have what the patch expects; *line* is 1-based."""

    def __init__(self, path: str, line: int, expected: str, found: str) -> None:
        super().__init__(f"{path}:{line}: {found}")
        self.path = path
        self.line = line
        self.expected = expected
        self.found = found


# -- building --------------------------------------------------------------------------------


def added(path: str, text: str, mode: str = REGULAR) -> FilePatch:
    """The patch that adds *text* as *path*."""
    return FilePatch(path, (Hunk(0, 1, tuple("+" + line for line in _lines(text))),), mode)


def inserted(path: str, text: str, places: Sequence[tuple[int, str]]) -> FilePatch:
    """The patch that puts pieces into *text*: each before the line of its index (0-based).

    Made from the places themselves, not by comparing: a comparison may slide a piece over lines
    that look alike, and which one depends on the tool.
    """
    lines = _lines(text)
    hunks: list[Hunk] = []
    body: list[str] = []
    start = end = shift = grown = 0
    for index, piece in sorted(places):
        new = ["+" + line for line in _lines(piece)]
        if body and index - CONTEXT <= end + CONTEXT:
            body += [" " + line for line in lines[end:index]]
        else:
            _close(hunks, body, lines, start, end, shift - grown)
            start, grown = max(0, index - CONTEXT), 0
            body = [" " + line for line in lines[start:index]]
        body += new
        end = index
        shift += len(new)
        grown += len(new)
    _close(hunks, body, lines, start, end, shift - grown)
    return FilePatch(path, tuple(hunks))


def _close(
    hunks: list[Hunk], body: list[str], lines: list[str], start: int, end: int, shift: int
) -> None:
    if body:
        tail = [" " + line for line in lines[end : end + CONTEXT]]
        hunks.append(Hunk(start + 1, start + 1 + shift, (*body, *tail)))


# -- reading and writing ---------------------------------------------------------------------

_HEAD = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def parse(text: str) -> Patch:
    """Read what :class:`Patch` writes.

    :raises PatchSyntaxError: if *text* is something else.
    """
    parts = re.split(r"^(?=diff --git )", text, flags=re.MULTILINE)
    if len(parts) < 2:
        raise PatchSyntaxError("no file in it")
    return Patch(tuple(map(_parse_file, parts[1:])), parts[0].rstrip("\n"))


def _parse_file(text: str) -> FilePatch:
    lines = _lines(text)
    match = re.fullmatch(r"diff --git a/(\S+) b/(\S+)", lines[0])
    if not match or match[1] != match[2]:
        raise PatchSyntaxError(f"not understood: {lines[0]!r}")
    path, mode, at = match[1], "", 1
    if at < len(lines) and (new := re.fullmatch(r"new file mode (100644|100755)", lines[at])):
        mode, at = new[1], at + 1
    wanted = ["--- /dev/null" if mode else f"--- a/{path}", f"+++ b/{path}"]
    if lines[at : at + 2] != wanted:
        raise PatchSyntaxError(f"not understood: {' '.join(lines[at : at + 1])!r} of {path}")
    at += 2
    hunks = []
    while at < len(lines):
        hunk, at = _parse_hunk(lines, at)
        hunks.append(hunk)
    if not hunks:
        raise PatchSyntaxError(f"nothing happens to {path}")
    return FilePatch(path, tuple(hunks), mode)


def _parse_hunk(lines: list[str], at: int) -> tuple[Hunk, int]:
    match = _HEAD.match(lines[at])
    if not match:
        raise PatchSyntaxError(f"not understood: {lines[at]!r}")
    start, old, begin, new = (int(number or 1) for number in match.groups())
    if match[2] == "0":
        old = 0
    first = at = at + 1
    while at < len(lines) and (old > 0 or new > 0):
        kind = lines[at][:1]
        if kind not in {" ", "+", "-"}:
            raise PatchSyntaxError(f"not understood: {lines[at]!r}")
        old -= kind != "+"
        new -= kind != "-"
        at += 1
    if old or new:
        raise PatchSyntaxError("a hunk ends before its last line")
    return Hunk(start, begin, tuple(lines[first:at])), at


def _git_file(file: FilePatch) -> str:
    head = f"diff --git a/{file.path} b/{file.path}\n"
    head += f"new file mode {file.mode}\n--- /dev/null\n" if file.adds else f"--- a/{file.path}\n"
    return head + f"+++ b/{file.path}\n" + "".join(map(str, file.hunks))


def quilt(patch: Patch, folder: str) -> str:
    """*patch* as ``quilt refresh`` would keep it for a tree called *folder*.

    quilt has no file modes; whoever applies it makes files executable by other means.
    """
    text = patch.description.rstrip("\n") + "\n\n" if patch.description else ""
    for file in patch.files:
        old = "/dev/null" if file.adds else f"{folder}.orig/{file.path}"
        text += f"Index: {folder}/{file.path}\n{'=' * 67}\n--- {old}\n+++ {folder}/{file.path}\n"
        text += "".join(map(str, file.hunks))
    return text


def mbox(patch: Patch, author: str, date: str = "") -> str:
    """*patch* as a message for ``git am``; the description's first line is the subject.

    Without a *date* (RFC 5322) there is none in it, so that the bytes depend on nothing else.
    """
    subject, _, message = patch.description.strip("\n").partition("\n")
    head = ["From " + "0" * 40 + " Mon Sep 17 00:00:00 2001", f"From: {author}"]
    head += [f"Date: {date}"] if date else []
    head += [f"Subject: [PATCH] {subject}", "", message.strip("\n"), "---"]
    counts = {file.path: sum(_changes(file)) for file in patch.files}
    width, digits = max(map(len, counts)), len(str(max(counts.values())))
    stat = [f" {path:<{width}} | {count:>{digits}}" for path, count in counts.items()]
    plus = sum(_changes(file)[0] for file in patch.files)
    minus = sum(_changes(file)[1] for file in patch.files)
    total = f" {count(len(stat), 'file')} changed, {count(plus, 'insertion')}(+)"
    total += f", {count(minus, 'deletion')}(-)" if minus else ""
    created = [f" create mode {file.mode} {file.path}" for file in patch.files if file.adds]
    return "\n".join([*head, *stat, total, *created, "", patch.body]) + "-- \ntarpit-builder\n\n"


def _changes(file: FilePatch) -> tuple[int, int]:
    lines = [line[0] for hunk in file.hunks for line in hunk.lines]
    return lines.count("+"), lines.count("-")


def count(number: int, noun: str, plural: str = "") -> str:
    """*number* of what *noun* names, in words."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


# -- applying --------------------------------------------------------------------------------


def _splice(path: str, text: str, hunks: Iterable[Hunk], *, whole: bool = False) -> str:
    lines = text.split("\n")
    shift = 0
    for hunk in hunks:
        at = max(hunk.old_start - 1, 0) + shift
        for number, expected in enumerate(hunk.old, at):
            found = lines[number] if number < len(lines) else None
            if found != expected:
                raise MismatchError(path, number + 1, expected, _difference(expected, found))
        if whole and lines[at + len(hunk.old) :] != [""]:
            raise MismatchError(path, at + len(hunk.old) + 1, "", "more than the patch put there")
        lines[at : at + len(hunk.old)] = hunk.new
        shift += len(hunk.new) - len(hunk.old)
    return "\n".join(lines)


def _difference(expected: str, found: str | None) -> str:
    if found is None:
        return f"the file ends before {expected!r}"
    return f"{found!r} where {expected!r} is expected"


def _fits(action: Callable[[str | None], object], text: str) -> bool:
    try:
        action(text)
    except MismatchError:
        return False
    return True


def _find(lines: list[str], block: tuple[str, ...]) -> bool:
    return any(
        tuple(lines[at : at + len(block)]) == block for at in range(len(lines) - len(block) + 1)
    )


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []


def _join(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _span(start: int, count: int) -> str:
    return str(start) if count == 1 else f"{start},{count}"
