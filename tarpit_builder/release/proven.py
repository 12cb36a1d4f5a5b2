"""Whether each cell of a release is built from its very commit, and proven."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import evidence, paths
from tarpit_builder.attest import strict
from tarpit_builder.build import MANIFEST, finished
from tarpit_builder.errors import CheckFailedError, TarpitError
from tarpit_builder.matrix import Cell
from tarpit_builder.matrix import outcome as outcomes
from tarpit_builder.signing.sign import SIGNED


@dataclass(frozen=True, slots=True)
class Judgement:
    """The package sets of the cells that are proven, by cell, and what is wrong with others."""

    sets: dict[str, Path]
    problems: tuple[str, ...]

    def strays(self, results: Path) -> tuple[Path, ...]:
        """The package sets in *results* that are none of these, nor signed ones of these."""
        ours = {
            name for folder in self.sets.values() for name in (folder.name, folder.name + SIGNED)
        }
        found = sorted(results.glob(f"*/{MANIFEST}"))
        return tuple(path.parent for path in found if path.parent.name not in ours)

    def demand(self, hint: str, error: type[TarpitError] = CheckFailedError) -> None:
        """See that nothing is wrong, and something is there.

        :raises TarpitError: as the *error* of that kind, with *hint*, if not so.
        """
        if self.problems:
            more = len(self.problems) - 1
            what = f"{self.problems[0]}{f', and {more} more cells' if more else ''}"
            raise error(what, hint=hint)
        if not self.sets:
            raise error("no cell of the matrix was proven", hint=hint)


def judge(results: Path, cells: Sequence[Cell], commit: str) -> Judgement:
    """Judge what *results*, a ``dist/``, has of *cells*.

    Nothing is believed of the records but which folder a cell has.  A cell that may fail, and did,
    is no problem; it is left out.
    """
    sets: dict[str, Path] = {}
    problems = []
    for cell in cells:
        try:
            sets[cell.name] = _proven(cell, results, commit)
        except TarpitError as error:
            if not cell.allowed:
                problems.append(f"{cell.name}: {error.message}")
    return Judgement(sets, tuple(problems))


def take(built: Path, judged: Judgement, results: Path) -> None:
    """Copy the package sets that *judged* found in *built*, and the records, to *results*.

    :raises CheckFailedError: if there is a link among them, which could lead to any file of here.
    :raises InfrastructureError: if it cannot be written.
    """
    folders = (built / outcomes.FOLDER, *judged.sets.values())
    for path in (path for folder in folders for path in (folder, *folder.rglob("*"))):
        if path.is_symlink():
            raise CheckFailedError(
                f"{path} is a link, which no result has", hint="fetch the results anew"
            )
    with paths.staged_dir(results) as stage:
        for folder in folders:
            shutil.copytree(folder, stage / folder.name)


def leave_out(results: Path, judged: Judgement, aside: Path) -> None:
    """Move package sets that are not proven from *results* to *aside*, so that none goes along."""
    for folder in judged.strays(results):
        shutil.rmtree(aside / folder.name, ignore_errors=True)
        folder.rename(paths.make_dir(aside) / folder.name)


def _proven(cell: Cell, results: Path, commit: str) -> Path:
    """The folder of the package set of *cell*.

    :raises CheckFailedError: if it is not proven, or not of *commit*.
    """
    try:
        result = outcomes.of_record(cell, outcomes.recall(cell, results / outcomes.FOLDER))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckFailedError("there is no record of it", hint="run the matrix") from error
    if not result.good:
        what = ": ".join(filter(None, (result.outcome, result.detail)))
        raise CheckFailedError(what, hint=f"see {result.log}")
    if result.proof is None or result.proof.status != 0:
        said = f": {result.proof.summary}" if result.proof else ""
        raise CheckFailedError(f"it is built and not proven{said}", hint=f"see {result.log}")
    folder = results / strict.file_name(Path(result.folder).name, cell.name)
    manifest = finished(folder)
    if manifest is None:
        raise CheckFailedError(f"{folder} is not what was built", hint="build it again")
    if evidence.proven(folder) is None:
        raise CheckFailedError(f"{folder} has no proof of this very build", hint="prove it")
    builder = manifest.get("builder")
    facts = builder if isinstance(builder, dict) else {}
    if facts.get("commit") != commit or facts.get("changed"):
        came = str(facts.get("commit") or "no commit")[:12]
        raise CheckFailedError(
            f"it was built from {came}{' with changes' if facts.get('changed') else ''}, not from "
            f"{commit[:12]}",
            hint="build it from that commit",
        )
    return folder
