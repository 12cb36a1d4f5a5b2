"""The patch for one release, from ``dkms/`` and the rules."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from tarpit_builder import paths
from tarpit_builder.errors import InfrastructureError, SourceError, UserError
from tarpit_builder.patching import rules
from tarpit_builder.patching.conditions import Symbols
from tarpit_builder.patching.ctokens import imbalance, names, top_level
from tarpit_builder.patching.diff import EXECUTABLE, REGULAR, FilePatch, Patch, added, inserted
from tarpit_builder.patching.layout import relaid
from tarpit_builder.patching.macros import Macro, expand
from tarpit_builder.patching.prune import prune
from tarpit_builder.patching.resolve import CompatLayer, melt, tidy, with_core, with_include
from tarpit_builder.patching.rewrite import Rewrite
from tarpit_builder.patching.rules import Edit, Form, Range, Rules
from tarpit_builder.patching.tree import Tree
from tarpit_builder.versions import IptablesVersion, KernelVersion, VersionRange

ABOUT = {
    "linux": "TARPIT answers incoming TCP connections from within the firewall and holds them: the "
    "handshake succeeds, the window closes, and the other side waits until its own timers give "
    "up. Nothing is remembered about a connection.",
    "iptables": "TARPIT was dropped from iptables with 1.3.8. This adds it back, with the modes "
    "--tarpit, --honeypot, --reset and --stall. The hidden test beside it has to be executable, or "
    "the extension is left out in silence.",
}
NOTHING: Mapping[str, bool] = MappingProxyType({})
CORE = "tarpit_core.h"
"""What the target has in common with the device, which a tree of the kernel's does not get."""
_INCLUDE = re.compile(r'#include [<"]([^>"]+)[>"]\n')
_CONFIG_IPV6 = ("CONFIG_IPV6", "CONFIG_IPV6_MODULE")


def module(
    version: KernelVersion,
    form: Form,
    table: Rules,
    source: Path | None = None,
    surprises: Mapping[str, bool] = NOTHING,
) -> str:
    """The module as a file of the kernel *version*, a series: rules go by those.

    *surprises* are what is otherwise in the tree at hand, see :func:`surprises`.

    :raises InfrastructureError: if *source* (default: ``dkms/``) and the rules do not fit.
    """
    folder = source or paths.PROJECT / "dkms"
    text = _read(folder / "xt_TARPIT.c")
    core = _read(folder / CORE)
    originals = [text, core]
    text = with_core(text, CORE, core)
    text = _rewritten(text, table.rewrites_for(version, form, after=False), version)
    layer, layer_texts = _layer(version, form, table, folder, text, surprises)
    originals += layer_texts
    text = melt(text, layer)
    text = _say_constants(text)
    text = prune(text)
    text = _rewritten(text, table.rewrites_for(version, form, after=True), version)
    text = _includes(text, form, table)
    return relaid(
        tidy(_renamed(text, form)),
        [_renamed(original, form) for original in originals],
        split=version < table.style["whole_strings"],
    )


def header(version: KernelVersion, form: Form, table: Rules, source: Path | None = None) -> str:
    """The interface between module and extension, as a header of the kernel *version*.

    :raises InfrastructureError: if *source* (default: ``dkms/``) and the rules do not fit.
    """
    folder = source or paths.PROJECT / "dkms"
    text = _read(folder / "xt_TARPIT.h")
    return _renamed(_rewritten(text, table.header_rewrites_for(version), version), form)


def _read(path: Path) -> str:
    """The source *path*.

    :raises UserError: if brackets or conditionals in it do not balance; the message says where.
    """
    text = path.read_text()
    if found := imbalance(text):
        line, what = found
        inside = path.is_relative_to(paths.PROJECT)
        raise UserError(
            f"{path.relative_to(paths.PROJECT) if inside else path}:{line}: {what}",
            hint="mend it; `make -C dkms` compiles the module for the kernel that runs",
        )
    return text


