"""What a repository remembers between two runs, in ``repository.json`` at its top.

The file is plain: nothing that apt trusts depends on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import CheckFailedError, UserError

FILE = "repository.json"
VALID_FOR = 30  # days
URL = re.compile(r"[a-z][a-z0-9+.-]*:/\S*[^\s/]")
URIS = re.compile(r"^URIs: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where users find the repository, how many days each state is valid, its suites, and the
    digests of what it had once: a name that was published never comes back with another content.
    """

    url: str = ""
    valid_for: int = VALID_FOR
    suites: tuple[str, ...] = ()
    gone: Mapping[str, str] = field(default_factory=dict)

    def write(self, top: Path) -> None:
        """Put it into the repository at *top*."""
        with paths.replacing(top / FILE) as stage:
            stage.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")


def load(top: Path) -> Settings:
    """What the repository at *top* remembers; the defaults if there is none.

    :raises CheckFailedError: if the file is no such file.
    """
    path = top / FILE
    if not path.is_file():
        return Settings(url=_url_of_users(top))
    return parse(path.read_bytes(), str(path))


def parse(content: bytes, where: str) -> Settings:
    """The settings that *content* of the file *where* is.

    :raises CheckFailedError: if it is none.
    """
    try:
        data = json.loads(content)
        return Settings(
            url=str(data["url"]),
            valid_for=int(data["valid_for"]),
            suites=tuple(map(str, data["suites"])),
            gone={str(pool): str(value) for pool, value in data["gone"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckFailedError(
            f"{where} cannot be read: {error}",
            hint="remove it and name --url and --valid-for again",
        ) from error


def updated(before: Settings, *, url: str, valid_for: int | None, top: Path) -> Settings:
    """*before* with what was asked for now.

    :raises UserError: if *url* is none, or none was ever named, or *valid_for* is no time.
    """
    if url and not URL.fullmatch(url.rstrip("/")):
        raise UserError(f"--url {url!r} is no URL", hint="write it like https://example.org/tarpit")
    url = url.rstrip("/") or before.url
    if not url:
        raise UserError(
            "it is not known where users will find the repository",
            hint="add --url https://HOST/PATH, which is remembered; for a trial on this machine "
            f"--url {top.resolve().as_uri()}",
        )
    if valid_for is not None and valid_for < 1:
        raise UserError("--valid-for is a number of days", hint="write it like --valid-for 30")
    return replace(before, url=url, valid_for=valid_for or before.valid_for)


def _url_of_users(top: Path) -> str:
    """What the ``.sources`` of an older tarpit-builder say, unless that was its own default."""
    for path in sorted(top.glob("*.sources")):
        found = URIS.search(path.read_text(errors="replace"))
        if found and not found[1].startswith("file:"):
            return found[1]
    return ""
