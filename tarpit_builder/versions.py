"""Releases of the kernel and of iptables: parse, order, ranges.  No I/O.

A *series* is what point releases share: 2.6.24 for 2.6.24.7, 5.10 for 5.10.251, 1.4.3 for
1.4.3.2.  Numbers are plain integers without a ceiling: stable releases passed 255 long ago.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from typing import ClassVar, Generic, Self, TypeVar

from tarpit_builder.errors import UserError

_NUMBERS = r"(?:0|[1-9]\d{0,5})(?:\.(?:0|[1-9]\d{0,5}))+"
_VERSION = re.compile(rf"v?(?P<numbers>{_NUMBERS})(?:-?rc(?P<rc>[1-9]\d{{0,3}}))?", re.ASCII)
_WRITTEN = rf"v?{_NUMBERS}(?:-?rc[1-9]\d{{0,3}})?"
_SPAN = re.compile(rf"(?P<first>{_WRITTEN})\s*(?:-|\.\.)\s*(?P<last>{_WRITTEN})", re.ASCII)
_COMPARISON = re.compile(rf"(?P<operator>>=|<=|>|<)\s*(?P<bound>{_WRITTEN})", re.ASCII)

# Series that kernel.org moved to a folder of their own when they became longterm; their point
# releases are split between it and v2.6/ itself.
_LONGTERM_2_6 = frozenset({(2, 6, 27), (2, 6, 32), (2, 6, 33), (2, 6, 34), (2, 6, 35)})

# What sorts where: the number of a candidate, or this for a release (after every candidate).
_RELEASE = 1 << 30
_Key = tuple[tuple[int, ...], int, tuple[int, ...]]


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A release of *numbers*, or with *rc* a candidate for it, which sorts before it."""

    numbers: tuple[int, ...]
    rc: int | None = None

    what: ClassVar[str] = "version"
    project: ClassVar[str] = ""
    examples: ClassVar[str] = ""

    @classmethod
    def parse(cls, text: str, known: Iterable[str] = ()) -> Self:
        """Read *text*; a leading ``v``, as in tags, or ``linux-``, as in tarballs, is accepted.

        :param known: releases to suggest from when *text* is misspelt.
        :raises UserError: if *text* is no version of this kind.
        """
        match = _VERSION.fullmatch(text.strip().removeprefix(f"{cls.project}-"))
        version = None
        if match:
            numbers = tuple(map(int, match["numbers"].split(".")))
            version = cls._of(numbers, int(match["rc"]) if match["rc"] else None)
        if version is None:
            raise UserError(
                f"{text!r} is not a version of {cls.what}", hint=cls._advice(text, known)
            )
        return version

    @classmethod
    def _of(cls, numbers: tuple[int, ...], rc: int | None) -> Self | None:
        """The version that *numbers* and *rc* spell, or nothing if they spell none."""
        raise NotImplementedError

    @classmethod
    def _advice(cls, text: str, known: Iterable[str]) -> str:
        repaired = re.sub(r"[^0-9.rc-]", "", re.sub(r"[,;_:\s]+", ".", text.strip().lower()))
        repaired = re.sub(r"-?rc(?=\D*$)|\.{2,}|[.-]+$", "", repaired)
        near = suggest(text, known)
        if not near and (match := _VERSION.fullmatch(repaired)):
            numbers = tuple(map(int, match["numbers"].split(".")))
            version = cls._of(numbers, int(match["rc"]) if match["rc"] else None)
            near = (str(version),) if version else ()
        return f"did you mean {' or '.join(near)}?" if near else f"write it like {cls.examples}"

    @property
    def _series(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def _key(self) -> _Key:
        stage = _RELEASE if self.rc is None else self.rc
        return self._series, stage, self.numbers[len(self._series) :]

    @property
    def series(self) -> Self:
        """The first release of the line that this one belongs to."""
        return type(self)(self._series)

    @property
    def is_series(self) -> bool:
        """Whether this names a whole series: no candidate, no point release."""
        return self.rc is None and self.numbers == self._series

    @property
    def tag(self) -> str:
        """The tag of this release in its project's repository."""
        return f"v{self}"

    @property
    def stem(self) -> str:
        """The name of its tarball without the suffix, and of the only folder in it."""
        return f"{self.project}-{self}"

    def __lt__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._key < other._key

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) + (f"-rc{self.rc}" if self.rc else "")