def _rewritten(
    text: str, rewrites: Iterable[Rewrite], version: KernelVersion | IptablesVersion
) -> str:
    for rule in rewrites:
        try:
            text = rule.apply(text)
        except LookupError as error:
            raise InfrastructureError(
                f"a rewrite for {version.what} {version} is out of date: {error}",
                hint=f"compare {rules.FILE.name} with the source in dkms/ ({rule.reason})",
            ) from error
    return text


def surprises(version: KernelVersion, tree: Tree, table: Rules) -> dict[str, bool]:
    """What *tree* defines, or does not, against what its release says; stable ones get more."""
    since = rules.probed()
    there = {
        each.name: bool(each.pattern.search(text))
        for each in table.seen
        if (text := tree.read(each.path)) is not None
    }
    return {name: has for name, has in there.items() if has != (version >= since[name])}


def _layer(
    version: KernelVersion,
    form: Form,
    table: Rules,
    folder: Path,
    text: str,
    surprises: Mapping[str, bool],
) -> tuple[CompatLayer, list[str]]:
    values = {name: "1" for name, since in table.symbols.items() if version >= since}
    have = {
        name: surprises.get(name, version >= since)
        for name, since in rules.probed(folder / "compat/probes").items()
    }
    values |= {name: "1" for name, there in have.items() if there}

    def owns(name: str) -> bool:
        if not form.ipv6 and name in _CONFIG_IPV6:
            return True
        return name.startswith(("TARPIT_", "_TARPIT_")) or name in table.symbols

    def lacks(name: str) -> bool:
        return name in table.headers and version < table.headers[name]

    local = folder / "compat/include"
    substitutes = [
        _read(local / name)
        for name in _INCLUDE.findall(text)
        if lacks(name) and (local / name).is_file()
    ]
    header = _read(folder / "compat/compat.h")
    includes = frozenset({"compat/compat.h", "compat/entry.h", "tarpit-probes.h"})
    layer = CompatLayer(Symbols(values, owns), header, includes, lacks, substitutes)
    return layer, [header, *substitutes]


def _say_constants(text: str) -> str:
    """Write out what functions that do nothing, or return a constant, stand for.

    Their arguments go unevaluated: the source has none that do anything.  What does nothing only
    on one side of a condition that is left stays a function.
    """
    times = Counter(item.name for item in top_level(text) if item.is_static)
    spared = frozenset(name for name, found in times.items() if found > 1)
    while True:
        parts = top_level(text)
        macros = {
            item.name: macro
            for item in parts
            if item.is_static
            and item.name not in spared
            and (macro := Macro.from_function(item))
            and macro.is_constant
        }
        if not macros:
            return text
        rest = expand("".join(item.text for item in parts if item.name not in macros), macros)
        if pointed_at := names(rest) & macros.keys():
            spared |= pointed_at
        else:
            text = rest


def _includes(text: str, form: Form, table: Rules) -> str:
    """*text* with the headers that it needs there."""
    used = names(text)

    def judged(match: re.Match[str]) -> str:
        users = table.includes.get(match[1])
        return "" if users is not None and not used.intersection(users) else match[0]

    text = _INCLUDE.sub(judged, text)
    text = text.replace('#include "xt_TARPIT.h"\n', "")
    return with_include(text, form.header.removeprefix("include/").replace("ipt_", "xt_"))


def _renamed(text: str, form: Form) -> str:
    for old, new in form.rename.items():
        text = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new, text)
    return text


# -- iptables --------------------------------------------------------------------------------

_VERSION_1_3 = VersionRange.parse("<1.4.0", IptablesVersion)


