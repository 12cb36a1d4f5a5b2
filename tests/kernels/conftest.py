"""Real trees for the tests that need them, and a loud account of those that could not be had."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tarpit_builder import paths
from tarpit_builder.console import Console
from tarpit_builder.errors import NetworkError, SourceError
from tarpit_builder.kernels import toolchain
from tarpit_builder.kernels.source import SourcePlaces
from tarpit_builder.request import Request
from tarpit_builder.sources import FetchedTree
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tarpit_builder.versions import IptablesVersion, KernelVersion

RELEASES = tuple(f"2.6.{number}" for number in range(19, 27))
IPTABLES = ("1.3.8", "1.4.0")

CELLS = tuple(
    pytest.param(release, arch, marks=() if (row + column) % 2 else (pytest.mark.slow,))
    for row, release in enumerate(RELEASES)
    for column, arch in enumerate(toolchain.period_architectures())
)
"""Every release on every architecture; in an ordinary run each release on one, in turn."""

missing: dict[str, str] = {}
"""Sources that could not be had, and why."""


@pytest.fixture(scope="session")
def real() -> Archive:
    """Debian's archive and the user's cache, with its trees."""
    return Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console(quiet=True))


@pytest.fixture(scope="session")
def places(real: Archive) -> SourcePlaces:
    """Trees from the cache, kernel.org, or the repositories that the environment names."""
    return SourcePlaces.of(Request("2.6.24"), real)


def _or_skip(name: str, fetch: Callable[[], FetchedTree]) -> FetchedTree:
    if name not in missing:
        try:
            return fetch()
        except (NetworkError, SourceError) as error:
            missing[name] = error.message
    pytest.skip(f"{name} was not exercised: {missing[name]}")


@pytest.fixture(scope="session")
def kernel_tree(places: SourcePlaces) -> Callable[[str], FetchedTree]:
    """The tree of a release of Linux, or a skip that names it."""
    return lambda release: _or_skip(
        f"Linux {release}", lambda: places.kernel(KernelVersion.parse(release), Console(quiet=True))
    )


@pytest.fixture(scope="session")
def iptables_tree(places: SourcePlaces) -> Callable[[str], FetchedTree]:
    """The tree of a release of iptables, or a skip that names it."""
    return lambda release: _or_skip(
        f"iptables {release}",
        lambda: places.iptables(IptablesVersion.parse(release), Console(quiet=True)),
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not exercised, also where skips are not listed."""
    reports = terminalreporter.getreports("skipped")
    names = sorted(
        {
            str(report.longrepr[2]).removeprefix("Skipped: ").split(" was not exercised")[0]
            for report in reports
            if isinstance(report.longrepr, tuple) and "was not exercised" in report.longrepr[2]
        }
    )
    if names:
        terminalreporter.section("NOT EXERCISED", yellow=True)
        terminalreporter.line(f"{len(names)} sources could not be had: {', '.join(names)}")
        terminalreporter.line("TARPIT_KERNEL_GIT and TARPIT_IPTABLES_GIT name repositories")
