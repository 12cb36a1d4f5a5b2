"""What is on record of each kernel, from the results in ``dist/`` and the committed table.

A cell is a kernel on an architecture with packages for a userland, as in
:class:`tarpit_builder.records.Record`.  Nothing here raises for what a record says: a damaged one
is a cell that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from tarpit_builder import digests, evidence, machine, records
from tarpit_builder.build import FORMAT, MANIFEST
from tarpit_builder.errors import TarpitError
from tarpit_builder.matrix import outcome as outcomes
from tarpit_builder.matrix.outcome import CellOutcome
from tarpit_builder.page import reading
from tarpit_builder.page.reading import DamageError, Node
from tarpit_builder.proof.report import Verdict
from tarpit_builder.versions import KernelVersion

NOT_CELLS = ("summary.json",)
STEPS = (".build.json", ".verify.json")
"""What else is in ``dist/matrix/``: the last run, and what the steps of a cell have written."""


class State(StrEnum):
    """How far a cell has come, or what became of it."""

    VERIFIED = "verified"
    """It was booted, and every check that could be judged passed."""
    BOOTED = "booted"
    """It was booted, but of this very build no proof says that it is right."""
    BUILT = "built"
    FAILED = "failed"
    """It did not build, or a check failed."""
    UNKNOWN = "not tried"
    """The machine could not do it: nothing is known of the kernel."""
    DAMAGED = "damaged"
    """Its records are, or its packages are not those that were built."""


@dataclass(frozen=True, slots=True)
class PagePackage:
    """A file of a build; *size* in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PageCheck:
    """One check as it ended: its *place* in the contract, and why it did not pass."""

    group: str
    backend: str
    family: int
    title: str
    section: str
    outcome: str
    detail: str = ""
    ladder: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PageFigure:
    """What was measured; see :class:`tarpit_builder.proof.report.Figure`."""

    what: str
    subject: str
    series: str
    value: float
    unit: str
    limit: float
    family: int
    backend: str


@dataclass(frozen=True, slots=True)
class PageProof:
    """What a proof found out; *when* it was, '' if that is not on record."""

    when: str
    status: int
    summary: str
    checks: tuple[PageCheck, ...] = ()
    ladder: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured: tuple[dict[str, Any], ...] = ()
    same: bool = True
    """It is of the very build that is there now."""

    def figures(self, what: str) -> list[PageFigure]:
        """What was measured of that kind; read only now, as the newest proof is all that counts.

        What is damaged of it is left out.
        """
        found = []
        for data in self.measured:
            if data.get("what") == what:
                with suppress(DamageError):
                    found.append(_figure(Node("a figure", data)))
        return found

    @property
    def booted(self) -> bool:
        """Whether the kernel came up: something could be judged."""
        judged = {Verdict.PASS, Verdict.FAIL, Verdict.SKIP}
        return self.status in {0, 1} or any(check.outcome in judged for check in self.checks)


@dataclass(frozen=True, slots=True)
class PageCell:
    """One kernel; dates are UTC and '' where there is none.

    *folder* and *log* are below ``dist/``.  *problems* say what is wrong with its records.
    """

    kernel: str
    arch: str
    userland: str
    state: State = State.BUILT
    built: str = ""
    booted: str = ""
    verified: str = ""
    failed: str = ""
    detail: str = ""
    folder: str = ""
    log: str = ""
    key: str = ""
    command: str = ""
    compiler: str = ""
    image: str = ""
    module: str = ""
    seconds: float = 0.0
    names: tuple[str, ...] = ()
    """What the matrix calls it."""
    packages: tuple[PagePackage, ...] = ()
    sources: tuple[str, ...] = ()
    choices: tuple[tuple[str, str, str], ...] = ()
    stages: tuple[tuple[str, float], ...] = ()
    proof: PageProof | None = None
    recorded: str = ""
    """What the committed table says of its proof."""
    untried: str = ""
    """Why this machine could not do it the last time; what is known of it, is from before."""
    older: bool = False
    """It was another source of the module than that of today."""
    problems: tuple[str, ...] = ()

    @property
    def subject(self) -> tuple[str, str, str]:
        """What it is about."""
        return self.kernel, self.arch, self.userland

    @property
    def version(self) -> KernelVersion | None:
        """The release of Linux, None where the kernel's name does not say it."""
        try:
            return KernelVersion.of_name(self.kernel)
        except (TarpitError, ValueError):
            return None

    @property
    def series(self) -> str:
        """The series of that release, '' if it is not known."""
        return str(self.version.series) if self.version else ""

    @property
    def when(self) -> str:
        """When it came to be what it is."""
        moments = {
            State.VERIFIED: self.verified,
            State.BOOTED: self.booted,
            State.BUILT: self.built,
        }
        return moments.get(self.state) or self.failed


