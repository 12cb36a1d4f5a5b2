"""The CI files are valid by their systems' own schemas, and call only the project's commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.matrix import definition, pipelines

CHECK = Path(sys.executable).parent / "check-jsonschema"
GITHUB_FOLDER = paths.PROJECT / ".github/workflows"
GITHUB = sorted(GITHUB_FOLDER.glob("*.yml"))
ASSIGNMENT = re.compile(r"[a-z]+=\S*$|#")
GITLAB = [paths.PROJECT / ".gitlab-ci.yml", *sorted((paths.PROJECT / ".gitlab").glob("*.yml"))]
TOOLS = {
    "apt-get", "date", "docker", "echo", "exit", "fi", "git", "gpg", "if", "mkdir", "printf",
    "tar", "then", "./bootstrap",
}  # fmt: skip
"""What brings up a machine or hands over a result; everything else is one of our commands."""


def valid(schema: str, *files: Path) -> None:
    """Check *files* by the official *schema*."""
    command = [str(CHECK), "--builtin-schema", f"vendor.{schema}"]
    if schema == "gitlab-ci":
        command += ["--data-transform", "gitlab-ci"]
    run = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_github_workflows_are_valid() -> None:
    assert len(GITHUB) >= 2
    valid("github-workflows", *GITHUB)


def test_gitlab_pipelines_are_valid() -> None:
    valid("gitlab-ci", *GITLAB)


def test_printed_child_pipeline_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "matrix.yml"
    file.write_text(pipelines.render(definition.read(), "gitlab"))
    valid("gitlab-ci", file)


@pytest.mark.parametrize("file", [*GITHUB, *GITLAB], ids=lambda path: path.name)
def test_steps_call_only_the_project(file: Path) -> None:
    from ruamel.yaml import YAML

    def scripts(node: object, under: str = "") -> list[str]:
        if isinstance(node, dict):
            return [text for key, value in node.items() for text in scripts(value, str(key))]
        if isinstance(node, list):
            return [text for item in node for text in scripts(item, under)]
        return [str(node)] if under in {"run", "script", "before_script"} else []

    for script in scripts(YAML(typ="safe").load(file)):
        for command in re.split(r"\n|&&|\$\(|\|(?!\|)", script):
            words = command.strip().removeprefix("sudo ").split()
            assert not words or words[0] in TOOLS or ASSIGNMENT.match(words[0]), command


@pytest.mark.parametrize(
    "file", [GITHUB_FOLDER / "slow.yml", GITLAB[0]], ids=lambda path: path.name
)
def test_every_room_has_its_slow_tests_run(file: Path) -> None:
    tests = (paths.PROJECT / "tests").glob("*/test_*.py")
    slow = {path.parent.name for path in tests if "mark.slow" in path.read_text()}
    assert {"faults", "proof"} <= slow
    assert slow <= set(re.findall(r"tests/(\w+)", file.read_text()))


def test_every_task_that_they_call_exists() -> None:
    text = "".join(path.read_text() for path in [*GITHUB, *GITLAB])
    called = set(re.findall(r"invoke ([a-z-]+)", text))
    listed = subprocess.run(
        [Path(sys.executable).parent / "invoke", "--list"],
        cwd=paths.PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert called <= set(re.findall(r"^  ([a-z-]+)", listed, re.M))
    assert {"test", "matrix", "repo"} <= called


def test_actions_are_pinned_by_commit() -> None:
    for file in GITHUB:
        used = re.findall(r"uses: (\S+)(.*)", file.read_text())
        assert used
        for action, comment in used:
            assert re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action


def step(name: str) -> str:
    """The shell of the step *name* of the job that plans."""
    from ruamel.yaml import YAML

    workflow = YAML(typ="safe").load(paths.PROJECT / ".github/workflows/matrix.yml")
    return str(next(s["run"] for s in workflow["jobs"]["plan"]["steps"] if s.get("id") == name))


@pytest.mark.parametrize("status", [0, 2])
def test_plan_step_fails_when_the_plan_does(tmp_path: Path, status: int) -> None:
    (tmp_path / "bootstrap").write_text(f"#!/bin/sh\necho '{{}}'\nexit {status}\n")
    (tmp_path / "bootstrap").chmod(0o755)
    output = tmp_path / "output"
    run = subprocess.run(
        ["bash", "-e", "-c", step("plan")],  # as GitHub runs what names no shell
        cwd=tmp_path,
        env={"GITHUB_OUTPUT": str(output), "PATH": os.environ["PATH"]},
        check=False,
    )
    assert run.returncode == status
    assert output.is_file() == (status == 0)


def test_nightly_run_builds_the_newest_release(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    def ref(event: str) -> dict[str, str]:
        output = tmp_path / "output"
        output.unlink(missing_ok=True)
        subprocess.run(
            ["bash", "-e", "-c", step("ref")],
            cwd=tmp_path,
            env={
                "GITHUB_OUTPUT": str(output),
                "GITHUB_EVENT_NAME": event,
                "GITHUB_REF": "refs/heads/main",
                "PATH": os.environ["PATH"],
            },
            check=True,
        )
        found = dict(line.split("=") for line in output.read_text().splitlines())
        git("checkout", "-q", "main")
        return found

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "one")
    with pytest.raises(subprocess.CalledProcessError):
        ref("schedule")
    git("tag", "v1.0.0")
    git("commit", "-q", "--allow-empty", "-m", "two")
    assert ref("schedule")["ref"] == "refs/tags/v1.0.0"
    assert ref("push")["ref"] == "refs/heads/main"
    assert re.fullmatch(r"20\d\d-[0-5]\d", ref("push")["week"])
