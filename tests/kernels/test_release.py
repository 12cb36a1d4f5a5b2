"""The tables say which release gets what, and every choice has its reason."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tarpit_builder import plan as planning
from tarpit_builder import records
from tarpit_builder.errors import UserError
from tarpit_builder.kernels import rules, toolchain
from tarpit_builder.kernels.own import OwnKernel
from tarpit_builder.kernels.period import Period
from tarpit_builder.kernels.source import Source
from tarpit_builder.plan import Plan
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive
from tarpit_builder.versions import IptablesVersion, KernelVersion
from tests.kernels.conftest import RELEASES

Make = Callable[..., "Made"]


@dataclass(frozen=True)
class Made:
    """A plan, and what its parts are."""

    plan: Plan
    tree: Source

    @property
    def userland(self) -> Period:
        """A system of the kernel's age."""
        assert isinstance(self.plan.kernel.userland, Period)
        return self.plan.kernel.userland


@pytest.fixture
def make(archive: Archive) -> Make:
    """Plans for releases, from the fake archive."""

    def made(kernel: str, **options: object) -> Made:
        plan = planning.make(Request(kernel, **options), archive)  # type: ignore[arg-type]
        assert isinstance(plan.kernel.tree, Source)
        return Made(plan, plan.kernel.tree)

    return made


@pytest.mark.parametrize(
    ("release", "module"),
    [
        ("2.6.19-rc1", "ipt_TARPIT"),
        ("2.6.19", "ipt_TARPIT"),
        ("2.6.21", "ipt_TARPIT"),
        ("2.6.21.7", "ipt_TARPIT"),
        ("2.6.22", "xt_TARPIT"),
        ("2.6.22-rc1", "xt_TARPIT"),
        ("2.6.24.7", "xt_TARPIT"),
        ("2.6.26", "xt_TARPIT"),
    ],
)
def test_the_module_is_called_what_its_age_called_it(release: str, module: str, make: Make) -> None:
    assert make(release).userland.rule.module == module


@pytest.mark.parametrize(
    ("release", "iptables"),
    [
        ("2.6.19", "1.3.8"),
        ("2.6.23.17", "1.3.8"),
        ("2.6.24", "1.4.0"),
        ("2.6.26.8", "1.4.0"),
        ("2.6.27.57", "1.4.8"),
        ("3.1", "1.4.8"),
        ("3.2", "1.4.14"),
        ("3.12", "1.4.21"),
    ],
)
def test_each_kernel_gets_the_iptables_of_its_time(release: str, iptables: str, make: Make) -> None:
    made = make(release)
    assert made.userland.iptables
    assert str(made.userland.iptables.version) == iptables


@pytest.mark.parametrize("release", ["2.6.18", "2.6.18.8", "2.6.0", "2.4.37"])
def test_kernels_before_2_6_19_are_left_to_patch_o_matic(release: str, make: Make) -> None:
    with pytest.raises(UserError, match="is not built for") as caught:
        make(release)
    assert "patch-o-matic" in caught.value.hint