@dataclass(slots=True)
class PageRun:
    """One run of the matrix: how each of its cells ended, and how long it took."""

    when: str
    seconds: float
    cells: dict[str, tuple[str, float, int | None]] = field(default_factory=dict)

    def count(self, *wanted: str) -> int:
        """How many cells ended so; a proof that failed makes a cell ``failed``."""
        return sum(outcome in wanted for outcome, _, _ in self.cells.values())


def collect(dist: Path) -> list[PageCell]:
    """Every cell of the results in *dist* and of the committed table, old kernels first.

    None if there are no results: the table alone is nothing that anybody has just made.
    """
    cells: dict[tuple[str, str, str], PageCell] = {}
    folders: dict[str, tuple[str, str, str]] = {}
    for cell in _built(dist):
        cells[cell.subject] = cell
        folders[cell.folder] = cell.subject
    for cell in _matrix(dist):
        subject = folders.get(cell.folder, cell.subject)
        before = cells.get(subject)
        cells[subject] = _with_record(before, cell) if before else cell
    if not cells:
        return []
    for row in _table():
        before = cells.get(row.subject)
        cells[row.subject] = _with_table(before, row) if before else row
    return sorted(cells.values(), key=_order)


def runs(dist: Path) -> tuple[list[PageRun], list[str]]:
    """The runs of the matrix that are on record, oldest first; and what is wrong with others."""
    found, problems = [], []
    for path in sorted((dist / outcomes.FOLDER / outcomes.HISTORY).glob("*.json")):
        try:
            node = reading.load(path, dist)
            run = PageRun(reading.moment(node.text("when")), node.number("seconds"))
            for name in node.need("cells").data:
                cell = node.need("cells").need(name)
                proof = cell.number("proof") if cell.data.get("proof") is not None else None
                how = cell.text("outcome"), cell.number("seconds"), proof
                run.cells[reading.clean(name)] = (
                    how[0],
                    how[1],
                    None if proof is None else int(proof),
                )
        except DamageError as damage:
            problems.append(str(damage))
        else:
            found.append(run)
    return sorted(found, key=lambda run: run.when), problems


def timed(cells: Iterable[PageCell], runs: Iterable[PageRun]) -> list[PageCell]:
    """*cells*, with the seconds of the last run that built them where the last of all did not."""
    seconds = {
        name: taken
        for run in runs
        for name, (outcome, taken, _) in run.cells.items()
        if outcome == CellOutcome.BUILT
    }
    return [
        cell
        if cell.seconds
        else replace(cell, seconds=max((seconds.get(name, 0.0) for name in cell.names), default=0))
        for cell in cells
    ]


def benches(dist: Path) -> Iterator[tuple[str, PageProof]]:
    """What ``invoke bench --packets`` has measured: on which kernel, and the report."""
    for path in sorted((dist / "bench").glob("packets-*.json")):
        try:
            node = reading.load(path, dist)
            report = node.need("report")
            yield report.text("kernel"), _report(report, reading.moment(node.text("when", "")))
        except DamageError:
            continue


def _order(cell: PageCell) -> tuple[KernelVersion, bool, str, str, str]:
    version = cell.version or KernelVersion.parse("999.0")
    return (version, cell.kernel != str(version), *cell.subject)


# -- builds ----------------------------------------------------------------------------------------


def _built(dist: Path) -> Iterator[PageCell]:
    """The builds; several at once, as most of it is digests of files."""
    found = [path for path in sorted(dist.glob(f"*/{MANIFEST}")) if path.parent.name[0] != "."]
    with ThreadPoolExecutor(machine.cores()) as pool:
        yield from pool.map(lambda path: _build(path, dist), found)


