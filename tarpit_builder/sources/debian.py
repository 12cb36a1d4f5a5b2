"""An apt archive: which kernels a suite has, and their packages, verified as apt does.

The chain is apt's own (apt-secure(8)): ``InRelease`` is signed by a key of the archive's keyring,
it holds the SHA-256 of ``Packages.xz``, and that holds the SHA-256 of every package.  Whose archive
it is, Debian's or another distribution's, and how that calls its packages, is in the table of
:mod:`~tarpit_builder.suites`.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tarpit_builder import architectures, paths, suites
from tarpit_builder.errors import NetworkError, SourceError, ToolMissingError, UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.sources import deb, signatures
from tarpit_builder.sources.mirrors import Mirrors
from tarpit_builder.sources.store import Blob, Store

if TYPE_CHECKING:
    import requests

    from tarpit_builder.console import Console

__all__ = ["Archive", "DebianKernel", "Index", "Mirrors", "Package", "did_you_mean"]

TIMEOUT = (10, 30)  # seconds to connect, and between two reads
RELEASE_LIMIT = 16_000_000  # bytes of an InRelease file; Debian's have 200 kB
LINE_LIMIT = 1_000_000  # characters of it that are read at once
INDEX_LIMIT = 400_000_000  # bytes of an uncompressed Packages file; main has about 60 MB
WANTED = re.compile(
    r"linux-(?:headers|image|kbuild|compiler|modules|binary|base|source)-"
    r"|linux-[a-z0-9.-]+-headers-[0-9]|(?:proxmox|pve)-(?:default-)?(?:headers|kernel)"
)
"""Packages worth remembering of an index that lists 70,000."""


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package of the archive; *size* in bytes, *url* of its .deb."""

    name: str
    version: str
    arch: str
    source: str
    depends: str
    url: str
    size: int
    sha256: str
    suite: str

    def blob(self) -> Blob:
        """The .deb, for the store."""
        return Blob(
            name=self.url.rsplit("/", 1)[1], sha256=self.sha256, urls=(self.url,), size=self.size
        )

    def needs(self) -> tuple[str, ...]:
        """The names that it depends on, alternatives included."""
        clauses = (clause.split() for clause in re.split(r"[,|]", self.depends))
        return tuple(words[0].partition(":")[0] for words in clauses if words)

    def depends_on(self, pattern: str) -> str | None:
        """The first dependency whose name matches *pattern* wholly."""
        return next((name for name in self.needs() if re.fullmatch(pattern, name)), None)


@dataclass(frozen=True, slots=True)
class Index:
    """The packages of one pocket; *expired* where its Valid-Until has passed."""

    pocket: str
    packages: tuple[Package, ...]
    expired: str = ""
    stale: bool = False


@dataclass(frozen=True, slots=True)
class DebianKernel:
    """One kernel of the archive, with all that building and booting it takes.

    *packages* are the headers (to build), *image* the packages to boot; *compiler* is the package
    of the compiler that built the kernel, such as ``gcc-12``; *metapackage* is what follows the
    headers from version to version.
    """

    abi: str
    flavour: str
    arch: str
    version: str
    suite: suites.Suite
    compiler: str
    packages: tuple[Package, ...]
    image: tuple[Package, ...]
    expired: str = ""
    metapackage: str = ""


