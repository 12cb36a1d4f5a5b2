"""The page as a file: what it says of good, damaged and hostile records, and what it never does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tarpit_builder import page, paths, records
from tarpit_builder.errors import UserError
from tarpit_builder.page import cells, charts, ladder, reading
from tarpit_builder.page.cells import State
from tests.page import kit

KERNEL = "6.1.0-57-amd64"
HOSTILE = "</script><img src=x onerror='pwned()'>&quot;\x1b[2J\u202e{{ 7*7 }}"


class Reader(HTMLParser):
    """What a browser would find: elements with their attributes, and the data of the script."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self._in_data = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_data = dict(attrs).get("id") == "data"

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data += data

    def handle_endtag(self, tag: str) -> None:
        self._in_data = False


def read(file: Path) -> tuple[str, Reader, dict[str, Any]]:
    """The page as text, as elements, and its data by cell."""
    text = file.read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    data = json.loads(reader.data)
    return text, reader, {cell["id"]: cell for cell in data["cells"]}


def made(tmp_path: Path, **options: Any) -> tuple[str, Reader, dict[str, Any]]:
    """The page of what is in ``dist``."""
    page.make(tmp_path / "dist", tmp_path / "report.html", **options)
    return read(tmp_path / "report.html")


def state(found: dict[str, Any], start: str) -> str:
    """The state of the one cell whose name begins so."""
    (name,) = [name for name in found if name.startswith(start)]
    return str(found[name]["s"])


def invoke(*arguments: str, dist: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "invoke", "report", *arguments],
        cwd=paths.PROJECT,
        env={"TARPIT_DIST": str(dist), "PATH": "/usr/bin:/bin", "HOME": str(dist.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_report_of_nothing_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    run = invoke(dist=tmp_path / "dist")
    assert run.returncode == UserError.exit_code
    assert re.fullmatch(
        r"error: there is nothing to report on in .* — run invoke build .*\n", run.stderr
    )
    assert not (tmp_path / "dist" / "report.html").exists()


def test_the_task_makes_the_page_and_says_how_large_it_is(tmp_path: Path) -> None:
    kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    run = invoke("--output", str(tmp_path / "x.html"), "--json", dist=tmp_path / "dist")
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["bytes"] == (tmp_path / "x.html").stat().st_size
    recorded = {(record.kernel, record.arch, record.userland) for record in records.read()}
    assert said["cells"] == len(recorded | {(KERNEL, "amd64", "bookworm")})


def test_what_a_build_and_its_proof_have_recorded_is_on_the_page(tmp_path: Path) -> None:
    folder = kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    kit.prove(folder)
    text, _, found = made(tmp_path)
    cell = found[f"{KERNEL}_amd64_bookworm"]
    assert (cell["s"], cell["booted"]) == ("verified", cell["verified"])
    manifest = json.loads((folder / "manifest.json").read_text())
    digests = {item["file"]: item["sha256"] for item in manifest["outputs"]}
    assert cell["packages"]
    assert all(digests[name] == digest for name, _, digest in cell["packages"])
    assert cell["results"].count("p") == len(kit.record("proof.json")["report"]["results"]) - 1
    for link in cell["links"].values():
        assert (tmp_path / link).is_file()
    assert "SYN+ACK" in text
    assert "window probe" in text
    assert cell["log"].splitlines()[-1] in (folder / "build.log").read_text()


def test_what_was_proven_of_a_patched_tree_is_not_said_of_the_packages(tmp_path: Path) -> None:
    folder = kit.build(tmp_path / "dist", "6.2.1", "amd64", "trixie", size=99)
    proof = {"key": "k", "status": 1, "summary": "1 fail", "seconds": 1.0}
    known = {"folder": str(folder), "proof": proof, "in_tree": "m"}
    kit.cell(tmp_path / "dist", "6.2.1-amd64-in-tree-m", "6.2.1", "amd64", **known)
    _, _, found = made(tmp_path)
    states = {name: cell["s"] for name, cell in found.items() if "6.2.1_amd64" in name}
    assert sorted(states.values()) == ["built", "failed"]
    (failed,) = (name for name, state in states.items() if state == "failed")
    assert "tree" in failed


def test_what_was_never_measured_is_said_not_to_be(tmp_path: Path) -> None:
    kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    text, _, found = made(tmp_path)
    assert state(found, KERNEL) == "built"
    assert text.count('<p class="none">Not measured') == 7  # both ladders, five charts
    assert '<svg class="ladder"' not in text


def test_a_failed_check_is_told_with_its_packets_and_where_it_failed(tmp_path: Path) -> None:
    for arch in ("amd64", "arm64"):
        kit.prove(
            kit.build(tmp_path / "dist", "6.1.9", arch, "trixie", size=99), failing=kit.FAILING
        )
    text, _, found = made(tmp_path)
    assert {found[f"6.1.9_{arch}_trixie"]["s"] for arch in ("amd64", "arm64")} == {"failed"}
    wrong = text.partition('id="wrong"')[2].partition('id="kernels"')[0]
    assert wrong.count(kit.FAILING) == 1
    assert "2 kernels" in wrong
    assert '<svg class="ladder"' in wrong


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "manifest.json").write_text('{"format": 1, "pl'), "no JSON"),
        (lambda f: (f / "manifest.json").write_text("[" * 100_000), "no JSON"),
        (lambda f: (f / "manifest.json").write_text("[1]"), "no JSON object"),
        (lambda f: (f / "manifest.json").write_text('{"format": 99}'), "another version"),
        (lambda f: (f / "manifest.json").write_text('{"format": 1, "plan": 3}'), "'plan'"),
        (lambda f: next(f.glob("*dkms*.deb")).write_bytes(b"other"), "not as it was built"),
        (lambda f: next(f.glob("*dkms*.deb")).unlink(), "not as it was built"),
    ],
)  # fmt: skip
def test_a_damaged_build_is_shown_as_one(tmp_path: Path, damage: Any, said: str) -> None:
    folder = kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    kit.prove(folder)
    damage(folder)
    text, _, found = made(tmp_path)
    (cell,) = [cell for cell in found.values() if cell["s"] == "damaged"]
    assert said in cell["detail"]
    assert "1 kernel needs a look" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no JSON"),
        ('{"format": 2}', "another version"),
        ('{"format": 1, "key": "k", "report": {"results": [{"group": 1}]}}', "'group'"),
        ('{"format": 1, "key": "k", "report": {"results": 7}}', "'results'"),
    ],
)
def test_a_damaged_proof_proves_nothing(tmp_path: Path, content: str, said: str) -> None:
    folder = kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    (folder / "proof.json").write_text(content)
    _, _, found = made(tmp_path)
    cell = found[f"{KERNEL}_amd64_bookworm"]
    assert cell["s"] == "built"
    assert said in cell["problems"][0]