def _build(path: Path, dist: Path) -> PageCell:
    try:
        return _proven(_manifest(path, dist), path.parent, dist)
    except DamageError as damage:
        return PageCell(
            reading.clean(path.parent.name),
            "",
            "",
            State.DAMAGED,
            folder=path.parent.name,
            failed=_written(path),
            detail=str(damage),
            problems=(str(damage),),
        )


def _manifest(path: Path, dist: Path) -> PageCell:
    """What a manifest says.

    :raises DamageError: if it says nothing that can be used.
    """
    node = reading.load(path, dist)
    if node.data.get("format") != FORMAT:
        raise DamageError(f"{node.name} is of another version (format {node.data.get('format')!r})")
    plan = node.need("plan")
    packages = tuple(
        PagePackage(one.text("file"), int(one.number("size")), one.text("sha256"))
        for one in node.nodes("outputs")
    )
    image = node.node("image")
    userland = plan.text("userland", "") or plan.text("suite", "")
    iptables = plan.text("iptables", "")
    cell = PageCell(
        kernel=plan.text("kernel"),
        arch=plan.text("arch"),
        userland=userland or (f"iptables {iptables}" if iptables else "none"),
        built=_written(path),
        folder=path.parent.name,
        key=node.text("key"),
        command=node.text("command", ""),
        compiler=next(iter(node.texts("toolchain")), ""),
        image=image.text("tag", "") if image else "",
        module=plan.text("version", ""),
        packages=packages,
        sources=tuple(_source(one) for one in node.nodes("sources")),
        choices=tuple(
            (one.text("topic"), one.text("value"), one.text("reason"))
            for one in plan.nodes("choices")
        ),
    )
    if "debug" in plan.data:
        cell = replace(cell, userland=f"{cell.userland}, {plan.text('debug')}")
    if "signed" in node.data:
        cell = replace(cell, userland=f"{cell.userland}, signed")
    changed = [one.name for one in packages if not _genuine(path.parent, one, dist)]
    if changed:
        detail = f"not as it was built: {', '.join(changed)}"
        cell = replace(
            cell, state=State.DAMAGED, failed=cell.built, detail=detail, problems=(detail,)
        )
    return cell


def _source(node: Node) -> str:
    """A source in a line: its name, and the digest that it was verified by."""
    name = node.text("package", "") or node.text("file", "") or node.text("url", "")
    version = node.text("version", "")
    digest = node.text("git-tree", "") or node.text("sha256", "")
    return " ".join(filter(None, (name or node.text("name", "source"), version, digest[:16])))


def _genuine(folder: Path, package: PagePackage, dist: Path) -> bool:
    """Whether the file is there, and is that."""
    path = folder / package.name
    try:
        if reading.leads_out(path, dist):
            return False
        return path.is_file() and digests.file(path) == package.sha256
    except (OSError, ValueError):
        return False


def _written(path: Path) -> str:
    try:
        return reading.written(path)
    except OSError:
        return ""


# -- proofs ----------------------------------------------------------------------------------------


def _proven(cell: PageCell, folder: Path, dist: Path) -> PageCell:
    """*cell* with the proof that lies beside its manifest, if there is one."""
    path = folder / evidence.PROOF
    try:
        proof = _proof(path, dist, cell.key) if path.exists() else _old_proof(folder, dist, cell)
    except DamageError as damage:
        return replace(cell, problems=(*cell.problems, str(damage)))
    return judged(cell, proof) if proof else cell


def judged(cell: PageCell, proof: PageProof) -> PageCell:
    """*cell* as *proof* makes it."""
    cell = replace(cell, proof=proof)
    if proof.booted:
        cell = replace(cell, booted=proof.when)
    if cell.state is State.DAMAGED:
        return cell
    if not proof.same:
        text = "the proof on record is of another build of this kernel"
        state = State.BOOTED if proof.booted else cell.state
        return replace(cell, state=state, problems=(*cell.problems, text))
    if proof.status == 0:
        return replace(cell, state=State.VERIFIED, verified=proof.when)
    if proof.status == 1:
        return replace(cell, state=State.FAILED, failed=proof.when, detail=proof.summary)
    state = State.BOOTED if proof.booted else cell.state
    return replace(cell, state=state, detail=proof.summary)