def extension(
    version: IptablesVersion, family: str, table: Rules, source: Path | None = None
) -> str:
    """The extension as a file of iptables *version*, below 1.4.1.

    :param family: ``ipt`` for iptables, ``ip6t`` for ip6tables.
    :raises InfrastructureError: if *source* (default: ``dkms/``) and the rules do not fit.
    """
    folder = source or paths.PROJECT / "dkms"
    original = _read(folder / "libxt_TARPIT.c")
    values = {"_init": "1"}  # a macro, which the Makefile of the time defines
    if version in _VERSION_1_3:
        values["TARPIT_IPTABLES_1_3"] = "1"

    def owns(name: str) -> bool:
        return name.startswith(("TARPIT_", "_LIBXT_")) or name in table.extension.later

    header = _read(folder / "libxt_TARPIT.h")
    layer = CompatLayer(Symbols(values, owns), header, frozenset({"libxt_TARPIT.h"}))
    text = _rewritten(original, table.extension.rewrites_for(version, family, after=False), version)
    text = prune(melt(text, layer))
    text = _rewritten(text, table.extension.rewrites_for(version, family, after=True), version)
    text = text.replace('#include "xt_TARPIT.h"\n', "")
    text = with_include(text, table.extension.header.removeprefix("include/"))
    return relaid(tidy(text), [original, header])


def _extension_files(
    version: IptablesVersion, table: Rules, source: Path | None = None
) -> list[tuple[str, str, str]]:
    """What is added to iptables *version*: path, mode and text of each file."""
    folder = source or paths.PROJECT / "dkms"
    rules_ = table.extension
    interface, manual = (
        _rewritten((folder / name).read_text(), rules_.rewrites_of(what, version), version)
        for what, name in (("header", "xt_TARPIT.h"), ("man", "libxt_TARPIT.man"))
    )
    files = [(rules_.header, REGULAR, interface)]
    for family, releases in rules_.families.items():
        if version not in releases:
            continue
        stem = f"extensions/lib{family}_TARPIT"
        test = "extensions/.TARPIT-test" + family.removeprefix("ip").removesuffix("t")
        files.append((f"{stem}.c", REGULAR, extension(version, family, table, source)))
        files.append((f"{stem}.man", REGULAR, manual))
        files.append((test, EXECUTABLE, rules_.test))
    return files


# -- contexts --------------------------------------------------------------------------------


def edited(edit: Edit, version: KernelVersion | IptablesVersion, tree: Tree) -> FilePatch:
    """What *edit* does to its file in *tree*.

    :raises SourceError: if the tree has no such file, or no place for the piece in it.
    """
    text = tree.read(edit.path)
    if text is None:
        raise SourceError(
            f"{tree.name} has no {edit.path}", hint=f"is it the tree of {version}, and whole?"
        )
    for number, line in enumerate(text.split("\n")):
        if edit.before.match(line):
            return inserted(edit.path, text, [(number, edit.for_release(version))])
    raise SourceError(
        f"{edit.path} of {tree.name} has no line that matches {edit.before.pattern!r}",
        hint=f"give {rules.FILE.name} another place for the piece",
    )


def new_files(
    version: KernelVersion | IptablesVersion,
    entry: Range,
    table: Rules,
    source: Path | None = None,
    surprises: Mapping[str, bool] = NOTHING,
) -> tuple[FilePatch, ...]:
    """The files that the patch of *entry* adds, as all releases of *version*'s series get them.

    *surprises* are what is otherwise in the tree at hand, see :func:`surprises`; the range may
    say some itself.

    :raises UserError: if a source does not balance; the message has file and line.
    :raises InfrastructureError: if *source* (default: ``dkms/``) and the rules do not fit.
    """
    try:
        if isinstance(version, IptablesVersion):
            return tuple(
                added(path, text, mode)
                for path, mode, text in _extension_files(version, table, source)
            )
        form = table.forms[entry.form]
        surprises = dict.fromkeys(entry.backported, True) | dict(surprises)
        return (
            added(form.header_for(version), header(version.series, form, table, source)),
            added(form.source, module(version.series, form, table, source, surprises)),
        )
    except ValueError as error:
        raise UserError(
            f"what is left of dkms/ for {version.what} {version} cannot be read: {error}",
            hint="a condition may have defined, names, numbers, &&, || and !, and each of its "
            "branches has to balance for itself",
        ) from error


