"""The tasks as a person meets them: the terminal, the exit codes, the README."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.errors import CheckFailedError
from tests.conftest import CLOUD, NEW
from tests.mirror import FakeArchive

INVOKE = Path(sys.executable).parent / "invoke"
README = (paths.PROJECT / "README.md").read_text()


def invoke(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a task as a user would; not on a terminal."""
    return subprocess.run(
        [INVOKE, *arguments],
        cwd=paths.PROJECT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


def test_list_names_every_task_with_its_purpose() -> None:
    unfolded = re.sub(r"\n {10,}", " ", invoke("--list").stdout)
    lines = unfolded.partition("\n\nDefault task:")[0].splitlines()[2:]
    tasks = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in lines if line.strip())
    assert tasks.keys() >= {"build", "explain", "kernels", "doctor", "clean", "verify", "bench"}
    assert all(purpose.endswith((".", ";")) for purpose in tasks.values())


def test_listing_imports_nothing_heavy() -> None:
    program = "import sys, tasks; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=paths.PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(run.stdout.split())
    assert not loaded & {"docker", "requests", "jinja2", "git", "scapy", "debian", "rich"}


@pytest.mark.parametrize("task", re.findall(r"^  ([a-z-]+) ", invoke("--list").stdout, re.M))
def test_every_option_of_every_task_is_explained(task: str) -> None:
    text = invoke("--help", task).stdout
    options = re.split(r"^  (?=-)", text.partition("Options:")[2], flags=re.M)[1:]
    for option in options:
        assert len(option.split()) > 2, f"{task}: {option.strip()} has no help"


def test_explain_touches_nothing(mirror_url: str, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = invoke("explain", "--kernel", "debian:trixie", "--flavour", "cloud")
    assert (result.returncode, result.stderr) == (0, "")
    assert CLOUD in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_explain_as_data(mirror_url: str) -> None:
    plan = json.loads(invoke("explain", "--kernel", "debian", "--json").stdout)
    assert (plan["kernel"], plan["compiler"]) == (NEW, "gcc-14")


def test_defaults_come_from_the_environment(mirror_url: str) -> None:
    assert NEW in invoke("explain", INVOKE_TARPIT_KERNEL="debian:trixie").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--kernel", "debian:trixi"], 2, "did you mean trixie"),
        (["--kernel", "6.12.171+deb13-amd64"], 2, "did you mean 6.12.117+deb13"),
        (["--kernel", "debian:bullseye"], 2, "(any more)"),
        (["--offline"], 4, "not in the cache"),
        (["--mirror", "http://127.0.0.1:9"], 3, "cannot be reached"),
    ],
)
def test_errors_are_one_line_with_a_code_by_kind(
    mirror_url: str, arguments: list[str], code: int, message: str
) -> None:
    result = invoke("explain", *arguments)
    assert result.returncode == code
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert " — " in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_forged_archive_is_refused(fake: FakeArchive, mirror_url: str) -> None:
    (fake.root / "debian/dists/trixie/InRelease").write_text("SHA256:\n")
    result = invoke("explain", "--kernel", "debian:trixie")
    assert (result.returncode, "not signed by Debian" in result.stderr) == (4, True)


def test_clean_removes_the_cache_and_says_how_much(mirror_url: str, tmp_path: Path) -> None:
    assert invoke("kernels").returncode == 0
    cache = tmp_path / "cache"
    assert any(cache.rglob("*"))
    result = invoke("clean")
    assert (result.returncode, cache.exists()) == (0, False)
    assert str(cache) in result.stdout


@pytest.mark.parametrize(
    "command",
    ["verify --smp two", "verify --jobs -1", "matrix --run --memory 1.5G", "repo --keep x"],
)
def test_what_should_be_a_number_is_refused_in_a_line(command: str) -> None:
    result = invoke(*command.split())
    assert result.returncode == 2
    assert "not a number" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_options_have_no_letters_that_nobody_chose() -> None:
    for name in ("build", "verify", "matrix"):
        assert not re.findall(r"^ +-\w?[,=]|--=", invoke(name, "--help").stdout, re.M)


def test_every_error_of_a_gate_has_its_own_kind() -> None:
    assert CheckFailedError("x", hint="y").exit_code == 1


def commands(kind: str) -> list[str]:
    """The commands of the README's ``sh`` blocks: *kind* ``""`` for here, ``target`` for a host."""
    blocks = re.findall(rf"^```sh{kind and ' ' + kind}\n(.*?)^```", README, re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_readme_recipes_are_those_that_are_installed_and_proven() -> None:
    examples = "".join(
        path.read_text() for path in sorted((paths.PROJECT / "dkms" / "examples").iterdir())
    )
    examples = examples.replace('"${1:-123.123.123.123}"', "123.123.123.123")
    for command in commands("target"):
        if re.match("iptables -[AI] ", command):
            assert command.removeprefix("iptables ") in examples, command


@pytest.mark.docker
@pytest.mark.parametrize(
    "command", [line for line in commands("") if not line.endswith(("invoke test", "verify"))]
)
def test_readme_commands_work(command: str) -> None:
    environment = {**os.environ, "PATH": f"{INVOKE.parent}:{os.environ['PATH']}", "CI": "true"}
    result = subprocess.run(
        ["sh", "-c", command],
        cwd=paths.PROJECT, env=environment, capture_output=True, text=True, check=False,
        timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("other", ["--cold", "--json", "--matrix"])
@pytest.mark.parametrize("alone", ["--packets", "--load"])
def test_packets_and_load_are_measured_alone(alone: str, other: str) -> None:
    done = invoke("bench", alone, other)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {alone} goes with none of")


def test_packets_and_load_are_not_measured_together() -> None:
    assert invoke("bench", "--packets", "--load").returncode == 2
