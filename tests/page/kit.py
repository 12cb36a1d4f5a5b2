"""Results to report on: as many as are wanted, made from the records of a real build and proof.

``python -m tests.page.kit FOLDER 1000`` makes a thousand; then ``TARPIT_DIST=FOLDER invoke report
--json`` says how long the page takes, and how large it is.
"""

from __future__ import annotations

import copy
import hashlib
import json
import random
import sys
from functools import cache
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).resolve().parent / "records"
ARCHS = ("amd64", "arm64", "i386", "s390x")
SUITES = ("bullseye", "bookworm", "trixie", "forky", "iptables 1.4.0")
FAILING = "a retransmitted SYN gets the same SYN+ACK again"
SERIES = ("2.6.24", "3.10", "4.19", "5.10", "5.15", "6.1", "6.6", "6.12", "6.18", "7.1")


@cache
def _text(name: str) -> str:
    return (RECORDS / name).read_text(encoding="utf-8")


def record(name: str) -> Any:
    """A real record, to be changed."""
    return json.loads(_text(name))


def put(path: Path, data: object) -> None:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def build(dist: Path, kernel: str, arch: str, suite: str, *, size: int = 0) -> Path:
    """A finished build; its files have *size* bytes, or as many as the real ones."""
    manifest = record("manifest.json")
    name = f"{kernel}-{suite.replace(' ', '-')}-{arch}"
    folder = dist / name
    folder.mkdir(parents=True)
    manifest["plan"] |= {"kernel": kernel, "arch": arch, "suite": suite}
    manifest["key"] = hashlib.sha256(name.encode()).hexdigest()
    for item in manifest["outputs"]:
        item["file"] = item["file"].replace("6.12.118+deb13-amd64", kernel)
        content = (item["file"] + name).encode()
        content += _filling((size or item["size"]) - len(content))
        item |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (folder / item["file"]).write_bytes(content)
    put(folder / "manifest.json", manifest)
    (folder / "build.log").write_text(_text("build.txt"), encoding="utf-8")
    return folder


@cache
def _filling(size: int) -> bytes:
    return random.Random(size).randbytes(max(0, size))


def prove(folder: Path, *, failing: str = "") -> None:
    """A proof of the build in *folder*; the check of that title fails in it."""
    proof = copy.deepcopy(record("proof.json"))
    proof["key"] = json.loads((folder / "manifest.json").read_text())["key"]
    for check in proof["report"]["results"]:
        if failing and check["title"] == failing:
            check |= {"outcome": "fail", "detail": "SYN: expected 1 answer, saw 0"}
            check["ladder"] = proof["report"]["held"][:2]
    put(folder / "proof.json", proof)


def cell(dist: Path, name: str, kernel: str, arch: str, **changes: object) -> None:
    """What the matrix has noted of a cell."""
    data = record("cell.json") | {"folder": "", "log": f"/elsewhere/{name}.log"} | changes
    data["request"] |= {"kernel": kernel, "arch": arch}
    put(dist / "matrix" / f"{name}.json", data)
    (dist / "matrix" / f"{name}.log").write_text(_text("build.txt"), encoding="utf-8")


def many(dist: Path, count: int, *, size: int = 0) -> None:
    """*count* cells: of ten, six are proven, two built, one fails its proof, one its build."""
    for number in range(count):
        series = SERIES[number % len(SERIES)]
        arch = ARCHS[number // len(SERIES) % len(ARCHS)]
        suite = SUITES[number // (len(SERIES) * len(ARCHS)) % len(SUITES)]
        release = f"{series}.{number // (len(SERIES) * len(ARCHS) * len(SUITES)) + 1}"
        name = f"{release}-{arch}-{number}"
        kind = number * 7 % 10
        if kind == 9:
            detail = f"xt_TARPIT.c:{100 + number % 3}: error: implicit declaration of dst_dev()"
            log = {"outcome": "failed", "status": 5, "detail": detail, "key": ""}
            cell(dist, name, f"{release}", arch, **log)
            continue
        folder = build(dist, release, arch, suite, size=size)
        key = json.loads((folder / "manifest.json").read_text())["key"]
        cell(dist, name, release, arch, folder=f"/elsewhere/{folder.name}", key=key)
        if kind < 7:
            prove(folder, failing=FAILING if kind == 6 else "")
    for day in range(1, 29):
        run = record("run.json")
        run["when"] = f"2026-11-{day:02}T03:40:00+00:00"
        put(dist / "matrix" / "history" / f"202611{day:02}T034000.json", run)


if __name__ == "__main__":
    many(Path(sys.argv[1]), int(sys.argv[2]))
