"""What can still be trusted of a repository that somebody changed, or that was copied by halves."""

from __future__ import annotations

from pathlib import Path

from tarpit_builder.errors import SourceError
from tarpit_builder.publish import keys, states
from tarpit_builder.publish.audit import DISTS, checksums, entries, known_keys
from tarpit_builder.publish.incoming import File, digest
from tarpit_builder.publish.keys import Key


def salvage(top: Path, key: Key) -> tuple[dict[str, File], list[str]]:
    """The packages at *top* that are as *key* signed them, by pool place; what is lost, in words.

    Of each suite, the newest state counts that is whole; its packages are looked at one by one.
    """
    public = known_keys(top, key)
    found: dict[str, File] = {}
    lost: list[str] = []
    candidates = [top / DISTS, *reversed(states.kept(top))]
    names = {suite.name for state in candidates if state.is_dir() for suite in state.iterdir()}
    for name in sorted(names):
        whole = next((s for s in candidates if _whole(s / name, public, key)), None)
        if whole is None:
            lost.append(f"{name}: no state of this suite is as it was signed")
            continue
        for file in entries(top, whole / name):
            if digest(file.path) == file.sha256:
                found[file.pool] = file
            else:
                lost.append(f"{file.pool}, unless it is in dist/: it is not what was published")
    return found, lost


def _whole(suite: Path, public: bytes, key: Key) -> bool:
    """Whether *key* signed *suite*, and its indexes are what it signed."""
    try:
        signer, text = keys.verify(suite / "InRelease", public, expired=True)
    except (SourceError, OSError):
        return False
    return signer == key.fingerprint and all(
        digest(suite / name) == expected for name, expected in checksums(text).items()
    )
