"""A package set made again from its manifest, and compared byte by byte."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tarpit_builder import build, digests, paths
from tarpit_builder.attest import package_set, pinned, strict
from tarpit_builder.build import MANIFEST
from tarpit_builder.console import format_table
from tarpit_builder.errors import SourceError, UserError
from tarpit_builder.leftovers import scratch

if TYPE_CHECKING:
    from tarpit_builder.attest.package_set import AttestedSet
    from tarpit_builder.console import Console
    from tarpit_builder.plan import Plan
    from tarpit_builder.sources.debian import Archive

DIFFOSCOPE = 300  # seconds that it may take over one file
REPORT = 20_000  # bytes of its report on one file
LINES = 40  # of our own explanation of one file


@dataclass(frozen=True, slots=True)
class Reproduced:
    """What came of making *of* again.

    *same* and *other* are names of outputs; *why* explains each of the others, in lines.
    *toolchain* has the lines in which the toolchain differs, if it does; *notes* what else does.
    """

    of: AttestedSet
    same: tuple[str, ...]
    other: Mapping[str, tuple[str, ...]]
    toolchain: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: the same bytes; 4: others, by another toolchain; 1: others, by the same."""
        if not self.other:
            return 0
        return 4 if self.toolchain else 1

    def table(self) -> str:
        """Each output, and what differs."""
        rows = [("✓", name, self.of.outputs[name][:16], "the same") for name in self.same]
        rows += [
            ("✗", name, self.of.outputs.get(name, "")[:16], why[0] if why else "differs")
            for name, why in self.other.items()
        ]
        lines = [format_table(rows, header=("", "output", "sha256", "")), ""]
        for name, why in self.other.items():
            if len(why) > 1:
                lines += [f"{name}:", *(f"    {line}" for line in why[1:]), ""]
        lines += self.notes
        if self.toolchain:
            lines += ["the toolchain here is another one:", *self.toolchain]
        verdict = {
            0: f"reproduced: all {len(self.same)} outputs are the same bytes",
            1: f"not reproduced: {len(self.other)} outputs differ, by the same toolchain",
            4: f"not reproduced: {len(self.other)} outputs differ, and so does the toolchain; "
            f"with --mirror {pinned.snapshot(self.of)} it is that of the time",
        }
        return "\n".join([*lines, verdict[self.exit_code]])

    def write_json(self, path: Path) -> None:
        """The same as data."""
        document = {
            "reproduced": not self.other,
            "exit_code": self.exit_code,
            "same": list(self.same),
            "other": {name: list(why) for name, why in self.other.items()},
            "toolchain": list(self.toolchain),
            "notes": list(self.notes),
        }
        with paths.replacing(path) as stage:
            stage.write_text(json.dumps(document, indent=2) + "\n")


def reproduce(manifest: Path, archive: Archive, console: Console) -> Reproduced:
    """Build what *manifest*, or the one in that folder, tells of, and compare the outputs.

    What differs is explained where the original lies beside the manifest.

    :raises UserError: if it is no manifest, or of something that this checkout does not know.
    :raises SourceError: if this checkout or a source is not that of the manifest.
    :raises BuildError: if it cannot be built any more.
    """
    path = manifest / MANIFEST if manifest.is_dir() else manifest
    if not path.is_file():
        raise UserError(
            f"there is no manifest {path}", hint=f"name the {MANIFEST} that lies beside packages"
        )
    of = package_set.load(path.parent, strict.read(path))
    with _maintained(of.manifest), scratch("again") as folder:
        try:
            made = pinned.plan(of, archive)
        except (KeyError, TypeError, ValueError) as error:
            raise strict.wrong(path, f"lacks what a build needs: {error}") from error
        _demand_checkout(of, made)
        pinned.demand_sources(of, made, console)
        result = build.carry_out(
            made, console, dist=folder / "dist", force=True, anew=folder / "steps"
        )
        return _compared(of, result.folder, result.manifest)


def _demand_checkout(of: AttestedSet, made: Plan) -> None:
    """See that the files of this project are those that *of* was made from."""
    now = digests.members(made.kernel.userland.source().members)
    then: Mapping[str, str] = of.manifest["module"]
    other = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    if not other:
        return
    facts = of.manifest.get("builder") or {}
    commit = facts.get("commit") or f"the release {facts.get('version') or of.version}"
    changed = ", and files that it had changed by then" if facts.get("changed") else ""
    raise SourceError(
        f"this checkout is not the one that built it: {len(other)} files differ, as {other[0]}",
        hint=f"git checkout {commit}{changed}",
    )