@total_ordering
@dataclass(frozen=True, slots=True)
class KernelVersion(Version):
    """A release of Linux as kernel.org names it: 2.6.24.7, 3.2, 5.10.251, 6.18-rc3."""

    what: ClassVar[str] = "Linux"
    project: ClassVar[str] = "linux"
    examples: ClassVar[str] = "2.6.24, 2.6.24.7, 5.10.251 or 6.18-rc3"

    @classmethod
    def of_name(cls, name: str) -> Self:
        """The release that the kernel called *name*, by ``uname -r``, is or was made from.

        :raises UserError: if it does not begin with one.
        """
        number = re.match(r"\d+(\.\d+)*", name)
        return cls.parse(number[0] if number else name)

    @classmethod
    def _of(cls, numbers: tuple[int, ...], rc: int | None) -> Self | None:
        if numbers[0] < 2 or (numbers[0] == 2 and numbers[1] % 2):
            return None  # before 2.0, and development series: never in a distribution
        length = 3 if numbers[0] == 2 else 2
        if length == 2 and numbers[2:] == (0,):
            numbers = numbers[:2]  # `make kernelversion` and uname write 6.1 as 6.1.0
        point = numbers[length:]
        if len(numbers) < length or len(point) > 1 or point == (0,) or (point and rc):
            return None
        return cls(numbers, rc)

    @property
    def _series(self) -> tuple[int, ...]:
        return self.numbers[: 3 if self.numbers[0] == 2 else 2]

    @property
    def folders(self) -> tuple[str, ...]:
        """Where to look below ``pub/linux/kernel/``, in order; none for a candidate.

        Candidates have not been there since 2017, git.kernel.org makes them from tags.
        """
        if self.rc is not None:
            return ()
        if self.numbers[0] > 2:
            return (f"v{self.numbers[0]}.x",)
        main = ".".join(map(str, self.numbers[:2]))
        if self._series in _LONGTERM_2_6 and not self.is_series:
            return (f"v{main}/longterm/v{self.series}", f"v{main}")
        return (f"v{main}",)


@total_ordering
@dataclass(frozen=True, slots=True)
class IptablesVersion(Version):
    """A release of iptables as netfilter.org names it: 1.3.8, 1.4.0rc1, 1.4.11.1, 1.8.11."""

    what: ClassVar[str] = "iptables"
    project: ClassVar[str] = "iptables"
    examples: ClassVar[str] = "1.3.8, 1.4.0rc1, 1.4.11.1 or 1.8.11"

    @classmethod
    def _of(cls, numbers: tuple[int, ...], rc: int | None) -> Self | None:
        if numbers[0] != 1 or not 3 <= len(numbers) <= 4 or numbers[3:] == (0,):
            return None
        return cls(numbers, rc) if not (numbers[3:] and rc) else None

    @property
    def _series(self) -> tuple[int, ...]:
        return self.numbers[:3]

    def __str__(self) -> str:
        numbers = ".".join(map(str, self.numbers))
        return numbers + (f"rc{self.rc}" if self.rc else "")


AnyVersion = TypeVar("AnyVersion", bound=Version)


@dataclass(frozen=True, slots=True)
class VersionRange(Generic[AnyVersion]):
    """Releases between bounds, each an operator and a version.

    A bound that names a series means all of it, candidates and point releases: 2.6.21.7 and
    2.6.19-rc1 are in ``2.6.19-2.6.21``, 2.6.22-rc1 is not.  That is how rules are thought:
    interfaces change between series, and in their first candidate.
    """

    bounds: tuple[tuple[str, AnyVersion], ...]

    @classmethod
    def parse(cls, text: str, kind: type[AnyVersion]) -> VersionRange[AnyVersion]:
        """Read ``A-B``, ``A..B`` (both included), ``>=A``, ``>A``, ``<=B``, ``<B``, ``A`` alone,
        or several of these with commas between, all of which must hold.

        :raises UserError: if *text* is none of these, or no version can be in it.
        """
        bounds: list[tuple[str, AnyVersion]] = []
        for part in map(str.strip, text.split(",")):
            if match := _COMPARISON.fullmatch(part):
                bounds.append((match["operator"], kind.parse(match["bound"])))
            elif match := _SPAN.fullmatch(part):
                first, last = kind.parse(match["first"]), kind.parse(match["last"])
                if first > last:
                    raise UserError(
                        f"the range {part!r} is empty: {first} is newer than {last}",
                        hint=f"write {last}-{first}",
                    )
                bounds += [(">=", first), ("<=", last)]
            else:
                bounds.append(("=", kind.parse(part)))
        return cls(tuple(bounds))

    def __contains__(self, version: AnyVersion) -> bool:
        return all(_holds(version._key, operator, bound) for operator, bound in self.bounds)

    def __str__(self) -> str:
        match self.bounds:
            case ((">=", first), ("<=", last)):
                return f"{first}-{last}"
        return ",".join(f"{'' if op == '=' else op}{bound}" for op, bound in self.bounds)


def _holds(key: _Key, operator: str, bound: Version) -> bool:
    if bound.is_series:
        left: object = key[0]
        right: object = bound._key[0]
    else:
        left, right = key, bound._key
    match operator:
        case "=":
            return left == right
        case ">=":
            return left >= right  # type: ignore[operator,no-any-return]
        case "<=":
            return left <= right  # type: ignore[operator,no-any-return]
        case ">":
            return left > right  # type: ignore[operator,no-any-return]
    return left < right  # type: ignore[operator,no-any-return]


def suggest(text: str, known: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """Up to *count* of *known* that look most like *text*, the likeliest first."""
    return tuple(difflib.get_close_matches(text.strip().lower(), list(known), n=count, cutoff=0.7))
