"""From packages to a repository that clients may read at any moment.

::

    pool/SUITE/…                        packages; added, never changed
    dists -> .states/NUMBER             the indexes that are valid, see ``states``
    tarpit-builder.asc, SUITE.sources   what a user puts below /etc/apt
    attestations/…                      of the packages, see ``attestations``
    repository.json                     what is remembered from run to run, see ``settings``

A client that began with an earlier state still finds all of it for a day: its indexes by hash, its
packages in the pool.  What no state that is kept names is removed.
"""

from __future__ import annotations

import email.utils
import fnmatch
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cmp_to_key
from pathlib import Path

from tarpit_builder import paths, suites
from tarpit_builder.console import Console, format_table
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe, locked
from tarpit_builder.errors import BuildError, CheckFailedError, UserError
from tarpit_builder.publish import (
    attestations,
    fetching,
    incoming,
    metapackages,
    settings,
    states,
)
from tarpit_builder.publish.audit import DISTS, KEY, audit, checksums, entries, sha256
from tarpit_builder.publish.incoming import File, digest
from tarpit_builder.publish.keys import Key
from tarpit_builder.publish.salvage import salvage
from tarpit_builder.publish.settings import Settings
from tarpit_builder.sources.debian import Mirrors

SCRIPTS = paths.PROJECT / "containers" / "repo"
IMAGE_SUITE = "trixie"
ORIGIN = "tarpit-builder"


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """How to publish.

    *keep* versions of each package stay (0: all); *wanted* limits the suites that are added to;
    *new_key* lets the repository change its key; *url* is where users will find it and *valid_for*
    the days until it must be signed again, both as before if they are not given.  *drop* takes
    packages whose names fit these patterns out and adds nothing; *skip_existing* leaves out what
    is published already with another content; *repair* takes what is still as it was signed;
    *fetch* begins with what is published at the URL.
    """

    keep: int = 3
    wanted: Sequence[str] = ()
    new_key: bool = False
    url: str = ""
    valid_for: int | None = None
    drop: Sequence[str] = ()
    skip_existing: bool = False
    repair: bool = False
    fetch: bool = False


@dataclass(frozen=True, slots=True)
class PublishedRepository:
    """A repository at *top*: its *suites* with their architectures, and what this run changed.

    *fresh* says whether its packages are others than before; the signatures always are.
    """

    top: Path
    url: str
    suites: Mapping[str, tuple[str, ...]]
    files: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    fresh: bool
    until: datetime
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """What is there now, what changed, and how to use it."""
        lines = [
            format_table(
                [(suite, " ".join(archs)) for suite, archs in self.suites.items()],
                header=("suite", "architectures"),
            ),
            "",
            f"{self.files} files in {self.top}: "
            + (
                f"{len(self.added)} added, {len(self.removed)} removed"
                if self.fresh
                else "as before, signed again"
            ),
            *self.notes,
            f"valid     until {self.until:%Y-%m-%d}: `invoke repo` before then signs it again, "
            "with or without new packages",
            f"users     put {KEY} into /etc/apt/keyrings/ and SUITE.sources into "
            "/etc/apt/sources.list.d/,",
            f"          both from {self.url}/,",
            "          then: apt update && apt install xt-tarpit-dkms",
            "          or, without a compiler: apt install xt-tarpit-modules-amd64",
        ]
        return "\n".join(lines)


