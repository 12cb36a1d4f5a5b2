"""`invoke verify`, whole: Debian's kernels, our packages, the wire."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tarpit_builder import paths
from tests.processes import await_end, await_machines, start

pytestmark = [pytest.mark.boot, pytest.mark.docker, pytest.mark.network]

VERIFY = [str(Path(sys.executable).parent / "invoke"), "verify"]


@pytest.mark.parametrize(
    ("suite", "processors"),
    [
        ("bookworm", 1),
        ("trixie", 2),
        ("forky", 1),
        *(
            pytest.param(name, 2, marks=pytest.mark.slow)
            for name in ("bullseye", "trixie-backports")
        ),
    ],
)
def test_smoke_set_passes_on_debians_kernels(suite: str, processors: int, tmp_path: Path) -> None:
    run = subprocess.run(
        [*VERIFY, "--kernel", f"debian:{suite}", "--smp", str(processors),
         "--json", tmp_path / "report.json", "--junit", tmp_path / "junit.xml"],
        cwd=paths.PROJECT, env={**os.environ, "CI": "true", "TARPIT_DIST": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["exit_code"], report["cpus"]) == (0, processors)
    assert report["counts"] == {"pass": 8}
    # The handshake as seed and man page show it: SYN, SYN+ACK, then window 0.
    assert [line.rsplit(" (DF)")[0].split()[-1] for line in report["ladder"][1::2]] == ["5", "0"]
    # A client that is held probes the window twice, and is answered.
    assert sum(line.endswith(" win 0 (DF)") for line in report["held"]) >= 3
    root = ET.parse(tmp_path / "junit.xml").getroot()  # noqa: S314  (our own)
    assert len(root.findall("testcase")) == 8
    assert f"Linux {report['kernel']}: passed (8 pass)" in run.stdout


@pytest.mark.slow
def test_kernel_without_iptables_legacy_is_judged_by_the_other(tmp_path: Path) -> None:
    """From 6.17 on, PREEMPT_RT excludes NETFILTER_XTABLES_LEGACY."""
    run = subprocess.run(
        [*VERIFY, "--kernel", "debian:sid", "--flavour", "rt", "--only", "smoke", "--only", "wire",
         "--json", tmp_path / "report.json"],
        cwd=paths.PROJECT, env={**os.environ, "CI": "true", "TARPIT_DIST": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    judged = {row["backend"] for row in report["results"] if row["group"] == "wire"}
    assert judged == {"nft"}
    assert "no iptables-legacy on this kernel" in report["notes"]


def test_interrupted_proof_leaves_no_machine(tmp_path: Path) -> None:
    environment = {**os.environ, "CI": "true", "TARPIT_JOBS": "2"}
    arguments = ["--kernel", "debian:bookworm", "--only", "smoke", "--only", "wire"]
    child = start([*VERIFY, *arguments], env=environment)
    assert child.stderr
    for line in child.stderr:
        if "wire nft" in line:
            break
    machines = await_machines(child.pid, 2)
    child.send_signal(signal.SIGINT)
    rest = child.stderr.read()
    assert child.wait(timeout=30) == 130
    assert rest.splitlines()[-1].startswith("error: interrupted"), rest
    assert "Traceback" not in rest
    await_end(machines)
