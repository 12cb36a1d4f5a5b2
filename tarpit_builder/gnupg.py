"""GnuPG's programs: called without a terminal, and what they list for machines."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder.errors import InfrastructureError, ToolMissingError

ARMOUR = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"
AGENT_ENDS = 2.0  # seconds that an agent may take to end

# Fields of --with-colons output, from 0; doc/DETAILS of GnuPG.
_KIND, _VALIDITY, _EXPIRES, _VALUE, _CAPABILITIES = 0, 1, 6, 9, 11


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a listing; *expires* is in seconds since 1970, 0 is never."""

    kind: str
    validity: str
    expires: int
    value: str
    capabilities: str

    @classmethod
    def parse(cls, line: str) -> Row:
        """Read a line; what it does not have is empty."""
        fields = line.split(":") + [""] * _CAPABILITIES
        return cls(
            fields[_KIND],
            fields[_VALIDITY],
            int(fields[_EXPIRES] or 0),
            fields[_VALUE],
            fields[_CAPABILITIES],
        )

    @property
    def has_expired(self) -> bool:
        """Whether the key is past its end."""
        return self.validity == "e" or 0 < self.expires <= time.time()

    @property
    def is_void(self) -> bool:
        """Whether the key was revoked, is disabled or is not valid."""
        return self.validity in {"r", "d", "i"}


class GnuPGError(InfrastructureError):
    """GnuPG refused; *said* is its last line."""

    def __init__(self, said: str) -> None:
        super().__init__(f"GnuPG fails: {said}", hint="try it by hand: echo test | gpg --clearsign")
        self.said = said


def gpg(
    *arguments: str, home: Path | None = None, content: bytes = b"", agent: bool = True
) -> bytes:
    """What gpg prints, with *content* as its input.

    :param home: another keyring than the user's own; no agent stays behind for it.
    :param agent: whether secret keys are needed.
    :raises GnuPGError: if it fails.
    :raises ToolMissingError: if it is not installed.
    """
    place = ["--homedir", str(home)] if home else []
    place += [] if agent else ["--no-autostart"]
    try:
        run = call(["gpg", *place, "--batch", "--quiet", "--no-tty", *arguments], content)
    finally:
        if home and agent:
            # gpg starts an agent for each home, and it stays; the user's own is left alone.
            call(["gpgconf", "--homedir", str(home), "--kill", "all"])
            _await_end_of_agent(home)
    if run.returncode != 0:
        lines = run.stderr.decode(errors="replace").strip().splitlines()
        raise GnuPGError(lines[-1] if lines else str(run.returncode))
    return run.stdout


def listed(what: str, name: str = "", *, home: Path | None = None, agent: bool = True) -> list[Row]:
    """The rows of a listing (``--list-keys``, ``--list-secret-keys``), of all keys or those of
    *name*.

    :raises GnuPGError: if there are none of that name.
    """
    named = ["--", name] if name else []
    text = gpg("--with-colons", what, *named, home=home, agent=agent)
    return [Row.parse(line) for line in text.decode(errors="replace").splitlines()]


def call(command: list[str], content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program of GnuPG's.

    :raises ToolMissingError: if it is not installed.
    """
    try:
        return subprocess.run(command, input=content, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise ToolMissingError(
            f"{command[0]} is not installed", hint="apt-get install gnupg gpgv"
        ) from error


def _await_end_of_agent(home: Path) -> None:
    """Wait until the agent that was told to end has done so: the next gpg would still reach it."""
    told = call(["gpgconf", "--homedir", str(home), "--list-dirs", "agent-socket"])
    socket = Path(told.stdout.decode(errors="replace").strip())
    deadline = time.monotonic() + AGENT_ENDS
    while socket.is_socket() and time.monotonic() < deadline:
        time.sleep(0.01)