def publish(
    dist: Path, top: Path, key: Key, console: Console, *, options: RepositoryOptions | None = None
) -> PublishedRepository:
    """Add what is in *dist* to the repository at *top*, which need not exist, and sign it.

    :raises UserError: if there is nothing, or the repository has another key, or it was never
        said where users will find it.
    :raises CheckFailedError: if a package is not what was built or published.
    :raises TarpitError: as the container engine and the file system do; the repository is then
        as it was.
    """
    options = options or RepositoryOptions()
    if options.keep < 0:
        raise UserError("--keep is a number of versions", hint="0 keeps all")
    if options.fetch:
        url = settings.updated(Settings(), url=options.url, valid_for=None, top=top).url
        fetching.fetch(url, top, key.public(), console)
    before = settings.load(top)
    remembered = settings.updated(before, url=options.url, valid_for=options.valid_for, top=top)
    exists = (top / DISTS).exists()
    fresh = {} if options.drop else incoming.collect(dist, options.wanted, optional=exists)
    states.make_dir(top)
    with locked(f"repo-{sha256(str(top.resolve()).encode())[:16]}"):
        states.sweep(top)
        old, notes = _published(top, key, options)
        had = old
        if options.drop:
            old, dropped = _without(old, options.drop)
            notes += _still_built(dropped, dist)
        fresh, skipped = _compatible(fresh, old, before.gone, skip=options.skip_existing)
        notes += skipped
        with (
            tempfile.TemporaryDirectory(prefix=".new-", dir=top) as name,
            console.stage("indexes") as stage,
        ):
            made = Path(name)
            packages = _pruned({**old, **fresh}, options.keep)
            wanted = _with_metapackages(packages, old, before.gone, made / "pool")
            if not wanted:
                raise UserError(
                    "nothing would be left in the repository",
                    hint=f"remove it as a whole: rm -r {top}",
                )
            for package in metapackages.undated(wanted):
                console.warn(
                    f"no metapackage can follow {package}, which does not say what kernel version "
                    "it is for: it was built by an older tarpit-builder — publish a newer version"
                )
            _index(wanted, made, console)
            _cross_check(wanted, made / DISTS, top)
            changed = not _same_packages(made / DISTS, top, key)
            until = _date(made / DISTS, remembered.valid_for)
            _sign(made / DISTS, key)
            _fill_pool(wanted, top)
            states.readable(top / "pool")
            state = states.store(made / DISTS, top)
            gone = {pool: file.sha256 for pool, file in had.items() if pool not in wanted}
            _write_helpers(top, key, wanted, remembered, {**before.gone, **gone})
            attested = 0 if options.drop else attestations.add(dist, top, wanted)
            if attested:
                states.readable(top / attestations.FOLDER)
            states.switch(top, state)
            stage.done("" if changed else "as before")
        removed = _prune(top)
        attestations.prune(top, {str(p.relative_to(top)) for p in (top / "pool").glob("*/*")})
    if attested:
        notes.append(f"attested  {attested} package sets; `invoke check {remembered.url}` judges")
    added = tuple(pool for pool in wanted if pool not in old)
    return PublishedRepository(
        top=top,
        url=remembered.url,
        suites=_suites(wanted),
        files=len(wanted),
        added=added,
        removed=removed,
        fresh=changed,
        until=until,
        notes=tuple(notes),
    )


def recipe(mirrors: Mirrors) -> Recipe:
    """The image with apt-ftparchive."""
    suite = suites.known()[IMAGE_SUITE]
    return Recipe("repo", IMAGE_SUITE, "amd64", mirrors.apt_sources(suite), mirrors.main)


def _published(
    top: Path, key: Key, options: RepositoryOptions
) -> tuple[dict[str, File], list[str]]:
    """What is in the repository at *top*, and what must be said of it."""
    if options.repair:
        found, lost = salvage(top, key)
        return found, [f"lost      {name}" for name in lost]
    if not (top / DISTS).exists():
        return {}, []
    return audit(top, None if options.new_key else key, expired=options.new_key), []


def _without(
    files: Mapping[str, File], patterns: Sequence[str]
) -> tuple[dict[str, File], dict[str, File]]:
    """*files* without those that fit one of *patterns*, and these.

    :raises UserError: if a pattern fits nothing.
    """
    own = {pool: file for pool, file in files.items() if not metapackages.is_metapackage(file)}
    dropped: dict[str, File] = {}
    for pattern in patterns:
        fitting = {
            pool: file
            for pool, file in own.items()
            if any(
                fnmatch.fnmatchcase(name, pattern)
                for name in (pool, file.name, file.name.partition("_")[0])
            )
        }
        if not fitting:
            names = sorted({file.name.partition("_")[0] for file in own.values()})
            raise UserError(
                f"nothing in the repository is called {pattern!r}",
                hint=f"there are {', '.join(names)}; patterns such as '*-6.1.0-50-*' do",
            )
        dropped |= fitting
    return {pool: file for pool, file in files.items() if pool not in dropped}, dropped


