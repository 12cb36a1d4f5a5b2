"""The steps to a kernel that nobody has tried yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tarpit_builder import build as building
from tarpit_builder import kernels, paths, prove, records
from tarpit_builder import plan as planning
from tarpit_builder.console import format_table
from tarpit_builder.errors import (
    BuildError,
    CheckFailedError,
    InfrastructureError,
    SourceError,
    TarpitError,
    UserError,
)
from tarpit_builder.patching import rules as patching
from tarpit_builder.porting import history, log
from tarpit_builder.porting.failure import Failure
from tarpit_builder.porting.log import BuildLog
from tarpit_builder.proof import VerifyOptions
from tarpit_builder.request import Request
from tarpit_builder.versions import KernelVersion

if TYPE_CHECKING:
    from tarpit_builder.console import Console
    from tarpit_builder.plan import Plan
    from tarpit_builder.sources.debian import Archive

STEPS = ("fetch", "probe", "build", "boot and verify")


@dataclass(frozen=True, slots=True)
class Ported:
    """A kernel for which the packages were built, and what was *proven* of them."""

    plan: Plan
    folder: Path
    log: BuildLog
    proven: str
    todo: tuple[str, ...]

    def table(self) -> str:
        """What each step came to, and what is to be added where."""
        probes = f"{len(self.log.found)} found, {len(self.log.missing)} not"
        rows = [
            ("fetched", _source(self.plan)),
            ("probed", probes if self.log.probed else "not in the log of this build"),
            ("built", str(self.folder)),
            ("proven", self.proven),
        ]
        return "\n".join([format_table(rows), *(f"add: {one}" for one in self.todo)])


def port(
    request: Request, archive: Archive, console: Console, options: VerifyOptions | None = None
) -> Ported:
    """Fetch the kernel of *request*, build for it, boot it and judge the packages.

    Of a distribution's kernel, and of a tree, *request* may name a clone of Linux as well, to look
    for causes in.

    :raises TarpitError: of the kind of what failed; it names a report in ``dist/``, unless the
        request itself is wrong.
    """
    clone, ref = request.kernel_git, request.ref
    takes = kernels.origin(request.kernel, request.kernel_tree).takes
    if request.kernel_tree or "kernel_git" not in takes:
        request = request.but(kernel_git="", ref="")
    plan = planning.make(request, archive)
    done: list[str] = []
    try:
        plan.kernel.tree.fetch(console)
        done.append("fetch")
        built = building.carry_out(plan, console)
        done += ["probe", "build"]
        said = log.read((built.folder / building.LOG).read_text(errors="replace"))
        proven = _proven(request, options or VerifyOptions(), archive, console)
    except TarpitError as error:
        if isinstance(error, UserError) and not done:
            raise  # the tree is not where the request says, so there is nothing to report of it
        raise _reported(error, plan, tuple(done), clone, ref) from error
    return Ported(plan, built.folder, said, proven, _todo(plan))


def _proven(request: Request, options: VerifyOptions, archive: Archive, console: Console) -> str:
    """What the proof came to; that it could not be begun is no failure of the kernel."""
    try:
        report = prove.prove(request, options, archive, console)
    except (UserError, SourceError) as error:
        return f"not booted: {error}"
    if report.exit_code == CheckFailedError.exit_code:
        raise UnprovenError(report.summary(), report.table())
    if report.exit_code:
        raise InfrastructureError(
            f"nothing was proven: {report.summary()}", hint="`invoke doctor` looks at this machine"
        )
    return report.summary()


class UnprovenError(CheckFailedError):
    """Booted, judged, and not right; *table* says what."""

    def __init__(self, summary: str, table: str) -> None:
        super().__init__(summary, hint="`invoke verify --pcap FILE` keeps what was sent")
        self.table = table


def _reported(
    error: TarpitError, plan: Plan, done: tuple[str, ...], clone: str, ref: str
) -> TarpitError:
    """*error*, with the name of the report on it."""
    kept = error.log if isinstance(error, BuildError) else None
    said = log.read(kept.read_text(errors="replace")) if kept else BuildLog()
    step = STEPS[len(done)]
    if step == "probe" and said.probed and not said.verdict:
        done, step = (*done, "probe"), "build"
    elif step == "probe" and not said.verdict:
        step = "prepare"
    version = version_of(plan)
    found, unknown = None, "no git tree was named, see --kernel-git"
    if clone and step in {"prepare", "probe", "build"}:
        try:
            found = history.search(
                clone,
                version,
                ref,
                headers=_headers(said),
                identifiers=said.unexported or (said.error.identifiers if said.error else ()),
            )
        except (UserError, SourceError) as why:
            unknown = why.message
    report = Failure(
        plan,
        step,
        error.message,
        done,
        said,
        unexpected=tuple(_unexpected(said, version)),
        history=found,
        unknown=unknown,
        checks=error.table if isinstance(error, UnprovenError) else "",
        kept=str(kept or ""),
    ).write()
    error.args = (error.message,)
    error.hint = f"the report is {report}; {error.hint}"
    return error


def version_of(plan: Plan) -> KernelVersion:
    """The release of Linux that the kernel of *plan* is, or is made from."""
    return KernelVersion.of_name(str(plan.kernel.facts["kernel"]))


def _headers(said: BuildLog) -> list[str]:
    """The headers that the first error, and the probes that could not answer, are about."""
    found = list(said.error.headers) if said.error else []
    if said.error and said.error.file.startswith("compat/probes/"):
        probe = paths.PROJECT / "dkms" / said.error.file
        found += history.includes([probe.read_text()]) if probe.is_file() else []
    return list(dict.fromkeys(found))


def _unexpected(said: BuildLog, version: KernelVersion) -> list[str]:
    """Probes that failed although they name an older release."""
    folder = paths.PROJECT / "dkms/compat/probes"
    since = patching.probed(folder)
    return [
        f"{name}, of {since[key]} ({', '.join(history.includes([text.read_text()]))})"
        for name in said.missing
        if (text := folder / f"{name}.c").is_file()
        and (key := f"TARPIT_HAVE_{name.upper()}") in since
        and since[key] <= version
    ]


def _source(plan: Plan) -> str:
    sources = plan.kernel.tree.manifest()
    return ", ".join(str(one.get("origin") or one.get("package")) for one in sources)


def _todo(plan: Plan) -> tuple[str, ...]:
    """What the project does not know of this kernel yet."""
    from tarpit_builder.sources.catalogue import Catalogue

    asked = plan.kernel.request
    if "kernel_git" not in kernels.origin(asked.kernel, asked.kernel_tree).takes:
        return ()
    version = version_of(plan)
    said = []
    if version not in Catalogue.load().kernels:
        said.append(
            "the release to catalogue/kernels.tsv: invoke catalog-update --kernel-git CLONE"
        )
    if not records.proven(str(version), plan.kernel.arch):
        said.append("what was seen to records.tsv and the README: invoke kernels --record")
    if not records.tried(version):
        said.append('the series to the [[build]] of matrix.toml with take = "last"')
    return tuple(said)
