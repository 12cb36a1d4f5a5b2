"""What the repository is for: clean hosts of each suite install from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tarpit_builder import paths, suites
from tarpit_builder.build import build
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Limits, Recipe
from tarpit_builder.packaging import changelog as history
from tarpit_builder.publish import RepositoryOptions, publish
from tarpit_builder.publish.keys import Key
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store
from tests.publish.kit import state

pytestmark = [pytest.mark.docker, pytest.mark.network]

SCRIPT = Path(__file__).with_name("from-repository.sh")
NEXT = "99.0.0"


@contextmanager
def next_version(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """The project as it will be after its next release."""
    changelog = folder / "CHANGELOG.md"
    text = history.CHANGELOG.read_text()
    head, mark, rest = text.partition("\n## ")
    changelog.write_text(f"{head}\n## {NEXT} — 2030-01-01\n\n- A change.\n{mark}{rest}")
    with monkeypatch.context() as patch:
        patch.setattr(history, "CHANGELOG", changelog)
        patch.setattr(history, "__version__", NEXT)
        history.releases.cache_clear()
        yield
    history.releases.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["trixie", "bullseye", "bookworm", "forky", "sid"])
def test_life_with_the_repository(
    suite: str, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console()
    archive = Archive(Store(paths.cache_dir()), Mirrors.choose(None), console)
    request = Request(f"debian:{suite}")
    top, states = tmp_path / "repo", []
    first = build(request, archive, console, dist=tmp_path / "dist")
    options = RepositoryOptions(url="file:///srv/repo")
    publish(tmp_path / "dist", top, key, console, options=options)
    states.append(Input("/repo-1", [state(top)]))
    with next_version(monkeypatch, tmp_path):
        build(request, archive, console, dist=tmp_path / "dist-2")
    publish(tmp_path / "dist-2", top, key, console)
    states.append(Input("/repo-2", [state(top)]))

    known = suites.known()[suite]
    other = archive.newest(known, "cloud", "amd64")
    engine = Engine.connect()
    recipe = Recipe(
        "bare", suite, "amd64", archive.mirrors.apt_sources(known), archive.mirrors.main
    )
    outcome = engine.run(
        engine.ensure_image(recipe, console),
        ["sh", "/proof/from-repository.sh"],
        inputs=[*states, Input("/proof", [Files({SCRIPT.name: SCRIPT})])],
        environment={
            "SUITE": suite,
            "ABI": first.folder.name,
            "OTHER_ABI": other.abi,
            "VERSION_1": history.releases()[0].version,
            "VERSION_2": NEXT,
        },
        limits=Limits(seconds=1500),
        sealed=False,
    )
    assert outcome.status == 0, "\n".join(outcome.lines[-40:])
    assert [line for line in outcome.lines if line.startswith("ok: ")][-1] == (
        "ok: forgeries are refused"
    )
