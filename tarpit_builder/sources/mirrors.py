"""Which Debian mirror is used, and why: by default the one that this machine's apt is set to.

A regional or corporate mirror is there for a reason.  apt itself is asked, with ``apt-get
indextargets``, as it reads every form of its sources.  What containers cannot use is passed over,
and so is what only looks like Debian: the archive of a derivative, or a project's own repository
for bookworm.
"""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tarpit_builder import names, suites
from tarpit_builder.errors import ToolMissingError, UserError

MAIN = "http://ftp.debian.org/debian"
SECURITY = "http://security.debian.org/debian-security"
POCKETS = {"", "updates", "security", "backports", "proposed-updates"}
SNAPSHOT = re.compile(
    r"/archive/(?P<archive>debian)(-security)?/(?P<moment>\d{8}T\d{6}Z)(?=[/ ]|$)"
)
"""What the address of an archive at snapshot.debian.org, or one like it, ends in."""
QUERY = ("--format", "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(ORIGIN)", "Created-By: Packages")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Where the archive is, both without a trailing slash, and the reason of each.

    *named* is what ``--mirror`` said, if it did, or else invoke.yaml of Debian's; *asked* only the
    former.  *keyring* is what ``--keyring`` said, *distribution* whose archive it is.
    """

    main: str = MAIN
    security: str = SECURITY
    named: str = ""
    why: str = field(default="", compare=False)
    why_security: str = field(default="", compare=False)
    asked: str = field(default="", compare=False)
    keyring: str = ""
    distribution: str = suites.DEBIAN

    @classmethod
    def choose(cls, mirror: str | None, *, default: str = "", keyring: str = "") -> Mirrors:
        """*mirror* of the caller, else *default*, that of the environment, apt's, or Debian's own.

        :raises UserError: if *keyring* is no file.
        """
        if keyring and not Path(keyring).is_file():
            raise UserError(
                f"--keyring {keyring}: there is no such file",
                hint="name the file with the public keys that the archive is signed with",
            )
        named = (mirror or default or "").rstrip("/")
        asked = (named, "asked for with --mirror, or in invoke.yaml")
        debian = suites.distributions()[suites.DEBIAN]
        main = _choose(debian, [asked, _named("TARPIT_DEBIAN_MIRROR")], MAIN, security=False)
        updates = [_named("TARPIT_DEBIAN_SECURITY_MIRROR"), _of_same_moment(main[0])]
        security = _choose(debian, updates, SECURITY, security=True)
        return cls(
            main[0],
            security[0],
            named,
            main[1],
            security[1],
            asked=(mirror or "").rstrip("/"),
            keyring=keyring,
        )

    def serving(self, distribution: suites.Distribution, arch: str) -> Mirrors:
        """The mirrors of *distribution* for *arch*; what the caller named is meant for it."""
        if distribution.name == self.distribution:
            return self
        variable = f"TARPIT_{distribution.name.upper()}_MIRROR"
        asked = (self.asked, "asked for with --mirror")
        own = distribution.mirror(arch)
        # What apt has is for this machine; of Ubuntu, others may be elsewhere.
        here = names.architecture(os.uname().machine)
        apt = own == distribution.mirror(here)
        main = _choose(distribution, [asked, _named(variable)], own, security=False, apt=apt)
        return Mirrors(
            main[0],
            main[0],
            self.asked,
            main[1],
            main[1],
            asked=self.asked,
            keyring=self.keyring,
            distribution=distribution.name,
        )

    def keyring_file(self, suite: str) -> Path:
        """The file with the keys that sign *suite*.

        :raises ToolMissingError: if it is not there.
        """
        distribution = suites.distributions()[self.distribution]
        named = self.keyring or os.environ.get(f"TARPIT_{self.distribution.upper()}_KEYRING", "")
        stem = suite.partition("-")[0]
        places = [named] if named else [k.format(suite=stem) for k in distribution.keyrings]
        found = next((place for place in places if Path(place).is_file()), None)
        if found is None:
            raise ToolMissingError(
                f"the {distribution.title} archive keyring {places[0]} is not there",
                hint=distribution.keyring_from,
            )
        return Path(found)

    def signer(self) -> str:
        """Whose keys sign the archive."""
        if self.keyring:
            return self.keyring
        return f"{suites.distributions()[self.distribution].title}'s archive"

    def words(self) -> tuple[str, ...]:
        """The options of a command that choose the same, where the caller named a mirror."""
        mirror = ("--mirror", self.named) if self.named else ()
        return (*mirror, "--keyring", self.keyring) if self.keyring else mirror

    def of(self, pocket: str) -> tuple[str, str]:
        """Base URL and suite name of *pocket* (see ``rules/suites.toml``)."""
        place, _, name = pocket.rpartition(":")
        return (self.security if place == "security" else self.main), name

    def apt_sources(self, suite: suites.Suite) -> tuple[str, ...]:
        """``sources.list`` lines for *suite*, its base and their pockets."""
        base = suite.userland
        names = dict.fromkeys((base.name, *base.pockets, suite.name, *suite.pockets))
        components = " ".join(suite.of.components)
        return tuple(f"deb {url} {name} {components}" for url, name in map(self.of, names))


def moment(text: str) -> str:
    """The moment whose state the archive in *text*, an address or a line of apt's sources, shows;
    ``""`` if it is that of today.
    """
    found = SNAPSHOT.search(text)
    return found["moment"] if found else ""


def apt_proxy() -> str:
    """The proxy that apt is set to for http, if any; downloads here heed ``http_proxy`` only."""
    text = _run("apt-config", "shell", "PROXY", "Acquire::http::Proxy")
    found = re.search(r"^PROXY='(.*)'$", text, re.MULTILINE)
    return found.group(1) if found and found.group(1) != "DIRECT" else ""


def _named(variable: str) -> tuple[str, str]:
    return os.environ.get(variable, ""), f"{variable} names it"


def _of_same_moment(main: str) -> tuple[str, str]:
    """Security updates as they were when *main* was as it shows, if it is a snapshot."""
    found = SNAPSHOT.search(main)
    if not found:
        return "", ""
    end = found.end("archive")
    return f"{main[:end]}-security{main[end:]}", f"{main} is of that moment, too"


def _choose(
    distribution: suites.Distribution,
    named: list[tuple[str, str]],
    default: str,
    *,
    security: bool,
    apt: bool = True,
) -> tuple[str, str]:
    """A URL and why it is used: the first of *named* that there is, else apt's, else *default*."""
    for url, why in named:
        if url:
            return url.rstrip("/"), why
    passed_over = ""
    for uri in _of_apt(distribution, security=security) if apt else ():
        for url in _expanded(uri):
            if not (flaw := _flaw(url)):
                return url.rstrip("/"), "apt is set to it on this machine"
            passed_over = passed_over or f"apt is set to {_public(url)} here, {flaw}"
    what = "security mirror" if security else f"{distribution.title} mirror"
    return default, passed_over or f"apt is set to no {what} on this machine"


