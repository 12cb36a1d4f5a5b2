"""Debian source packages from templates: what ``dpkg-buildpackage`` gets to see.

There are two, so that an archive can hold the results for many kernels at once.  ``xt-tarpit``
does not depend on the kernel and comes out the same, byte for byte, for every kernel of a suite;
``xt-tarpit-modules-ABI`` holds the modules for one.  Nothing is compiled here: the trees go to a
sealed container, where ``containers/build/build-packages.sh`` builds them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import architectures, paths, suites
from tarpit_builder.container import Files, Recipe
from tarpit_builder.packaging import changelog, contents
from tarpit_builder.packaging.changelog import ChangelogSection
from tarpit_builder.packaging.contents import EXTENSION_SOURCES, MAIN, MODULE_SOURCES, MODULES

if TYPE_CHECKING:
    import jinja2

    from tarpit_builder.sources.mirrors import Mirrors

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
SCRIPTS = paths.PROJECT / "containers" / "build"
SIGNING = paths.PROJECT / "containers" / "sign"

APT_INSTALL = "sudo apt install ./xt-tarpit-common_*.deb"
"""How apt is told to install what packages of modules need."""

UNITS = ("host/*.service", "host/*.timer")
"""Patterns below ``dkms/``: systemd's units of ``xt-tarpit-common``."""


@dataclass(frozen=True, slots=True)
class PackageSet:
    """What the packages are made for.

    *version* is the package version with its suite part (``1.0.0+deb13``), *suite* the codename
    whose userland they run on, *abi* the kernel's ``uname -r``, *kernel_version* the version of
    its package (empty if it has none) and *kernel_source* what that was built from, *module_dir*
    where that suite's kernel packages keep modules, *distribution* whose kernel it is.
    """

    version: str
    suite: str
    arch: str
    abi: str
    kernel_version: str
    module_dir: str
    distribution: str = suites.DEBIAN
    kernel_source: str = "linux"

    @classmethod
    def of(
        cls, suite: suites.Suite, arch: str, abi: str, kernel_version: str, kernel_source: str
    ) -> PackageSet:
        """The packages of today's release for a kernel of *suite*."""
        return cls(
            version=f"{changelog.version()}{suite.suffix}",
            suite=suite.base,
            arch=arch,
            abi=abi,
            kernel_version=kernel_version,
            module_dir=suite.module_dir,
            distribution=suite.distribution,
            kernel_source=kernel_source,
        )

    @property
    def modules(self) -> str:
        """The package of the modules, and its source package."""
        return f"{MODULES}-{contents.in_package_name(self.abi)}"

    @property
    def release(self) -> str:
        """The upstream version: *version* without its suite part."""
        return self.version.partition("+")[0]

    @property
    def suffix(self) -> str:
        """The suite part of *version*, ``+deb13``."""
        return self.version.removeprefix(self.release)

    @property
    def of_whom(self) -> suites.Distribution:
        """The distribution whose kernel it is."""
        return suites.distributions()[self.distribution]

    @property
    def series(self) -> str:
        """The number of the suite of the userland: 13 of trixie; of sid, that of the next one."""
        return suites.known(self.of_whom.base)[self.suite].number.partition("~")[0]

    @property
    def kernel_packages(self) -> tuple[str, ...]:
        """What the package of the kernel may be called."""
        return tuple(name.format(abi=self.abi) for name in self.of_whom.image_packages)

    @property
    def headers(self) -> tuple[str, ...]:
        """The metapackages of headers that follow the kernels of the suite."""
        number = self.suffix.removeprefix(f"+{self.of_whom.suffix}")
        own = tuple(name.format(number=number) for name in self.of_whom.recommends)
        return own or header_packages()


