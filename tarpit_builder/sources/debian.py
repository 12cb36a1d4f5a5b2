"""Debian's archive: which kernels a suite has, and their packages, verified as apt does.

The chain is apt's own (apt-secure(8)): ``InRelease`` is signed by a key of the Debian archive
keyring, it holds the SHA-256 of ``Packages.xz``, and that holds the SHA-256 of every package.
"""

from __future__ import annotations

import email.utils
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import architectures, paths, suites
from tarpit_builder.errors import NetworkError, SourceError, ToolMissingError, UserError
from tarpit_builder.leftovers import scratch
from tarpit_builder.sources.mirrors import Mirrors
from tarpit_builder.sources.store import Blob, Store

if TYPE_CHECKING:
    import requests

    from tarpit_builder.console import Console

__all__ = ["Archive", "DebianKernel", "Index", "Mirrors", "Package", "did_you_mean"]

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
TIMEOUT = (10, 30)  # seconds to connect, and between two reads
INDEX_LIMIT = 400_000_000  # bytes of an uncompressed Packages file; main has about 60 MB
WANTED = re.compile(r"linux-(?:headers|image|kbuild|compiler|modules|binary|base|source)-")
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

    def depends_on(self, pattern: str) -> str | None:
        """The first dependency whose name matches *pattern* wholly."""
        for clause in re.split(r"[,|]", self.depends):
            words = clause.split()
            if words and re.fullmatch(pattern, words[0].partition(":")[0]):
                return words[0].partition(":")[0]
        return None


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

    *packages* are the headers (to build), *image* the packages to boot; *compiler* is the Debian
    package of the compiler that built the kernel, such as ``gcc-12``.
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


