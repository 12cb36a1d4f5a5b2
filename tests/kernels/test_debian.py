"""A request becomes a plan with reasons, or an error that says what to ask for instead."""

from __future__ import annotations

import os

import pytest

from tarpit_builder import __version__, kernels, plan, report
from tarpit_builder.errors import UserError
from tarpit_builder.kernels.apt import Apt
from tarpit_builder.request import Request
from tarpit_builder.sources.debian import Archive
from tests.conftest import CLOUD, NEW, OLD


def resolve(archive: Archive, kernel: str, flavour: str = "", arch: str = "amd64") -> str:
    return plan.make(Request(kernel, arch, flavour), archive).name


@pytest.mark.parametrize("kernel", ["debian", "debian:stable", "debian:trixie", NEW, f" {NEW} "])
def test_ways_to_name_the_current_kernel(archive: Archive, kernel: str) -> None:
    assert resolve(archive, kernel) == NEW


def test_flavour_applies_to_an_abi_that_does_not_say_one(archive: Archive) -> None:
    assert resolve(archive, NEW, "cloud") == CLOUD
    assert resolve(archive, CLOUD, "cloud") == CLOUD


def test_running_kernel_is_looked_up(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    fields = (real.sysname, real.nodename, OLD, real.version, real.machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(fields))
    assert resolve(archive, "running") == OLD


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("debian:trixi"), "did you mean trixie"),
        (Request("debian:buster"), "has left Debian.s mirrors"),
        (Request("debian:trixie", arch="vax"), "architecture 'vax' is not supported"),
        (Request("debian:trixie", flavour="Rt; rm"), "is no kernel flavour"),
        (Request("debian:trixie", flavour="rt"), "has no kernel of flavour 'rt'"),
        (Request("6.12.1+deb13-amd64"), "no Debian suite has headers for kernel .6.12.1"),
    ],
)
def test_wrong_requests_end_in_one_line_with_a_next_step(
    archive: Archive, request_: Request, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plan.make(request_, archive)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_every_choice_has_a_reason(archive: Archive) -> None:
    made = plan.make(Request("debian:trixie"), archive)
    assert {choice.topic for choice in made.choices} >= {"kernel", "compiler", "image", "packages"}
    assert all(choice.value and choice.reason for choice in made.choices)
    text = report.plan_table(made)
    assert all(choice.reason in text for choice in made.choices)


def test_key_changes_with_the_kernel_and_not_with_its_name(archive: Archive) -> None:
    def key(name: str) -> str:
        return plan.make(Request(name), archive).key()

    assert key("debian:trixie") == key(NEW)
    assert key(NEW) != key(OLD)
    assert key(NEW) != key(CLOUD)


def test_reproducing_command_names_the_exact_kernel(archive: Archive) -> None:
    made = plan.make(Request("debian:trixie", flavour="cloud"), archive)
    assert made.command == f"invoke build --kernel {CLOUD}"


def test_the_version_in_the_facts_is_that_of_the_packages(archive: Archive) -> None:
    facts = plan.make(Request("debian:trixie"), archive).facts()
    assert facts["version"] == f"{__version__}+deb13"
    assert plan.make(Request("2.6.24"), archive).facts()["version"] == __version__


def test_kernels_lists_each_suite_and_why_one_is_missing(archive: Archive) -> None:
    lines = report.kernels_table(archive, "amd64", everything=True).splitlines()
    assert any(line.startswith("debian:trixie ") and NEW in line for line in lines)
    assert any(OLD in line for line in lines)
    assert any(line.startswith("debian:sid ") and "(any more)" in line for line in lines)


@pytest.mark.parametrize(
    ("kernel", "headers"),
    [
        (NEW, "linux-headers-amd64"),
        (OLD, "linux-headers-amd64"),
        (CLOUD, "linux-headers-cloud-amd64"),
    ],
)
def test_each_flavour_has_its_metapackage_of_headers(
    archive: Archive, kernel: str, headers: str
) -> None:
    userland = plan.make(Request(kernel), archive).kernel.userland
    assert userland.install({})[1].endswith(f" {headers}")


@pytest.mark.parametrize(
    "abi",
    [
        *("6.1.0-56-amd64", "6.1.0-56-cloud-amd64", "6.1.0-56-rt-amd64", "5.10.0-46-rt-686-pae"),
        *("6.1.0-56-arm64", "6.1.0-56-s390x", "6.1.0-56-powerpc64le", "6.12.94+deb13-amd64"),
    ],
)
def test_debians_names_with_a_number_are_not_taken_for_another_distributions(abi: str) -> None:
    owner = kernels.origin(abi)
    assert isinstance(owner, Apt)
    assert owner.distribution.name == "debian"
