"""Whose word counts: the catalogue's, a pinned key's, or what was seen before.

Nothing is used before one of them vouched for it.  What none knows is refused, unless the user
asks to trust it on first use; then its tree id goes into a lock file and is checked ever after.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import SourceError

_HEADING = """\
# Sources that were trusted on first use: the git tree id that each had then.  It is checked
# whenever they are used again.  Remove a line to trust it again; commit the file to share it.
# name\ttree\tdate\torigin
"""


def lock_file() -> Path:
    """The lock file: ``$TARPIT_LOCK``, else ``sources.lock`` in the checkout."""
    override = os.environ.get("TARPIT_LOCK")
    return Path(override).expanduser().absolute() if override else paths.PROJECT / "sources.lock"


@dataclass(frozen=True, slots=True)
class TrustFile:
    """The lock file at *path*, which need not exist."""

    path: Path

    def tree(self, name: str) -> str:
        """The tree id that *name* had when it was first trusted, or ``""``."""
        return self._rows().get(name, ("",))[0]

    def add(self, name: str, tree: str, origin: str) -> None:
        """Trust *tree* to be *name* from now on.

        :raises InfrastructureError: if the file cannot be written.
        """
        import filelock

        paths.make_dir(self.path.parent)
        with filelock.FileLock(self.path.with_name(f".{self.path.name}.lock")):
            rows = self._rows()
            rows[name] = (tree, f"{datetime.now(UTC):%Y-%m-%d}", origin)
            with paths.replacing(self.path) as stage:
                stage.write_text(
                    _HEADING + "".join("\t".join((key, *rows[key])) + "\n" for key in sorted(rows))
                )

    def _rows(self) -> dict[str, tuple[str, ...]]:
        try:
            lines = self.path.read_text().splitlines()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise paths.explain_os_error(error, self.path) from error
        cells = [line.split("\t") for line in lines if line and not line.startswith("#")]
        return {row[0]: tuple(row[1:]) for row in cells if len(row) >= 2}


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides whether a tree may be used; *first_use* is the user's ``--trust-on-first-use``."""

    locked: TrustFile
    first_use: bool = False

    def vouchers(
        self, name: str, tree: str, *, expected: str, vouchers: Sequence[str], origin: str
    ) -> tuple[str, ...]:
        """Who vouches for *tree* being *name*, in words.

        :param expected: the tree id that the catalogue has for *name*, or ``""``.
        :param vouchers: who has vouched for it already, by signature or digest.
        :raises SourceError: if the tree is another than it should be, or cannot be verified.
        """
        if expected and tree != expected:
            raise SourceError(
                f"{origin} is not {name}: its git tree is {tree[:12]}…, not {expected[:12]}…",
                hint="use another --mirror, or name changed sources with --kernel-tree or --ref",
            )
        locked = self.locked.tree(name)
        if locked and tree != locked:
            raise SourceError(
                f"{name} from {origin} is not what it was when it was first trusted: "
                f"its git tree is {tree[:12]}…, not {locked[:12]}…",
                hint=f"find out why; if it is meant, remove its line from {self.locked.path}",
            )
        found = list(vouchers)
        if expected:
            found.insert(0, f"git tree {tree} is the catalogue's")
        if not found and locked:
            found.append(f"git tree {tree} was trusted on first use ({self.locked.path.name})")
        if not found and self.first_use:
            self.locked.add(name, tree, origin)
            found.append(f"git tree {tree} is trusted on first use ({self.locked.path.name})")
        if not found:
            raise self.unknown(name)
        return tuple(found)

    def unknown(self, name: str) -> SourceError:
        """The refusal of something that cannot be verified."""
        return SourceError(
            f"{name} cannot be verified: the catalogue does not know it, and it has no signature "
            "by a key that it pins",
            hint="`invoke catalog-update` may learn it; or add --trust-on-first-use to accept "
            "what is there now and be warned if it ever changes",
        )

    def may_accept(self, name: str) -> bool:
        """Whether *name* has a chance without catalogue and signature."""
        return self.first_use or bool(self.locked.tree(name))