def _proof(path: Path, dist: Path, key: str) -> PageProof:
    """All that a proof found out.

    :raises DamageError: if it cannot be used.
    """
    node = reading.load(path, dist)
    if node.data.get("format") != evidence.FORMAT:
        raise DamageError(f"{node.name} is of another version (format {node.data.get('format')!r})")
    when = reading.moment(node.text("when", "")) or _written(path)
    return replace(_report(node.need("report"), when), same=node.text("key") == key)


def _old_proof(folder: Path, dist: Path, cell: PageCell) -> PageProof | None:
    """What ``verify.json`` says, by an older version: that it passed, and how many checks."""
    path = folder / evidence.EVIDENCE
    if not path.exists():
        return None
    node = reading.load(path, dist)
    if node.data.get("format") != evidence.FORMAT:
        raise DamageError(f"{node.name} is of another version (format {node.data.get('format')!r})")
    same = node.text("key") == cell.key
    return PageProof(_written(path), 0, node.text("summary", "passed"), same=same)


def _report(node: Node, when: str) -> PageProof:
    checks = tuple(_check(node.name, one) for one in node.objects("results"))
    known = {str(verdict) for verdict in Verdict}
    if strange := sorted({check.outcome for check in checks} - known):
        raise DamageError(f"{node.name}: no check ends as {strange[0]!r}")
    counts = {verdict: sum(c.outcome == verdict for c in checks) for verdict in Verdict}
    words = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
    return PageProof(
        when=when,
        status=_status(counts),
        summary=words or "nothing was judged",
        checks=checks,
        ladder=tuple(node.texts("ladder")),
        held=tuple(node.texts("held")),
        notes=tuple(node.texts("notes")),
        measured=tuple(node.objects("figures")),
    )


def _check(name: str, data: dict[str, Any]) -> PageCheck:
    """A check; one of many thousands that ended the same way, so those without packets are kept."""
    if data.get("ladder"):
        return _read_check(Node(name, data))
    get = data.get
    key = (
        *(get("group"), get("backend"), get("family"), get("title")),
        *(get("section"), get("outcome"), get("detail")),
    )
    try:
        if not (known := _checks.get(key)):
            known = _checks[key] = _read_check(Node(name, data))
    except TypeError:  # something in it has no hash: not what it should be
        return _read_check(Node(name, data))
    return known


_checks: dict[tuple[object, ...], PageCheck] = {}


def _read_check(node: Node) -> PageCheck:
    return PageCheck(
        group=node.text("group"),
        backend=node.text("backend", ""),
        family=node.integer("family"),
        title=node.text("title"),
        section=node.text("section", ""),
        outcome=node.text("outcome"),
        detail=node.text("detail", ""),
        ladder=tuple(node.texts("ladder")) if node.data.get("ladder") else (),
    )


def _figure(node: Node) -> PageFigure:
    return PageFigure(
        node.text("what"),
        node.text("subject"),
        node.text("series"),
        node.number("value"),
        node.text("unit"),
        node.number("limit", 0),
        node.integer("family"),
        node.text("backend", ""),
    )


def _status(counts: dict[Verdict, int]) -> int:
    """As ``VerifyReport.exit_code``; what is noted of it is not believed."""
    if counts[Verdict.FAIL]:
        return 1
    return 3 if counts[Verdict.ERROR] or not counts[Verdict.PASS] else 0


# -- the matrix ------------------------------------------------------------------------------------


def _matrix(dist: Path) -> Iterator[PageCell]:
    """What the records of the matrix say, each as a cell without packages."""
    folder = dist / outcomes.FOLDER
    for path in sorted(folder.glob("*.json")):
        if path.name in NOT_CELLS or path.name.endswith(STEPS):
            continue
        name = reading.clean(path.stem)
        try:
            yield _cell(reading.load(path, dist), path, dist)
        except DamageError as damage:
            yield PageCell(
                name,
                "",
                "",
                State.DAMAGED,
                failed=_written(path),
                detail=str(damage),
                names=(name,),
                log=_log(path, dist),
                problems=(str(damage),),
            )


