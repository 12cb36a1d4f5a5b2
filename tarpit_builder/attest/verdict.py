"""``invoke check``: a folder, or what is published somewhere, judged with a public key."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import paths
from tarpit_builder.attest import check, keys, package_set, strict
from tarpit_builder.attest.check import Checked, Policy
from tarpit_builder.build import MANIFEST
from tarpit_builder.console import Console, format_table
from tarpit_builder.errors import CheckFailedError, TarpitError, UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.publish import attestations, demand_valid, fetching, metapackages
from tarpit_builder.publish.audit import DISTS, KEY, audit
from tarpit_builder.publish.audit import entries as entries_of
from tarpit_builder.sources.download import Downloader, Patience

if TYPE_CHECKING:
    from tarpit_builder.attest.keys import Trusted
    from tarpit_builder.publish.incoming import File

WEB = re.compile(r"https?://[^\s/]\S*")
TOP = frozenset({KEY, "repository.json", DISTS, ".states", "pool", attestations.FOLDER})
STRANGER = Patience(connect=10, read=10, attempts=2, pause=0.5, pace=64 << 10)
"""How patient to be with a server that nobody vouches for."""


@dataclass(slots=True)
class Outcome:
    """What was found at *where*: package sets that are as attested, and what is wrong.

    *metapackages* hold nothing but a dependency, and *until* is the day that a repository is
    valid, by its own signature; *seconds* is how long it took.
    """

    where: str
    sets: list[Checked] = field(default_factory=list)
    wrong: list[TarpitError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    metapackages: int = 0
    until: str = ""
    seconds: float = 0.0

    @property
    def files(self) -> int:
        """How many files were found as they were attested."""
        return sum(len(one.files) for one in self.sets)

    def table(self) -> str:
        """What was verified, and by which key."""
        rows = [
            (
                "✓",
                one.name,
                one.version,
                str(len(one.files)),
                f"{one.passed} checks on {one.booted}" if one.booted else "not proven",
                ", ".join(one.keys),
            )
            for one in self.sets
        ]
        rows += [("✗", error.message, "", "", "", "") for error in self.wrong[1:]]
        header = ("", "package set", "version", "files", "proof", "signed by")
        lines = [format_table(rows, header=header), ""] if rows else []
        lines += self.notes
        builders = dict.fromkeys(one.builder for one in self.sets)
        lines += [f"built by  {one}" for one in builders]
        if not self.wrong:
            extra = f", {self.metapackages} metapackages of no content" if self.metapackages else ""
            until = f"; valid until {self.until}" if self.until else ""
            lines.append(
                f"good: {self.files} files of {len(self.sets)} package sets are as they were "
                f"attested{extra}{until} ({self.seconds:.2f} s)"
            )
        return "\n".join(lines)

    def write_json(self, path: Path) -> None:
        """The same as data."""
        document = {
            "good": not self.wrong,
            "where": self.where,
            "seconds": round(self.seconds, 3),
            "valid-until": self.until,
            "metapackages": self.metapackages,
            "sets": [asdict(one) for one in self.sets],
            "wrong": [{"message": e.message, "exit_code": e.exit_code} for e in self.wrong],
        }
        with paths.replacing(path) as stage:
            stage.write_text(json.dumps(document, indent=2) + "\n")


def judge(where: str, files: Sequence[Path], policy: Policy, console: Console) -> Outcome:
    """Judge what is at *where*, a folder or the address of a repository, by the keys in *files*.

    What is wrong with a package set is in the outcome; its first entry is the worst.

    :raises UserError: if there is nothing to be judged, or no key.
    :raises TarpitError: if it cannot be fetched, or a repository is not as it was signed.
    """
    began = time.monotonic()
    outcome = Outcome(where)
    with keys.trusted(files) as trusted:
        public = _openpgp(files)
        if WEB.fullmatch(where):
            with scratch("check") as folder:
                top = folder / "repository"
                downloader = Downloader(STRANGER)
                fetching.fetch(where, top, public, console, downloader=downloader)
                _repository(top, trusted, policy, outcome, public)
        else:
            _folder(Path(where).expanduser(), trusted, policy, outcome, public)
    outcome.wrong.sort(key=lambda error: -error.exit_code)
    outcome.seconds = time.monotonic() - began
    return outcome


def _folder(
    top: Path,
    trusted: Sequence[Trusted],
    policy: Policy,
    outcome: Outcome,
    public: bytes | None,
) -> None:
    if not top.is_dir():
        raise UserError(
            f"{top} is no folder, and no address of a repository",
            hint="name a folder of packages with their attestations, or https://…",
        )
    if (top / DISTS).is_dir():
        _repository(top, trusted, policy, outcome, public)
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


def _repository(
    top: Path,
    trusted: Sequence[Trusted],
    policy: Policy,
    outcome: Outcome,
    public: bytes | None,
) -> None:
    """Judge all that the indexes of the repository at *top* list."""
    listed = audit(top, public=public)
    outcome.until = demand_valid(top)
    if public is None:
        outcome.notes.append(
            f"the repository's own signature is by the {KEY} that lies there; to have it judged, "
            "name a copy of that key with another --key"
        )
    entries = list(attestations.entries(top))
    if not entries:
        raise CheckFailedError(
            f"nothing at {outcome.where} is attested: it has no {attestations.INDEX}",
            hint="ask the distributor for `invoke attest` before `invoke repo`",
        )
    vouched: dict[str, str] = {}
    for entry in entries:
        try:
            found = _published(top, entry, trusted, policy, listed)
        except TarpitError as error:
            outcome.wrong.append(error)
            continue
        if found is None:
            continue
        outcome.sets.append(found)
        for name, value in found.files.items():
            if vouched.setdefault(f"pool/{entry.suite}/{name}", value) != value:
                outcome.wrong.append(strict.wrong(name, "was attested with two contents"))
    for pool, file in listed.items():
        if pool in vouched:
            continue
        if metapackages.is_metapackage(file) and _is_empty(file, listed):
            outcome.metapackages += 1
            continue
        outcome.wrong.append(
            CheckFailedError(
                f"{pool} is in the repository, but no good attestation is about it",
                hint="do not install it; ask the distributor for `invoke attest`",
            )
        )
    _strangers(top, listed, outcome)


def _published(
    top: Path,
    entry: attestations.Entry,
    trusted: Sequence[Trusted],
    policy: Policy,
    listed: Mapping[str, File],
) -> Checked | None:
    """The package set *entry*, as far as it is *listed*; None if nothing of it is any more."""
    folder = top / attestations.FOLDER / entry.place

    def find(name: str) -> Path | None:
        pool = f"pool/{entry.suite}/{name}"
        if attestations.handed_out(name):
            return top / pool if pool in listed else None
        beside = folder / name
        return beside if beside.is_file() else None

    of = package_set.load(folder, strict.read(folder / MANIFEST))
    if not any(f"pool/{entry.suite}/{name}" in listed for name in of.outputs):
        return None
    return check.check(folder, trusted, policy, find=find, name=entry.place)


def _is_empty(file: File, listed: Mapping[str, File]) -> bool:
    """Whether the metapackage *file* holds nothing and runs nothing, and needs what is listed."""
    from debian.arfile import ArError
    from debian.debfile import DebError, DebFile

    with (
        suppress(ArError, DebError, OSError, ValueError, KeyError, EOFError),
        file.path.open("rb") as stream,
    ):
        package = DebFile(fileobj=stream)
        control = package.debcontrol()
        inside = {name.lstrip("./") for name in package.data.tgz().getnames()}
        parts = {name.lstrip("./") for name in package.control.tgz().getnames()}
        needed = str(control.get("Depends", "")).partition(" ")[0]
        own = f"usr/share/doc/{control['Package']}/copyright"
        return (
            parts - {""} <= {"control", "md5sums"}
            and all(own == name or own.startswith(f"{name}/") for name in inside if name)
            and any(other.name.startswith(f"{needed}_") for other in listed.values())
        )
    return False


def _strangers(top: Path, listed: Mapping[str, File], outcome: Outcome) -> None:
    """Name the first file that no index lists, of now or of a state that clients may still use."""
    earlier = [
        file.pool
        for suite in (top / ".states").glob("*/*")
        for file in entries_of(top, suite)
        if suite.is_dir()
    ]
    known = {*listed, *earlier, *(str(Path(pool).parent) for pool in listed)}
    names = [str(path.relative_to(top)) for path in sorted((top / "pool").rglob("*"))]
    places = {entry.place for entry in attestations.entries(top)}
    known |= {f"{attestations.FOLDER}/{place}" for place in places} | {attestations.INDEX}
    names += [str(p.relative_to(top)) for p in (top / attestations.FOLDER).glob("*/*/*")]
    names += [
        path.name
        for path in sorted(top.iterdir())
        if path.name not in TOP and path.suffix != ".sources"
    ]
    if stranger := next((name for name in names if name not in known), None):
        outcome.wrong.append(
            CheckFailedError(
                f"{stranger} is a file that nothing vouches for",
                hint="remove it, or ask the distributor what it is",
            )
        )


def _openpgp(files: Sequence[Path]) -> bytes | None:
    """The keys of OpenPGP among *files*, which then must have signed a repository as well."""
    found = [data for file in files if keys.ARMOUR in (data := file.read_bytes())]
    return b"".join(found) or None
