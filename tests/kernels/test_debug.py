"""Debug kernels, as they are asked for: which there are, of what, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tarpit_builder import plan as planning
from tarpit_builder import prove
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules
from tarpit_builder.kernels.own import OwnKernel
from tarpit_builder.kernels.source import SCRIPTS
from tarpit_builder.proof import VerifyOptions
from tarpit_builder.request import EVERY, Request
from tarpit_builder.sources.debian import Archive

KINDS = rules.debug_kinds()


def test_every_kind_has_its_configuration() -> None:
    assert KINDS == ("kasan", "kcsan")
    for kind in KINDS:
        text = (SCRIPTS / rules.debug(kind).config).read_text()
        assert f"CONFIG_{kind.upper()}=y" in text


def test_races_are_looked_for_where_there_are_two_processors() -> None:
    assert rules.debug("kcsan").cpus == 2
    assert "CONFIG_KCSAN_EARLY_ENABLE=y" in (SCRIPTS / "kcsan.config").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_gets_it_into_its_name_and_configuration(archive: Archive, kind: str) -> None:
    request = Request("6.12.19", debug=kind, trust_on_first_use=True)
    plan = planning.make(request, archive)
    assert plan.name.startswith(f"6.12.19-{kind}-amd64")
    assert isinstance(plan.kernel.userland, OwnKernel)
    tree = plan.kernel.userland.tree
    assert tree.suffix == f"-{kind}"
    assert f"CONFIG_{kind.upper()}=y".encode() in tree.configuration()["fragment"]
    assert f"--debug {kind}" in plan.command
    plain = planning.make(request.but(debug=""), archive)
    assert plan.key() != plain.key()
    assert plain.name == "6.12.19-amd64"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            Request("6.12.19", debug="kmsan"),
            "--debug kmsan: not known — there are kasan, kcsan, coverage",
        ),
        (Request("2.6.24", debug="kasan"), "there is no KASAN for Linux 2.6.24 on amd64"),
        (Request("5.4", debug="kcsan"), "there is no KCSAN for Linux 5.4"),
        (Request("6.12.19", arch="arm64", debug="kasan"), "no KASAN for Linux 6.12.19 on arm64"),
        (Request("6.12.19", debug="kasan", release="6.12.19-mine"), "--release with --debug"),
        (Request("6.12.19", debug="kasan", userland="period"), "below the programs of"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    archive: Archive, request_: Request, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        planning.make(request_, archive)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_value_it_is_one_kind_after_the_other() -> None:
    options = VerifyOptions(json=Path("report.json"), log=Path("log"))
    asked = list(prove.debug_kinds(Request("6.12.19", debug=EVERY), options))
    assert [request.debug for request, _ in asked] == list(KINDS)
    assert [str(how.json) for _, how in asked] == [f"report-{kind}.json" for kind in KINDS]
    assert [str(how.log) for _, how in asked] == [f"log-{kind}" for kind in KINDS]
    plain = Request("6.12.19")
    assert list(prove.debug_kinds(plain, options)) == [(plain, options)]
