"""The report on a kernel that could not be ported to: one file, written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import paths
from tarpit_builder.porting.log import BuildLog

if TYPE_CHECKING:
    from tarpit_builder.plan import Plan
    from tarpit_builder.porting.history import History

NAME = "port.md"


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong with *plan*, at which *step*, after which others were *done*.

    *unexpected* are probes that older releases pass and this one does not, with what they look
    for.  *unknown* is why there is no *history*.
    """

    plan: Plan
    step: str
    what: str
    done: tuple[str, ...]
    log: BuildLog = field(default_factory=BuildLog)
    unexpected: tuple[str, ...] = ()
    history: History | None = None
    unknown: str = ""
    checks: str = ""
    kept: str = ""

    def text(self) -> str:
        """The report, as Markdown."""
        parts = [
            f"# {self.plan.name}: failed at {self.step}",
            f"{self.what}",
            _bullets([*(f"{step}: done" for step in self.done), f"{self.step}: failed"]),
            f"    {self.plan.command}",
            *self._error(),
            *self._commits(),
            *self._probes(),
        ]
        if self.checks:
            parts += ["## What was checked", _quoted(self.checks.splitlines())]
        if self.kept:
            parts.append(f"The full log of the build is `{self.kept}`.")
        return "\n\n".join(parts) + "\n"

    def write(self) -> Path:
        """Put it into the folder of the kernel in ``dist/``.

        :raises InfrastructureError: if that cannot be written.
        """
        path = paths.dist_dir() / self.plan.name / NAME
        with paths.replacing(path) as stage:
            stage.write_text(self.text())
        return path

    def _error(self) -> list[str]:
        error = self.log.error
        if error is None:
            return []
        return ["## The first error of the compiler", str(error), _quoted(error.lines)]

    def _commits(self) -> list[str]:
        if self.step not in {"prepare", "probe", "build"}:
            return []
        title = "## Commits that may be the cause"
        if self.history is None:
            return [title, f"Not looked for: {self.unknown}."]
        between = f"Between {self.history.good}, the last release seen good, and {self.history.new}"
        if not self.history.commits:
            return [title, f"{between} none touched the headers concerned."]
        return [title, f"{between}:", _bullets([str(one) for one in self.history.commits])]

    def _probes(self) -> list[str]:
        log = self.log
        if not (log.probed or log.verdict or log.compiler):
            return []
        parts = ["## What the probes found"]
        if log.verdict:
            parts.append(f"They gave up: {log.verdict}")
        if self.unexpected:
            parts.append("Missing here, although older releases have it:")
            parts.append(_bullets(self.unexpected))
        if log.probed:
            parts.append(f"Found: {', '.join(log.found) or 'nothing'}.")
            parts.append(f"Not found: {', '.join(log.missing) or 'nothing'}.")
        if log.compiler:
            parts += ["What the compiler said of those that failed:", _quoted(log.compiler)]
        return parts


def _bullets(lines: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _quoted(lines: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"    {line}".rstrip() for line in lines)
