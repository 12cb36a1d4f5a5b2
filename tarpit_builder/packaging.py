"""Debian source packages from templates: what ``dpkg-buildpackage`` gets to see.

There are two, so that an archive can hold the results for many kernels at once.  ``xt-tarpit``
does not depend on the kernel and comes out the same, byte for byte, for every kernel of a suite;
``xt-tarpit-modules-ABI`` holds the modules for one.  Nothing is compiled here: the trees go to a
sealed container, where ``containers/build/build-packages.sh`` builds them.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import __version__, paths
from tarpit_builder.container import Files
from tarpit_builder.errors import UserError

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
RULES = Path(__file__).parent / "rules"
DKMS = paths.PROJECT / "dkms"
SCRIPTS = paths.PROJECT / "containers" / "build"
CHANGELOG = paths.PROJECT / "CHANGELOG.md"

MAIN = "xt-tarpit"
MODULES = "xt-tarpit-modules"

MODULE_SOURCES = ("Kbuild", "Makefile", "xt_TARPIT.c", "xt_TARPIT.h", "compat/**/*")
"""Patterns below ``dkms/``: what compiling the kernel module takes, and nothing else."""

EXTENSION_SOURCES = ("libxt_TARPIT.[ch]", "xt-tarpit.8", "examples/*", "host/**/*")
"""Patterns below ``dkms/``: what else the kernel-independent packages are made of."""

UNITS = ("host/*.service", "host/*.timer")
"""Patterns below ``dkms/``: systemd's units of ``xt-tarpit-common``."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
HEADING = re.compile(r"^## (?P<version>\S+) — (?P<date>\d{4}-\d{2}-\d{2})$")
UNRELEASED = "## Unreleased"
ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
WEB_PAGE = re.compile(r"https?://[^\s/]+(/\S*)?")


@dataclass(frozen=True, slots=True)
class Release:
    """One section of ``CHANGELOG.md``; each change is one paragraph without line breaks."""

    version: str
    date: date
    changes: tuple[str, ...]

    @property
    def epoch(self) -> int:
        """The start of the day of the release, in seconds since 1970, UTC."""
        return int(datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC).timestamp())

    @property
    def stamp(self) -> str:
        """The same moment as deb-changelog(5) wants it."""
        # Not strftime, whose names depend on the locale.
        day = WEEKDAYS[self.date.weekday()]
        month = MONTHS[self.date.month - 1]
        return f"{day}, {self.date.day:02} {month} {self.date.year} 00:00:00 +0000"


@dataclass(frozen=True, slots=True)
class PackageSet:
    """What the packages are made for.

    *version* is the package version with its suite part (``1.0.0+deb13``), *suite* the codename
    whose userland they run on, *abi* the kernel's ``uname -r``, *kernel_version* the version of
    its Debian package, *module_dir* where that suite's kernel packages keep modules.
    """

    version: str
    suite: str
    arch: str
    abi: str
    kernel_version: str
    module_dir: str

    @property
    def release(self) -> str:
        """The upstream version: *version* without its suite part."""
        return self.version.partition("+")[0]

    @property
    def suffix(self) -> str:
        """The suite part of *version*, ``+deb13``."""
        return self.version.removeprefix(self.release)

    @property
    def series(self) -> str:
        """The number of the suite, 13 for ``1.0.0+deb13``; of sid, that of the next one."""
        return self.version.partition("+deb")[2].partition("~")[0]


def source_files(packages: PackageSet) -> Files:
    """Both source trees for *packages*, to be mounted at ``/src``.

    :raises UserError: if ``CHANGELOG.md`` does not start with the version of the project, or
        the maintainer has no address, or the home page none.
    """
    members: dict[str, Path | bytes] = {}
    for kind, source, patterns in (
        (MAIN, MAIN, MODULE_SOURCES + EXTENSION_SOURCES),
        (MODULES, f"{MODULES}-{packages.abi}", MODULE_SOURCES),
    ):
        tree: dict[str, Path | bytes] = {
            str(path.relative_to(DKMS)): path for path in _matching(patterns)
        }
        tree |= _rendered(kind, source, packages)
        if kind == MAIN:
            tree["debian/xt-tarpit-dkms.dkms"] = DKMS / "dkms.conf"
            # debhelper knows units by their place, and where the suite wants them.
            for unit in _matching(UNITS):
                tree[f"debian/{MAIN}-common.{unit.name}"] = unit
        members |= {f"{source}-{packages.version}/{name}": tree[name] for name in tree}
    return Files(members)


def build_scripts() -> Files:
    """The scripts that run inside the build container."""
    return Files({path.name: path for path in sorted(SCRIPTS.glob("*.sh"))})


def source_date_epoch() -> int:
    """The time stamp of everything that is built, in seconds since 1970: the release's date."""
    return releases()[0].epoch


@cache
def releases() -> tuple[Release, ...]:
    """The sections of ``CHANGELOG.md``, newest first.

    :raises UserError: if it cannot be understood or its first version is not the project's.
    """
    parsed = parse_changelog(CHANGELOG.read_text(encoding="utf-8"))
    if not parsed or parsed[0].version != __version__:
        found = parsed[0].version if parsed else "no release"
        raise UserError(
            f"CHANGELOG.md starts with {found}, but tarpit_builder.__version__ is {__version__}",
            hint=f"add a section `## {__version__} — YYYY-MM-DD` at its top",
        )
    return parsed