def _still_built(dropped: Mapping[str, File], dist: Path) -> list[str]:
    """What to do so that what was *dropped* does not come back from *dist*."""
    folders = {path.parent for file in dropped.values() for path in dist.glob(f"*/{file.name}")}
    return [
        f"again     {folder} still has some of it, and the next `invoke repo` adds it again; "
        f"to prevent that: rm -r {folder}"
        for folder in sorted(folders)
    ]


def _compatible(
    fresh: Mapping[str, File],
    old: Mapping[str, File],
    gone: Mapping[str, str],
    *,
    skip: bool,
) -> tuple[dict[str, File], list[str]]:
    """*fresh* without what is, or *gone* was, published with another content, and that in words.

    apt takes names for identities.

    :raises CheckFailedError: if there is such a file, and it is not to *skip* it.
    """
    known = {**gone, **{pool: file.sha256 for pool, file in old.items()}}
    other = [file for pool, file in fresh.items() if known.get(pool, file.sha256) != file.sha256]
    if other and not skip:
        raise CheckFailedError(
            f"{other[0].name} is published already, with another content",
            hint="give it a new version: `invoke release --version X --write`, build again and "
            "publish; or --skip-existing leaves what is published as it is and adds the rest",
        )
    # A source goes as a whole.
    sources = {(file.suite, file.package, file.version) for file in other if not file.architecture}
    left = {
        pool: file
        for pool, file in fresh.items()
        if file not in other and (file.suite, file.package, file.version) not in sources
    }
    return left, [
        f"skipped   {file.name}: published already, with another content" for file in other
    ]


def _pruned(files: Mapping[str, File], keep: int) -> dict[str, File]:
    """*files* without the versions of a package that *keep* newer ones make superfluous."""
    from debian.debian_support import version_compare

    versions: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files.values():
        versions[file.suite, file.package].add(file.version)
    kept = {
        which: set(sorted(found, key=cmp_to_key(version_compare))[-keep:])
        for which, found in versions.items()
    }
    return {
        pool: files[pool]
        for pool in sorted(files)
        if files[pool].version in kept[files[pool].suite, files[pool].package]
    }


def _with_metapackages(
    files: Mapping[str, File], old: Mapping[str, File], gone: Mapping[str, str], folder: Path
) -> dict[str, File]:
    """*files* with the metapackages that belong to them; what is published of these stays.

    :raises CheckFailedError: if one was published once with another content.
    """
    own = {pool: file for pool, file in files.items() if not metapackages.is_metapackage(file)}
    made = metapackages.make(own, folder)
    stay = {pool: old[pool] for pool in made if pool in old}
    for pool in made.keys() - stay.keys():
        if gone.get(pool, made[pool].sha256) != made[pool].sha256:
            raise CheckFailedError(
                f"{made[pool].name} was published before, with another content",
                hint="publish the modules package that it depends on in a newer version",
            )
    return dict(sorted({**own, **made, **stay}.items()))


def _index(files: Mapping[str, File], output: Path, console: Console) -> None:
    """Let apt-ftparchive describe *files*, into *output*."""
    mirrors = Mirrors.choose(None)
    engine = Engine.connect()
    lines = [f"{suite} {' '.join(archs)}\n" for suite, archs in _suites(files).items()]
    members: dict[str, Path | bytes] = {pool: file.path for pool, file in files.items()}
    members["suites"] = "".join(lines).encode()
    scripts = Files({path.name: path for path in sorted(SCRIPTS.glob("*.sh"))})
    result = engine.run(
        engine.ensure_image(recipe(mirrors), console),
        ["sh", "/scripts/index.sh"],
        inputs=[Input("/archive", [Files(members)]), Input("/scripts", [scripts])],
        output=output,
        environment={"ORIGIN": ORIGIN},
        limits=Limits(memory=1024, seconds=600),
    )
    if result.status != 0:
        raise BuildError(
            f"apt-ftparchive failed (status {result.status})",
            hint="a package may be damaged: build it again with --force",
            tail=result.lines[-15:],
        )