def source_files(packages: PackageSet) -> Files:
    """Both source trees for *packages*, to be mounted at ``/src``.

    :raises UserError: if ``CHANGELOG.md`` does not start with the version of the project, or
        the maintainer has no address, or the home page none.
    """
    members: dict[str, Path | bytes] = {}
    for kind, source, patterns in (
        (MAIN, MAIN, MODULE_SOURCES + EXTENSION_SOURCES),
        (MODULES, packages.modules, MODULE_SOURCES),
    ):
        tree: dict[str, Path | bytes] = {
            str(path.relative_to(contents.DKMS)): path for path in contents.matching(patterns)
        }
        tree |= _rendered(kind, source, packages)
        if kind == MAIN:
            tree["debian/xt-tarpit-dkms.dkms"] = contents.DKMS / "dkms.conf"
            # debhelper knows units by their place, and where the suite wants them.
            for unit in contents.matching(UNITS):
                tree[f"debian/{MAIN}-common.{unit.name}"] = unit
        members |= {f"{source}-{packages.version}/{name}": tree[name] for name in tree}
    return Files(members)


def recipe(
    suite: suites.Suite, arch: str, compiler: str, mirrors: Mirrors, *, expired: bool
) -> Recipe:
    """The image that builds packages of *suite* for *arch*.

    :param compiler: the package of the compiler, as it is called where it is a native one.
    :param expired: whether an index past its Valid-Until will do.
    """
    return Recipe(
        template="build",
        suite=suite.base,
        arch=architectures.BUILD,
        apt_sources=mirrors.apt_sources(suite),
        mirror=mirrors.main,
        distribution=suite.distribution,
        keyring=mirrors.keyring,
        variables={
            "compiler": architectures.compiler(compiler, arch),
            "host": "" if arch == architectures.BUILD else arch,
            "allow_expired": expired,
        },
    )


def build_environment(abi: str, arch: str, compiler: str) -> dict[str, str]:
    """What ``build-packages.sh`` has to know there, for the kernel *abi*."""
    compiler = architectures.compiler(compiler, arch)
    return {"KERNEL_ABI": abi, "HOST_ARCH": arch, "CC_PACKAGE": compiler}


def build_scripts() -> Files:
    """The scripts that run inside the build container."""
    return _scripts(SCRIPTS)


def signing_scripts() -> Files:
    """The script that puts signatures into modules, in the same container."""
    return _scripts(SIGNING)


def debian_changelog(source: str, packages: PackageSet, past: Sequence[ChangelogSection]) -> str:
    """Debian's changelog of *source*, with the releases *past*."""
    template = _environment(MAIN).get_template("debian/changelog.j2")
    return template.render(
        source=source, packages=packages, releases=past, maintainer=contents.maintainer()
    )


def copyright_text() -> str:
    """The copyright file of every package."""
    template = _environment(MAIN).get_template("debian/copyright.j2")
    return template.render(releases=changelog.releases())


def standards_version(series: str) -> str:
    """The Debian Policy version to declare in suite number *series*."""
    table: dict[str, str] = _rules()["standards"]
    return table.get(series, list(table.values())[-1])


def header_packages() -> tuple[str, ...]:
    """The metapackages whose headers follow a kernel image from version to version."""
    debian = (end for row in architectures.known().values() for end in row.kernels)
    return tuple(f"linux-headers-{end}" for end in (*debian, *_rules()["headers"]["others"]))


def _scripts(folder: Path) -> Files:
    return Files({path.name: path for path in sorted(folder.glob("*.sh"))})


@cache
def _rules() -> dict[str, Any]:
    return tomllib.loads((contents.RULES / "packaging.toml").read_text())


def _rendered(kind: str, source: str, packages: PackageSet) -> dict[str, Path | bytes]:
    """The templates of *kind*, and those common to all, as members of a source tree."""
    environment = _environment(kind)
    values = {
        "source": source,
        "packages": packages,
        "releases": changelog.releases(),
        "description": contents.description,
        "maintainer": contents.maintainer(),
        "homepage": contents.homepage(),
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
