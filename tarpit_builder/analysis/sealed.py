"""The analyzers of C, which run in a sealed container beside a kernel's headers."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import architectures, paths
from tarpit_builder.analysis.findings import Diagnostic, parse
from tarpit_builder.console import Console
from tarpit_builder.container import Engine, Files, Input, Recipe, tree
from tarpit_builder.errors import BuildError
from tarpit_builder.kernels import find
from tarpit_builder.kernels.headers import Headers
from tarpit_builder.request import Request

if TYPE_CHECKING:
    from tarpit_builder.sources.debian import Archive

KERNEL = "debian:trixie"
"""Whose headers the modules are looked at with: its compiler has the analyzer, too."""

SCRIPT = paths.PROJECT / "containers" / "analyze" / "analyze.sh"


def look(
    names: Sequence[str], root: Path, archive: Archive, console: Console
) -> tuple[Diagnostic, ...]:
    """What the analyzers *names* find in the C below *root*.

    :raises BuildError: if the modules do not compile, or an analyzer fails.
    """
    headers = find(Request(KERNEL), archive).tree
    assert isinstance(headers, Headers)
    kernel = headers.kernel
    compiler = architectures.compiler(kernel.compiler, kernel.arch)
    mirrors = archive.mirrors
    recipe = Recipe(
        template="analyze",
        suite=kernel.suite.base,
        arch=architectures.BUILD,
        apt_sources=mirrors.apt_sources(kernel.suite),
        mirror=mirrors.main,
        keyring=mirrors.keyring,
        variables={"compiler": compiler},
    )
    engine = Engine.connect()
    image = engine.ensure_image(recipe, console)
    source = {
        f"{folder}/{name}": path
        for folder in ("dkms", "containers")
        for name, path in tree(root / folder).members.items()
        if folder == "dkms" or name.endswith(".c")
    }
    inputs = [
        headers.input(console),
        Input("/src", [Files(source)]),
        Input("/scripts", [Files({SCRIPT.name: SCRIPT})]),
    ]
    with tempfile.TemporaryDirectory(prefix="tarpit-analysis-") as folder:
        output = Path(folder)
        with console.stage(f"analyze C with {', '.join(names)}") as stage:

            def note(line: str) -> None:
                if line.startswith("### "):
                    stage.note(line.removeprefix("### "))
                elif "was not run" in line:
                    console.say(f"  {line}")

            run = engine.run(
                image,
                ["sh", f"/scripts/{SCRIPT.name}", kernel.abi, compiler, *names],
                inputs=inputs,
                output=output,
                on_line=note,
            )
            if run.status:
                raise BuildError(
                    f"the C could not be analyzed (status {run.status})",
                    hint="what it says above is of the analyzer, or of a module that does not "
                    "compile",
                    tail=run.lines[-20:],
                )
        return tuple(
            finding
            for name in names
            for finding in parse(name, (output / f"{name}.txt").read_text())
        )
