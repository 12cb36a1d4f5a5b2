"""From cells to one file: the page, its figures and its texts, within a budget."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from tarpit_builder import __version__, evidence, paths
from tarpit_builder.build import LOG, MANIFEST
from tarpit_builder.errors import UserError
from tarpit_builder.page import cells as found
from tarpit_builder.page import charts, reading
from tarpit_builder.page.cells import PageCell, PageRun, State
from tarpit_builder.page.contract import WORST, Contract, failures
from tarpit_builder.page.ladder import Drawing, draw
from tarpit_builder.page.reading import DamageError
from tarpit_builder.proof.report import Verdict
from tarpit_builder.publish import settings
from tarpit_builder.publish.audit import KEY

TEMPLATES = Path(__file__).resolve().parent / "templates"
MOST = 2_000_000 - 20_000  # bytes of a page, however many cells there are
TAIL, LEAST_TAIL = 4000, 160  # bytes of a log that are shown at most, and what is not worth it
FEW = 150  # cells up to which each choice of the plan and all that was measured is shown
DETAILS = 600_000  # bytes of why checks did not pass, for all cells together
DATA_END = "</script>\n<script>"
"""What follows the data in the page."""
BAD = {State.FAILED, State.DAMAGED, State.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Made:
    """A page that was written: *size* in bytes, in *seconds*, with so many *cells*."""

    output: Path
    cells: int
    counts: Counter[State]
    seconds: float
    size: int

    def line(self) -> str:
        """What the task prints."""
        counts = ", ".join(f"{self.counts[state]} {state}" for state in State if self.counts[state])
        return (
            f"{self.output}: {self.cells} cells ({counts}), "
            f"{self.size / 1000:,.0f} kB in {self.seconds:.1f} s"
        )

    def data(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "output": str(self.output),
            "cells": self.cells,
            "counts": {str(state): self.counts[state] for state in State if self.counts[state]},
            "seconds": round(self.seconds, 3),
            "bytes": self.size,
        }


def make(dist: Path, output: Path, *, repo: Path | None = None, copy: bool = False) -> Made:
    """Write the page of what is in *dist* and in the committed table to *output*.

    :param repo: an apt repository; how to use it stands at the top of the page.
    :param copy: put the files that the page links to beside it, for a web server.
    :raises UserError: if there is nothing to report on.
    :raises InfrastructureError: if it cannot be written.
    """
    began = time.monotonic()
    cells = found.collect(dist)
    if not cells:
        raise UserError(
            f"there is nothing to report on in {dist}",
            hint="run invoke build or invoke matrix --run first, or point TARPIT_DIST at results",
        )
    runs, problems = found.runs(dist)
    cells = found.timed(cells, runs)
    links = _Links(dist, output, copy=copy)
    page = _Page(cells, runs, problems, links, dist).html(_repository(repo, output))
    links.write()
    with paths.replacing(output) as stage:
        stage.write_text(page, encoding="utf-8")
    return Made(
        output=output,
        cells=len(cells),
        counts=Counter(cell.state for cell in cells),
        seconds=time.monotonic() - began,
        size=len(page.encode()),
    )


class _Links:
    """Where the files are that the page links to: in the results, or in a copy beside the page."""

    def __init__(self, dist: Path, output: Path, *, copy: bool) -> None:
        self._dist = dist
        self._output = output
        self._base = os.path.relpath(dist.absolute(), output.absolute().parent)
        self._copies: dict[str, Path] | None = {} if copy else None

    @property
    def folder(self) -> Path:
        """The copies' folder."""
        return self._output.with_name(f"{self._output.stem}-files")

    def to(self, name: str) -> str:
        """A relative URL for the file *name* below ``dist/``; '' if there is no such file."""
        path = self._dist / name
        try:
            if not name or not path.is_file() or reading.leads_out(path, self._dist):
                return ""
        except (OSError, ValueError):
            return ""
        if self._copies is None:
            where = f"{self._base}/{name}"
        else:
            self._copies[name] = path
            where = f"{self.folder.name}/{name}"
        return quote(where if where.startswith(".") else f"./{where}")

    def write(self) -> None:
        """Put the copies there, all or none."""
        if self._copies is None:
            return
        with paths.staged_dir(self.folder) as stage:
            for name, path in self._copies.items():
                paths.make_dir((stage / name).parent)
                shutil.copyfile(path, stage / name)


