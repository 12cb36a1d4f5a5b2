"""The CI files are valid by their systems' own schemas, and call only the project's commands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tarpit_builder import paths
from tarpit_builder.matrix import definition, pipelines

CHECK = Path(sys.executable).parent / "check-jsonschema"
GITHUB = sorted((paths.PROJECT / ".github/workflows").glob("*.yml"))
GITLAB = [paths.PROJECT / ".gitlab-ci.yml", *sorted((paths.PROJECT / ".gitlab").glob("*.yml"))]
TOOLS = {
    "apt-get", "else", "fi", "gpg", "if", "printf", "tar", "then", "echo", "./bootstrap",
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
            words = command.split()
            assert not words or words[0] in TOOLS, command


def test_every_task_that_they_call_exists() -> None:
    text = "".join(path.read_text() for path in [*GITHUB, *GITLAB])
    called = set(re.findall(r"invoke ([a-z-]+)", text))
    listed = subprocess.run(
        [Path(sys.executable).parent / "invoke", "--list"],
        cwd=paths.PROJECT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert called <= set(re.findall(r"^  ([a-z-]+)", listed, re.M))
    assert {"test", "matrix", "repo"} <= called
