"""``rules/patches.toml``: which release gets which patch, and what patches consist of."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tarpit_builder import paths
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.patching.rewrite import Rewrite
from tarpit_builder.versions import AnyVersion, IptablesVersion, KernelVersion, VersionRange

FILE = Path(__file__).resolve().parent.parent / "rules" / "patches.toml"
_SINCE = re.compile(r"^@(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Edit:
    """*text* goes into the file *path* of some *releases*, before the first line like *before*."""

    path: str
    before: re.Pattern[str]
    text: str
    releases: VersionRange[KernelVersion]

    def for_release(self, version: KernelVersion | IptablesVersion) -> str:
        """*text* with the lines that *version* understands: ``@2.6.25`` leads one since then."""
        lines = []
        for line in self.text.splitlines(keepends=True):
            match = _SINCE.match(line)
            if match and version < type(version).parse(match[1]):
                continue
            lines.append(line[match.end() :] if match else line)
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class Indication:
    """A tree defines *name* if *pattern* is found in its file *path*, whatever its release."""

    name: str
    path: str
    pattern: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Form:
    """A shape in which the module is put into a kernel; since *uapi* its *header* is below that."""

    name: str
    source: str
    header: str
    uapi: KernelVersion
    option: str
    ipv6: bool
    rename: Mapping[str, str]
    edits: tuple[Edit, ...]

    def header_for(self, version: KernelVersion) -> str:
        """Where *version* has the headers that programs may see."""
        below = "include/uapi/" if version >= self.uapi else "include/"
        return below + self.header.removeprefix("include/")

    def edits_for(self, version: KernelVersion) -> tuple[Edit, ...]:
        """The pieces that *version* takes."""
        return tuple(edit for edit in self.edits if version in edit.releases)


@dataclass(frozen=True, slots=True)
class Range:
    """Releases that share one patch of kind ``linux`` or ``iptables``.

    With *tree* the catalogue has none of them: the patch was made from the tree of that one, and
    where the lines of the others are is not known.  *backported* is what that tree defines beside
    what its release says, of what can be seen (``[[seen]]``).
    """

    kind: str
    releases: VersionRange[Any]
    form: str
    reason: str
    tree: KernelVersion | None = None
    backported: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The range as its folder is called: ``2.6.19`` or ``2.6.31-2.6.32``."""
        return str(self.releases)

    @property
    def path(self) -> Path:
        """Where the patch is kept, below ``patches/``."""
        stem = f"tarpit-{self.name}" if self.kind == "linux" else f"iptables-{self.name}-tarpit"
        return Path(self.kind) / self.name / f"{stem}.patch"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Releases that get no patch, why, and what to do instead."""

    kind: str
    releases: VersionRange[Any]
    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class DatedRewrite:
    """An idiom of certain releases; *form* and *after* narrow down where and when it counts.

    Those that come *after* find the layer melted in and what is superfluous gone.
    """

    releases: VersionRange[Any]
    rule: Rewrite
    form: str = ""
    after: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """How the extension is put into iptables.

    *families* says for ``ipt`` and ``ip6t`` which releases get a file of their own; *later* are
    the names of interfaces that came after all of these; *test* is the hidden script.
    """

    header: str
    families: Mapping[str, VersionRange[IptablesVersion]]
    later: frozenset[str]
    test: str
    rewrites: tuple[DatedRewrite, ...]

    def rewrites_for(self, version: IptablesVersion, family: str, *, after: bool) -> list[Rewrite]:
        """The idioms of *version*, in order."""
        return _applicable(self.rewrites, version, family, after=after)

    def rewrites_of(self, file: str, version: IptablesVersion) -> list[Rewrite]:
        """What the *file*, ``header`` or ``man``, says otherwise in *version*."""
        return _applicable(self.rewrites, version, file, after=False, only=True)


@dataclass(frozen=True, slots=True)
class Rules:
    """The whole table."""

    ranges: tuple[Range, ...]
    refusals: tuple[Refusal, ...]
    forms: Mapping[str, Form]
    symbols: Mapping[str, KernelVersion]
    headers: Mapping[str, KernelVersion]
    style: Mapping[str, KernelVersion]
    includes: Mapping[str, tuple[str, ...]]
    seen: tuple[Indication, ...]
    rewrites: tuple[DatedRewrite, ...]
    extension: Extension

    def of_kind(self, kind: str) -> tuple[Range, ...]:
        """The ranges of ``linux`` or ``iptables``, oldest first."""
        return tuple(entry for entry in self.ranges if entry.kind == kind)

    def rewrites_for(self, version: KernelVersion, form: Form, *, after: bool) -> list[Rewrite]:
        """The idioms of *version*, in order."""
        return _applicable(self.rewrites, version, form.name, after=after)

    def header_rewrites_for(self, version: KernelVersion) -> list[Rewrite]:
        """What the interface's header says otherwise in *version*."""
        return _applicable(self.rewrites, version, "header", after=False, only=True)

    def choose(self, version: KernelVersion | IptablesVersion) -> Range:
        """The range that *version* is in.

        :raises UserError: if it gets no patch; the message says why.
        """
        kind, what = ("linux", "Linux")
        if isinstance(version, IptablesVersion):
            kind, what = "iptables", "iptables"
        for entry in self.ranges:
            if entry.kind == kind and version in entry.releases:
                return entry
        for refusal in self.refusals:
            if refusal.kind == kind and version in refusal.releases:
                raise UserError(
                    f"no patch for {what} {version}: {refusal.reason}", hint=refusal.hint
                )
        known = ", ".join(entry.name for entry in self.of_kind(kind))
        raise UserError(f"no patch for {what} {version}", hint=f"there are patches for {known}")