class _Page:
    def __init__(
        self,
        cells: Sequence[PageCell],
        runs: Sequence[PageRun],
        problems: Sequence[str],
        links: _Links,
        dist: Path,
    ) -> None:
        self._cells = cells
        self._runs = runs
        self._problems = problems
        self._links = links
        self._dist = dist
        self._ids = _ids(cells)
        self._contract = Contract(cells)
        rows = [row for group in self._contract.groups for row in group.rows]
        self._order = {row.number: place for place, row in enumerate(rows)}

    def html(self, repository: dict[str, Any] | None) -> str:
        """The whole page."""
        before, after = self._render(repository)
        data = self._data()
        self._add_logs(data["cells"], MOST - len((before + _embedded(data) + after).encode()))
        return before + _embedded(data) + after

    def _render(self, repository: dict[str, Any] | None) -> tuple[str, str]:
        """What comes before and after the data of the page's script."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        style = (TEMPLATES / "page.css").read_text(encoding="utf-8").strip()
        script = (TEMPLATES / "page.js").read_text(encoding="utf-8").strip()
        page = environment.get_template("page.html.j2").render(
            version=__version__,
            made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            style=Markup(style),  # noqa: S704  (our own file)
            script=Markup(script),  # noqa: S704
            policy=_policy(style, script),
            repository=repository,
            counts=Counter(cell.state for cell in self._cells),
            states=list(State),
            cells=self._cells,
            ids=self._ids,
            table=self._table(),
            archs=self._archs(),
            series=list(dict.fromkeys(cell.series for cell in self._cells if cell.series)),
            failures=failures(self._cells),
            problems=self._problems,
            contract=self._contract,
            order=self._order,
            untried=sum(cell.state is State.UNKNOWN or bool(cell.untried) for cell in self._cells),
            ladders=self._ladders(),
            charts=self._charts(),
            runs=self._runs,
            number=charts.number,
            proven=sum(bool(cell.proof and cell.proof.checks) for cell in self._cells),
        )
        before, _, after = page.rpartition(DATA_END)
        return before, DATA_END + after

    def _archs(self) -> list[str]:
        known = {cell.arch for cell in self._cells}
        return sorted(known, key=lambda arch: (arch != "amd64", not arch, arch))

    def _table(self) -> list[tuple[str, str, dict[str, list[int]]]]:
        """Kernels in order, the newest first: name, series, and its cells by architecture."""
        rows: dict[str, dict[str, list[int]]] = {}
        series: dict[str, str] = {}
        for number, cell in reversed(list(enumerate(self._cells))):
            rows.setdefault(cell.kernel, {}).setdefault(cell.arch, []).append(number)
            series[cell.kernel] = cell.series
        return [(kernel, series[kernel], of) for kernel, of in rows.items()]

    def _ladders(self) -> list[tuple[str, str, Drawing | None]]:
        """The handshake and a client that is held, of the newest proof that has them."""
        with_packets = [c for c in self._cells if c.proof and c.proof.ladder]
        newest = max(with_packets, key=lambda c: c.proof.when if c.proof else "", default=None)
        with_held = [c for c in self._cells if c.proof and c.proof.held]
        longest = max(with_held, key=lambda c: c.proof.when if c.proof else "", default=None)
        return [
            (
                "The handshake",
                charts.of(newest) if newest else "",
                draw(newest.proof.ladder) if newest and newest.proof else None,
            ),
            (
                "A connection that is held",
                charts.of(longest) if longest else "",
                draw(longest.proof.held) if longest and longest.proof else None,
            ),
        ]

    def _charts(self) -> list[charts.Chart]:
        benches = [
            (kernel, figures, proof.when)
            for kernel, proof in found.benches(self._dist)
            if (figures := proof.figures("cost"))
        ]
        return [
            charts.scan(self._cells),
            charts.held(self._cells),
            *charts.cost(self._cells, benches),
            charts.builds(self._cells),
            charts.history(self._runs),
        ]

    def _data(self) -> dict[str, Any]:
        """What the page's script shows of each cell and check."""
        rows = [
            (row.title, row.section, group.name)
            for group in self._contract.groups
            for row in group.rows
        ]
        return {
            "checks": rows,
            "instances": [(self._order[row], *rest) for row, *rest in self._contract.instances],
            "cells": [self._cell(number) for number in range(len(self._cells))],
        }

    def _cell(self, number: int) -> dict[str, Any]:
        cell = self._cells[number]
        few = len(self._cells) <= FEW
        folder = cell.folder if cell.packages or cell.state is State.DAMAGED else ""
        names = {
            "manifest": f"{folder}/{MANIFEST}" if folder else "",
            "proof": f"{folder}/{evidence.PROOF}" if folder else "",
            "log of the build": f"{folder}/{LOG}" if folder else "",
            "log of the matrix": cell.log,
        }
        links = {title: url for title, name in names.items() if (url := self._links.to(name))}
        packages = [
            (one.name, one.size, one.sha256)
            for one in cell.packages
            if one.name.endswith((".deb", ".tar.gz", ".ko"))
        ]
        runs = [
            (run.when, *run.cells[name][:2])
            for run in self._runs[-charts.LAST :]
            for name in cell.names
            if name in run.cells
        ]
        whole = {
            "id": self._ids[number],
            "k": cell.kernel,
            "a": cell.arch,
            "u": cell.userland,
            "s": cell.state,
            "n": cell.series,
            "built": cell.built,
            "booted": cell.booted,
            "verified": cell.verified,
            "failed": cell.failed,
            "detail": cell.detail,
            "untried": cell.untried,
            "problems": cell.problems,
            "older": cell.older,
            "recorded": cell.recorded,
            "summary": cell.proof.summary if cell.proof else "",
            "notes": cell.proof.notes if cell.proof and few else (),
            "command": cell.command,
            "key": cell.key,
            "compiler": cell.compiler,
            "image": cell.image,
            "module": cell.module,
            "sources": cell.sources,
            "choices": cell.choices if few else (),
            "packages": packages,
            "stages": [(title, round(seconds, 1)) for title, seconds in cell.stages],
            "runs": runs,
            "results": self._contract.results[number],
            "wrong": self._wrong(cell),
            "links": links,
        }
        return {name: value for name, value in whole.items() if value}

    def _wrong(self, cell: PageCell) -> dict[str, list[str]]:
        """Why checks did not pass, with their packets, as far as there is room for one cell."""
        room = DETAILS // len(self._cells)
        said: dict[str, list[str]] = {}
        checks = [check for check in (cell.proof.checks if cell.proof else ()) if check.detail]
        for check in sorted(checks, key=lambda one: WORST.index(Verdict(one.outcome))):
            text = [check.detail[:2000], *check.ladder]
            room -= sum(map(len, text))
            if room < 0:
                break
            said[str(self._contract.instance(check))] = text
        return said

    def _add_logs(self, data: list[dict[str, Any]], room: int) -> None:
        """Give each cell the end of its log: those that went wrong first, as far as *room* goes."""
        order = sorted(
            range(len(self._cells)), key=lambda number: self._cells[number].state not in BAD
        )
        for place, number in enumerate(order):
            cell = self._cells[number]
            share = TAIL if cell.state in BAD else max(0, room) // (len(order) - place)
            most = min(TAIL, share, room)
            if most < LEAST_TAIL:
                continue
            log = cell.log if cell.state in BAD and cell.log else ""
            if text := self._tail(
                log or (f"{cell.folder}/{LOG}" if cell.folder else cell.log), most
            ):
                data[number]["log"] = text
                room -= len(_embedded(text)) + 9

    def _tail(self, name: str, most: int) -> str:
        """The last lines of a log, of no more than *most* bytes once they are in the page."""
        if not name:
            return ""
        try:
            raw = reading.regular(self._dist / name, self._dist, tail=most)
        except (OSError, DamageError):
            return ""
        lines = reading.clean(raw.decode("utf-8", "replace").replace("\r\n", "\n")).splitlines()
        if len(raw) == most:
            lines = lines[1:]  # it was cut
        while lines and len(_embedded("\n".join(lines))) > most:
            lines = lines[max(1, len(lines) // 8) :]
        return "\n".join(lines)


def _ids(cells: Iterable[PageCell]) -> list[str]:
    """A name for each cell that stays the same from page to page, fit for a URL."""
    seen: Counter[str] = Counter()
    names = []
    for cell in cells:
        text = "_".join(filter(None, cell.subject))
        name = re.sub(r"[^A-Za-z0-9.+_-]+", "-", text)[:120] or "cell"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return names


def _embedded(value: object) -> str:
    """*value* as JSON that no HTML parser takes for anything else."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _policy(style: str, script: str) -> str:
    """A policy by which the page loads nothing, and runs and looks as it was made."""
    sums = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{sums[0]}'; script-src 'sha256-{sums[1]}';"
        " base-uri 'none'; form-action 'none'"
    )


def _repository(top: Path | None, output: Path) -> dict[str, Any] | None:
    """How to use the apt repository at *top*.

    :raises UserError: if there is none.
    """
    if top is None:
        return None
    remembered = settings.load(top)
    if not (top / KEY).is_file() or not remembered.suites:
        raise UserError(
            f"{top} is no repository", hint="invoke repo makes one; or leave out --repo"
        )
    docs = output.parent / "docs" / "index.html"
    return {
        "url": remembered.url,
        "suites": remembered.suites,
        "key": KEY,
        "docs": "docs/index.html" if docs.is_file() else "",
    }