@dataclass(slots=True)
class Archive:
    """An archive as seen through *mirrors*, with its indexes kept in *store*."""

    store: Store
    mirrors: Mirrors
    console: Console
    write: bool = True
    debian: Archive | None = None
    """Debian's archive, where this is that of a distribution whose userland is Debian's."""

    _indexes: dict[tuple[str, str], Index] = field(default_factory=dict)

    @property
    def distribution(self) -> suites.Distribution:
        """Whose archive it is."""
        return suites.distributions()[self.mirrors.distribution]

    def of(self, distribution: suites.Distribution, arch: str) -> Archive:
        """The archive of *distribution*, which may be this one."""
        mirrors = self.mirrors.serving(distribution, arch)
        if mirrors is self.mirrors:
            return self
        debian = None
        if distribution.base == suites.DEBIAN:
            # What the caller named is meant for the distribution itself.
            named = self.mirrors.asked or self.mirrors.keyring
            plain = Mirrors.choose(None) if named else self.mirrors
            debian = Archive(self.store, plain, self.console, self.write)
        return Archive(self.store, mirrors, self.console, self.write, debian)

    def userland(self) -> Archive:
        """The archive that has the userland of these kernels, which may be this one."""
        return self.debian or self

    # -- finding kernels ---------------------------------------------------------------------

    def codename(self, name: str) -> str:
        """The codename behind *name*, which may be ``stable`` or the like.

        :raises UserError: if there is no such suite.
        """
        it = self.distribution
        if name in it.suites:
            return name
        stem, _, tail = name.partition("-")
        if it.name == suites.DEBIAN and stem in suites.ALIASES:
            release, _ = self._release(stem)
            found = re.search(r"^Codename: (\S+)$", release, re.MULTILINE)
            codename = (found.group(1) if found else stem) + (f"-{tail}" if tail else "")
            if codename in it.suites:
                return codename
            raise UserError(
                f"Debian's {name} is now {codename}, which this release does not know",
                hint="update tarpit-builder, or add it to tarpit_builder/rules/suites.toml",
            )
        if name in it.former:
            raise UserError(
                f"{name} has left {it.title}'s mirrors, and this project does not know it",
                hint=f"give it a block in tarpit_builder/rules/{it.table}, and name with --mirror "
                f"where {it.title} keeps its old releases"
                + (f": {it.archived}" if it.archived else ""),
            )
        raise UserError(
            f"no {it.title} suite is called {name!r}{did_you_mean(name, it.suite_names())}",
            hint="`invoke kernels` lists what is supported",
        )

    def newest(self, suite: suites.Suite, flavour: str, arch: str) -> DebianKernel:
        """The kernel that *suite* installs today in *flavour* (``""`` is the ordinary one).

        :raises UserError: if the suite has no such flavour.
        """
        indexes = self._suite(suite, arch)
        it = self.distribution
        meta = _highest(_named(indexes, it.metapackage(suite, flavour, arch)))
        if meta is None:
            if not _abis(indexes, it, arch):
                raise UserError(
                    f"{suite.name} has no kernels for {arch}",
                    hint=f"`invoke kernels --arch {arch}` lists the suites that have some",
                )
            have = sorted(
                found
                for index in indexes
                for package in index.packages
                if (found := it.flavour_of(package.name, arch)) and _target(package, it, indexes)
            )
            others = ", ".join(dict.fromkeys(have))
            raise UserError(
                f"{suite.name} has no kernel of flavour {flavour or 'default'!r} for {arch}",
                hint=f"flavours there: {others or 'none'}",
            )
        target = _target(meta, it, indexes)
        if not target:
            raise SourceError(
                f"{meta.name} {meta.version} of {suite.name} names no headers package",
                hint="the archive may be in the middle of an update: try again in an hour, "
                "or name an exact ABI",
            )
        return self._kernel(suite, target, arch, indexes)

    def exact(self, abi: str, arch: str, suite: str = "") -> DebianKernel:
        """The kernel whose ``uname -r`` is *abi*, from *suite* or whichever has it.

        :raises UserError: if none has it; near ones are suggested.
        """
        it = self.distribution
        likely = [it.suites[suite]] if suite else it.likely(abi)
        seen: list[str] = []
        absent: UserError | None = None
        for one in likely:
            try:
                indexes = self._suite(one, arch)
            except UserError as error:
                absent = error
                continue
            if self._headers(abi, indexes):
                return self._kernel(one, abi, arch, indexes)
            seen += _abis(indexes, it, arch)
        if absent is not None and not seen:
            raise absent
        raise UserError(
            f"no {it.title} suite has headers for kernel {abi!r}{did_you_mean(abi, seen)}",
            hint=f"`invoke kernels` lists what can be had now; {it.title} drops superseded kernels "
            "from its mirrors, so --mirror may name an older snapshot",
        )

    def of_series(self, series: str, arch: str = "amd64") -> tuple[str, ...]:
        """The suites whose current kernel is of *series* (``6.12``), as ``--kernel`` takes them.

        What cannot be asked now is left out: this is for hints.
        """
        found = []
        for suite in suites.known().values():
            try:
                if re.match(rf"{re.escape(series)}[.+]", self.newest(suite, "", arch).abi):
                    found.append(f"debian:{suite.name}")
            except NetworkError:
                break
            except (SourceError, UserError):
                continue
        return tuple(found)

    def kernels(self, suite: suites.Suite, arch: str) -> tuple[str, ...]:
        """Every ABI that *suite* has headers for, newest last."""
        return tuple(_abis(self._suite(suite, arch), self.distribution, arch))

    def _headers(self, abi: str, indexes: Sequence[Index]) -> Package | None:
        """The package to build against for *abi*."""
        return _first(indexes, self.distribution.headers, abi)

    def _kernel(
        self, suite: suites.Suite, abi: str, arch: str, indexes: Sequence[Index]
    ) -> DebianKernel:
        it = self.distribution
        headers = self._headers(abi, indexes)
        if headers is None:
            raise SourceError(
                f"{suite.name} announces kernel {abi} but has no {it.headers[0].format(abi=abi)}",
                hint="the archive may be in the middle of an update: try again in an hour",
            )
        names = [headers.depends_on(pattern) for pattern in it.parts]
        parts = [_matching(_named(indexes, name), headers) if name else None for name in names]
        if it.programs:
            parts.append(self._programs(suite, headers, arch, indexes))
        if None in parts:
            raise SourceError(
                f"the packages that {headers.name} depends on are not all in {suite.name}",
                hint="the archive may be in the middle of an update: try again in an hour",
            )
        number = re.search(r"gcc-(\d+)", headers.depends_on(r"(?:linux-compiler-)?gcc-\d+.*") or "")
        image = _first(indexes, it.image_packages, abi)
        boot = [image] if image else []
        if image:
            boot += filter(None, (_first(indexes, (name,), abi) for name in it.modules))
        return DebianKernel(
            abi=abi,
            flavour=it.flavour(abi, arch),
            arch=arch,
            version=headers.version,
            suite=suite,
            compiler=f"gcc-{number[1]}" if number else self._compiler(headers),
            packages=(headers, *(part for part in parts if part is not None)),
            image=tuple(boot),
            expired=next((index.expired for index in indexes if index.expired), ""),
            metapackage=_metapackage(suite, abi, arch, indexes),
        )

    def _programs(
        self, suite: suites.Suite, headers: Package, arch: str, indexes: Sequence[Index]
    ) -> Package | None:
        """The programs of the kernel's build system, which run here, whatever it is for.

        :raises SourceError: if there are none for here.
        """
        name = headers.depends_on(self.distribution.programs) or ""
        if arch != architectures.BUILD:
            try:
                indexes = self._suite(suite, architectures.BUILD)
            except UserError:
                indexes = ()
        found = _matching(_named(indexes, name), headers)
        if name and found is None and arch != architectures.BUILD:
            raise SourceError(
                f"{self.distribution.title} has no {name} for {architectures.BUILD}, where its "
                "modules would be built",
                hint=f"take xt-tarpit-dkms of --kernel {suite.userland.request} --arch {arch}: "
                "DKMS builds the module on the host itself",
            )
        return found

    def _compiler(self, headers: Package) -> str:
        """The package of the compiler that built the kernel, as its configuration says."""
        kept = self.store.root / "debian" / f"{headers.sha256}.compiler"
        if kept.is_file():
            return kept.read_text()
        with ExitStack() as stack:
            store = self.store
            if not self.write and not store.has(headers.blob()):
                store = Store(stack.enter_context(scratch("headers")), offline=store.offline)
            stage = stack.enter_context(self.console.stage(f"headers {headers.version}"))
            found = deb.compiler(store.get(headers.blob(), stage))
        if self.write:
            with paths.replacing(kept) as partial:
                partial.write_text(found)
        return found

    # -- indexes -----------------------------------------------------------------------------

    def _suite(self, suite: suites.Suite, arch: str) -> list[Index]:
        pockets = (suite.name, *suite.pockets)
        with ThreadPoolExecutor(len(pockets)) as pool:
            return list(pool.map(lambda pocket: self.index(pocket, arch), pockets))

    def index(self, pocket: str, arch: str) -> Index:
        """The kernel packages of *pocket*, fetched again only if the archive changed.

        Without a network the last known index serves, with a warning.

        :raises NetworkError: no network, and nothing known from before.
        :raises SourceError: a signature or digest is wrong.
        :raises UserError: the mirror does not have the suite (any more).
        """
        if (known := self._indexes.get((pocket, arch))) is not None:
            return known
        release, stale = self._release(pocket)
        entry = _packages_entry(release, self.distribution.components[0], arch)
        if entry is None:
            # Support of an architecture may end before a suite's.
            if pocket not in self.distribution.suites:
                return Index(pocket, ())
            raise UserError(
                f"{pocket} has no packages for {arch}",
                hint=f"`invoke kernels --arch {arch}` lists the suites that have kernels for it",
            )
        listing, sha256, size = entry
        kept = self.store.root / "debian" / f"{sha256}.json"
        # Without the address of the mirror, which may be another one the next time.
        base = f"{self.mirrors.of(pocket)[0]}/"
        if kept.is_file():
            packages = tuple(
                Package(**{**row, "url": _below(base, row["url"])})
                for row in json.loads(kept.read_text())
            )
        else:
            packages = self._read_index(pocket, listing, sha256, size)
            if self.write:
                rows = [{**asdict(one), "url": one.url.removeprefix(base)} for one in packages]
                with paths.replacing(kept) as partial:
                    partial.write_text(json.dumps(rows))
        index = Index(pocket, packages, _expiry(release), stale)
        self._indexes[pocket, arch] = index
        return index

    def _signed(self, content: bytes, url: str) -> str:
        """The text of clear-signed *content*, once a key of the archive vouches for it."""
        suite = url.rpartition("/dists/")[2].partition("/")[0]
        return _signed_text(content, url, self.mirrors, self.mirrors.keyring_file(suite))

    def _release(self, pocket: str) -> tuple[str, bool]:
        """The verified Release text of *pocket*, and whether it may be out of date."""
        base, name = self.mirrors.of(pocket)
        self.mirrors.keyring_file(name)  # which is missed before anything is fetched
        url = f"{base}/dists/{name}/InRelease"
        kept = self.store.root / "debian" / hashlib.sha256(url.encode()).hexdigest()
        known = kept.read_bytes() if kept.is_file() else None
        if self.store.offline:
            if known is None:
                raise SourceError(
                    f"the index of {pocket} is not in the cache, and --offline forbids fetching it",
                    hint="run the same command once without --offline",
                )
            return self._signed(known, url), True
        try:
            fresh, modified = _fetch_release(
                url, name, kept if known is not None else None, self.distribution
            )
        except NetworkError as error:
            if known is None:
                raise
            self.console.warn(f"{error.message}; going on with what {pocket} had before")
            return self._signed(known, url), True
        if fresh is None:
            assert known is not None
            return self._signed(known, url), False
        text = self._signed(fresh, url)
        if known is not None and _dated(text) < _dated(before := self._signed(known, url)):
            # As apt does: a signature does not say that nothing came after it.
            self.console.warn(
                f"the mirror shows an older index of {pocket} than the last time; going on with "
                "that one"
            )
            return before, True
        if self.write:
            with paths.replacing(kept) as partial:
                partial.write_bytes(fresh)
                os.utime(partial, (modified, modified))
        return text, False

    def _read_index(self, pocket: str, listing: str, sha256: str, size: int) -> tuple[Package, ...]:
        base, name = self.mirrors.of(pocket)
        folder, _, file = f"{base}/dists/{name}/{listing}".rpartition("/")
        blob = Blob(
            name=f"{file} of {pocket}",
            sha256=sha256,
            urls=(f"{folder}/by-hash/SHA256/{sha256}", f"{folder}/{file}"),
            size=size,
        )
        # Only the few stanzas that matter are kept, so the file itself passes through a store
        # of its own.
        with (
            self.console.stage(f"index of {name}") as stage,
            scratch("index") as own,
        ):
            path = Store(own, offline=self.store.offline).get(blob, stage)
            packages = tuple(
                package
                for stanza in _stanzas(path, Path(file).suffix)
                if (package := _package(stanza, base, name)) is not None
            )
            stage.done(f"{len(packages)} kernel packages")
        return packages


