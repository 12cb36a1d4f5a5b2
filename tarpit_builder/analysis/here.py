"""The analyzers that run here, from the environment of the development tools."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder.analysis.findings import Diagnostic, parse
from tarpit_builder.errors import BuildError, ToolMissingError

TOOLS = Path(sys.executable).parent
LOCKS = tuple(f"requirements{part}.lock" for part in ("", "-dev", "-docs", "-cluster"))
NO_PROSE = ("*.lock", "*.patch", "LICENSE", "*.gpg", "*.asc", "*.tsv", "rules/analysis.toml")
"""Files that codespell does not read: generated, others', no text, or of slips that are known."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What an analyzer found; *unable* says what it could not look at, and why."""

    findings: tuple[Diagnostic, ...] = ()
    unable: str = ""


def shellcheck(root: Path) -> Looked:
    """Every shell script."""
    said = _run("shellcheck", "--format", "gcc", *shell_scripts(root), cwd=root)
    return Looked(tuple(parse("shellcheck", said, notes=True)))


def codespell(root: Path) -> Looked:
    """Every text."""
    texts = [name for name in _files(root) if not any(Path(name).match(one) for one in NO_PROSE)]
    said = _run("codespell", *texts, cwd=root)
    return Looked(tuple(parse("codespell", said)))


def zizmor(root: Path) -> Looked:
    """The workflows of GitHub, without asking GitHub about the actions that they name."""
    said = _run("zizmor", "--offline", "--format", "json", "--quiet", ".github", cwd=root)
    return Looked(tuple(_of_workflows(json.loads(said))))


def pip_audit(root: Path, *, service: Sequence[str] = ()) -> Looked:
    """The packages of all locks, by the package index's list of vulnerabilities.

    A package that the service does not know of is *unable*, not sound.

    :param service: options that name another service, for tests.
    """
    given = [word for lock in LOCKS for word in ("--requirement", str(root / lock))]
    command = ["pip-audit", "--disable-pip", "--require-hashes", "--format", "json"]
    command += ["--progress-spinner", "off", "--desc", "off", "--timeout", "10"]
    try:
        audited = json.loads(_run(*command, *service, *given, cwd=root))["dependencies"]
    except (BuildError, ValueError) as error:
        return Looked(unable=f"none of the locked packages was audited: {error}")
    findings = tuple(
        Diagnostic(lock, line, f"{one['name']} {one['version']}: {fault['id']}", "pip-audit")
        for one in audited
        for fault in one.get("vulns", ())
        for lock, line in _places(root, one["name"], one["version"])
    )
    unknown = [one for one in audited if "skip_reason" in one]
    return Looked(
        findings,
        f"{len(unknown)} of {len(audited)} locked packages were not audited: the index's "
        f"vulnerability service does not answer for them here"
        if unknown
        else "",
    )


def shell_scripts(root: Path) -> tuple[str, ...]:
    """Every tracked or new file whose first line names sh, by its path from *root*.

    Templates are left out: they become shell only when rendered, and are checked by tests then.
    """
    names = (name for name in _files(root) if not name.endswith(".j2"))
    return tuple(name for name in names if _is_shell(root / name))


def _files(root: Path) -> list[str]:
    """Tracked and new files that exist, without links."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return [name for name in listed if (root / name).is_file() and not (root / name).is_symlink()]


def _is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash", b"/sh -eu"))


def _of_workflows(said: Sequence[dict[str, object]]) -> Iterator[Diagnostic]:
    for one in said:
        for place in one["locations"]:  # type: ignore[attr-defined]
            if place["symbolic"]["kind"] == "Primary":
                file = place["symbolic"]["key"]["Local"]["verbatim_path"]
                line = place["concrete"]["location"]["start_point"]["row"] + 1
                yield Diagnostic(file, line, f"{one['ident']}: {one['desc']}", "zizmor")


def _places(root: Path, name: str, version: str) -> Iterator[tuple[str, int]]:
    """Where the locks pin *version* of the package *name*."""
    pin = re.compile(rf"{re.escape(name).replace('-', '[-_.]')}=={re.escape(version)}\b", re.I)
    for lock in LOCKS:
        for number, line in enumerate((root / lock).read_text().splitlines(), 1):
            if pin.match(line):
                yield lock, number


def _run(tool: str, *arguments: str, cwd: Path) -> str:
    """What *tool* prints; it ends with a status of its own where it found something.

    :raises ToolMissingError: if it is not installed.
    :raises BuildError: if it could not look.
    """
    try:
        run = subprocess.run(
            [TOOLS / tool, *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )
    except FileNotFoundError as error:
        raise ToolMissingError(
            f"{tool} is not installed in this environment", hint="run ./bootstrap invoke analyze"
        ) from error
    lines = run.stderr.strip().splitlines()
    if run.returncode and not run.stdout.strip():
        raise BuildError(
            f"{tool} could not look: {lines[-1] if lines else f'it ended with {run.returncode}'}",
            hint="run it by hand to see what it lacks",
            tail=tuple(lines[-5:]),
        )
    return run.stdout