def edits(version: KernelVersion | IptablesVersion, entry: Range, table: Rules) -> tuple[Edit, ...]:
    """The pieces that the patch of *entry* puts into files that *version* has."""
    if isinstance(version, IptablesVersion):
        return ()
    return table.forms[entry.form].edits_for(version)


def patch(
    version: KernelVersion | IptablesVersion,
    entry: Range,
    table: Rules,
    tree: Tree,
    files: Iterable[FilePatch],
) -> Patch:
    """The patch of the range *entry* for its release *version* in *tree*, with the new *files*.

    :raises SourceError: if the tree has no place for a piece.
    """
    changed = [edited(edit, version, tree) for edit in edits(version, entry, table)]
    return Patch(tuple(sorted([*changed, *files], key=lambda file: file.path)), describe(entry))


def on_demand(version: KernelVersion, tree: Tree, table: Rules) -> Patch:
    """A patch for the release *version* alone, made from its *tree*, in a range or not.

    A tree that has it already gives the same patch.  Whoever hands it out has to compile it:
    nothing else tells whether a probe names the right release, or a vendor's tree is what its
    version says.

    :raises SourceError: if the tree has no place for a piece.
    :raises UserError: if a source does not balance, or *version* is before the first range.
    :raises InfrastructureError: if ``dkms/`` and the rules do not fit.
    """
    entry = range_of(version, table)
    before = _Unedited(tree, version, edits(version, entry, table))
    found = surprises(version, tree, table)
    return patch(version, entry, table, before, new_files(version, entry, table, surprises=found))


def range_of(version: KernelVersion, table: Rules) -> Range:
    """A range of *version* alone, with the form of the last range that begins before it.

    :raises UserError: if it is before the first.
    """
    before = [
        entry for entry in table.of_kind("linux") if entry.releases.bounds[0][1] <= version.series
    ]
    return replace(
        before[-1] if before else table.choose(version),
        releases=VersionRange.parse(str(version), KernelVersion),
        tree=None,
        backported=frozenset(),
        reason="made from this very tree, as no patch is kept for it",
    )


@dataclass(frozen=True, slots=True)
class _Unedited:
    """*tree* as it was before *edits*, if they are in it: for whoever takes a patch out again."""

    tree: Tree
    version: KernelVersion
    edits: tuple[Edit, ...]

    @property
    def name(self) -> str:
        """That of the tree."""
        return self.tree.name

    def read(self, path: str) -> str | None:
        """The text of *path*, without what the edits put there."""
        text = self.tree.read(path)
        for edit in self.edits:
            if text is not None and edit.path == path:
                text = text.replace(edit.for_release(self.version), "", 1)
        return text


def contributions(
    version: KernelVersion | IptablesVersion, entry: Range, table: Rules
) -> dict[str, tuple[str, str]]:
    """What the patch of *entry* adds to each file, and the modes of new ones; asks no tree.

    :raises InfrastructureError: if ``dkms/`` and the rules do not fit.
    """
    found = {edit.path: ("", edit.for_release(version)) for edit in edits(version, entry, table)}
    found |= {file.path: (file.mode, file.content) for file in new_files(version, entry, table)}
    return found


def describe(entry: Range) -> str:
    """The text above the patch of *entry*; its first line is the subject of a mail."""
    what, releases = ("Linux", "iptables")[entry.kind == "iptables"], entry.name
    first = f"{'iptables: ' if what == 'iptables' else 'netfilter: '}add the TARPIT target"
    lines = [f"{first} ({what} {releases})", "", *textwrap.wrap(ABOUT[entry.kind], 72), ""]
    lines += [f"Apply with: patch -p1 -NE < {entry.path.name}", ""]
    if entry.tree:
        said = (
            f"The lines are those of {entry.tree}; for another release `invoke patch` moves them."
        )
        lines += [*textwrap.wrap(said, 72), ""]
    lines += ["Made from dkms/ by `invoke regen`; changes belong there."]
    return "\n".join(lines)
