"""``invoke check``: a folder, or what is published somewhere, judged with a public key."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder.attest import check, keys, repository
from tarpit_builder.attest.check import Policy
from tarpit_builder.attest.outcome import AttestationReport
from tarpit_builder.build import MANIFEST
from tarpit_builder.console import Console
from tarpit_builder.errors import TarpitError, UserError
from tarpit_builder.gnupg import ARMOUR
from tarpit_builder.leftovers import scratch
from tarpit_builder.publish import fetching
from tarpit_builder.publish.audit import DISTS
from tarpit_builder.sources.download import Downloader, Patience

if TYPE_CHECKING:
    from tarpit_builder.attest.keys import Trusted

WEB = re.compile(r"https?://[^\s/]\S*")
STRANGER = Patience(connect=10, read=10, attempts=2, pause=0.5, pace=64 << 10)
"""How patient to be with a server that nobody vouches for."""


def judge(where: str, files: Sequence[Path], policy: Policy, console: Console) -> AttestationReport:
    """Judge what is at *where*, a folder or the address of a repository, by the keys in *files*.

    What is wrong with a package set is in the outcome; its first entry is the worst.

    :raises UserError: if there is nothing to be judged, or no key.
    :raises TarpitError: if it cannot be fetched, or a repository is not as it was signed.
    """
    began = time.monotonic()
    outcome = AttestationReport(where)
    with keys.trusted(files) as trusted:
        public = _openpgp(files)
        if WEB.fullmatch(where):
            with scratch("check") as folder:
                top = folder / "repository"
                downloader = Downloader(STRANGER)
                with repository.readable(where):
                    fetching.fetch(
                        where, top, public, console, downloader=downloader, limit=repository.LARGEST
                    )
                repository.judge(top, trusted, policy, outcome, public)
        else:
            _folder(Path(where).expanduser(), trusted, policy, outcome, public)
    outcome.wrong.sort(key=lambda error: -error.exit_code)
    outcome.seconds = time.monotonic() - began
    return outcome


def _folder(
    top: Path,
    trusted: Sequence[Trusted],
    policy: Policy,
    outcome: AttestationReport,
    public: bytes | None,
) -> None:
    if not top.is_dir():
        raise UserError(
            f"{top} is no folder, and no address of a repository",
            hint="name a folder of packages with their attestations, or https://…",
        )
    if (top / DISTS).is_dir():
        repository.judge(top, trusted, policy, outcome, public)
        return
    if (top / MANIFEST).is_file():
        folders = [top.resolve()]
    else:
        folders = [path.parent for path in sorted(top.glob(f"*/{MANIFEST}"))]
        others = [path.name for path in top.iterdir() if path not in folders]
        if others and folders:
            outcome.notes.append(f"not judged: {', '.join(sorted(others)[:5])}, no package sets")
    if not folders:
        raise UserError(
            f"{top} has no {MANIFEST}, and no package set below it has",
            hint="packages without manifest and attestations cannot be judged",
        )
    for folder in folders:
        try:
            outcome.sets.append(check.check(folder, trusted, policy))
        except TarpitError as error:
            outcome.wrong.append(error)


def _openpgp(files: Sequence[Path]) -> bytes | None:
    """The keys of OpenPGP among *files*, which then must have signed a repository as well."""
    found = [data for file in files if ARMOUR in (data := file.read_bytes())]
    return b"".join(found) or None