def test_a_proof_that_says_that_it_passed_is_judged_by_its_checks(tmp_path: Path) -> None:
    folder = kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    kit.prove(folder, failing=kit.FAILING)
    proof = json.loads((folder / "proof.json").read_text())
    proof["report"] |= {"exit_code": 0, "counts": {"pass": 99}}
    kit.put(folder / "proof.json", proof)
    assert state(made(tmp_path)[2], KERNEL) == "failed"


def test_a_proof_of_another_build_is_not_of_this_one(tmp_path: Path) -> None:
    folder = kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    kit.prove(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    kit.put(folder / "manifest.json", manifest | {"key": "another"})
    cell = made(tmp_path)[2][f"{KERNEL}_amd64_bookworm"]
    assert cell["s"] == "booted"
    assert "another build" in cell["problems"][0]


def test_records_of_the_versions_before_this_one_are_understood(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    folder = kit.build(dist, KERNEL, "amd64", "bookworm", size=99)
    key = json.loads((folder / "manifest.json").read_text())["key"]
    kit.put(folder / "verify.json", {"format": 1, "key": key, "summary": "passed (9 pass)"})
    kit.cell(dist, "debian-sid-amd64", "", "", outcome="failed", detail="no such suite")
    record = json.loads((dist / "matrix" / "debian-sid-amd64.json").read_text())
    del record["request"], record["when"]
    kit.put(dist / "matrix" / "debian-sid-amd64.json", record)
    _, _, found = made(tmp_path)
    assert found[f"{KERNEL}_amd64_bookworm"]["s"] == "verified"
    assert "results" not in found[f"{KERNEL}_amd64_bookworm"]
    assert found["debian-sid-amd64"]["s"] == "failed"


def test_the_proof_of_a_cell_is_found_where_the_matrix_keeps_it(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    folder = kit.build(dist, KERNEL, "amd64", "bookworm", size=99)
    key = json.loads((folder / "manifest.json").read_text())["key"]
    proof = {"key": "x", "status": 0, "summary": "passed (87 pass)", "seconds": 9}
    where = {"folder": f"/elsewhere/{folder.name}", "key": key, "proof": proof}
    kit.cell(dist, "debian-bookworm-amd64", "debian:bookworm", "amd64", **where)
    kit.put(
        dist / "matrix" / "debian-bookworm-amd64.verify.json", kit.record("proof.json")["report"]
    )
    cell = made(tmp_path)[2][f"{KERNEL}_amd64_bookworm"]
    assert (cell["s"], cell["verified"]) == ("verified", "2026-11-30 05:30")
    assert "p" in cell["results"]
    # A proof of another build, which was there before, is none of this one.
    kit.cell(dist, "debian-bookworm-amd64", "debian:bookworm", "amd64", **where | {"key": "old"})
    assert state(made(tmp_path)[2], KERNEL) == "built"


def test_a_run_that_could_not_try_a_kernel_takes_nothing_back(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    old = next(record for record in records.read() if record.proven and not record.distribution)
    iptables = old.userland.removeprefix("iptables ")
    kit.cell(dist, "x", old.kernel, old.arch, outcome="error", detail="no network")
    record = json.loads((dist / "matrix" / "x.json").read_text())
    record["request"]["iptables"] = iptables
    kit.put(dist / "matrix" / "x.json", record)
    text, _, found = made(tmp_path)
    (cell,) = [cell for cell in found.values() if cell.get("untried")]
    assert (cell["k"], cell["s"], cell["untried"]) == (old.kernel, "verified", "no network")
    assert "nothing failed" in text
    assert "could not be tried" in text


def test_hostile_records_are_text_and_nothing_else(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    folder = kit.build(dist, KERNEL, "amd64", "bookworm", size=99)
    kit.prove(folder, failing=kit.FAILING)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["plan"] |= {"kernel": HOSTILE, "arch": HOSTILE, "suite": HOSTILE}
    manifest |= {"command": HOSTILE, "toolchain": [HOSTILE]}
    kit.put(folder / "manifest.json", manifest)
    proof = json.loads((folder / "proof.json").read_text())
    for check in proof["report"]["results"]:
        check |= {"title": HOSTILE, "group": HOSTILE, "detail": HOSTILE, "ladder": [HOSTILE]}
    proof["report"] |= {"notes": [HOSTILE], "ladder": [HOSTILE], "held": [HOSTILE]}
    for figure in proof["report"]["figures"]:
        figure |= {"subject": HOSTILE, "series": HOSTILE, "unit": HOSTILE}
    kit.put(folder / "proof.json", proof)
    (folder / "build.log").write_text(HOSTILE * 9)
    kit.cell(
        dist, "evil", HOSTILE, HOSTILE, outcome="failed", detail=HOSTILE, stages=[[HOSTILE, 1]]
    )
    kit.cell(dist, "long", "y" * 9999, HOSTILE, seconds=1e14, stages=[["z" * 9999, -5]])
    run = kit.record("run.json")
    run |= {"when": HOSTILE, "cells": {HOSTILE: {"outcome": HOSTILE, "seconds": 1, "proof": None}}}
    kit.put(dist / "matrix" / "history" / "x.json", run)
    text, reader, _ = made(tmp_path)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "49" not in re.findall(r"onerror='pwned\(\)'&gt;&amp;quot;(\d+)", text)
    assert [tag for tag, _ in reader.tags].count("img") == 0
    assert [tag for tag, _ in reader.tags].count("script") == 2
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert not re.match(r"\s*(javascript|data|https?):", attributes.get("href") or "", re.I)


def test_no_link_and_no_digest_leads_out_of_the_results(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    secret = tmp_path / "secret"
    secret.write_text("for nobody\n" * 99)
    folder = kit.build(dist, KERNEL, "amd64", "bookworm", size=99)
    (folder / "build.log").unlink()
    (folder / "build.log").symlink_to(secret)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["outputs"][0]["file"] = "../../secret"
    kit.put(folder / "manifest.json", manifest)
    kit.cell(dist, "evil", "6.1.9", "amd64", outcome="failed", folder="../..", log=str(secret))
    text, _, found = made(tmp_path, copy=True)
    assert "for nobody" not in text
    assert state(found, KERNEL) == "damaged"
    for cell in found.values():
        for link in cell.get("links", {}).values():
            assert link.startswith("./report-files/")
            assert (tmp_path / link).resolve().is_relative_to(tmp_path / "report-files")
    copies = [path for path in (tmp_path / "report-files").rglob("*") if path.is_file()]
    assert copies
    assert all(b"for nobody" not in path.read_bytes() for path in copies)


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    kit.many(tmp_path / "dist", 20, size=99)
    text, reader, _ = made(tmp_path)
    (policy,) = [
        attributes["content"] or ""
        for tag, attributes in reader.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert not [tag for tag, attributes in reader.tags if "src" in attributes or tag == "link"]
    assert not [attributes for _, attributes in reader.tags if "style" in attributes]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttp", text)


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_cells_stay_within_the_budget(tmp_path: Path, count: int) -> None:
    kit.many(tmp_path / "dist", count, size=99)
    result = page.make(tmp_path / "dist", tmp_path / "report.html")
    assert result.cells > count * 0.95
    assert result.size == (tmp_path / "report.html").stat().st_size <= 2_000_000
    _, _, found = read(tmp_path / "report.html")
    failed = [cell for cell in found.values() if cell["s"] == "failed"]
    assert failed
    assert all(len(cell["log"]) > 1000 for cell in failed if "packages" not in cell)


def test_the_repository_comes_first_where_there_is_one(tmp_path: Path) -> None:
    kit.build(tmp_path / "dist", KERNEL, "amd64", "bookworm", size=99)
    with pytest.raises(UserError, match="is no repository"):
        page.make(tmp_path / "dist", tmp_path / "index.html", repo=tmp_path)
    assert not (tmp_path / "index.html").exists()
    (tmp_path / "tarpit-builder.asc").write_text("a key")
    settings = {"url": "https://x.example/t", "valid_for": 30, "suites": ["trixie"], "gone": {}}
    kit.put(tmp_path / "repository.json", settings)
    page.make(tmp_path / "dist", tmp_path / "index.html", repo=tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "https://x.example/t/trixie.sources" in text
    assert text.index('id="install"') < text.index('id="kernels"')


def test_a_packet_is_drawn_as_it_was_recorded() -> None:
    report = kit.record("proof.json")["report"]
    drawn = ladder.draw(report["held"])
    assert drawn
    labels = [(rung.packet.outward, rung.packet.label, rung.packet.window) for rung in drawn.rungs]
    assert labels[:4] == [
        (True, "SYN", 64240),
        (False, "SYN+ACK", 5),
        (True, "ACK", 64240),
        (False, "ACK", 0),
    ]
    assert labels[4:] == [(True, "window probe", 64240), (False, "ACK", 0)] * 2
    assert ladder.draw(["no packet", HOSTILE]) is None


@pytest.mark.parametrize(
    ("flags", "payload", "label"),
    [("S", b"", "SYN"), ("PA", b"x" * 18, "18 bytes"), ("FA", b"", "FIN+ACK"), ("R", b"", "RST")],
)
def test_what_a_proof_writes_of_a_segment_is_read_again(
    flags: str, payload: bytes, label: str
) -> None:
    from tarpit_builder.proof.segment import LINUX_OPTIONS, Flow, Ladder, Segment

    for flow in (Flow("10.1.0.1", "10.1.0.9", 1, 2), Flow("2001:db8::1", "2001:db8::2", 1, 2)):
        sent = Segment(flow, flags, 7, 9, 5, payload, LINUX_OPTIONS)
        (packet,) = ladder.parse(Ladder([sent]).lines())
        assert (packet.label, packet.window, packet.outward, packet.at) == (label, 5, True, None)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (1.62, "1.6 s"),
        (99, "99 s"),
        (166, "2.8 min"),
        (1800, "30 min"),
        (9000, "2.5 h"),
    ],
)
def test_times_are_written_in_one_way(seconds: float, said: str) -> None:
    assert charts.duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == said


def test_every_chart_has_its_figures_as_a_table(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    kit.many(dist, 20, size=99)
    found = cells.collect(dist)
    runs, problems = cells.runs(dist)
    assert not problems
    drawn = [
        charts.scan(found), charts.held(found), *charts.cost(found, []),
        charts.builds(cells.timed(found, runs)), charts.history(runs),
    ]  # fmt: skip
    assert len(drawn) == 6
    for chart in drawn:
        assert chart.svg.startswith("<svg "), chart.title
        assert chart.rows, chart.title
        assert all(len(row) == len(chart.header) for row in chart.rows), chart.title
        assert "<script" not in chart.svg
        assert "style" not in chart.svg


def test_a_pipe_in_place_of_a_record_does_not_hold_us_up(tmp_path: Path) -> None:
    import os

    folder = tmp_path / "dist" / "matrix"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "x.json")
    (only,) = [cell for cell in cells.collect(tmp_path / "dist") if cell.names]
    assert only.state is State.DAMAGED


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "9" * 5000])
def test_what_is_no_moment_is_none(text: str) -> None:
    assert reading.moment(text) == ""
