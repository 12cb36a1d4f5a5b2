"""The steps of a build: scripts of ``containers/`` in sealed runs, judged and logged."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe, locked
from tarpit_builder.digests import digest
from tarpit_builder.errors import BuildError, UserError
from tarpit_builder.packaging import changelog

TAIL = 15  # lines of a failed step that are shown
REFUSED = "refused: "  # how a script says that the request, not the build, is wrong


@dataclass(frozen=True, slots=True)
class Step:
    """One script in a sealed run of the image of *recipe*, with all that it may see.

    *scripts* has *script* and what that sources.  With a *title* it has a line in the progress,
    which ends with what *done* says of the results.
    """

    script: str
    scripts: Files
    recipe: Recipe
    inputs: tuple[Input, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    title: str = ""
    done: Callable[[Path], str] = lambda _: ""

    @property
    def key(self) -> str:
        """A digest of all that goes into the results."""
        words = (f"{name}={value}" for name, value in sorted(self.environment.items()))
        inputs = (f"{item.mount} {item.digest}" for item in self.inputs)
        return digest([self.recipe.identity, self.script, self.scripts.digest, *words, *inputs])


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where the steps for the kernel *name* run.

    *log* is the file for what they say, *jobs* how many processes each may have at once.  With
    *anew*, a folder, no result of an earlier run is taken: what is kept is kept there.
    """

    engine: Engine
    name: str
    console: Console
    log: Path
    jobs: int
    anew: Path | None = None

    def run(self, step: Step, output: Path) -> None:
        """Run *step*, whose results go to the folder *output*.

        :raises UserError: if the script says that the request cannot be met.
        :raises BuildError: if it fails in any other way.
        """
        image = self.engine.ensure_image(step.recipe, self.console)
        progress = self.console.stage(step.title) if step.title else nullcontext()
        with progress as stage, self.log.open("a", encoding="utf-8") as log:
            began = time.monotonic()

            def note(line: str) -> None:
                log.write(f"[{time.monotonic() - began:8.2f}] {line}\n")
                if stage:
                    stage.note(line.strip())

            note(f"== {step.script}")
            try:
                result = self.engine.run(
                    image,
                    ["sh", f"/scripts/{step.script}"],
                    inputs=[*step.inputs, Input("/scripts", [step.scripts])],
                    output=output,
                    environment={
                        **step.environment,
                        "JOBS": str(self.jobs),
                        "SOURCE_DATE_EPOCH": str(changelog.source_date_epoch()),
                    },
                    limits=Limits(),
                    on_line=note,
                )
            except BuildError as error:
                log.flush()
                raise self._with_log(error) from error
            log.flush()
            self._judge(result.status, result.lines)
            if stage:
                stage.done(step.done(output))

    def kept(self, name: str, step: Step, *also: str) -> Path:
        """The results of *step*; kept in the cache, and made once for all that goes into them.

        :param also: digests of what *step* itself does not know, such as a foreign image's.
        """
        key = digest([step.key, *also])
        final = (self.anew or paths.cache_dir()) / "upstream" / f"{name}-{key[:24]}"
        with locked(f"upstream-{key[:16]}"):
            if not final.is_dir():
                with paths.staged_dir(final) as stage:
                    self.run(step, stage)
        return final

    def _judge(self, status: int, lines: tuple[str, ...]) -> None:
        if not status:
            return
        if refusals := [line for line in lines if line.startswith(REFUSED)]:
            message, _, hint = refusals[-1].removeprefix(REFUSED).partition("|")
            raise UserError(message, hint=hint)
        failure = BuildError(
            f"building for {self.name} failed (status {status})",
            hint="the module may need a new compile probe for this kernel, or the compiler a fix",
            tail=lines[-TAIL:],
        )
        raise self._with_log(failure)

    def _with_log(self, error: BuildError) -> BuildError:
        """*error* with the place where the log is kept when the failed result's folder is not."""
        stamp = time.strftime("%Y%m%dT%H%M%S")
        kept = paths.make_dir(paths.cache_dir() / "logs") / f"{self.name}-{stamp}.log"
        shutil.copyfile(self.log, kept)
        hint = f"the full log is {kept}; {error.hint}"
        return BuildError(error.message, hint=hint, tail=error.tail, log=kept)
