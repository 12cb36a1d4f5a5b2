"""What was tried against builder and module, with the figures of the last run: ``tried.tsv``.

A run that is evidence leaves a note in ``dist/tried/`` by :func:`note`; ``invoke kernels --record``
enters the notes into the table, and the table into ``SECURITY.md``.  Nothing is said of what has no
row.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tarpit_builder import paths, records, tsv

FILE = Path(__file__).resolve().parent / "tried.tsv"
SECURITY = paths.PROJECT / "SECURITY.md"
WHAT = {
    "analyze": "Static analysis (`invoke analyze`)",
    "debug": "Debug kernels (`invoke verify --debug`)",
    "fuzz": "Fuzzing (`invoke fuzz`)",
    "load": "Load (`invoke bench --load`)",
}
"""Every kind of trial: what SECURITY.md calls it.  A kind that is not here cannot be noted."""


@dataclass(frozen=True, slots=True, order=True)
class Trial:
    """One run: *what* of :data:`WHAT`, *on* which kernel, *date* (UTC) and *figures*, in words.

    *module* is a digest of the module's source, as in the records of kernels.
    """

    what: str
    on: str
    module: str
    date: str
    figures: str


def note(what: str, on: str, figures: str, dist: Path | None = None) -> None:
    """Leave a note of a run that has ended now; an earlier one of the same kind goes.

    :param figures: what was seen, as a sentence without its full stop.
    """
    assert what in WHAT, what
    trial = Trial(what, on, records.module_digest(), datetime.now(UTC).date().isoformat(), figures)
    name = "".join(char if char.isalnum() or char in ".+-" else "-" for char in f"{what}-{on}")
    with paths.replacing((dist or paths.dist_dir()) / "tried" / f"{name}.json") as stage:
        stage.write_text(json.dumps(asdict(trial), indent=2) + "\n")


def read(file: Path = FILE) -> tuple[Trial, ...]:
    """The table.

    :raises InfrastructureError: if it is damaged.
    """
    return tuple(sorted(tsv.read(Trial, file)))


def enter(dist: Path, file: Path = FILE) -> tuple[Trial, ...]:
    """Enter the notes in *dist*; what is new of them."""
    old = read(file)
    table = {(one.what, one.on): one for one in old}
    for path in sorted((dist / "tried").glob("*.json")):
        trial = Trial(**json.loads(path.read_text()))
        table[trial.what, trial.on] = trial
    new = tuple(sorted(set(table.values()) - set(old)))
    if new:
        tsv.write(Trial, sorted(table.values()), file)
    return new


def summary(trials: Iterable[Trial], kernels: Iterable[records.Record]) -> str:
    """What SECURITY.md says of the trials, and of the proofs on *kernels*."""
    lines = []
    proven = [one for one in kernels if one.proven]
    for current, module in ((True, "this module"), (False, "an older state of it")):
        some = [one for one in proven if one.current is current]
        if some:
            passed = sum(_passed(one.checks) for one in some)
            last = max(one.proven for one in some)
            lines.append(
                f"- Proof on the wire (`invoke verify`), {module}: {len(some)} kernels were "
                f"booted, and {passed:,} checks passed on them; the last on {last}."
            )
    lines += [
        f"- {WHAT[one.what]}, {one.on}, {one.date}, module {one.module}: {one.figures}."
        for one in sorted(trials)
    ]
    return "\n".join(
        textwrap.fill(line, 110, subsequent_indent="  ", break_on_hyphens=False) for line in lines
    )


def write_security() -> None:
    """Bring SECURITY.md up to the table and the records."""
    text = SECURITY.read_text()
    if text != (new := records.readme_with(text, summary(read(), records.read()))):
        with paths.replacing(SECURITY) as stage:
            stage.write_text(new)


def _passed(checks: str) -> int:
    """How many passed, of what :class:`records.Record` has as *checks*."""
    counts = checks.rpartition(": ")[2].split(", ")
    return sum(int(count.split()[0]) for count in counts if count.endswith(" pass"))
