"""``invoke catalog-update``: learn releases from kernel.org's signed lists and from signed tags.

Only what a pinned key signed becomes part of the catalogue, for everything there is believed ever
after; releases.json, which nobody signs, merely tells which releases there are.  Rows that are
there are never changed, and a contradiction is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tarpit_builder.errors import NetworkError, SourceError, UserError
from tarpit_builder.sources.catalogue import SIGNED, Catalogue, Digest, Release, merged
from tarpit_builder.sources.context import Context
from tarpit_builder.sources.download import AbsentError
from tarpit_builder.sources.repository import GitReader, git_errors, open_local
from tarpit_builder.versions import AnyVersion, IptablesVersion, KernelVersion

LIST_LIMIT = 8 << 20  # bytes of releases.json or a sha256sums.asc
_OLD_FOLDERS = ("v2.6", *(f"v2.6/longterm/v2.6.{number}" for number in (27, 32, 33, 34, 35)))


@dataclass(slots=True)
class Discoveries:
    """What an update brought: releases *added* and *filled* in, and what was left out and why."""

    added: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    unsigned: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(self.added)} releases added, {len(self.filled)} completed"]
        if self.unsigned:
            parts.append(f"{len(self.unsigned)} tags left out that no pinned key signed")
        parts += self.unavailable
        return "; ".join(parts)


def from_kernel_org(context: Context) -> tuple[Catalogue, Discoveries]:
    """The catalogue with the digests of kernel.org's signed lists.

    :raises NetworkError: if not even one list can be fetched.
    :raises SourceError: if a list is signed by somebody else, or contradicts the catalogue.
    """
    learnt = Discoveries()
    mirrors = context.places("TARPIT_KERNEL_MIRROR", context.catalogue.places.kernel)
    newest, dates = _releases_json(context, learnt)
    kernels = dict(context.catalogue.kernels)
    tarballs = dict(context.catalogue.tarballs)
    folders = [*_OLD_FOLDERS, *(f"v{major}.x" for major in range(3, newest + 1))]
    failure: NetworkError | None = None
    fetched = 0
    with context.console.stage("read kernel.org's signed lists") as stage:
        for folder in folders:
            stage.note(folder)
            urls = [f"{mirror}/{folder}/sha256sums.asc" for mirror in mirrors]
            try:
                with context.store.lock("catalog-update"):
                    text = context.store.read("sha256sums.asc", urls, limit=LIST_LIMIT)
                signed, _ = context.keys.verify_clear(
                    text, f"{folder}/sha256sums.asc", "kernel-checksums"
                )
            except AbsentError:
                continue
            except NetworkError as error:
                failure = error
                continue
            fetched += 1
            for version, sha256 in _listed(signed.decode(errors="replace")):
                known = kernels.get(version)
                _take(kernels, Release(version, dates.get(version, "")), learnt)
                digested = _take_digest(tarballs, f"{version.stem}.tar.xz", sha256)
                if digested and known is kernels[version]:
                    learnt.filled.append(str(version))
        stage.done(str(learnt))
    if not fetched and failure is not None:
        raise failure
    return replace(context.catalogue, kernels=kernels, tarballs=tarballs), learnt


def from_git(
    location: Path, context: Context, *, iptables: bool = False
) -> tuple[Catalogue, Discoveries]:
    """The catalogue with commits and trees of the signed tags of the repository at *location*.

    :raises UserError: if it is no repository.
    :raises SourceError: if a tag contradicts the catalogue.
    """
    catalogue, learnt = context.catalogue, Discoveries()
    role = "iptables" if iptables else "kernel"
    with (
        git_errors(str(location)),
        context.console.stage(f"read the tags of {location.name}") as stage,
    ):
        reader = GitReader(open_local(location), str(location), context.keys, role)
        if iptables:
            rows = dict(catalogue.iptables)
            _tagged(reader, rows, IptablesVersion, learnt)
            catalogue = replace(catalogue, iptables=rows)
        else:
            kernels = dict(catalogue.kernels)
            _tagged(reader, kernels, KernelVersion, learnt)
            catalogue = replace(catalogue, kernels=kernels)
        stage.done(str(learnt))
    return catalogue, learnt


def _tagged(
    reader: GitReader,
    rows: dict[AnyVersion, Release[AnyVersion]],
    kind: type[AnyVersion],
    learnt: Discoveries,
) -> None:
    for tag in reader.tags():
        try:
            version = kind.parse(tag)
        except UserError:
            continue
        known = rows.get(version)
        if known and known.commit and known.tree:
            continue
        commit = reader.resolve(f"refs/tags/{tag}")
        try:
            signed = reader.signers(tag, commit)
        except SourceError:
            signed = ()
        if not signed:
            learnt.unsigned.append(str(version))
            continue
        _take(rows, Release(version, reader.date(commit), commit, reader.tree(commit)), learnt)


def _take(
    rows: dict[AnyVersion, Release[AnyVersion]], release: Release[AnyVersion], learnt: Discoveries
) -> None:
    known = rows.get(release.version)
    if known is None:
        rows[release.version] = release
        learnt.added.append(str(release.version))
        return
    filled, conflicts = merged(known, release)
    if conflicts:
        raise SourceError(
            f"{release.version.stem}: the {' and '.join(conflicts)} signed now is not what the "
            "catalogue has",
            hint="one of them is wrong: find out which before anything else; nothing was written",
        )
    if filled != known:
        rows[release.version] = filled
        learnt.filled.append(str(release.version))


def _take_digest(tarballs: dict[str, Digest], name: str, sha256: str) -> bool:
    """Put the signed digest of *name* into *tarballs*; whether that is news.

    :raises SourceError: if it contradicts what is there.
    """
    known = tarballs.get(name)
    if known and known.sha256 != sha256:
        raise SourceError(
            f"{name}: the SHA-256 signed now is not what the catalogue has",
            hint="one of them is wrong: find out which before anything else; nothing was written",
        )
    tarballs[name] = Digest(sha256, SIGNED)
    return tarballs[name] != known


def _listed(text: str) -> Iterator[tuple[KernelVersion, str]]:
    """The releases that a list of kernel.org names, and the SHA-256 of their ``.tar.xz``."""
    for sha256, name in re.findall(r"^([0-9a-f]{64})  linux-(\S+)\.tar\.xz$", text, re.MULTILINE):
        try:
            version = KernelVersion.parse(name)
        except UserError:
            continue
        yield version, sha256


def _releases_json(context: Context, learnt: Discoveries) -> tuple[int, dict[KernelVersion, str]]:
    """The newest major number, and the days of the current releases."""
    known = max(version.numbers[0] for version in context.catalogue.kernels)
    try:
        with context.store.lock("catalog-update"):
            text = context.store.read(
                "releases.json", [context.catalogue.places.releases], limit=LIST_LIMIT
            )
        rows = json.loads(text)["releases"]
        dates = {
            KernelVersion.parse(row["version"]): str(row["released"]["isodate"])
            for row in rows
            if re.fullmatch(r"[0-9.]+(?:-rc\d+)?", row["version"])
        }
    except (NetworkError, AbsentError, ValueError, KeyError, TypeError, UserError) as error:
        learnt.unavailable.append(f"releases.json cannot be read ({error})")
        return max(known, 7), {}
    return max(known, *(version.numbers[0] for version in dates)), dates
