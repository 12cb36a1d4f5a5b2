"""What the tasks print: short tables, and the same as data."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder.console import format_table
from tarpit_builder.errors import UserError

if TYPE_CHECKING:
    from tarpit_builder.build import BuildResult
    from tarpit_builder.plan import Plan
    from tarpit_builder.sources.debian import Archive


RESULTS = (".deb", ".tar.gz")
"""What names end in of what is copied to a host."""


def build_summary(result: BuildResult) -> str:
    """The outputs of a build, and how to install them."""
    rows = [
        (item["file"], f"{item['size'] / 1000:,.1f} kB", item["sha256"][:16])
        for item in result.manifest["outputs"]
        if item["file"].endswith(RESULTS)
    ]
    folder = _relative(result.folder)
    lines = [
        "built" if result.fresh else "nothing to do: the same build is already there",
        format_table(rows, header=("package", "size", "sha256")),
        "",
        *(
            f"{'install' if not number else '':9} {line.format(folder=folder)}"
            for number, line in enumerate(result.install)
        ),
        f"details   {folder}/manifest.json, {folder}/build.log",
    ]
    return "\n".join(lines)


def build_data(result: BuildResult, stages: Sequence[tuple[str, float]]) -> str:
    """A build as JSON: its folder, its key, its packages, and the seconds that each stage took."""
    data = {
        "folder": str(result.folder),
        "fresh": result.fresh,
        "key": result.manifest["key"],
        "packages": [
            item["file"] for item in result.manifest["outputs"] if item["file"].endswith(RESULTS)
        ],
        "stages": [[title, round(seconds, 3)] for title, seconds in stages],
    }
    return json.dumps(data, indent=2) + "\n"


def plan_table(plan: Plan) -> str:
    """Every choice of *plan* with its reason."""
    lines = []
    for choice in plan.choices:
        lines += [f"{choice.topic:<11}{choice.value}", f"{'':<11}  {choice.reason}"]
    lines += [f"{'warning':<11}{text}" for text in plan.warnings]
    return "\n".join([*lines, "", f"{'build it':<11}{plan.command}"])


def plan_json(plan: Plan) -> str:
    """The plan as the manifest will have it."""
    return json.dumps(plan.facts(), indent=2)


def kernels_table(archive: Archive, arch: str, *, everything: bool) -> str:
    """The kernels of every suite: the current one of each, or *everything* still to be had."""
    rows: list[tuple[str, ...]] = []
    for suite in archive.distribution.suites.values():
        try:
            newest = archive.newest(suite, "", arch)
        except UserError as error:
            rows.append((suite.request, "–", error.message))
            continue
        rows.append((suite.request, newest.abi, newest.version, newest.compiler))
        if everything:
            rows += [
                ("", abi) for abi in reversed(archive.kernels(suite, arch)) if abi != newest.abi
            ]
    return format_table(rows, header=("--kernel", "ABI", "version", "compiler"))


def _relative(path: Path) -> str:
    """*path* as seen from here where it is below, else whole."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def number(text: str, option: str) -> int:
    """The value of *option*, which Invoke itself would answer with a traceback.

    :raises UserError: if it is no number from 0 on.
    """
    if not text.isdecimal():
        raise UserError(f"{option} {text}: not a number", hint="write it in digits")
    return int(text)


def output(text: str, option: str, *, folder: bool = False) -> Path | None:
    """The value of *option* as a file, or with *folder* a folder, that is going to be written.

    None where it was left out.  To be asked before the work is done whose result goes there.

    :raises UserError: if nothing can be written there.
    """
    where = path(text)
    if where is None:
        return None
    parent = where.absolute().parent
    if where.is_dir() and not folder:
        raise UserError(f"{option} {text}: that is a folder", hint="name a file in it")
    if where.exists() and not where.is_dir() and folder:
        raise UserError(f"{option} {text}: that is a file", hint="name a folder")
    if not parent.is_dir():
        raise UserError(
            f"{option} {text}: there is no folder {parent}",
            hint=f"make it first: mkdir -p {shlex.quote(str(parent))}",
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(
            f"{option} {text}: this user may not write into {parent}", hint="name another folder"
        )
    return where


def path(text: str) -> Path | None:
    """An option's value as a path, None where it was left out."""
    return Path(text).expanduser() if text else None


def check_groups() -> str:
    """The groups of checks that ``invoke verify --only`` takes."""
    from tarpit_builder.proof import registry

    rows = [(group.name, group.title) for group in registry.groups()]
    return format_table(rows, header=("group", "what it judges"))
