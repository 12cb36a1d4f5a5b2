"""What was proven of a finished build, beside its manifest: ``verify.json`` in its folder.

It is outside the packages, whose bytes do not depend on whether anybody has proven them.  Beside it
``proof.json`` has all that the last proof found out, passed or not: every check, packets, figures.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tarpit_builder import paths

if TYPE_CHECKING:
    from tarpit_builder.build import BuildResult
    from tarpit_builder.proof import VerifyReport

EVIDENCE = "verify.json"
PROOF = "proof.json"
FORMAT = 1


def record(result: BuildResult, report: VerifyReport) -> None:
    """Keep *report* on what *result* holds: all of it, and that it passed, if it did.

    What was kept before goes in any case.
    """
    with paths.replacing(result.folder / PROOF) as stage:
        stage.write_text(document(report, key=result.manifest["key"]))
    kept = result.folder / EVIDENCE
    kept.unlink(missing_ok=True)
    if report.exit_code != 0:
        return
    # What was read into the guest, which is not what was built if somebody changed it meanwhile.
    built = {item["file"]: item["sha256"] for item in result.manifest["outputs"]}
    if any(built.get(name) != value for name, value in report.proven.items()):
        return
    passed = {
        "format": FORMAT,
        "key": result.manifest["key"],
        "kernel": report.kernel,
        "accel": report.accel,
        "cpus": report.cpus,
        "counts": {str(outcome): n for outcome, n in sorted(report.counts.items())},
        "groups": list(dict.fromkeys(check.where for check in report.results)),
        "summary": report.summary(),
        "proven": dict(report.proven),
        "booted": dict(report.booted),
        "checks": [{"name": check.name, "outcome": str(check.outcome)} for check in report.results],
        "finished": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    with paths.replacing(kept) as stage:
        stage.write_text(json.dumps(passed, indent=2) + "\n")


def document(report: VerifyReport, **more: str) -> str:
    """The text of a file that has all of *report*, and when it was written."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"format": FORMAT, "when": when, **more, "report": report.data()}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def proven(folder: Path) -> dict[str, Any] | None:
    """The evidence in *folder*, if it is of the very build that the manifest there describes."""
    try:
        document: dict[str, Any] = json.loads((folder / EVIDENCE).read_text())
        manifest = json.loads((folder / "manifest.json").read_text())
        same = document["format"] == FORMAT and document["key"] == manifest["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return document if same else None
