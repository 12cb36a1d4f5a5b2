"""A release from the changelog to what users download, step by step.

Nothing is remembered but which checks a commit has passed and what was made of it: each step looks
whether it is done.  So the same command again goes on where it was killed, and changes nothing once
all is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import digests, publish
from tarpit_builder.console import Console, format_table
from tarpit_builder.container import locked
from tarpit_builder.errors import CheckFailedError, TarpitError, UserError
from tarpit_builder.publish import settings
from tarpit_builder.release import committing, drafting
from tarpit_builder.release.course import Course
from tarpit_builder.release.drafting import Draft
from tarpit_builder.release.forge import ForgeState
from tarpit_builder.release.options import ReleaseOptions
from tarpit_builder.release.outward import PublishRelease, Push, Tag, tagged
from tarpit_builder.release.steps import (
    Assets,
    Attest,
    Checks,
    CommitChanges,
    Matrix,
    ReleaseStep,
    Repository,
    Sign,
)


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """A release that is out: its *tag*, its *url* if it is on a forge, and the steps *taken* now;
    *repo* is the apt repository.
    """

    tag: str
    url: str
    taken: tuple[str, ...]
    repo: Path

    def text(self) -> str:
        """What the task prints."""
        where = f": {self.url}" if self.url else ""
        if not self.taken:
            return f"{self.tag} is released{where}; nothing was changed"
        lines = [f"{self.tag} is released{where}"]
        if Repository.title in self.taken:
            lines.append(f"serve     {self.repo} at {settings.load(self.repo).url}: copy it there")
        return "\n".join(lines)


def publish_release(version: str, root: Path, options: ReleaseOptions) -> PublishedRelease:
    """Take all steps of the release *version* of the checkout at *root* that are not taken yet.

    :raises UserError: if something is missing, before anything is done.
    :raises TarpitError: as the step that fails; what was done before it stays.
    """
    options.check()
    with locked(f"release-{digests.digest([str(root.resolve())])[:16]}"):
        committing.restore(root, version)
        made = drafting.draft(version, root, skip=options.skip, tagged=True)
        course = Course(made, options, Console())
        out = demand_ready(course)
        if out is not None and not course.work.exists():
            return PublishedRelease(made.tag, out, (), options.repo)
        taken, now = [], ""
        for step in steps(options):
            if not (now := step.done(course)):
                # No stage: what a step starts draws its own.
                course.console.say(f"── {step.title}: {step.plan}")
                step.take(course)
                taken.append(step.title)
                if not (now := step.done(course)):
                    raise CheckFailedError(
                        f"the step {step.title} has ended, and what it makes is not there",
                        hint="did something change it meanwhile?  Give the same command again",
                    )
            course.console.say(f"  {step.title}: {now}")
        return PublishedRelease(made.tag, now if course.forge else "", tuple(taken), options.repo)


def steps(options: ReleaseOptions) -> tuple[ReleaseStep, ...]:
    """All steps, in their order."""
    signing = (Sign(),) if options.certificate else ()
    return (Checks(), CommitChanges(), Matrix(), *signing, Attest(), Repository(), Assets(),
            Tag(), Push(), PublishRelease())  # fmt: skip


def demand_ready(course: Course) -> str | None:
    """See that nothing is missing that would end the release after hours.

    :returns: where the release is if it is out, ``""`` if that is no more than a tag.
    :raises UserError: naming what is missing, or that the version is out with another commit.
    :raises NetworkError: if the remote or the forge does not answer.
    """
    options = course.options
    _ = course.cells
    seen = course.remote.demand_room(course.made.tag)
    if not course.made.files:
        tagged(course)
    elif seen.tag or course.made.tag in {tag.name for tag in course.repository.tags}:
        raise UserError(
            f"there is a tag {course.made.tag}, and the version is not written down yet",
            hint="choose a higher number; what is out stays as it is",
        )
    found = course.forge.look() if course.forge else ForgeState(published=True)
    if not (seen.tag and found.published):
        publish.choose(options.key, options.gpg_home)
        before = settings.load(options.repo)
        settings.updated(before, url=options.url, valid_for=None, top=options.repo)
        if course.made.files or not Attest().done(course):
            _ = course.signer
        return None
    return found.url


def preview(version: str, root: Path, options: ReleaseOptions) -> str:
    """What ``--write`` would do, and which steps ``--publish`` would take and which are done, for
    people; changes nothing.
    """
    made = drafting.draft(version, root, skip=options.skip, tagged=True)
    out = made.tag in {tag.name for tag in drafting.open_repository(root).tags}
    if not out or made.files:
        text = drafting.draft(version, root, skip=options.skip).preview() + "\n\n"
    else:
        text = f"{made.tag} is written down and tagged\n\n"
    return text + _steps(made, options)


def _steps(made: Draft, options: ReleaseOptions) -> str:
    course = Course(made, options, Console())
    rows = []
    for step in steps(options):
        written = not made.files or step.title == Checks.title
        try:
            was = step.done(course) if written else ""
            rows.append(("✓" if was else "–", step.title, was or step.plan))
        except (TarpitError, OSError) as error:
            said = error.message if isinstance(error, TarpitError) else str(error)
            rows.append(("?", step.title, f"{step.plan} ({said})"))
    return "\n".join(
        ["--publish takes these steps, and the same command again goes on where it stopped:",
         "", format_table(rows)]
    )  # fmt: skip