def _fetch_release(
    url: str, name: str, kept: Path | None, distribution: suites.Distribution
) -> tuple[bytes | None, float]:
    """The InRelease file at *url*, or None where the one at *kept* is still current.

    With it the server's own time of its last change, in seconds since the epoch: a mirror
    may get a file that is older than our last visit, so our own clock would not do.
    """
    import requests

    title, archived = distribution.title, distribution.archived
    headers = {}
    if kept is not None:
        headers["If-Modified-Since"] = email.utils.formatdate(kept.stat().st_mtime, usegmt=True)
    try:
        with requests.get(url, headers=headers, timeout=TIMEOUT, stream=True) as response:
            content = bytearray()
            for chunk in response.iter_content(1 << 16):
                content += chunk
                if len(content) > RELEASE_LIMIT:
                    raise SourceError(
                        f"the {title} mirror sends more for {url} than any such index has",
                        hint="use another --mirror",
                    )
    except requests.RequestException as error:
        raise NetworkError(
            f"the {title} mirror cannot be reached ({_short(error)})",
            hint="check the network with `invoke doctor`, name a --mirror, or use --offline",
        ) from error
    if response.status_code == 304:
        return None, 0
    if response.status_code == 404:
        raise UserError(
            f"{url.partition('/dists/')[0]} has no suite {name} (any more)",
            hint="name one that has it with --mirror URL"
            + (f"; {title} keeps old ones at {archived}" if archived else ""),
        )
    if not response.ok:
        raise NetworkError(
            f"the {title} mirror answered {response.status_code} for {url}",
            hint="try again later, or name another --mirror",
        )
    try:
        modified = email.utils.parsedate_to_datetime(response.headers["Last-Modified"])
    except (KeyError, ValueError):
        return bytes(content), 0
    return bytes(content), modified.timestamp()


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``"; did you mean a or b?"`` for the *candidates* nearest to *word*, or nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(dict.fromkeys(candidates)), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