def _cross_check(files: Mapping[str, File], dists: Path, top: Path) -> None:
    """See that the indexes name exactly *files*: what was checked is what gets signed."""
    found = {
        file.pool: file.sha256 for suite in sorted(dists.iterdir()) for file in entries(top, suite)
    }
    expected = {pool: file.sha256 for pool, file in files.items()}
    if found != expected:
        names = sorted(pool for pool, _ in found.items() ^ expected.items())
        raise CheckFailedError(
            f"the indexes do not describe {', '.join(names[:3])} as they were checked",
            hint="were packages changed while this ran?  Run it again",
        )


def _same_packages(dists: Path, top: Path, key: Key) -> bool:
    """Whether the valid state has the same indexes, signed by *key*."""
    current = top / DISTS
    if not current.exists() or not (top / KEY).is_file():
        return False
    if (top / KEY).read_bytes() != key.public():
        return False
    names = {path.name for path in dists.iterdir()}
    return names == {path.name for path in current.iterdir()} and all(
        checksums((dists / name / "Release").read_bytes())
        == checksums((current / name / "Release").read_bytes())
        for name in names
    )


def _date(dists: Path, days: int) -> datetime:
    """Say in each Release file since when and until when it is valid; the latter."""
    now = _now()
    until = now + timedelta(days=days)
    for path in dists.glob("*/Release"):
        text = re.sub(r"^(Date|Valid-Until): .*\n", "", path.read_text(), flags=re.MULTILINE)
        head = f"Date: {_stamp(now)}\nValid-Until: {_stamp(until)}\n"
        path.write_text(head + text)
    return until


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _stamp(moment: datetime) -> str:
    """*moment* as a Release file has it, whatever the locale."""
    return email.utils.format_datetime(moment).replace("+0000", "UTC")


def _sign(dists: Path, key: Key) -> None:
    for suite in sorted(dists.iterdir()):
        text = (suite / "Release").read_bytes()
        (suite / "Release.gpg").write_bytes(key.detach_sign(text))
        (suite / "InRelease").write_bytes(key.clearsign(text))


def _fill_pool(files: Mapping[str, File], top: Path) -> None:
    for pool, file in files.items():
        target = top / pool
        if digest(target) == file.sha256:
            continue
        with paths.replacing(target) as stage:
            shutil.copyfile(file.path, stage)


def _write_helpers(
    top: Path, key: Key, files: Mapping[str, File], remembered: Settings, gone: Mapping[str, str]
) -> None:
    with paths.replacing(top / KEY) as stage:
        stage.write_bytes(key.public())
    found = _suites(files)
    for suite, architectures in found.items():
        with paths.replacing(top / f"{suite}.sources") as stage:
            stage.write_text(
                "Types: deb deb-src\n"
                f"URIs: {remembered.url}\n"
                f"Suites: {suite}\n"
                "Components: main\n"
                f"Architectures: {' '.join(architectures)}\n"
                f"Signed-By: /etc/apt/keyrings/{KEY}\n"
            )
    for path in top.glob("*.sources"):
        if path.stem not in found:
            path.unlink()
    absent = {pool: value for pool, value in gone.items() if pool not in files}
    replace(remembered, suites=tuple(found), gone=absent).write(top)


def _prune(top: Path) -> tuple[str, ...]:
    """Remove the states that are not kept, and packages that none of the others names."""
    named = {
        file.pool
        for state in states.prune(top)
        for suite in state.iterdir()
        for file in entries(top, suite)
    }
    removed = []
    for path in sorted((top / "pool").glob("*/*")):
        name = str(path.relative_to(top))
        if name not in named:
            path.unlink()
            removed.append(name)
    return tuple(removed)


def _suites(files: Mapping[str, File]) -> dict[str, tuple[str, ...]]:
    """The suites of *files*, each with its architectures."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in files.values():
        found[file.suite] |= {file.architecture} - {"", "all"}
    return {suite: tuple(sorted(found[suite])) or ("amd64",) for suite in sorted(found)}
