"""Packages of each suite, built once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.build import BuildResult, build
from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.packaging import changelog as history
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store

LATER = "99.0.0"

Build = Callable[[str], BuildResult]


def _build(suite: str, dist: Path) -> BuildResult:
    # The cloud kernel, because its image is the smallest to install.
    return _make(Request(f"debian:{suite}", flavour="cloud"), dist)


def _make(request: Request, dist: Path) -> BuildResult:
    archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console())
    return build(request, archive, Console(), dist=dist)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The container engine of this machine."""
    return Engine.connect()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the packages for a suite's newest kernel, once."""
    dist = tmp_path_factory.mktemp("dist")
    return cache(lambda suite: _build(suite, dist))


@pytest.fixture(scope="session")
def built_for(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the packages for an exact kernel, once."""
    dist = tmp_path_factory.mktemp("exact")
    return cache(lambda abi: _make(Request(abi), dist))


@pytest.fixture(scope="session")
def built_later(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the same as a later release of the project, once."""
    dist = tmp_path_factory.mktemp("later")
    changelog = dist / "CHANGELOG.md"
    news = f"## {LATER} — 2099-01-01\n\n- A later release.\n\n"
    changelog.write_text(news + history.CHANGELOG.read_text().partition("\n\n## ")[2])

    @cache
    def later(suite: str) -> BuildResult:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(history, "__version__", LATER)
            patch.setattr(history, "CHANGELOG", changelog)
            history.releases.cache_clear()
            try:
                return _build(suite, dist)
            finally:
                history.releases.cache_clear()

    return later