def parse_changelog(text: str) -> tuple[Release, ...]:
    """The releases of *text*: ``## VERSION — YYYY-MM-DD`` headings over ``-`` lists.

    What is still ``## Unreleased`` belongs to no release; ``invoke release`` gives it to the next.

    :raises UserError: if a heading of the second level is not of that form, or names a day that
        does not exist.
    """
    found: list[Release] = []
    for block in re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]:
        heading, _, body = block.partition("\n")
        if heading == UNRELEASED:
            continue
        match = HEADING.match(heading)
        try:
            day = date.fromisoformat(match["date"]) if match else None
        except ValueError:
            day = None
        if match is None or day is None:
            raise UserError(
                f"CHANGELOG.md has a heading that is no release: {heading!r}",
                hint="write it as `## 1.2.3 — 2026-11-22`",
            )
        items = re.split(r"^- ", body, flags=re.MULTILINE)[1:]
        found.append(Release(match["version"], day, tuple(" ".join(i.split()) for i in items)))
    return tuple(found)


def changelog(source: str, packages: PackageSet, past: Sequence[Release]) -> str:
    """Debian's changelog of *source*, with the releases *past*."""
    template = _environment(MAIN).get_template("debian/changelog.j2")
    return template.render(source=source, packages=packages, releases=past, maintainer=maintainer())


def maintainer() -> str:
    """Who answers for the packages, found as Debian's own tools do.

    ``DEBFULLNAME`` and ``DEBEMAIL``, else what git is configured with, else the user at this host.
    It is part of what is built, so the manifest records it.

    :raises UserError: if that makes no address.
    """
    name = os.environ.get("DEBFULLNAME", "").strip()
    email = os.environ.get("DEBEMAIL", "").strip()
    name = name or _git_config("user.name") or getpass.getuser()
    email = email or _git_config("user.email") or f"{getpass.getuser()}@{socket.gethostname()}"
    if not ADDRESS.fullmatch(email) or re.search(r"[<>\n]", name):
        raise UserError(
            f"DEBFULLNAME and DEBEMAIL do not make an address: {name} <{email}>",
            hint="set them as in DEBFULLNAME='Jane Doe' DEBEMAIL=jane@example.org",
        )
    return f"{name} <{email}>"


def homepage() -> str:
    """The packages' home page: ``TARPIT_HOMEPAGE``, or none.

    :raises UserError: if it is no address of a web page.
    """
    url = os.environ.get("TARPIT_HOMEPAGE", "").strip()
    if url and not WEB_PAGE.fullmatch(url):
        raise UserError(
            f"TARPIT_HOMEPAGE is not the address of a web page: {url}",
            hint="write it as https://example.org/tarpit, or unset it",
        )
    return url


@cache
def _git_config(key: str) -> str:
    """git's setting *key*, as it holds for this project; empty where there is none."""
    try:
        found = subprocess.run(
            ["git", "-C", str(paths.PROJECT), "config", "--get", key],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip()


def standards_version(series: str) -> str:
    """The Debian Policy version to declare in suite number *series*."""
    table: dict[str, str] = _rules()["standards"]
    return table.get(series, list(table.values())[-1])


def header_packages() -> tuple[str, ...]:
    """The metapackages whose headers follow a kernel image from version to version."""
    table: dict[str, list[str]] = _rules()["headers"]
    return tuple(f"linux-headers-{flavour}" for row in table.values() for flavour in row)


def header_metapackage(abi: str) -> str:
    """Of those, the one for the kernel *abi*: ``linux-headers-cloud-amd64``, or ``""``."""
    known = [name.removeprefix("linux-headers-") for name in header_packages()]
    fitting = [flavour for flavour in known if abi.endswith(f"-{flavour}")]
    return f"linux-headers-{max(fitting, key=len)}" if fitting else ""


@cache
def _rules() -> dict[str, Any]:
    return tomllib.loads((RULES / "packaging.toml").read_text())


def _matching(patterns: tuple[str, ...]) -> list[Path]:
    return sorted(path for pattern in patterns for path in DKMS.glob(pattern) if path.is_file())


def _rendered(kind: str, source: str, packages: PackageSet) -> dict[str, Path | bytes]:
    """The templates of *kind*, and those common to all, as members of a source tree."""
    environment = _environment(kind)
    values = {
        "source": source,
        "packages": packages,
        "releases": releases(),
        "maintainer": maintainer(),
        "homepage": homepage(),
        "header_packages": header_packages(),
        "standards_version": standards_version(packages.series),
    }
    return {
        name.removesuffix(".j2"): environment.get_template(name).render(values).encode()
        for name in environment.list_templates(extensions=["j2"])
    }


def _environment(kind: str) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES / kind, TEMPLATES / "common"]),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (packaging files, not HTML)
    )
    environment.filters["wrapped"] = _wrapped
    return environment


def _wrapped(text: str) -> str:
    """*text* as an item of a Debian changelog, no line longer than 80 columns."""
    import textwrap

    return textwrap.fill(text, 78, initial_indent="  * ", subsequent_indent="    ")