@cache
def load(file: Path = FILE) -> Rules:
    """Read the table.

    :raises InfrastructureError: if it is not as it should be.
    """
    try:
        data = tomllib.loads(file.read_text())
        return Rules(
            ranges=(
                *_ranges(data, "linux", KernelVersion),
                *_ranges(data, "iptables", IptablesVersion),
            ),
            refusals=tuple(
                Refusal(
                    kind := row.get("kind", "linux"),
                    VersionRange.parse(
                        row["releases"], KernelVersion if kind == "linux" else IptablesVersion
                    ),
                    row["reason"],
                    row["hint"],
                )
                for row in data["refused"]
            ),
            forms={name: _form(name, row) for name, row in data["form"].items()},
            symbols=_since(data["symbols"]),
            headers=_since(data["headers"]),
            style=_since(data["style"]),
            includes={name: tuple(users) for name, users in data["includes"].items()},
            seen=tuple(
                Indication(_defined_by(row["probe"]), row["path"], re.compile(row["pattern"]))
                for row in data["seen"]
            ),
            rewrites=_rewrites(data["rewrite"], KernelVersion),
            extension=_extension(data["extension"]),
        )
    except (OSError, KeyError, TypeError, ValueError, re.error, UserError) as error:
        raise InfrastructureError(
            f"{file} cannot be used: {error}", hint="correct it, or restore it with `git checkout`"
        ) from error


def _defined_by(probe: str) -> str:
    return f"TARPIT_HAVE_{probe.upper()}"


def probed(folder: Path | None = None) -> dict[str, KernelVersion]:
    """Since which release each ``TARPIT_HAVE_x`` is defined, as the probes themselves say.

    :raises InfrastructureError: if a probe does not begin with a comment that says so.
    """
    found = {}
    for probe in sorted((folder or paths.PROJECT / "dkms/compat/probes").glob("*.c")):
        if probe.stem.startswith("baseline_"):
            continue
        match = re.match(r"(?://.*\n)?/\* (\d+(?:\.\d+)+)", probe.read_text())
        if not match:
            raise InfrastructureError(
                f"{probe} does not say since which release it compiles",
                hint="begin it with a comment such as /* 2.6.24: why */",
            )
        found[_defined_by(probe.stem)] = KernelVersion.parse(match[1])
    return found


def _ranges(data: Mapping[str, Any], kind: str, versions: type[AnyVersion]) -> tuple[Range, ...]:
    return tuple(
        Range(
            kind,
            VersionRange.parse(row["releases"], versions),
            row["form"],
            row["reason"],
            KernelVersion.parse(row["tree"]) if "tree" in row else None,
            frozenset(map(_defined_by, row.get("backported", ()))),
        )
        for row in data.get(kind, ())
    )


def _applicable(
    rewrites: Iterable[DatedRewrite], version: Any, form: str, *, after: bool, only: bool = False
) -> list[Rewrite]:
    """Those for *form*, and unless *only* that is meant, those for all forms."""
    forms = {form} if only else {form, ""}
    return [
        dated.rule
        for dated in rewrites
        if version in dated.releases and dated.form in forms and dated.after is after
    ]


def _rewrites(
    rows: Iterable[Mapping[str, Any]], versions: type[AnyVersion]
) -> tuple[DatedRewrite, ...]:
    return tuple(
        DatedRewrite(
            VersionRange.parse(row["releases"], versions),
            Rewrite(
                row["find"],
                row["replace"],
                row["reason"],
                tuple(row.get("within", ())),
                row.get("raw", False),
            ),
            row.get("form", ""),
            row.get("after", False),
        )
        for row in rows
    )


def _extension(row: Mapping[str, Any]) -> Extension:
    families = {
        name: VersionRange.parse(text, IptablesVersion) for name, text in row["families"].items()
    }
    return Extension(
        row["header"],
        families,
        frozenset(row["later"]),
        row["test"].removeprefix("\n"),
        _rewrites(row["rewrite"], IptablesVersion),
    )


def _since(table: Mapping[str, str]) -> dict[str, KernelVersion]:
    return {name: KernelVersion.parse(text) for name, text in table.items()}


def _form(name: str, row: Mapping[str, Any]) -> Form:
    edits = tuple(
        Edit(
            edit["path"],
            re.compile(edit["before"]),
            edit["text"].removeprefix("\n"),
            VersionRange.parse(edit.get("releases", ">=2.6.19"), KernelVersion),
        )
        for edit in row["edit"]
    )
    return Form(
        name,
        source=row["source"],
        header=row["header"],
        uapi=KernelVersion.parse(row["uapi"]),
        option=row["option"],
        ipv6=row["ipv6"],
        rename=row["rename"],
        edits=edits,
    )