@contextmanager
def _maintained(manifest: Mapping[str, Any]) -> Iterator[None]:
    """Have maintainer and home page as they were: both are part of the packages."""
    name, _, address = str(manifest.get("maintainer", "")).rpartition(" <")
    values = {
        "DEBFULLNAME": name,
        "DEBEMAIL": address.removesuffix(">"),
        "TARPIT_HOMEPAGE": str(manifest.get("homepage", "")),
    }
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _compared(of: AttestedSet, folder: Path, manifest: Mapping[str, Any]) -> Reproduced:
    made = {item["file"]: item["sha256"] for item in manifest["outputs"]}
    same = tuple(name for name, value in of.outputs.items() if made.get(name) == value)
    other: dict[str, tuple[str, ...]] = {}
    for name in sorted(of.outputs.keys() | made.keys()):
        if name in same:
            continue
        if name not in made:
            other[name] = ("was not made again",)
        elif name not in of.outputs:
            other[name] = ("was made beside it",)
        else:
            other[name] = _why(of, name, folder / name)
    before, after = of.manifest["toolchain"], manifest["toolchain"]
    lines = tuple(
        line
        for line in difflib.unified_diff(before, after, "then", "here", lineterm="", n=0)
        if not line.startswith("@@")
    )
    notes = []
    if of.manifest["image"]["id"] != manifest["image"]["id"] and not lines:
        notes.append("the image of the toolchain is another one, with the same versions in it")
    if other and not shutil.which("diffoscope"):
        notes.append("diffoscope, which would tell more, is not installed")
    return Reproduced(of, same, other, lines, tuple(notes))


def _why(of: AttestedSet, name: str, new: Path) -> tuple[str, ...]:
    """Why *new* is not the output *name* of *of*."""
    old = of.folder / name
    if not old.is_file() or old.is_symlink() or digests.file(old) != of.outputs[name]:
        return ("differs; the original does not lie beside the manifest",)
    if program := shutil.which("diffoscope"):
        command = [program, "--no-progress", "--text", "-", "--max-text-report-size", str(REPORT)]
        try:
            run = subprocess.run(
                [*command, str(old), str(new)],
                capture_output=True, text=True, check=False, timeout=DIFFOSCOPE,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ("differs; diffoscope took too long", *own_words(old, new))
        if run.returncode == 1:
            return ("differs", *run.stdout.splitlines())
    return ("differs", *own_words(old, new))


def own_words(old: Path, new: Path) -> tuple[str, ...]:
    """What differs between two files: members of packages and archives, or lines of a text."""
    try:
        then, now = _members(old), _members(new)
    except (OSError, ValueError, KeyError, EOFError, tarfile.TarError):
        return ("and cannot be read",)
    if not then:
        before, after = (p.read_text(errors="replace").splitlines() for p in (old, new))
        return tuple(difflib.unified_diff(before, after, "then", "here", lineterm="", n=0))[:LINES]
    lines = []
    for member in sorted(then.keys() | now.keys()):
        if then.get(member) != now.get(member):
            how = (
                "differs"
                if member in then and member in now
                else ("is new" if member in now else "is gone")
            )
            lines.append(f"{member} {how}")
    return tuple(lines[:LINES]) or ("the members are the same; how they are packed is not",)


def _members(path: Path) -> dict[str, str]:
    """The members of a package or an archive, with a digest of each; none of anything else."""
    from debian.debfile import DebFile

    found: dict[str, str] = {}
    with ExitStack() as stack:
        archives: dict[str, tarfile.TarFile] = {}
        if path.suffix == ".deb":
            package = DebFile(fileobj=stack.enter_context(path.open("rb")))
            archives = {"control/": package.control.tgz(), "": package.data.tgz()}
        elif ".tar" in path.suffixes:
            archives = {"": stack.enter_context(tarfile.open(path))}
        for prefix, archive in archives.items():
            for member in archive:
                data: IO[bytes] | None = archive.extractfile(member) if member.isreg() else None
                body = digests.content(data.read()) if data else member.linkname
                facts = f"{member.mode:o} {member.uid} {member.gid} {member.mtime} {body}"
                found[prefix + member.name.removeprefix("./")] = facts
    return found
