"""What is listed as supported is what is built, in the list, the README and the matrix alike."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tarpit_builder import paths, records, supported, tried
from tarpit_builder.errors import UserError
from tarpit_builder.plan import make
from tarpit_builder.request import Request
from tarpit_builder.sources.catalogue import Catalogue
from tarpit_builder.sources.debian import Archive

ROWS = [
    re.split(r"\s{2,}", line)
    for everything in (False, True)
    for line in supported.releases_table(Catalogue.load(), everything=everything).splitlines()[2:]
    # Of the thousands of point releases those of one series stand for all.
    if not everything or line.startswith(("2.6.2", "7.1"))
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_release_is_listed_as_what_a_build_says_of_it(row: list[str], archive: Archive) -> None:
    release, _, built, patch = row
    try:
        make(Request(release), archive)
    except UserError as error:
        refusal = str(error)
    else:
        refusal = ""
    assert (built in {"yes", "not tried"}) is not bool(refusal), refusal
    if built == "not tried":
        warned = make(Request(release), archive).warnings
        assert any("was not yet seen to build" in text for text in warned)
    elif built != "yes":
        assert built.removeprefix("no: ") in refusal
    if patch != "–":
        assert list((paths.PROJECT / "patches" / "linux").glob(f"*/{patch}"))


def test_what_is_refused_and_what_is_built_are_both_in_the_list() -> None:
    said = {row[0]: row[2] for row in ROWS}
    assert said["2.6.18"].startswith("no: ")
    assert said["2.6.27"] == "yes"
    assert said["2.6.28"] == "yes"


def test_hosts_and_targets_are_stated_with_the_ranges_of_the_rules() -> None:
    said = supported.statement()
    assert "Python 3.11" in said
    assert "trixie (13)" in said
    tried = records.series(one for one in records.read() if not one.distribution)
    assert f"Linux {tried} from source: amd64, i386 and arm64 (>=4.4)" in said


def test_the_readme_says_what_the_records_do() -> None:
    readme = records.README.read_text()
    assert readme == records.readme_with(readme, records.summary())


def test_security_md_says_what_the_records_and_trials_do() -> None:
    text = tried.SECURITY.read_text()
    assert text == records.readme_with(text, tried.summary(tried.read(), records.read()))


def test_a_trial_is_noted_entered_and_told_and_nothing_else_is(tmp_path: Path) -> None:
    table = tmp_path / "tried.tsv"
    assert tried.summary(tried.read(table), ()) == ""
    tried.note("fuzz", "debian:trixie", "1,000,000 packets in 61 s, no wrong answer", tmp_path)
    (trial,) = tried.enter(tmp_path, table)
    assert tried.read(table) == (trial,)
    assert trial.module == records.module_digest()
    assert tried.enter(tmp_path, table) == ()
    said = " ".join(tried.summary(tried.read(table), ()).split())
    assert said == (
        f"- Fuzzing (`invoke fuzz`), debian:trixie, {trial.date}, module {trial.module}: "
        "1,000,000 packets in 61 s, no wrong answer."
    )
    tried.note("fuzz", "debian:trixie", "2 packets, one wrong answer", tmp_path)
    assert [one.figures for one in tried.enter(tmp_path, table)] == ["2 packets, one wrong answer"]


def test_proofs_are_counted_from_the_records() -> None:
    one = records.Record("6.1", "amd64", "none", "gcc", "s", "release", "m", "2026-11-01")
    older = replace(one, proven="2026-11-02", checks="smoke wire: 1066 pass, 2 skip")
    current = replace(older, module=records.module_digest(), checks="all: 400 pass")
    said = " ".join(tried.summary((), (one, older, current)).split())
    assert said == (
        "- Proof on the wire (`invoke verify`), this module: 1 kernels were booted, and 400 checks "
        "passed on them; the last on 2026-11-02. "
        "- Proof on the wire (`invoke verify`), an older state of it: 1 kernels were booted, and "
        "1,066 checks passed on them; the last on 2026-11-02."
    )
