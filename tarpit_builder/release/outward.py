"""The last steps of a release, which others see: the tag, the push, the release on the forge."""

from __future__ import annotations

from tarpit_builder import digests
from tarpit_builder.errors import UserError
from tarpit_builder.publish import settings
from tarpit_builder.release import assets, committing, forge
from tarpit_builder.release.course import Course
from tarpit_builder.release.forge import Notes


class Tag:
    """The tag: what has it was proven."""

    title, plan = "tag", "tag the commit"

    def done(self, course: Course) -> str:
        """Which tag."""
        return course.made.tag if tagged(course) else ""

    def take(self, course: Course) -> None:
        """Tag the commit, or take the tag that another machine has pushed."""
        if course.remote.look(course.made.tag).tag:
            course.remote.fetch_tag(course.made.tag)
        else:
            committing.tag(course.made, sign=course.options.sign)


class Push:
    """Branch and tag on the remote."""

    title, plan = "push", "push branch and tag"

    def done(self, course: Course) -> str:
        """To where."""
        made = course.made
        seen = course.remote.demand_room(made.tag)
        if not seen.tag or not tagged(course):
            return ""
        return f"{course.remote.name} has {course.remote.branch} and {made.tag}"

    def take(self, course: Course) -> None:
        """Push both or none."""
        course.remote.push(course.made.tag)


class PublishRelease:
    """The release with its assets."""

    title, plan = "release", "upload the assets, and publish the release"

    def done(self, course: Course) -> str:
        """Its URL."""
        if course.forge is None:
            return "none wanted"
        seen = course.forge.look()
        found = assets.load(course.assets)
        sums = {name: digests.file(path) for name, path in found.items()}
        return seen.url if sums and seen.whole(sums, course.forge.title) else ""

    def take(self, course: Course) -> None:
        """Publish it."""
        assert course.forge is not None
        found = assets.load(course.assets)
        forge.publish(course.forge, notes(course), found, course.console)


def tagged(course: Course) -> bool:
    """Whether the tag is there, and of this commit.

    :raises UserError: if it is of another.
    """
    made = course.made
    found = [tag for tag in course.repository.tags if tag.name == made.tag]
    if found and found[0].commit.hexsha != course.commit:
        raise UserError(
            f"{made.tag} is there already, of commit {found[0].commit.hexsha[:12]}, and this "
            f"checkout is at {course.commit[:12]}",
            hint="choose a higher number; what is out stays as it is",
        )
    return bool(found)


def notes(course: Course) -> Notes:
    """What the release says."""
    made = course.made
    lines = [*(f"- {change}" for change in made.changes), "", "Check what you download:", "", "```"]
    lines += [f"sha256sum --check --ignore-missing {assets.SUMS}"]
    lines += ["invoke check FOLDER --key attest.pub", "```", ""]
    url = settings.load(course.options.repo).url
    lines += [f"The same packages are in the apt repository at <{url}>."]
    lines += ["", f"{made.unchecked}."] if made.unchecked else []
    return Notes(made.tag, made.version, "\n".join(lines) + "\n")
