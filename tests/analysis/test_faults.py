"""Each analyzer can see: a fault of its kind is put into a copy of the sources, and it finds it."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tarpit_builder import analysis, paths
from tarpit_builder.analysis import here
from tarpit_builder.console import Console
from tarpit_builder.sources.debian import Archive, Mirrors
from tarpit_builder.sources.store import Store

FAULTS = sorted((Path(__file__).parent / "faults").glob("*.c"))
QUICK = {one.name for one in analysis.ANALYZERS if one.quick}

WORKFLOW = """\
on: pull_request_target
permissions: {}
jobs:
  greet:
    runs-on: ubuntu-24.04
    steps:
      - run: echo "${{ github.event.pull_request.title }}"
"""


def files(root: Path, **content: str) -> Path:
    """A checkout at *root* that has *content*."""
    subprocess.run(["git", "init", "-q", root], check=True)
    for name, text in content.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_shellcheck_finds_what_is_not_quoted(tmp_path: Path) -> None:
    root = files(tmp_path, fault_sh="#!/bin/sh\nrm $1\n", sound_sh='#!/bin/sh\nrm "$1"\n')
    (finding,) = here.shellcheck(root).findings
    assert (finding.file, finding.line) == ("fault.sh", 2)
    assert "SC2086" in finding.text


def test_codespell_finds_a_slip(tmp_path: Path) -> None:
    slip = "".join(("re", "ci", "eve"))
    root = files(tmp_path, fault_md=f"To give\nand to {slip}\n")
    (finding,) = here.codespell(root).findings
    assert str(finding) == f"fault.md:2: {slip} ==> receive [codespell]"


def test_zizmor_finds_a_title_that_becomes_a_command(tmp_path: Path) -> None:
    root = files(tmp_path, _github__workflows__fault_yml=WORKFLOW)
    found = {finding.text.partition(":")[0]: finding for finding in here.zizmor(root).findings}
    assert {"dangerous-triggers", "template-injection"} <= found.keys()
    assert found["template-injection"].file == ".github/workflows/fault.yml"
    assert found["template-injection"].line == 7


@contextmanager
def service(faulty: str) -> Iterator[str]:
    """A vulnerability service on loopback, in OSV's form, that knows of one fault in *faulty*."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = asked["package"]["name"]
            events = [{"introduced": "0"}, {"fixed": "999"}]
            fault = {
                "id": "PYSEC-0000-1",
                "summary": "a hole",
                "affected": [
                    {
                        "package": {"ecosystem": "PyPI", "name": name},
                        "ranges": [{"type": "ECOSYSTEM", "events": events}],
                    }
                ],
            }
            body = json.dumps({"vulns": [fault]} if name == faulty else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        server.server_close()


def test_pip_audit_finds_a_vulnerable_package_in_its_lock() -> None:
    with service("jinja2") as url:
        looked = here.pip_audit(
            paths.PROJECT, service=("--vulnerability-service", "osv", "--osv-url", url)
        )
    assert not looked.unable
    assert {finding.text.partition(" ")[0] for finding in looked.findings} == {"jinja2"}
    assert all(finding.text.endswith(": PYSEC-0000-1") for finding in looked.findings)
    assert {finding.file for finding in looked.findings} >= {"requirements.lock"}
    lock = (paths.PROJECT / "requirements.lock").read_text().splitlines()
    first = min(one for one in looked.findings if one.file == "requirements.lock")
    assert lock[first.line - 1].startswith("jinja2==")


def test_pip_audit_that_reaches_no_service_says_so_and_finds_nothing() -> None:
    closed = ("--vulnerability-service", "osv", "--osv-url", "http://127.0.0.1:9/v1/query")
    looked = here.pip_audit(paths.PROJECT, service=closed)
    assert looked.findings == ()
    assert "none of the locked packages was audited" in looked.unable


@pytest.fixture(scope="module")
def archive() -> Archive:
    return Archive(Store(paths.cache_dir()), Mirrors.choose(None), Console(quiet=True))


def seeded(root: Path, faults: list[Path]) -> Path:
    """A copy of the C sources at *root*, with *faults* at the end of the module."""
    for name in ("dkms", "containers"):
        shutil.copytree(paths.PROJECT / name, root / name)
    with (root / "dkms" / "xt_TARPIT.c").open("a") as module:
        for fault in faults:
            module.write(fault.read_text())
    return root


def caught(root: Path, archive: Archive, names: list[str]) -> dict[str, set[str]]:
    """Which functions each of the analyzers *names* has new findings in, of those with faults."""
    outcome = analysis.run(analysis.choose(names), archive, Console(), root=root)
    lines = (root / "dkms" / "xt_TARPIT.c").read_text().splitlines()
    return {
        name: {
            function.rpartition("_")[2]
            for finding in outcome.verdict.new
            if finding.analyzer == name and finding.file == "dkms/xt_TARPIT.c"
            for function in [_function(lines[: finding.line])]
        }
        for name in names
    }


def _function(lines: list[str]) -> str:
    """The name of the last function with a fault that begins in *lines*, or nothing."""
    heads = (line for line in reversed(lines) if "__used tarpit_fault_" in line)
    return next(heads, "").partition("(")[0]


def test_every_analyzer_in_the_container_has_its_fault() -> None:
    assert {fault.stem for fault in FAULTS} == {
        one.name for one in analysis.ANALYZERS if one.look is None
    }


@pytest.mark.docker
def test_quick_analyzers_of_c_find_their_faults(tmp_path: Path, archive: Archive) -> None:
    faults = [fault for fault in FAULTS if fault.stem in QUICK]
    names = [fault.stem for fault in faults]
    found = caught(seeded(tmp_path, faults), archive, names)
    assert found == {name: {name} for name in names}


@pytest.mark.docker
@pytest.mark.slow
def test_the_other_analyzers_of_c_find_their_faults(tmp_path: Path, archive: Archive) -> None:
    faults = [fault for fault in FAULTS if fault.stem not in QUICK]
    names = [fault.stem for fault in faults]
    found = caught(seeded(tmp_path, faults), archive, names)
    assert all(name in found[name] for name in names), found


@pytest.mark.docker
@pytest.mark.slow
def test_nothing_of_ours_has_a_finding_that_is_not_named(archive: Archive) -> None:
    slow = [one for one in analysis.ANALYZERS if not one.quick]
    outcome = analysis.run(slow, archive, Console())
    assert (outcome.verdict.new, outcome.verdict.stale) == ((), ())