def _cell(node: Node, path: Path, dist: Path) -> PageCell:
    outcome = node.text("outcome")
    states = {
        CellOutcome.BUILT: State.BUILT,
        CellOutcome.PRESENT: State.BUILT,
        CellOutcome.FAILED: State.FAILED,
        CellOutcome.TIMEOUT: State.FAILED,
        CellOutcome.ERROR: State.UNKNOWN,
        CellOutcome.NOT_RUN: State.UNKNOWN,
    }
    if outcome not in {str(one) for one in CellOutcome}:
        raise DamageError(f"{node.name}: no cell ends as {outcome!r}")
    state = states[CellOutcome(outcome)]
    kernel, arch, userland = _asked(node, reading.clean(path.stem))
    in_tree = node.text("in_tree", "")
    when = reading.moment(node.text("when", "")) or _written(path)
    good = state is State.BUILT
    cell = PageCell(
        kernel=kernel,
        arch=arch,
        userland=f"{userland}, in its tree ({in_tree})" if in_tree else userland,
        state=state,
        built=when if good else "",
        failed="" if good else when,
        detail=node.text("detail", "") or ("" if good else f"the matrix says: {outcome}"),
        # What is noted is a path of the machine that it was built on.
        folder="" if in_tree else Path(node.text("folder", "")).name,
        log=_log(path, dist),
        key=node.text("key", ""),
        seconds=node.number("seconds", 0) if outcome == CellOutcome.BUILT else 0.0,
        names=(reading.clean(path.stem),),
        stages=tuple(node.pairs("stages")),
    )
    proof = node.node("proof")
    if proof is None:
        return cell
    known = PageProof(when, int(proof.number("status")), proof.text("summary", ""))
    whole = path.with_name(f"{path.stem}.verify.json")
    if whole.exists():
        try:
            found = _report(reading.load(whole, dist), when)
        except DamageError as damage:
            cell = replace(cell, problems=(str(damage),))
        else:
            known = found if found.status == known.status else known
    return judged(replace(cell, state=State.BUILT, built=cell.built or when), known)


def _asked(node: Node, name: str) -> tuple[str, str, str]:
    """Kernel, architecture and userland that a cell was for."""
    if request := node.node("request"):
        kernel, flavour = request.text("kernel"), request.text("flavour", "")
        iptables = request.text("iptables", "")
        suite = kernel.partition(":")[2]
        userland = suite or (f"iptables {iptables}" if iptables else "")
        return " ".join(filter(None, (kernel, flavour))), request.text("arch", ""), userland
    return name, "", ""  # an older version, which did not note it


def _log(path: Path, dist: Path) -> str:
    log = path.with_suffix(".log")
    return str(log.relative_to(dist)) if log.is_file() else ""


def _with_record(cell: PageCell, record: PageCell) -> PageCell:
    """*cell*, of a build, with what the matrix has noted of it."""
    merged = replace(
        cell,
        log=record.log,
        names=(*cell.names, *record.names),
        seconds=record.seconds or cell.seconds,
        stages=record.stages or cell.stages,
        problems=(*cell.problems, *record.problems),
    )
    if record.state is State.UNKNOWN:
        return replace(merged, untried=record.detail or "it was not run")
    if record.state is State.FAILED and not record.proof:
        # The build that is there is an earlier one; what is known of it stays.
        state = cell.state if cell.state is State.DAMAGED else State.FAILED
        detail = merged.detail or record.detail
        return replace(merged, state=state, failed=record.failed, detail=detail)
    if record.proof and record.key == cell.key and not (cell.proof and cell.proof.checks):
        return judged(merged, record.proof)
    return merged


# -- the committed table ---------------------------------------------------------------------------


def _table() -> Iterable[PageCell]:
    today = records.module_digest()
    for row in records.read():
        yield PageCell(
            row.kernel,
            row.arch,
            row.userland,
            State.VERIFIED if row.proven else State.BUILT,
            built=row.built,
            booted=row.proven,
            verified=row.proven,
            compiler=row.compiler,
            sources=(f"kernel {row.source}",),
            recorded=row.checks,
            older=row.module != today,
        )


def _with_table(cell: PageCell, row: PageCell) -> PageCell:
    """*cell* with what the table knows beyond it: what was proven of an earlier build."""
    booted, verified = cell.booted or row.booted, cell.verified or row.verified
    merged = replace(cell, booted=booted, verified=verified, recorded=row.recorded)
    if cell.state is not State.UNKNOWN:
        return merged
    return replace(
        merged,
        state=row.state,
        built=row.built,
        failed="",
        detail="",
        untried=cell.detail or "it was not run",
        compiler=row.compiler,
        sources=row.sources,
        older=row.older,
    )
