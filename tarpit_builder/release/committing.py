"""A release written down: as a commit, and as a tag."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path

from tarpit_builder import leftovers, paths
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.release.drafting import CHANGELOG, INIT, Draft, files_of, open_repository


def write(made: Draft, *, sign: bool = False) -> str:
    """Write the files of *made*, commit and tag; returns the id of the commit.

    :raises InfrastructureError: if git refuses; everything is then as it was.
    """
    with _undone(made):
        commit(made)
        tag(made, sign=sign)
    return str(open_repository(made.root).head.commit.hexsha)


def commit(made: Draft) -> None:
    """Write the files of *made* and commit them, if there are any.

    :raises InfrastructureError: if git refuses; everything is then as it was.
    """
    if not made.files:
        return
    with _undone(made), refusals():
        for name, text in made.files.items():
            with paths.replacing(made.root / name) as stage:
                stage.write_text(text, encoding="utf-8")
        words = ["-m", f"Release {made.version}"]
        words += ["-m", made.unchecked] if made.unchecked else []
        open_repository(made.root).git.commit("-q", *words, "--", *made.files)


def tag(made: Draft, *, sign: bool = False) -> None:
    """Tag the commit that the checkout is at, with the changes of *made*.

    :raises InfrastructureError: if git refuses.
    """
    lines = [f"{made.version}", "", *(f"- {change}" for change in made.changes)]
    message = "\n".join([*lines, *(["", made.unchecked] if made.unchecked else [])])
    with refusals():
        open_repository(made.root).git.tag("-s" if sign else "-a", made.tag, "-m", message)


def restore(root: Path, version: str) -> None:
    """Take back what a killed run has written for *version* and not committed, and nothing else."""
    for name in (CHANGELOG, INIT):
        leftovers.sweep_siblings(root / name)
    repository = open_repository(root)
    changed = {item.a_path or "" for item in repository.index.diff(None)}
    if not changed or not changed <= {CHANGELOG, INIT}:
        return
    with refusals():
        changelog, init = (
            repository.git.show(f"HEAD:{name}", strip_newline_in_stdout=False)
            for name in (CHANGELOG, INIT)
        )
    text = (root / CHANGELOG).read_text(encoding="utf-8")
    day = re.search(rf"^## {re.escape(version)} — (\S+)$", text, re.M)
    try:
        today = date.fromisoformat(day[1]) if day else datetime.now(UTC).date()
        written = files_of(changelog, init, version, today)
    except (UserError, ValueError):
        return  # it is somebody else's
    if all((root / name).read_text(encoding="utf-8") == written[name] for name in changed):
        with refusals():
            repository.git.checkout("HEAD", "--", *changed)


@contextmanager
def refusals() -> Iterator[None]:
    """Say in a line why git refuses."""
    import git

    try:
        yield
    except git.GitCommandError as error:
        said = str(error.stderr).strip().strip("'").splitlines()
        hint = "nothing was changed; fix it and run the same command again"
        if any("index.lock" in line for line in said):
            said = [".git/index.lock is there, of another git or of one that was killed"]
            hint = "remove that file once no git runs there, and run the same command again"
        raise InfrastructureError(
            f"git refuses: {said[-1] if said else error.status}", hint=hint
        ) from error


@contextmanager
def _undone(made: Draft) -> Iterator[None]:
    """Put the files of *made* and the branch back where git refuses."""
    repository = open_repository(made.root)
    before = {name: (made.root / name).read_text(encoding="utf-8") for name in made.files}
    head = repository.head.commit
    try:
        yield
    except InfrastructureError:
        for name, text in before.items():
            (made.root / name).write_text(text, encoding="utf-8")
        if repository.head.commit != head:
            repository.head.reset(head, index=True)
        elif before:
            with suppress(OSError):  # of a lock: git has then not touched the index
                repository.index.add(list(before))
        raise
