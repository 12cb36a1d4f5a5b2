"""What is kept of a proof."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tarpit_builder import evidence
from tarpit_builder.build import BuildResult
from tarpit_builder.proof.report import CheckResult, Figure, Verdict, VerifyReport

ABI = "6.12.117+deb13-cloud-amd64"


def built(folder: Path, key: str = "a key") -> BuildResult:
    manifest = {"key": key, "plan": {"kernel": ABI}, "outputs": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return BuildResult(folder, manifest, fresh=True)


def proof(*outcomes: Verdict) -> VerifyReport:
    results = tuple(
        CheckResult("held", "nft", "is held", "1", 4, outcome, 0.1) for outcome in outcomes
    )
    return VerifyReport(ABI, ("x.deb",), "tcg", 1, 2.0, results)


def test_only_a_proof_that_passed_is_kept(tmp_path: Path) -> None:
    result = built(tmp_path)
    evidence.record(result, proof(Verdict.PASS, Verdict.SKIP))
    kept = evidence.proven(tmp_path)
    assert kept is not None
    assert kept["kernel"] == ABI
    assert kept["groups"] == ["held/nft"]
    assert kept["counts"] == {"pass": 1, "skip": 1}
    # A later one that fails takes back what the earlier one said.
    evidence.record(result, proof(Verdict.PASS, Verdict.FAIL))
    assert evidence.proven(tmp_path) is None
    assert not (tmp_path / evidence.EVIDENCE).exists()


def test_all_of_a_proof_is_kept_whether_it_passed_or_not(tmp_path: Path) -> None:
    result = built(tmp_path)
    for outcome in (Verdict.PASS, Verdict.FAIL):
        figure = Figure("held", "one byte pending", "stall", 1800, "s", limit=1800, family=4)
        evidence.record(result, replace(proof(outcome), held=("a > b S",), figures=(figure,)))
        kept = json.loads((tmp_path / evidence.PROOF).read_text())
        assert (kept["format"], kept["key"]) == (evidence.FORMAT, "a key")
        assert datetime.fromisoformat(kept["when"]).tzinfo is not None
        report = kept["report"]
        assert [check["outcome"] for check in report["results"]] == [outcome]
        assert report["held"] == ["a > b S"]
        assert report["figures"][0]["limit"] == 1800


def test_a_proof_of_another_build_is_none(tmp_path: Path) -> None:
    evidence.record(built(tmp_path), proof(Verdict.PASS))
    built(tmp_path, "another key")
    assert evidence.proven(tmp_path) is None


def test_proof_of_other_bytes_than_were_built_is_not_kept(tmp_path: Path) -> None:
    result = built(tmp_path)
    result.manifest["outputs"].append({"file": "x.deb", "sha256": "1"})
    evidence.record(result, replace(proof(Verdict.PASS), proven={"x.deb": "2"}))
    assert not (tmp_path / evidence.EVIDENCE).exists()
    evidence.record(result, replace(proof(Verdict.PASS), proven={"x.deb": "1"}))
    kept = json.loads((tmp_path / evidence.EVIDENCE).read_text())
    assert kept["proven"] == {"x.deb": "1"}
    assert kept["checks"] == [{"name": "held/nft IPv4: is held", "outcome": "pass"}]