@pytest.mark.parametrize(("release", "tried"), [("2.6.32", True), ("3.2", False), ("7.3", False)])
def test_what_nobody_has_built_yet_is_built_and_said_to_be(
    release: str, tried: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is on record by now."""
    known = tuple(record for record in records.read() if record.kernel == "2.6.32")
    monkeypatch.setattr(records, "read", lambda: known)
    warnings = make(release).plan.warnings
    assert any("was not yet seen to build" in text for text in warnings) is not tried


def test_an_image_with_a_compiler_of_the_age_needs_no_fixes_for_ours(make: Make) -> None:
    made = make("2.6.28", image="example/etch:latest", iptables="none")
    assert made.tree.recipe.foreign == "example/etch:latest"
    assert made.tree.layer.compiler == ("gcc",)
    assert "gnu89" not in made.tree.layer.names


@pytest.mark.parametrize("release", RELEASES)
def test_iptables_1_3_8_is_built_against_headers_before_2_6_24(release: str, make: Make) -> None:
    made = make(release, iptables="1.3.8")
    assert made.userland.iptables
    assert made.userland.iptables.rule.headers
    assert made.userland.iptables.rule.headers < KernelVersion.parse("2.6.24")
    warned = [text for text in made.plan.warnings if "error 0" in text]
    assert bool(warned) == (KernelVersion.parse(release) >= KernelVersion.parse("2.6.24"))


def test_an_iptables_that_loads_extensions_gets_one(make: Make) -> None:
    made = make("2.6.32", iptables="1.4.8", extension=True)
    assert made.plan.name == "2.6.32-amd64-iptables-1.4.8-extension"
    assert made.userland.iptables
    assert not made.userland.iptables.whole
    said = {choice.topic: choice for choice in made.plan.choices}
    assert "xt-tarpit-extension" in said["packages"].value
    assert "built on its own" in said["iptables"].reason
    assert "headers" not in said
    with pytest.raises(UserError, match="nothing to prove"):
        made.userland.demand_provable(given=False, in_tree="")
    # A system that has an iptables of today keeps it without being asked.
    made = make("3.13", iptables="1.8.11")
    assert made.userland.iptables
    assert not made.userland.iptables.whole


def test_an_iptables_of_the_age_is_built_whole(make: Make) -> None:
    made = make("2.6.32")
    assert made.userland.iptables
    assert made.userland.iptables.whole
    assert made.userland.iptables.families == (4, 6)
    made.userland.demand_provable(given=False, in_tree="")
    said = {choice.topic: choice for choice in made.plan.choices}
    assert said["packages"].value == "xt-tarpit-modules, xt-tarpit-dkms, iptables"
    assert "squeeze" in said["iptables"].reason
    keys = {make("2.6.32", iptables="1.4.8", extension=alone).plan.key() for alone in (True, False)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("iptables", "message"),
    [
        ("1.3.7", "nothing to patch"),
        ("1.2.11", "nothing to patch"),
        ("1.3.9", "1.3.9 never existed"),
        ("2.0", "is not a version of iptables"),
        ("1.4.o", "is not a version of iptables"),
    ],
)
def test_iptables_that_is_not_built_here_is_refused_with_the_reason(
    iptables: str, message: str, make: Make
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make("2.6.24", iptables=iptables)
    assert caught.value.hint


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("arch", toolchain.period_architectures())
def test_every_choice_has_a_reason(release: str, arch: str, make: Make) -> None:
    made = make(release, arch=arch)
    choices = made.plan.choices
    assert {choice.topic for choice in choices} >= {"kernel", "module", "compiler", "iptables"}
    for choice in choices:
        assert choice.value
        assert choice.reason


@pytest.mark.parametrize("release", RELEASES)
def test_there_is_a_patch_for_every_release(release: str, make: Make) -> None:
    patch = rules.patch(KernelVersion.parse(release))
    assert patch
    assert make(release).userland.rule.module in patch.read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "armhf"}, "architecture 'armhf' is not supported"),
        ({"symvers": Path("Module.symvers")}, "--symvers without --config"),
        ({"extension": True}, "--extension without --iptables"),
        ({"extension": True, "iptables": "none"}, "--extension without --iptables"),
        ({"extension": True, "iptables": "1.4.0"}, "takes no extension that was built on its own"),
        ({"release": "2.6.23-1-686"}, "does not begin with the version 2.6.24"),
        ({"release": "2.6.24x"}, "does not begin with the version"),
        ({"release": "2.6.24-1/../../etc"}, "does not begin with the version"),
    ],
)
def test_contradictions_are_refused(options: dict[str, object], message: str, make: Make) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make("2.6.24", **options)
    assert caught.value.hint


def test_the_command_of_a_plan_makes_the_same_again(make: Make) -> None:
    made = make("2.6.24", arch="i386", iptables="1.3.8", release="2.6.24-1-686", with_kernel=True)
    assert made.plan.command == (
        "invoke build --kernel 2.6.24 --arch i386 --iptables 1.3.8 --release 2.6.24-1-686 "
        "--with-kernel"
    )
    assert made.tree.suffix == "-1-686"
    assert made.plan.name == "2.6.24-1-686-i386-iptables-1.3.8"


def test_the_key_follows_what_is_built_and_not_the_words_about_it(make: Make) -> None:
    keys = {
        make("2.6.24").plan.key(),
        make("2.6.25").plan.key(),
        make("2.6.24", arch="i386").plan.key(),
        make("2.6.24", iptables="1.3.8").plan.key(),
        make("2.6.24", with_kernel=True).plan.key(),
        make("2.6.24", release="2.6.24-1-amd64").plan.key(),
    }
    assert len(keys) == 6
    assert make("2.6.24").plan.key() in keys


def test_every_row_of_the_tables_is_well_formed() -> None:
    for number in range(32):
        for kernel in (f"2.6.{number}", f"2.6.{number}.1"):
            try:
                rules.kernel(KernelVersion.parse(kernel))
            except UserError as error:
                assert error.hint
    for version in ("1.2.0", "1.3.7", "1.3.8", "1.4.0rc1", "1.4.0", "1.4.1", "1.8.11"):
        try:
            assert rules.iptables(IptablesVersion.parse(version)).reason
        except UserError as error:
            assert error.hint
    table = tomllib.loads((rules.RULES / "toolchain.toml").read_text())
    for row in (*table["fix"], *table["iptables"]["fix"]):
        assert row["why"]
        if "patch" in row:
            assert (toolchain.PATCHES / row["patch"]).is_file()


def suite_of(made: Made) -> str:
    """The suite of Debian whose programs the packages are for."""
    assert isinstance(made.plan.kernel.userland, OwnKernel)
    return made.plan.kernel.userland.suite.name


def test_a_suite_of_debian_goes_with_kernels_that_its_programs_run_on(make: Make) -> None:
    assert suite_of(make("3.13")) == "bookworm"
    assert suite_of(make("7.3")) == "bookworm"
    assert suite_of(make("3.2", userland="trixie")) == "trixie"
    assert make("6.12", userland="trixie").plan.name == "6.12-amd64-trixie"
    assert make("3.12").userland.iptables
    for made in (make("3.12"), make("6.12")):
        assert all(choice.reason for choice in made.plan.choices)
    # An iptables that is named is built along, whatever the kernel.
    assert str(make("6.12", iptables="1.4.0").userland.iptables.version) == "1.4.0"  # type: ignore[union-attr]
    assert make("6.12", userland="period", iptables="none").userland.iptables is None


def test_a_kernel_for_a_suite_has_what_its_programs_talk_to(make: Make) -> None:
    assert b"CONFIG_NF_TABLES=y" in make("6.12").tree.configuration()["fragment"]
    assert b"CONFIG_NF_TABLES=y" not in make("2.6.32").tree.configuration()["fragment"]


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        ("3.1", {"userland": "bookworm"}, "does not run on Linux 3.1: the C library"),
        ("6.12", {"userland": "bookwurm"}, "did you mean bookworm"),
        ("4.3", {"arch": "arm64"}, "Linux 4.3 is not built for arm64"),
        ("4.9", {"arch": "arm64", "iptables": "1.4.21"}, "not made for arm64, only for amd64"),
        ("4.9", {"arch": "arm64", "userland": "period"}, "leave out --iptables and --userland"),
        ("6.12", {"userland": "bookworm-backports"}, "no suite of Debian that packages are made"),
        ("6.12", {"userland": "trixie", "iptables": "1.4.0"}, "Debian trixie has its own"),
    ],
)
def test_a_userland_that_cannot_be_is_refused(
    kernel: str, options: dict[str, str], message: str, make: Make
) -> None:
    with pytest.raises(UserError) as caught:
        make(kernel, **options)
    assert message in f"{caught.value.message} {caught.value.hint}"