@dataclass(slots=True)
class Archive:
    """Debian's archive as seen through *mirrors*, with its indexes kept in *store*."""

    store: Store
    mirrors: Mirrors
    console: Console
    write: bool = True
    _indexes: dict[tuple[str, str], Index] = field(default_factory=dict)

    # -- finding kernels ---------------------------------------------------------------------

    def codename(self, name: str) -> str:
        """The codename behind *name*, which may be ``stable`` or the like.

        :raises UserError: if there is no such suite.
        """
        if name in suites.known():
            return name
        stem, _, tail = name.partition("-")
        if stem in suites.ALIASES:
            release, _ = self._release(stem, "amd64")
            found = re.search(r"^Codename: (\S+)$", release, re.MULTILINE)
            codename = (found.group(1) if found else stem) + (f"-{tail}" if tail else "")
            if codename in suites.known():
                return codename
            raise UserError(
                f"Debian's {name} is now {codename}, which this release does not know",
                hint="update tarpit-builder, or add it to tarpit_builder/rules/suites.toml",
            )
        if name in suites.FORMER:
            raise UserError(
                f"{name} has left Debian's mirrors, and this project does not know it",
                hint="give it a block in tarpit_builder/rules/suites.toml, and name with --mirror "
                "where Debian keeps its old releases",
            )
        raise UserError(
            f"no Debian suite is called {name!r}{did_you_mean(name, suites.known())}",
            hint="`invoke kernels` lists what is supported",
        )

    def newest(self, suite: suites.Suite, flavour: str, arch: str) -> DebianKernel:
        """The kernel that *suite* installs today in *flavour* (``""`` is the ordinary one).

        :raises UserError: if the suite has no such flavour.
        """
        names = architectures.known()[arch]
        indexes = self._suite(suite, arch)
        meta = _highest(_named(indexes, f"linux-headers-{names.kernel(flavour)}"))
        if meta is None:
            have = [end for end in names.kernels if _named(indexes, f"linux-headers-{end}")]
            if not have:
                raise UserError(
                    f"{suite.name} has no kernels for {arch}",
                    hint=f"`invoke kernels --arch {arch}` lists the suites that have some",
                )
            others = ", ".join(filter(None, map(names.flavour, have)))
            raise UserError(
                f"{suite.name} has no kernel of flavour {flavour or 'default'!r} for {arch}",
                hint=f"flavours there: {others or 'none'}",
            )
        target = meta.depends_on(r"linux-headers-[0-9].*")
        if target is None:
            raise SourceError(
                f"{meta.name} {meta.version} of {suite.name} names no headers package",
                hint="the archive may be in the middle of an update: try again in an hour, "
                "or name an exact ABI",
            )
        return self._kernel(suite, target.removeprefix("linux-headers-"), arch, indexes)

    def exact(self, abi: str, arch: str) -> DebianKernel:
        """The kernel whose ``uname -r`` is *abi*, from whichever suite has it.

        :raises UserError: if none has it; near ones are suggested.
        """
        order = sorted(suites.known().values(), key=lambda suite: re.search(suite.abi, abi) is None)
        seen: list[str] = []
        absent: UserError | None = None
        likely = [suite for suite in order if re.search(suite.abi, abi)]
        for suite in likely or order:
            try:
                indexes = self._suite(suite, arch)
            except UserError as error:
                absent = error
                continue
            if _named(indexes, f"linux-headers-{abi}"):
                return self._kernel(suite, abi, arch, indexes)
            seen += _abis(indexes, arch)
        if absent is not None and not seen:
            raise absent
        raise UserError(
            f"no Debian suite has headers for kernel {abi!r}{did_you_mean(abi, seen)}",
            hint="`invoke kernels` lists what can be had now; Debian drops superseded kernels "
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
        return tuple(_abis(self._suite(suite, arch), arch))

    def _kernel(
        self, suite: suites.Suite, abi: str, arch: str, indexes: Sequence[Index]
    ) -> DebianKernel:
        headers = _highest(_named(indexes, f"linux-headers-{abi}"))
        if headers is None:
            raise SourceError(
                f"{suite.name} announces kernel {abi} but has no linux-headers-{abi}",
                hint="the archive may be in the middle of an update: try again in an hour",
            )
        # Its programs run here, whatever the kernel runs on; its scripts are the same for all.
        kbuild = headers.depends_on(r"linux-kbuild-.*")
        native = indexes if arch == architectures.BUILD else self._suite(suite, architectures.BUILD)
        common = headers.depends_on(r"linux-headers-.*-common(?:-rt)?")
        compiler = headers.depends_on(r"(?:linux-compiler-)?gcc-\d+.*") or ""
        number = re.search(r"gcc-(\d+)", compiler)
        parts = [
            _matching(_named(where, name), headers)
            for name, where in ((common, indexes), (kbuild, native))
            if name is not None
        ]
        if number is None or kbuild is None or common is None or None in parts:
            raise SourceError(
                f"the packages that linux-headers-{abi} depends on are not all in {suite.name}",
                hint="the archive may be in the middle of an update: try again in an hour",
            )
        stems = [f"linux-image-{abi}", f"linux-image-{abi}-unsigned"]
        image = next((found for name in stems if (found := _highest(_named(indexes, name)))), None)
        boot = [image] if image else []
        if image and image.depends_on(r"linux-binary-.*"):
            boot += [
                found
                for stem in ("linux-binary", "linux-modules")
                if (found := _highest(_named(indexes, f"{stem}-{abi}")))
            ]
        expired = next((index.expired for index in indexes if index.expired), "")
        return DebianKernel(
            abi=abi,
            flavour=architectures.known()[arch].flavour(abi) or "",
            arch=arch,
            version=headers.version,
            suite=suite,
            compiler=f"gcc-{number.group(1)}",
            packages=(headers, *(part for part in parts if part is not None)),
            image=tuple(boot),
            expired=expired,
        )

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
        release, stale = self._release(pocket, arch)
        digest = _release_entry(release, f"main/binary-{arch}/Packages.xz")
        if digest is None:
            if pocket not in suites.known():  # support of an architecture may end before a suite's
                return Index(pocket, ())
            raise UserError(
                f"{pocket} has no packages for {arch}",
                hint=f"`invoke kernels --arch {arch}` lists the suites that have kernels for it",
            )
        sha256, size = digest
        kept = self.store.root / "debian" / f"{sha256}.json"
        if kept.is_file():
            packages = tuple(Package(**row) for row in json.loads(kept.read_text()))
        else:
            packages = self._read_index(pocket, arch, sha256, size)
            if self.write:
                with paths.replacing(kept) as partial:
                    partial.write_text(json.dumps([asdict(package) for package in packages]))
        index = Index(pocket, packages, _expiry(release), stale)
        self._indexes[pocket, arch] = index
        return index

    def _release(self, pocket: str, arch: str) -> tuple[str, bool]:
        """The verified Release text of *pocket*, and whether it may be out of date."""
        base, name = self.mirrors.of(pocket)
        url = f"{base}/dists/{name}/InRelease"
        kept = self.store.root / "debian" / hashlib.sha256(url.encode()).hexdigest()
        known = kept.read_bytes() if kept.is_file() else None
        if self.store.offline:
            if known is None:
                raise SourceError(
                    f"the index of {pocket} is not in the cache, and --offline forbids fetching it",
                    hint="run the same command once without --offline",
                )
            return _signed_text(known, url), True
        try:
            fresh, modified = self._fetch_release(url, name, kept if known is not None else None)
        except NetworkError as error:
            if known is None:
                raise
            self.console.warn(f"{error.message}; going on with what {pocket} had before")
            return _signed_text(known, url), True
        if fresh is None:
            assert known is not None
            return _signed_text(known, url), False
        text = _signed_text(fresh, url)
        if self.write:
            with paths.replacing(kept) as partial:
                partial.write_bytes(fresh)
                os.utime(partial, (modified, modified))
        return text, False

    def _fetch_release(self, url: str, name: str, kept: Path | None) -> tuple[bytes | None, float]:
        """The InRelease file at *url*, or None where the one at *kept* is still current.

        With it the server's own time of its last change, in seconds since the epoch: a mirror
        may get a file that is older than our last visit, so our own clock would not do.
        """
        import requests

        headers = {}
        if kept is not None:
            headers["If-Modified-Since"] = email.utils.formatdate(kept.stat().st_mtime, usegmt=True)
        try:
            response = requests.get(url, headers=headers, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise NetworkError(
                f"the Debian mirror cannot be reached ({_short(error)})",
                hint="check the network with `invoke doctor`, name a --mirror, or use --offline",
            ) from error
        if response.status_code == 304:
            return None, 0
        if response.status_code == 404:
            raise UserError(
                f"{url.partition('/dists/')[0]} has no suite {name} (any more)",
                hint="name one that has it with --mirror URL",
            )
        if not response.ok:
            raise NetworkError(
                f"the Debian mirror answered {response.status_code} for {url}",
                hint="try again later, or name another --mirror",
            )
        modified = email.utils.parsedate_to_datetime(
            response.headers.get("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")
        )
        return response.content, modified.timestamp()

    def _read_index(self, pocket: str, arch: str, sha256: str, size: int) -> tuple[Package, ...]:
        base, name = self.mirrors.of(pocket)
        folder = f"{base}/dists/{name}/main/binary-{arch}"
        blob = Blob(
            name=f"Packages.xz of {pocket}",
            sha256=sha256,
            urls=(f"{folder}/by-hash/SHA256/{sha256}", f"{folder}/Packages.xz"),
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
                for stanza in _stanzas(path)
                if (package := _package(stanza, base, name)) is not None
            )
            stage.done(f"{len(packages)} kernel packages")
        return packages


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """``"; did you mean a or b?"`` for the *candidates* nearest to *word*, or nothing."""
    import difflib

    near = difflib.get_close_matches(word, list(dict.fromkeys(candidates)), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


_VERIFIED: dict[str, list[str]] = {}
"""Text by digest of what was verified in this process, so that no file is verified twice."""


def _signed_text(content: bytes, url: str) -> str:
    """The text of clear-signed *content*, once a key of the archive keyring vouches for it."""
    verdicts = _VERIFIED.setdefault(hashlib.sha256(content).hexdigest(), [])
    if verdicts:
        return verdicts[0]
    if shutil.which("gpgv") is None:
        raise ToolMissingError(
            "gpgv, which checks signatures, is not installed",
            hint="apt-get install gpgv debian-archive-keyring, or run ./bootstrap",
        )
    keyring = Path(os.environ.get("TARPIT_DEBIAN_KEYRING", KEYRING))
    if not keyring.is_file():
        raise ToolMissingError(
            f"the Debian archive keyring {keyring} is not there",
            hint="apt-get install debian-archive-keyring, or run ./bootstrap",
        )
    with scratch("gpgv") as folder:
        signed, plain = folder / "InRelease", folder / "Release"
        signed.write_bytes(content)
        run = subprocess.run(
            ["gpgv", "--keyring", keyring, "--output", plain, signed],
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        if run.returncode != 0 or not plain.is_file():
            reason = run.stderr.decode(errors="replace").strip().splitlines()
            raise SourceError(
                f"{url} is not signed by Debian ({reason[-1] if reason else 'no signature'})",
                hint="use another --mirror; for a private archive set TARPIT_DEBIAN_KEYRING",
            )
        verdicts.append(plain.read_text())
    return verdicts[0]


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


def _expiry(release: str) -> str:
    """The Valid-Until date if it has passed, else ``""``."""
    found = re.search(r"^Valid-Until: (.+)$", release, re.MULTILINE)
    if not found:
        return ""
    until = email.utils.parsedate_to_datetime(found.group(1).replace("UTC", "+0000"))
    return f"{until:%Y-%m-%d}" if until.timestamp() < time.time() else ""


def _stanzas(path: Path) -> Iterator[str]:
    """The stanzas of a Packages.xz that are about kernels."""
    lines: list[str] = []
    wanted, total = False, 0
    with lzma.open(path, "rt", encoding="utf-8", errors="replace") as index:
        for line in index:
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


def _named(indexes: Iterable[Index], name: str) -> list[Package]:
    return [package for index in indexes for package in index.packages if package.name == name]


def _highest(packages: Sequence[Package]) -> Package | None:
    from debian.debian_support import NativeVersion

    return max(packages, key=lambda package: NativeVersion(package.version), default=None)


def _matching(packages: Sequence[Package], headers: Package) -> Package | None:
    """The one built with *headers*; else, for packages shared by several, the newest."""
    same = [package for package in packages if package.version == headers.version]
    return same[0] if same else _highest(packages)


def _abis(indexes: Iterable[Index], arch: str) -> list[str]:
    from debian.debian_support import NativeVersion

    found = {
        package.name.removeprefix("linux-headers-"): package.version
        for index in indexes
        for package in index.packages
        if re.match(r"linux-headers-[0-9]", package.name)
        and architectures.known()[arch].flavour(package.name) is not None
        and not re.search(r"-common(-rt)?$", package.name)
    }
    return sorted(found, key=lambda abi: (NativeVersion(found[abi]), abi))


def _short(error: requests.RequestException) -> str:
    """The innermost reason of a failed request, without object addresses."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return re.sub(r"^\[Errno -?\d+\] ", "", str(cause)) or type(cause).__name__