def _of_apt(distribution: suites.Distribution, *, security: bool) -> list[str]:
    """Its addresses in apt's sources, those that are surest to be *distribution*'s first.

    Once apt has fetched the indexes, it knows their origin.  Until then the names of the suites
    must do, of which other projects have few and Debian's mirrors several.  The suites of others
    have Debian's names, so it takes their origin to tell.
    """
    debian = distribution.name == suites.DEBIAN
    stems = {*distribution.suites, *(suites.ALIASES if debian else ())}
    origins_of_it = {"", distribution.origin} if debian else {distribution.origin}
    origins: dict[tuple[str, str], str] = {}
    for line in _run("apt-get", "indextargets", *QUERY).splitlines():
        uri, release, _, origin = line.split("\t")
        origins[uri, release] = origin
    entries = []
    for line in _run("apt-get", "indextargets", "--no-release-info", *QUERY).splitlines():
        uri, release, component, _ = line.split("\t")
        origin = origins.get((uri, release), "")
        stem, _, pocket = release.replace("/updates", "-security").partition("-")
        is_its = stem in stems and pocket in POCKETS and component == distribution.components[0]
        if is_its and origin in origins_of_it:
            entries.append((uri, release, pocket == "security", bool(origin)))
    entries = [entry for entry in dict.fromkeys(entries) if not debian or entry[2] is security]
    count = Counter(uri for uri, *_ in entries)
    entries.sort(key=lambda entry: (not entry[3], -count[entry[0]]))
    return list(dict.fromkeys(uri for uri, *_ in entries))


def _expanded(uri: str) -> Iterator[str]:
    """*uri*, or what the list has that it names (apt-transport-mirror(1)), most preferred first."""
    if not uri.startswith("mirror+file:"):
        yield uri
        return
    try:
        text = Path("/" + uri.removeprefix("mirror+file:").strip("/")).read_text()
    except (OSError, UnicodeDecodeError):
        text = ""
    found = []
    for line in text.splitlines():
        url, *settings = line.partition("#")[0].split() or [""]
        order = [int(word[9:]) for word in settings if re.fullmatch(r"priority:\d+", word)]
        if url:
            found.append((min(order, default=1 << 32), url))
    yield from (url for _, url in sorted(found, key=lambda item: item[0])) if found else [uri]


def _flaw(url: str) -> str:
    """Why containers cannot use the mirror at *url*; empty if they can."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        return "with a password, which would end up in images and manifests"
    if parts.scheme == "https":
        return "and a bare suite in a container trusts no certificate"
    if parts.scheme != "http":
        return f"and containers cannot use {parts.scheme}:"
    host = (parts.hostname or "").rstrip(".")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost" or host.endswith(".localhost")
    return "which in a container is the container itself" if local or not host else ""


def _public(url: str) -> str:
    """*url* without a user's name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])).rstrip("/")


def _run(*command: str) -> str:
    """What *command* prints; nothing where there is no apt, or none that understands it."""
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, check=True, errors="replace",
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout
