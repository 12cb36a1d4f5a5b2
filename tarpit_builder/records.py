"""What was built and proven, with what and when: ``records.tsv``, which nobody writes by hand.

``invoke kernels --record`` enters what is in ``dist/``; ``invoke kernels --status`` and the README
say what is entered.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tarpit_builder import digests, evidence, paths, tsv
from tarpit_builder.console import format_table
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.packaging import contents
from tarpit_builder.versions import KernelVersion

FILE = Path(__file__).resolve().parent / "records.tsv"
README = paths.PROJECT / "README.md"
MODULE_SOURCE = re.compile(r"(^|/)((x|ip)t_TARPIT|tarpit|tarpit_core)\.[ch]$|(^|/)compat/")
RELEASE, ARCHIVE, COPY = VOUCHED = ("release", "archive", "copy")
"""What the source is known to be: a release of kernel.org's, by the catalogue or a signature; what
a distribution's archive serves; or a tree as somebody had it, for which nobody vouches."""
BEGIN, END = "<!-- records -->\n", "<!-- end of records -->\n"


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """One kernel: *kernel* as a request names it, on *arch*, with packages for *userland*.

    *compiler* and *source*, a digest of the kernel's tree or headers, are those of the module, and
    *module* is a digest of its own source.  *vouched* is one of :data:`VOUCHED`.  *built* is a
    date; *proven*, another, and *checks* tell of the proof, if there is one: the groups of checks
    and how many passed.
    """

    kernel: str
    arch: str
    userland: str
    compiler: str
    source: str
    vouched: str
    module: str
    built: str
    proven: str = ""
    checks: str = ""

    @property
    def subject(self) -> tuple[str, str, str]:
        """What the record is about."""
        return self.kernel, self.arch, self.userland

    @property
    def version(self) -> KernelVersion:
        """The release of Linux that it is, or that a distribution's kernel is made from."""
        return KernelVersion.of_name(self.kernel)

    @property
    def distribution(self) -> bool:
        """Whether a distribution made the kernel."""
        return self.kernel != str(self.version)

    @property
    def current(self) -> bool:
        """Whether the module's source is still that."""
        return self.module == module_digest()


@cache
def read(file: Path = FILE) -> tuple[Record, ...]:
    """All records, by kernel.

    :raises InfrastructureError: if the file is damaged.
    """
    try:
        return tuple(sorted(tsv.read(Record, file), key=_order))
    except UserError as error:  # a kernel that is none
        raise InfrastructureError(
            f"{file.name} is damaged: {error}", hint="`git checkout` brings it back"
        ) from error


def enter(dist: Path, file: Path = FILE) -> tuple[Record, ...]:
    """Enter what is finished in *dist*; the records that are new or have changed.

    A proof is replaced only by another proof.
    """
    known = {record.subject: record for record in read(file)}
    changed = []
    for record in found(dist):
        old = known.get(record.subject)
        if old == record or (old and old.proven and not record.proven):
            continue
        if old and replace(old, built=record.built) == record:
            continue
        known[record.subject] = record
        changed.append(record)
    if changed:
        tsv.write(Record, sorted(known.values(), key=_order), file)
        read.cache_clear()
    return tuple(sorted(changed, key=_order))


def found(dist: Path) -> Iterator[Record]:
    """The records that the results in *dist* amount to.

    None of kernels with a configuration of one's own, nor of those that a machine has.
    """
    from tarpit_builder.build import MANIFEST, finished

    for path in sorted(dist.glob(f"*/{MANIFEST}")):
        manifest = finished(path.parent)
        if manifest is None or not manifest["toolchain"] or "--config" in manifest["command"]:
            continue
        plan = manifest["plan"]
        if "system" in plan or "debug" in plan or "signed" in manifest:
            continue  # what a debug kernel shows is in another table, see tried.py
        proof = evidence.proven(path.parent) or {}
        yield Record(
            kernel=plan["kernel"],
            arch=plan["arch"],
            userland=_userland(plan),
            compiler=manifest["toolchain"][0],
            source=_source(manifest["sources"][0]),
            vouched=_vouched(manifest["sources"][0]),
            module=_module(manifest["module"]),
            built=_date(path),
            proven=_date(path.parent / evidence.EVIDENCE) if proof else "",
            checks=_checks(proof) if proof else "",
        )


def module_digest() -> str:
    """The digest of the module's source as it is now."""
    return _module(digests.members(contents.module_source().members))


