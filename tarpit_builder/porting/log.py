"""What the log of a build says: the answers of the probes, and the first error of the compiler."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_STAMP = re.compile(r"^\[ *\d+\.\d+\] ")
_PROBES = "tarpit-probes.h: "
_COMPILER = "tarpit-probes.h.log: "
_ERROR = re.compile(r"(?P<file>[^\s:]+):(?P<line>\d+)(?::\d+)?: (?:fatal )?error: (?P<message>.*)")
_NEXT = re.compile(
    r"In file included from |[^\s:]+: (?:In function|At top level)|[^\s:]+:\d+(?::\d+)?: warning: "
    r"|cc1: |make(?:\[\d+\])?: "
)
_IN_VAIN = "TARPIT: the kernel does not export "
_GAVE_UP = re.compile(r"TARPIT: (?P<message>.*)")
_OF_PROBE = re.compile(r"TARPIT: probe (\w+) fails for a reason of its own")
_TREE = re.compile(r"(?:^|/)((?:include|net|arch/\w+/include)/\S+\.[ch])$")
_PLACE = re.compile(r"(?P<file>[^\s:,]+\.h):\d+")
_QUOTED = re.compile(r"['‘](?:(?:struct|union|enum) )?(?:const )?(\w+)(?: \*+)?['’]")
_AROUND = 12  # lines of the compiler's words that are kept with its first error


@dataclass(frozen=True, slots=True)
class CompilerError:
    """An error at *line* of *file*; *lines* are the compiler's words around it.

    *headers* of the kernel's tree have to do with it, *identifiers* are named in it.
    """

    file: str
    line: int
    message: str
    lines: tuple[str, ...]
    headers: tuple[str, ...]
    identifiers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True, slots=True)
class BuildLog:
    """A log, read: *found* and *missing* are probes, *compiler* is what was said of those.

    *verdict* is why the probes gave up, if they did; *unexported* is what the module calls in vain.
    """

    found: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    compiler: tuple[str, ...] = ()
    verdict: str = ""
    unexported: tuple[str, ...] = ()
    error: CompilerError | None = None

    @property
    def probed(self) -> bool:
        """Whether the probes gave an answer."""
        return bool(self.found or self.missing)


def read(text: str) -> BuildLog:
    """The log *text*, with or without time stamps."""
    lines = [_STAMP.sub("", line) for line in text.splitlines()]
    answers = [line.removeprefix(_PROBES) for line in lines if line.startswith(_PROBES)]
    compiler = [line.removeprefix(_COMPILER) for line in lines if line.startswith(_COMPILER)]
    rest = [line for line in lines if not line.startswith((_PROBES, _COMPILER))]
    unexported = next((line.removeprefix(_IN_VAIN) for line in rest if _IN_VAIN in line), "")
    verdict = next((match["message"] for line in rest if (match := _GAVE_UP.match(line))), "")
    verdict = "" if unexported else verdict
    if verdict:
        probe = next((match[1] for line in rest if (match := _OF_PROBE.match(line))), "")
        error = _first(compiler, f"probes/{probe}.c" if probe else "", but="probes/")
    else:
        error = _first(rest)
    return BuildLog(
        found=tuple(_named(answers, r"#define TARPIT_HAVE_(\w+) 1")),
        missing=tuple(_named(answers, r"/\* no (\w+) \*/")),
        compiler=tuple(compiler),
        verdict=verdict,
        unexported=tuple(unexported.split()),
        error=error,
    )


def _named(lines: Iterable[str], pattern: str) -> list[str]:
    return [match[1] for line in lines if (match := re.fullmatch(pattern, line))]


def _first(lines: list[str], inside: str = "", but: str = "") -> CompilerError | None:
    """The first error of *lines* in a file like *inside*, or if none is named not like *but*."""
    for number, line in enumerate(lines):
        match = _ERROR.match(line)
        if not match:
            continue
        if inside not in match["file"] or (not inside and but and but in match["file"]):
            continue
        begin = number
        while begin and re.match(
            r"(In file included from|\s+from) |.*: In function", lines[begin - 1]
        ):
            begin -= 1
        end = number + 1
        # Not the headers of what comes next: its commits would be no cause of this.
        while end < len(lines) and end - number < _AROUND:
            if _ERROR.match(lines[end]) or _NEXT.match(lines[end]):
                break
            end += 1
        around = tuple(lines[begin:end])
        places = [
            match["file"],
            *(place["file"] for text in around for place in _PLACE.finditer(text)),
        ]
        return CompilerError(
            file=in_tree(match["file"]) or match["file"].rpartition("/module/")[2],
            line=int(match["line"]),
            message=match["message"],
            lines=around,
            headers=tuple(dict.fromkeys(filter(None, map(in_tree, places)))),
            identifiers=tuple(dict.fromkeys(_QUOTED.findall(match["message"]))),
        )
    return None


def in_tree(path: str) -> str:
    """*path* from the top of the kernel's tree; ``""`` if it is not in there."""
    match = _TREE.search(path)
    return match[1] if match and "compat/include/" not in path else ""
