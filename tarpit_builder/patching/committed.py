"""The patches in ``patches/``, one for each range of releases."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tarpit_builder import paths
from tarpit_builder.errors import InfrastructureError, UserError
from tarpit_builder.patching import diff, rules
from tarpit_builder.patching.diff import ENCODING, Patch
from tarpit_builder.patching.rules import Range
from tarpit_builder.versions import IptablesVersion, KernelVersion

FOLDER = paths.PROJECT / "patches"
AUTHOR = "tarpit-builder <tarpit-builder@localhost>"
ReleaseVersion = KernelVersion | IptablesVersion


@dataclass(frozen=True, slots=True)
class Committed:
    """A patch of ``patches/``, the file *path*, for the range *entry*."""

    entry: Range
    path: Path
    patch: Patch


def committed(version: ReleaseVersion) -> Committed:
    """The patch that serves *version*.

    :raises UserError: if it gets none; the message says why.
    :raises InfrastructureError: if the file is not there, or is no patch.
    """
    return read(rules.load().choose(version))


def read(entry: Range) -> Committed:
    """The patch of the range *entry*.

    :raises InfrastructureError: if the file is not there, or is no patch.
    """
    path = FOLDER / entry.path
    try:
        return Committed(entry, path, diff.parse(path.read_bytes().decode(ENCODING)))
    except FileNotFoundError as error:
        raise InfrastructureError(
            f"patches/{entry.path} is not there", hint="make it: `invoke regen --write`"
        ) from error
    except diff.PatchSyntaxError as error:
        raise InfrastructureError(
            f"patches/{entry.path} is damaged: {error}",
            hint="`git checkout` it, or generate it again: `invoke regen --write`",
        ) from error


def asked_for(kernel: str, iptables: str, tree: str = "") -> ReleaseVersion | None:
    """The release that ``--kernel`` or ``--iptables`` names, or the kernel that *tree* is of.

    :raises UserError: if both do, or what is named is no release.
    """
    if kernel and iptables:
        raise UserError(
            "--kernel and --iptables name two trees", hint="patch them one after the other"
        )
    if iptables:
        return IptablesVersion.parse(iptables)
    if tree and not kernel:
        from tarpit_builder.sources.local import release_of

        return release_of(Path(tree))
    return KernelVersion.parse(kernel) if kernel else None


def formatted(patch: Patch, style: str, version: ReleaseVersion) -> str:
    """*patch* as text.

    :param style: ``git``, ``quilt`` or ``mbox``.
    :raises UserError: if it is none of these.
    """
    match style:
        case "git":
            return str(patch)
        case "quilt":
            return diff.quilt(patch, version.stem)
        case "mbox":
            return diff.mbox(patch, AUTHOR, _mail_date())
    raise UserError(f"there is no patch format {style!r}", hint="choose git, quilt or mbox")


def emit(text: str, output: str) -> None:
    """Write *text* to the file *output*, or to standard output if that is ``-``.

    :raises InfrastructureError: if the file cannot be written.
    """
    if output == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode(ENCODING))
        return
    with paths.replacing(Path(output).expanduser()) as stage:
        stage.write_bytes(text.encode(ENCODING))


def _mail_date() -> str:
    """The date of a mail: ``SOURCE_DATE_EPOCH``, or none, so that the bytes do not change."""
    from email.utils import formatdate

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return formatdate(int(epoch)) if epoch.isdigit() else ""