def status(records: Iterable[Record] = ()) -> str:
    """The table of ``invoke kernels --status``."""
    rows = [
        (
            record.kernel,
            record.arch,
            record.userland,
            record.compiler.partition(" ")[0] + " " + record.compiler.rpartition(" ")[2],
            record.vouched,
            record.built,
            record.proven or "–",
            record.checks or "not booted",
            "" if record.current else "an older module",
        )
        for record in records or read()
    ]
    header = ("kernel", "arch", "userland", "compiler", "source", "built", "proven", "checks", "")
    return format_table(rows, header=header)


def tried(version: KernelVersion) -> bool:
    """Whether a release of the series of *version* was built from source."""
    return version.series in {record.version.series for record in read() if not record.distribution}


def proven(kernel: str, arch: str) -> bool:
    """Whether *kernel*, of kernel.org, was booted and proven on *arch*."""
    return any(
        (record.kernel, record.arch) == (kernel, arch) and record.proven for record in read()
    )


def series(records: Iterable[Record]) -> str:
    """The series of *records*, in ascending order; those that follow each other as one range."""
    runs: list[list[KernelVersion]] = []
    for version in sorted({record.version.series for record in records}):
        if runs and _follows(runs[-1][-1], version):
            runs[-1].append(version)
        else:
            runs.append([version])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def summary(records: Iterable[Record] = ()) -> str:
    """What the README says: which kernels were booted and proven, and which were built."""
    records = tuple(records) or read()
    lines = []
    for vouched, what in (
        (RELEASE, "Releases of Linux that are known to be those of kernel.org"),
        (
            COPY,
            "Releases as copies had them, some with a vendor's changes; nobody vouches for those",
        ),
    ):
        ours = [one for one in records if not one.distribution and one.vouched == vouched]
        for arch in sorted({record.arch for record in ours}):
            said = _seen([record for record in ours if record.arch == arch])
            lines.append(f"  {what}, on {arch}: {said}.")
    theirs = sorted(
        record.kernel for record in records if record.vouched == ARCHIVE and record.proven
    )
    if theirs:
        lines.append(
            f"  Kernels of distributions that were booted and proven: {', '.join(theirs)}."
        )
    return "\n".join(
        textwrap.fill(line, 110, subsequent_indent="  ", break_on_hyphens=False) for line in lines
    )


def _seen(records: list[Record]) -> str:
    """Which series of *records* were booted and proven, and which were built and no more."""
    proven = [record for record in records if record.proven]
    booted = {record.version.series for record in proven}
    rest = [record for record in records if record.version.series not in booted]
    parts = [
        f"{series(some)} {what}"
        for some, what in ((proven, "booted and proven"), (rest, "seen to build"))
        if some
    ]
    return "; ".join(parts)


def write_readme() -> None:
    """Bring the README up to the records."""
    text = README.read_text()
    if text != (new := readme_with(text, summary())):
        with paths.replacing(README) as stage:
            stage.write_text(new)


def readme_with(text: str, said: str) -> str:
    """*text* with *said* in the place that is marked for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, end
    return f"{before}{begin}{said}\n{end}{after}"


def _follows(one: KernelVersion, other: KernelVersion) -> bool:
    """Whether *other* is the series after *one*, of those that differ in the last number only."""
    a, b = ([int(number) for number in str(version).split(".")] for version in (one, other))
    return a[:-1] == b[:-1] and a[-1] + 1 == b[-1]


def _order(record: Record) -> tuple[bool, KernelVersion, str, str, str]:
    return (record.distribution, record.version, *record.subject)


def _userland(plan: dict[str, Any]) -> str:
    if suite := plan.get("userland") or plan.get("suite"):
        return str(suite)
    return f"iptables {plan['iptables']}" if plan.get("iptables") else "none"


def _source(source: dict[str, str]) -> str:
    return (source.get("git-tree") or source["sha256"])[:12]


def _vouched(source: dict[str, Any]) -> str:
    told = " ".join(source.get("verified", ()))
    if "trusted on first use" in told:
        return COPY
    return RELEASE if "git-tree" in source and "archive names" not in told else ARCHIVE


def _module(members: dict[str, str]) -> str:
    """One digest for the module's own source, whatever packages *members* are of."""
    own = {digest for path, digest in members.items() if MODULE_SOURCE.search(path)}
    return digests.digest(sorted(own))[:12]


def _date(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def _checks(proof: dict[str, Any]) -> str:
    from tarpit_builder.proof.registry import groups

    names = list(dict.fromkeys(where.partition("/")[0] for where in proof["groups"]))
    ordinary = [group.name for group in groups() if not group.extra]
    shown = "all" if set(ordinary) <= set(names) else " ".join(names)
    return f"{shown}: {', '.join(f'{count} {what}' for what, count in proof['counts'].items())}"
