"""``tarpit-builder``: the same verbs as ``invoke`` has in a checkout, under a name of their own.

It can be called from any folder, its ``--version`` is this project's, and what is mistyped ends
as every other wrong request does: in one line with a next step, and with exit code 2.
"""

from __future__ import annotations

import re
import sys
from typing import NoReturn

from invoke.exceptions import ParseError
from invoke.program import Program

from tarpit_builder import __version__, paths
from tarpit_builder.errors import UserError
from tarpit_builder.versions import suggest

NAME = "tarpit-builder"


class TarpitBuilder(Program):
    """Invoke's program, with the tasks of the checkout that this package lies in."""

    def __init__(self) -> None:
        super().__init__(version=__version__, name=NAME, binary=NAME, binary_names=[NAME])

    def parse_core(self, argv: list[str] | None) -> None:
        """Read the options before the verb."""
        try:
            super().parse_core(argv)
        except ParseError as error:
            self._refuse(error)

    def parse_collection(self) -> None:
        """Load the verbs, wherever this is called from."""
        self.args["search-root"].value = str(paths.PROJECT)
        super().parse_collection()

    def parse_tasks(self) -> None:
        """Read the verb and its options."""
        try:
            super().parse_tasks()
        except ParseError as error:
            self._refuse(error)

    def _refuse(self, error: ParseError) -> NoReturn:
        refusal = self._explained(error)
        print(f"error: {refusal}", file=sys.stderr)
        sys.exit(refusal.exit_code)

    def _explained(self, error: ParseError) -> UserError:
        verb = error.context.name if error.context else None
        more = f"`{NAME} --help {verb}` lists them" if verb else f"`{NAME} --list` lists them"
        unknown = re.fullmatch(r"No idea what '(.*)' is!", str(error))
        if unknown is None:
            text = re.sub(r"<Argument: ([^> ]+)[^>]*>", r"--\1", str(error)).rstrip("!.")
            return UserError(text, hint=f"options: {more}")
        word = unknown[1]
        if word.startswith("-"):
            names = [*error.context.flags] if verb and error.context else []
            what = f"{verb or NAME} has no option {word}"
        else:
            names = [name for name in self.collection.task_names if name]
            what = f"there is no verb {word!r}"
            more = f"`{NAME} --list` lists them"
        near = suggest(word, names)
        return UserError(what, hint=(f"did you mean {' or '.join(near)}? " if near else "") + more)


def main() -> None:
    """The console script."""
    TarpitBuilder().run()