_VERIFIED: dict[tuple[str, Path], str] = {}
"""Text by digest and keyring of what was verified in this process, so that it is done once."""


def _signed_text(content: bytes, url: str, mirrors: Mirrors, keyring: Path) -> str:
    """The text of clear-signed *content*, once a key of *keyring* vouches for it."""
    key = (hashlib.sha256(content).hexdigest(), keyring)
    if key in _VERIFIED:
        return _VERIFIED[key]
    if shutil.which("gpgv") is None:
        raise ToolMissingError(
            "gpgv, which checks signatures, is not installed",
            hint="apt-get install gpgv debian-archive-keyring, or run ./bootstrap",
        )
    with scratch("gpgv") as folder:
        signed, plain, keys = folder / "InRelease", folder / "Release", folder / "keys.gpg"
        signed.write_bytes(content)
        keys.write_bytes(signatures.public_keys(keyring))
        run = subprocess.run(
            ["gpgv", "--ignore-time-conflict", "--keyring", keys, "--output", plain, signed],
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        if run.returncode != 0 or not plain.is_file():
            signatures.demand_clock()
            reason = run.stderr.decode(errors="replace").strip().splitlines()
            title = suites.distributions()[mirrors.distribution].title
            raise SourceError(
                f"{url} is not signed by {f'a key of {keyring}' if mirrors.keyring else title} "
                f"({reason[-1] if reason else 'no signature'})",
                hint="use another --mirror; the keys of a private archive are named with --keyring",
            )
        _VERIFIED[key] = plain.read_text()
    return _VERIFIED[key]


def _packages_entry(release: str, component: str, arch: str) -> tuple[str, str, int] | None:
    """The list of packages in a Release file, in the smallest form there is: name, SHA-256, size.

    Not every archive compresses with xz.
    """
    for suffix in (".xz", ".gz", ""):
        name = f"{component}/binary-{arch}/Packages{suffix}"
        if found := _release_entry(release, name):
            return name, *found
    return None


def _release_entry(release: str, name: str) -> tuple[str, int] | None:
    """SHA-256 and size (bytes) of *name* in a Release file."""
    section = release.partition("\nSHA256:")[2]
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        words = line.split()
        if len(words) == 3 and words[2] == name:
            return words[0], int(words[1])
    return None


def _dated(release: str) -> float:
    """When the Release text was made, in seconds since the epoch; 0 if it does not say so."""
    found = re.search(r"^Date: (.+)$", release, re.MULTILINE)
    if not found:
        return 0
    return email.utils.parsedate_to_datetime(found[1].replace("UTC", "+0000")).timestamp()


def _expiry(release: str) -> str:
    """The Valid-Until date if it has passed, else ``""``."""
    found = re.search(r"^Valid-Until: (.+)$", release, re.MULTILINE)
    if not found:
        return ""
    until = email.utils.parsedate_to_datetime(found.group(1).replace("UTC", "+0000"))
    return f"{until:%Y-%m-%d}" if until.timestamp() < time.time() else ""


def _stanzas(path: Path, compression: str) -> Iterator[str]:
    """The stanzas of a Packages file that are about kernels."""
    lines: list[str] = []
    wanted, total = False, 0
    with _opened(path, compression) as index:
        for line in iter(partial(index.readline, LINE_LIMIT), ""):
            total += len(line)
            if total > INDEX_LIMIT:
                raise SourceError(
                    "a Packages index unpacks to more than 400 MB", hint="use another --mirror"
                )
            if line.startswith("Package: "):
                wanted = WANTED.match(line[9:]) is not None
            if line == "\n":
                if wanted:
                    yield "".join(lines)
                lines.clear()
                wanted = False
            elif wanted or not lines:
                lines.append(line)
    if wanted:
        yield "".join(lines)


def _opened(path: Path, compression: str) -> IO[str]:
    if compression == ".xz":
        return lzma.open(path, "rt", encoding="utf-8", errors="replace")
    if compression == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return path.open(encoding="utf-8", errors="replace")


def _package(stanza: str, base: str, suite: str) -> Package | None:
    fields: dict[str, str] = dict(re.findall(r"^([A-Za-z0-9-]+): ?(.*)$", stanza, re.MULTILINE))
    try:
        return Package(
            name=fields["Package"],
            version=fields["Version"],
            arch=fields["Architecture"],
            source=fields.get("Source", fields["Package"]).partition(" ")[0],
            depends=fields.get("Depends", ""),
            url=f"{base}/{fields['Filename']}",
            size=int(fields["Size"]),
            sha256=fields["SHA256"],
            suite=suite,
        )
    except (KeyError, ValueError):
        return None


def _below(base: str, url: str) -> str:
    """*url*, which is one already where an older release has kept it."""
    return url if "://" in url else base + url


def _named(indexes: Iterable[Index], name: str) -> list[Package]:
    return [package for index in indexes for package in index.packages if package.name == name]


def _highest(packages: Sequence[Package]) -> Package | None:
    from debian.debian_support import NativeVersion

    return max(packages, key=lambda package: NativeVersion(package.version), default=None)


def _matching(packages: Sequence[Package], headers: Package) -> Package | None:
    """The one built with *headers*; else, for packages shared by several, the newest."""
    same = [package for package in packages if package.version == headers.version]
    return same[0] if same else _highest(packages)


def _first(indexes: Iterable[Index], templates: Iterable[str], abi: str) -> Package | None:
    """The newest package of the first name of *templates* that is there."""
    indexes = tuple(indexes)
    named = (_highest(_named(indexes, template.format(abi=abi))) for template in templates)
    return next(filter(None, named), None)


def _target(
    meta: Package, distribution: suites.Distribution, indexes: Sequence[Index], depth: int = 3
) -> str:
    """The kernel whose headers *meta* installs, by itself or by another metapackage, or ``""``."""
    for name in meta.needs():
        if abi := distribution.abi_of(name):
            return abi
    for name in meta.needs() if depth else ():
        if (other := _highest(_named(indexes, name))) and (
            abi := _target(other, distribution, indexes, depth - 1)
        ):
            return abi
    return ""


def _metapackage(suite: suites.Suite, abi: str, arch: str, indexes: Sequence[Index]) -> str:
    """What installs the headers of *abi* and of the kernels after it; ``""`` if nothing does.

    Those of a superseded kernel are followed by what follows its flavour.
    """
    it = suite.of
    usual = it.metapackage(suite, it.flavour(abi, arch), arch)
    names = [usual, *(package.name for index in indexes for package in index.packages)]
    for name in dict.fromkeys(names):
        if it.abi_of(name) or not (name == usual or it.flavour_of(name, arch)):
            continue
        meta = _highest(_named(indexes, name))
        if meta and _target(meta, it, indexes) == abi:
            return name
    return usual if _named(indexes, usual) else ""


def _abis(indexes: Iterable[Index], distribution: suites.Distribution, arch: str) -> list[str]:
    from debian.debian_support import NativeVersion

    found = {
        abi: package.version
        for index in indexes
        for package in index.packages
        if package.arch != "all"
        and (abi := distribution.abi_of(package.name))
        and distribution.made_for(abi, arch)
    }
    return sorted(found, key=lambda abi: (NativeVersion(found[abi]), abi))


def _short(error: requests.RequestException) -> str:
    """The innermost reason of a failed request, without object addresses."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return re.sub(r"^\[Errno -?\d+\] ", "", str(cause)) or type(cause).__name__
