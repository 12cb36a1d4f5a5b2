"""Everything that can go wrong, as one line and a next step.

The exit code tells the kind, so that a script need not read the text:

====  ==============================================================
code  meaning
====  ==============================================================
1     a check failed: the result was looked at and is not right
2     the request is wrong: a misspelt kernel, a tree that does not fit
3     this machine cannot do it now: Docker, disk, network, QEMU
4     a source is missing or cannot be trusted
5     the build itself failed: compiler, packaging
130   interrupted
====  ==============================================================
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar


class TarpitError(Exception):
    """What happened (``message``) and what to do next (``hint``), each without a line break."""

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = _line(message)
        self.hint = _line(hint)

    def __str__(self) -> str:
        return f"{self.message} — {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        """As other exceptions can, it may travel from process to process."""
        return partial(type(self), hint=self.hint), (self.message,), self.__dict__


def _line(text: str) -> str:
    """*text* as one line; what a terminal would obey, as of the name of a file, is shown."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class CheckFailedError(TarpitError):
    """Something was built or booted, was judged, and is not right."""

    exit_code = 1


class UserError(TarpitError):
    """The request cannot be met as it was put."""

    exit_code = 2


class InfrastructureError(TarpitError):
    """The request is fine; the machine is not up to it at the moment."""

    exit_code = 3


class DockerError(InfrastructureError):
    """No Docker engine answers, or it went away."""


class NetworkError(InfrastructureError):
    """A server cannot be reached or answers with an error."""


class ToolMissingError(InfrastructureError):
    """A program of the host (QEMU, mmdebstrap, gpgv, …) is not installed."""


class SourceError(TarpitError):
    """A source cannot be had, or is not what upstream released."""

    exit_code = 4


class BuildError(TarpitError):
    """Compiler or packaging failed; ``tail`` holds the last lines of its output, ``log`` all."""

    exit_code = 5

    def __init__(
        self, message: str, *, hint: str, tail: tuple[str, ...] = (), log: Path | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.tail = tail
        self.log = log
