"""The engine killed, or everything, at any moment: one line, nothing left, and the same bytes.

``TARPIT_TEST_KILLS`` says how many times in all (50), ``TARPIT_TEST_SEED`` when.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tarpit_builder import build, container, evidence, leftovers, paths
from tarpit_builder.publish.keys import Key
from tests.engine import OwnEngine, images_of, own_engine
from tests.processes import kill_tree
from tests.results import digest

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow]

INVOKE = str(Path(sys.executable).parent / "invoke")
CLOUD = ["--kernel", "debian:trixie", "--flavour", "cloud"]
CELLS = '[[build]]\nkernels = "debian:trixie"\nflavours = ["default", "cloud"]\n'
SEED = int(os.environ.get("TARPIT_TEST_SEED", "20261130"))
KILLS = int(os.environ.get("TARPIT_TEST_KILLS", "50"))
NO_ENGINE = 3  # exit status of DockerError


@dataclass(frozen=True, slots=True)
class Verb:
    """A command, its share of the kills, and whether it needs what ``build`` makes."""

    arguments: tuple[str, ...]
    share: float
    after_build: bool = False


VERBS = {
    "build": Verb(("build", *CLOUD), 0.4),
    "matrix": Verb(("matrix", "--run", "--jobs", "2", "--file", "{home}/cells.toml"), 0.2),
    "repo": Verb(
        (
            *("repo", "--output", "{home}/repository", "--url", "http://localhost/"),
            *("--key", "{key}", "--gpg-home", "{keys}"),
        ),
        0.2,
        after_build=True,
    ),
    "verify": Verb(("verify", *CLOUD, "--only", "smoke"), 0.2, after_build=True),
}


class Desk:
    """Where a verb works: a ``dist``, a folder for temporaries, and an engine."""

    def __init__(self, home: Path, key: Key, host: str) -> None:
        self.home, self.dist, self.temporary = home, home / "dist", home / "tmp"
        self.temporary.mkdir()
        (home / "cells.toml").write_text(CELLS)
        self._key = key
        self._environment = {
            **os.environ,
            "CI": "true",
            "DOCKER_HOST": host,
            "TARPIT_DIST": str(self.dist),
            "TMPDIR": str(self.temporary),
        }

    def start(self, verb: Verb) -> subprocess.Popen[str]:
        """*verb*, in a session of its own."""
        names = {"home": self.home, "key": self._key.fingerprint, "keys": self._key.home}
        words = [word.format_map(names) for word in verb.arguments]
        return subprocess.Popen(
            [INVOKE, *words],
            cwd=paths.PROJECT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, verb: Verb) -> None:
        """*verb* once more, undisturbed."""
        process = self.start(verb)
        output, error = process.communicate(timeout=1200)
        assert process.returncode == 0, output + error

    def digests(self) -> dict[str, str]:
        """SHA-256 of every package and manifest."""
        return {
            str(path.relative_to(self.home)): digest(path)
            for path in sorted(self.home.rglob("*"))
            if path.suffix == ".deb" or path.name == build.MANIFEST
        }

    def assert_whole(self) -> None:
        """What is in ``dist`` under its own name is finished."""
        for manifest in self.dist.glob(f"[!.]*/{build.MANIFEST}"):
            assert build.finished(manifest.parent) is not None, manifest

    def staged(self) -> list[Path]:
        """What is half done."""
        found = [
            path for path in self.home.rglob("*.part*") if leftovers.STAGE.fullmatch(path.name)
        ]
        return found + list(self.temporary.iterdir())


@pytest.fixture(scope="module")
def engine() -> Iterator[OwnEngine]:
    """One with the images of trixie, which a build on the machine's engine makes if need be."""
    with own_engine() as found:
        yield found


@pytest.fixture
def desk(tmp_path: Path, key: Key, engine: OwnEngine) -> Desk:
    """One for this test."""
    if not engine.answers():  # another test has failed while it was dead
        engine.start()
    (tmp_path / "own").mkdir()
    return Desk(tmp_path / "own", key, engine.host)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    """A key to sign with."""
    from tarpit_builder.publish import keys

    return keys.throwaway(tmp_path_factory.mktemp("gpg") / "k")


@pytest.fixture
def expected(
    verb: str, tmp_path: Path, key: Key, engine: OwnEngine, desk: Desk
) -> tuple[float, dict[str, str]]:
    """How many seconds *verb* takes undisturbed, and what it makes, with the machine's engine."""
    (tmp_path / "calm").mkdir()
    calm = Desk(tmp_path / "calm", key, os.environ.get("DOCKER_HOST", f"unix://{container.SOCKET}"))
    wanted = VERBS[verb]
    if wanted.after_build:
        calm.finish(VERBS["build"])
    calm.finish(wanted)  # makes its images, too
    engine.load(*images_of("trixie"))
    if wanted.after_build:
        desk.finish(VERBS["build"])
    began = time.monotonic()
    desk.finish(wanted)
    took = time.monotonic() - began
    assert desk.digests() == calm.digests()
    _start_anew(verb, desk)
    return took, calm.digests()


def _start_anew(verb: str, desk: Desk) -> None:
    """So that the next kill has something to hit."""
    if VERBS[verb].after_build:
        shutil.rmtree(desk.home / "repository", ignore_errors=True)
        for proof in desk.dist.glob(f"*/{evidence.EVIDENCE}"):
            proof.unlink()
    else:
        shutil.rmtree(desk.dist, ignore_errors=True)


@pytest.mark.parametrize("verb", VERBS)
def test_the_engine_may_die_at_any_moment(
    verb: str, desk: Desk, engine: OwnEngine, expected: tuple[float, dict[str, str]]
) -> None:
    took, digests = expected
    chance = random.Random(f"{SEED} {verb}")
    ends: list[int] = []
    for _ in range(max(1, round(KILLS * VERBS[verb].share))):
        process = desk.start(VERBS[verb])
        delay = chance.uniform(0.5, took)
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        engine.kill()
        output, error = process.communicate(timeout=300)
        ends.append(process.returncode)
        told = f"{verb} after {delay:.2f} of {took:.2f} s (seed {SEED}):\n{output}{error}"
        assert "Traceback" not in output + error, told
        if verb == "matrix":  # which tells in its table, and ends as its cells do
            assert "stopped   no container engine answers" in output or not process.returncode, told
        elif process.returncode:
            assert process.returncode == NO_ENGINE, told
            assert sum(line.startswith("error: ") for line in error.splitlines()) == 1, told
        assert not desk.staged(), told
        desk.assert_whole()
        engine.start()
        if process.returncode == 0:
            _start_anew(verb, desk)
    assert any(ends), "no kill hit anything"
    desk.finish(VERBS[verb])
    assert desk.digests() == digests
    assert not engine.left()


@pytest.mark.parametrize("verb", VERBS)
def test_a_power_cut_at_any_moment(
    verb: str, desk: Desk, engine: OwnEngine, expected: tuple[float, dict[str, str]]
) -> None:
    took, digests = expected
    chance = random.Random(f"{SEED} {verb} power")
    for _ in range(max(1, round(KILLS * VERBS[verb].share))):
        process = desk.start(VERBS[verb])
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.5, took))
        kill_tree(process)
        engine.kill()
        process.communicate(timeout=60)
        desk.assert_whole()
        engine.start()
        if process.returncode == 0:
            _start_anew(verb, desk)
    desk.finish(VERBS[verb])
    assert desk.digests() == digests
    assert not desk.staged()
    assert not engine.left()
