"""A release before it is made: what it will say, and in which files.

The version is ``tarpit_builder.__version__``, and the first release of ``CHANGELOG.md`` has the
same; the changelogs of all packages, and the time stamps inside them, are made from that file.
Between releases, changes are collected below ``## Unreleased``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import __version__, suites
from tarpit_builder.errors import UserError
from tarpit_builder.packaging import contents, modern
from tarpit_builder.packaging.changelog import UNRELEASED, parse_changelog
from tarpit_builder.release.checks import CHECKS, command

if TYPE_CHECKING:
    from git import Repo

VERSION = re.compile(r"(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})\.(0|[1-9]\d{0,4})", re.ASCII)
INIT = "tarpit_builder/__init__.py"
CHANGELOG = "CHANGELOG.md"


@dataclass(frozen=True, slots=True)
class Draft:
    """A release before it is made: *files* as they will be (those that change), by name."""

    version: str
    changes: tuple[str, ...]
    files: dict[str, str]
    debian: str
    """The changelog of a package, as it will be."""
    checks: tuple[str, ...]
    root: Path

    @property
    def unchecked(self) -> str:
        """What the tag says of checks that were left out; nothing if none was."""
        left_out = [name for name in CHECKS if name not in self.checks]
        return f"Not checked: {', '.join(left_out)}" if left_out else ""

    @property
    def tag(self) -> str:
        """Its tag."""
        return f"v{self.version}"

    def preview(self) -> str:
        """What will be written and run, for people."""
        lines: list[str] = []
        for name, text in self.files.items():
            old = (self.root / name).read_text(encoding="utf-8").splitlines(keepends=True)
            lines += difflib.unified_diff(
                old, text.splitlines(keepends=True), f"a/{name}", f"b/{name}"
            )
        commands = [command(name) for name in self.checks]
        return "".join(
            [
                *lines,
                "\nDebian's changelog will begin:\n\n",
                *(f"    {line}\n" for line in self.debian.partition("\n -- ")[0].splitlines()),
                f"\nchecks    {'; '.join(commands) or 'none, and so --write refuses'}\n",
                *([f"          {self.unchecked}; the tag says so\n"] if self.unchecked else []),
                f"then      commit and tag {self.tag}\n",
                "nothing was changed; --write does it",
            ]
        )


def draft(
    version: str,
    root: Path,
    *,
    today: date | None = None,
    skip: Sequence[str] = (),
    tagged: bool = False,
) -> Draft:
    """The release *version* of the checkout at *root*.

    :param tagged: whether there may be a tag already, as of a release that is going on.
    :raises UserError: if *version* is none, not newer, or has a tag; if the checkout has changes
        that are not committed, or nothing to release.
    """
    for name in skip:
        if name not in CHECKS:
            raise UserError(f"there is no check {name!r}", hint=f"there are {', '.join(CHECKS)}")
    match = VERSION.fullmatch(version)
    if match is None:
        raise UserError(f"{version!r} is no version of this project", hint="write it like 1.2.0")
    repository = open_repository(root)
    _check_checkout(repository)
    if not tagged and f"v{version}" in {tag.name for tag in repository.tags}:
        raise UserError(
            f"{version} is released already: there is a tag v{version}",
            hint="choose a higher number; what is out stays as it is",
        )
    current = _current(root)
    checks = tuple(name for name in CHECKS if name not in skip)
    text = (root / CHANGELOG).read_text(encoding="utf-8")
    if version == current:
        # Written down already and only not tagged yet, as the first one is.
        changes = parse_changelog(text)[0].changes
        return Draft(version, changes, {}, _debian(text), checks, root)
    if _numbers(version) <= _numbers(current):
        raise UserError(f"{version} is not newer than {current}", hint="choose a higher number")
    init = (root / INIT).read_text(encoding="utf-8")
    files = files_of(text, init, version, today or datetime.now(UTC).date())
    changes = parse_changelog(files[CHANGELOG])[0].changes
    return Draft(version, changes, files, _debian(files[CHANGELOG]), checks, root)


def open_repository(root: Path) -> Repo:
    """The git repository of the checkout at *root*.

    :raises UserError: if it is none.
    """
    import git

    try:
        return git.Repo(root)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError) as error:
        raise UserError(
            f"{root} is no git checkout", hint="releases are made in a clone of the project"
        ) from error


def _check_checkout(repository: Repo) -> None:
    if repository.is_dirty(untracked_files=True):
        changed = [item.a_path or "" for item in repository.index.diff(None)]
        changed += repository.untracked_files
        names = ", ".join(changed[:3]) or "something"
        raise UserError(
            f"the checkout has changes that are not committed: {names}",
            hint="commit them or put them away; a release is exactly one commit",
        )
    if repository.head.is_detached:
        raise UserError(
            "the checkout is on no branch", hint="git switch main, so that the release is on it"
        )


def _current(root: Path) -> str:
    found = re.search(r'^__version__ = "(.+)"$', (root / INIT).read_text(encoding="utf-8"), re.M)
    return found[1] if found else __version__


def files_of(changelog: str, init: str, version: str, today: date) -> dict[str, str]:
    """The two files that say the version, as they are once it is *version*."""
    return {
        CHANGELOG: _released(changelog, version, today),
        INIT: re.sub(r'^__version__ = ".+"$', f'__version__ = "{version}"', init, flags=re.M),
    }


def _released(text: str, version: str, today: date) -> str:
    """*text* of the changelog with its unreleased changes made those of *version*."""
    head, mark, rest = text.partition(f"{UNRELEASED}\n")
    body = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    if not mark or not re.search(r"^- ", body, re.MULTILINE):
        raise UserError(
            f"{CHANGELOG} has nothing below `{UNRELEASED}`: there is nothing to tell users",
            hint=f"put `{UNRELEASED}` at its top and list what changed for them, as `- …`",
        )
    return f"{head}## {version} — {today.isoformat()}\n{rest}"


def _debian(changelog: str) -> str:
    """The changelog of the main source package, rendered as the build will.

    :raises UserError: if Debian's tools could not read it.
    """
    from debian.changelog import Changelog, ChangelogParseError

    releases = parse_changelog(changelog)
    suite = next(s for s in reversed(suites.known().values()) if s.number.isdigit())
    target = modern.PackageSet(
        version=f"{releases[0].version}{suite.suffix}",
        suite=suite.name,
        arch="amd64",
        abi="",
        kernel_version="",
        module_dir=suite.module_dir,
    )
    text = modern.debian_changelog(contents.MAIN, target, releases)
    try:
        Changelog(text, strict=True)
    except ChangelogParseError as error:
        raise UserError(
            f"the changes cannot be written as a Debian changelog: {error}",
            hint=f"write plain `- …` items into {CHANGELOG}",
        ) from error
    return text


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
