"""Records with anything in any place of theirs: a page comes of them, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tarpit_builder import page
from tests.page import kit

ANYTHING: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**30, float("inf"), float("nan"), "", "x", "\ud800", "2026-11-30"),
    *([], {}, [1], [[]], [{}], {"a": 1}, ["x", "y"], [["x", 1, 2]], "é" * 5000),
    "../../../etc/passwd",
)
FILES = (
    *("6.1.9-trixie-amd64/manifest.json", "6.1.9-trixie-amd64/proof.json", "matrix/x.json"),
    *("matrix/x.verify.json", "matrix/history/x.json", "bench/packets-x.json"),
)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with every key or index of it."""
    keys: list[Any] = []
    if isinstance(node, dict | list):
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
    for key in keys:
        yield node, key
        yield from places(node[key])


def make(dist: Path) -> None:
    """One of each kind of record."""
    folder = kit.build(dist, "6.1.9", "amd64", "trixie", size=9)
    kit.prove(folder, failing=kit.FAILING)
    proof = {"key": "k", "status": 1, "summary": "failed", "seconds": 2}
    kit.cell(dist, "x", "6.2.1", "amd64", outcome="failed", proof=proof)
    kit.put(dist / "matrix/x.verify.json", kit.record("proof.json")["report"])
    kit.put(dist / "matrix/history/x.json", kit.record("run.json"))
    kit.put(dist / "bench/packets-x.json", kit.record("proof.json"))


def mutate(dist: Path, chance: random.Random) -> str:
    """Put anything into a place of one of the records, or cut it off; which it was."""
    name = chance.choice(FILES)
    path = dist / name
    text = path.read_text()
    try:
        everywhere = list(places(data := json.loads(text)))
    except ValueError:
        return f"{name} was cut off before"
    if chance.random() < 0.1 or not everywhere:
        path.write_text(text[: chance.randrange(len(text))])
        return f"{name} cut off"
    # Near the top there are few places, and most that matters.
    container, key = everywhere[int(len(everywhere) * chance.random() ** 3)]
    value = chance.choice(ANYTHING)
    container[key] = value
    path.write_text(json.dumps(data))
    return f"{name}: {key} = {value!r:.60}"


def attempt(top: Path, seed: int) -> None:
    """A page of mutated records."""
    chance = random.Random(seed)
    make(top / "dist")
    done = [mutate(top / "dist", chance) for _ in range(chance.choice((1, 1, 2, 5)))]
    try:
        page.make(top / "dist", top / "report.html")
        (top / "report.html").read_text(encoding="utf-8").encode()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {done}") from error
    shutil.rmtree(top / "dist")


def test_whatever_a_record_holds_a_page_comes_of_it(tmp_path: Path) -> None:
    for seed in range(40):
        attempt(tmp_path, seed)


@pytest.mark.slow
def test_and_so_it_does_of_many(tmp_path: Path) -> None:
    for seed in range(1000, 1500):
        attempt(tmp_path, seed)
