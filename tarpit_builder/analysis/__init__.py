"""Static analysis of all that is ours: one verb runs every analyzer, or one by name.

What an analyzer says is a finding.  A finding that ``rules/analysis.toml`` does not name closes the
gate, and so does a row there that no finding fits any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import paths, tried
from tarpit_builder.analysis import here
from tarpit_builder.analysis.findings import Comparison, Diagnostic, Known, judge, known
from tarpit_builder.console import Console, format_table
from tarpit_builder.errors import CheckFailedError, UserError
from tarpit_builder.versions import suggest

if TYPE_CHECKING:
    from tarpit_builder.sources.debian import Archive


@dataclass(frozen=True, slots=True)
class Analyzer:
    """One program that reads sources: what it is for, and where it runs.

    *look* runs it here; those without one run in a sealed container.  A *quick* one is part of
    ``invoke test``; *local* ones need neither a container engine nor a network.
    """

    name: str
    purpose: str
    look: Callable[[Path], here.Looked] | None = None
    quick: bool = True
    local: bool = False


ANALYZERS = (
    Analyzer("shellcheck", "faults of shell scripts", here.shellcheck, local=True),
    Analyzer("codespell", "misspelt words", here.codespell, local=True),
    Analyzer("zizmor", "holes in the workflows of CI", here.zizmor, local=True),
    Analyzer("pip-audit", "locked packages with known vulnerabilities", here.pip_audit),
    Analyzer("sparse", "byte orders, address spaces and contexts of the modules"),
    Analyzer("checkpatch", "the kernel's style, --strict"),
    Analyzer("gcc", "-fanalyzer: paths through the C to leaks and bad pointers", quick=False),
    Analyzer("clang", "clang --analyze: the same by another engine", quick=False),
    Analyzer("coccinelle", "the kernel's semantic patches for known mistakes", quick=False),
)


@dataclass(frozen=True, slots=True)
class AnalysisReport:
    """What the analyzers *names* found, judged; *unable* is what some could not look at."""

    names: tuple[str, ...]
    verdict: Comparison
    unable: dict[str, str]

    def table(self) -> str:
        """How many findings each has, and which of them are new."""
        rows = [(name, *map(str, self.verdict.count(name))) for name in self.names]
        lines = [format_table(rows, header=("analyzer", "known", "new"))]
        lines += [str(finding) for finding in self.verdict.new]
        lines += [f"named, but not found any more: {row}" for row in self.verdict.stale]
        return "\n".join(lines)

    def demand_clean(self) -> None:
        """Close the gate over what is new and what is stale.

        :raises CheckFailedError: with how many there are of either.
        """
        new, stale = len(self.verdict.new), len(self.verdict.stale)
        if new:
            raise CheckFailedError(
                f"{new} findings of static analysis are not named",
                hint="mend what causes them; what is no fault gets a row with its reason in "
                "tarpit_builder/rules/analysis.toml",
            )
        if stale:
            raise CheckFailedError(
                f"{stale} rows of rules/analysis.toml name what is not found any more",
                hint="take them out",
            )


def choose(names: Sequence[str], *, offline: bool = False) -> tuple[Analyzer, ...]:
    """The analyzers called *names*, or all of them; *offline* those that ask no server.

    :raises UserError: if there is none of that name.
    """
    by_name = {one.name: one for one in ANALYZERS}
    for name in names:
        if name not in by_name:
            near = suggest(name, by_name)
            raise UserError(
                f"{name!r} is no analyzer",
                hint=f"did you mean {near[0]}?" if near else f"there are {', '.join(by_name)}",
            )
    chosen = (one for one in ANALYZERS if not names or one.name in names)
    return tuple(one for one in chosen if not (offline and one.look is here.pip_audit))


def listing() -> str:
    """The analyzers, and where each runs."""
    return format_table(
        [
            (
                one.name,
                "here" if one.look else "sealed container",
                "invoke lint" if one.local else "invoke test" if one.quick else "",
                one.purpose,
            )
            for one in ANALYZERS
        ],
        header=("analyzer", "runs", "also part of", "finds"),
    )


def run(
    analyzers: Sequence[Analyzer],
    archive: Archive | None,
    console: Console,
    *,
    root: Path = paths.PROJECT,
    table: Sequence[Known] | None = None,
) -> AnalysisReport:
    """Run *analyzers* over the checkout at *root*, and compare with the *table* of known findings.

    :param archive: Debian's, for those that run in a container.
    :raises TarpitError: if one cannot look at all.
    """
    found: list[Diagnostic] = []
    unable = {}
    for one in analyzers:
        if one.look:
            with console.stage(one.name):
                looked = one.look(root)
            found += looked.findings
            unable[one.name] = looked.unable
    sealed = [one.name for one in analyzers if not one.look]
    if sealed:
        from tarpit_builder.analysis import sealed as containers

        assert archive is not None
        found += containers.look(sealed, root, archive, console)
    unable = {name: text for name, text in unable.items() if text}
    for name, text in unable.items():
        console.warn(f"{name}: {text}")
    names = {one.name for one in analyzers}
    verdict = judge(found, names - unable.keys(), known() if table is None else table)
    return AnalysisReport(tuple(one.name for one in analyzers), verdict, unable)


def record(outcome: AnalysisReport) -> None:
    """Leave what was run beside the results in ``dist/``, for ``invoke kernels --record``."""
    tried.note(
        "analyze",
        "the checkout",
        f"{', '.join(name for name in outcome.names if name not in outcome.unable)}: "
        f"{len(outcome.verdict.new)} findings, {len(outcome.verdict.known)} more that are named "
        "as no faults",
    )
