"""What was measured, as charts: each with the same figures as a table.

pygal draws them, as SVG without any style: colours, fonts and dark mode are the page's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import pygal

from tarpit_builder.page.cells import PageCell, PageFigure, PageRun

WIDTH = 360  # of all charts, so that their letters have one size
BAR, GAP, FRAME = 18, 7, 8  # height of a bar, what is between groups, and around all
SVG = "{http://www.w3.org/2000/svg}"
LONGEST = 27  # characters of a label; the table has all of it
SLOWEST, LAST = 12, 20  # builds and runs that are drawn; the tables have all
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: *title* is what it shows, *of* on what that was measured, *svg* '' if it was not.

    *rows* with *header* are the same as a table; *legend* names the series in their colours.
    """

    name: str
    title: str
    of: str
    svg: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    legend: tuple[tuple[int, str], ...] = ()
    how: str = ""
    """The command that measures it."""


def number(value: float, unit: str = "") -> str:
    """A figure as it is written everywhere: thousands apart, no more digits than it has."""
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.1f}"
    return f"{text}\N{NO-BREAK SPACE}{unit}" if unit else text


def shorten(text: str, most: int) -> str:
    """*text*, of a long one its beginning and its end."""
    return text if len(text) <= most else f"{text[: most - 9]}…{text[-8:]}"


def duration(seconds: float) -> str:
    """Seconds as people say it."""
    if seconds < 100:
        return number(seconds, "s")
    return number(seconds / 60, "min") if seconds < 7200 else number(seconds / 3600, "h")


def bars(
    labels: Sequence[str],
    series: Sequence[tuple[int, str, Sequence[float | None]]],
    shown: Callable[[float], str],
    *,
    stacked: bool = False,
    texts: Sequence[str] = (),
) -> str:
    """Horizontal bars: for each of *labels* one of each series (colour, title, values).

    What stands behind each bar is as *shown* of its value, or its text of *texts*.
    """
    if not labels or not series:
        return ""
    rows = 1 if stacked else len(series)
    kind = pygal.HorizontalStackedBar if stacked else pygal.HorizontalBar
    chart = kind(
        js=(),
        css=(),
        no_prefix=True,
        disable_xml_declaration=True,
        width=WIDTH,
        height=len(labels) * (rows * BAR + GAP) + FRAME,
        margin=4,
        margin_right=130 if texts or len(series) > 1 else 58,
        show_legend=False,
        print_values=True,
        print_values_position="top",
        show_x_labels=False,
        show_x_guides=False,
        show_y_guides=False,
        style=pygal.style.Style(label_font_size=13, value_font_size=12),
    )
    # pygal begins at the bottom.
    chart.x_labels = [shorten(label, LONGEST) for label in reversed(labels)]
    for place, (_, title, values) in enumerate(series):
        said = [
            _said(value, title, place, number, len(series), shown, texts, stacked=stacked)
            for number, value in enumerate(values)
        ]
        chart.add(
            title,
            [
                {"value": value, "formatter": lambda _, text=text: text}
                for value, text in reversed(list(zip(values, said, strict=True)))
            ],
        )
    return _bare(chart.render_tree(), [colour for colour, _, _ in series])


def _said(
    value: float | None,
    title: str,
    place: int,
    number: int,
    count: int,
    shown: Callable[[float], str],
    texts: Sequence[str],
    *,
    stacked: bool,
) -> str:
    """What stands behind a bar: in the first group its series as well, of a stack all of it."""
    if stacked or len(texts) > number:
        return texts[number] if place == count - 1 else ""
    if value is None:
        return ""
    return f"{shown(value)} {title}" if count > 1 and number == 0 else shown(value)


def _bare(root: Any, colours: Sequence[int]) -> str:
    """pygal's drawing without script, style and tooltips; its series in the page's *colours*."""
    for parent in list(root.iter()):
        for child in list(parent):
            name = str(child.tag).rpartition("}")[2]
            kind = child.get("class") or ""
            if (
                not isinstance(child.tag, str)
                or name in {"defs", "title", "desc"}
                or "tooltip-overlay" in kind
                or kind == "background"
                or "line" in kind.split()
                or ("overlay" in kind and not list(child.iter("text")) and name != "g")
            ):
                parent.remove(child)
        kind = parent.get("class") or ""
        for index, colour in enumerate(colours):
            if f"serie-{index} " in f"{kind} ":
                parent.set("class", f"colour-{colour}")
        for attribute in ("id", "rx", "ry", "style", "text-anchor"):
            parent.attrib.pop(attribute, None)
        if kind == "value":
            parent.set("dx", "5")  # behind the end of its bar
        for attribute in ("x", "y", "width", "height"):
            value = parent.get(attribute)
            if value and len(value) > 6:
                parent.set(attribute, f"{float(value):.1f}")
    root.set("aria-hidden", "true")
    root.set("class", "chart")
    text = ET.tostring(root, encoding="unicode", short_empty_elements=True)
    return text.replace("svg:", "").replace(":svg", "")


# -- the figures of proofs -------------------------------------------------------------------------


def of(cell: PageCell) -> str:
    """On what something was measured."""
    when = cell.proof.when if cell.proof else ""
    return " · ".join(filter(None, (f"Linux {cell.kernel}", cell.arch, when)))


def newest(cells: Iterable[PageCell], what: str) -> tuple[str, list[PageFigure]]:
    """The newest figures of that kind, and what they are of."""
    proven = [(cell, cell.proof) for cell in cells if cell.proof and cell.proof.measured]
    for cell, proof in sorted(proven, key=lambda one: one[1].when, reverse=True):
        if found := proof.figures(what):
            return of(cell), found
    return "", []


def scan(cells: Iterable[PageCell]) -> Chart:
    """nmap before there is a rule, and after."""
    title = "A scanner’s patience: nmap before and after"
    how = "invoke verify --only scan"
    source, figures = newest(cells, "scan")
    if not figures:
        return Chart("scan", title, "", how=how)
    times = {one.series: one.value for one in figures if one.unit == "s"}
    ports = {one.series: one.value for one in figures if one.unit == "ports"}
    order = [name for name in ("before", "after") if name in times]
    labels = [f"{name} ({number(ports.get(name, 0))} open)" for name in order]
    subject = next((one.subject for one in figures if one.unit == "s"), "nmap")
    return Chart(
        "scan",
        title,
        source,
        bars(labels, [(0, subject, [times[name] for name in order])], duration),
        ("", subject, "ports called open"),
        tuple((name, duration(times[name]), number(ports.get(name, 0))) for name in order),
        how=how,
    )


CLOSED = "close()"
"""What a client does that has given up; it stands in the name of such a client."""


def held(cells: Iterable[PageCell]) -> Chart:
    """How long clients are held, by the target's mode: of several kernels the newest."""
    title = "How long clients are held, by mode"
    how = "invoke verify --only held"
    source, figures = newest(cells, "held")
    if not figures:
        return Chart("held", title, "", how=how)
    least: dict[tuple[str, str], PageFigure] = {}
    for one in figures:
        key = one.series, one.subject
        if key not in least or one.value < least[key].value:
            least[key] = one
    groups: dict[tuple[str, bool], list[PageFigure]] = {}
    for one in least.values():
        groups.setdefault((one.series, CLOSED in one.subject), []).append(one)
    labels, middles, texts = [], [], []
    for (mode, closed), members in groups.items():
        labels.append(f"--{mode}, {'closed' if closed else 'waiting'}")
        members.sort(key=lambda one: one.value)
        middle, shortest = members[len(members) // 2], members[0]
        middles.append(middle.value)
        texts.append(_at_least(middle.value, middle.limit))
        if shortest.value < middle.value:
            texts[-1] += f", least {_at_least(shortest.value, shortest.limit)}"
    drawn = bars(labels, [(0, "the median client", middles)], duration, texts=texts)
    rows = [
        (f"--{mode}", subject, _at_least(one.value, one.limit))
        for (mode, subject), one in sorted(least.items())
    ]
    source += " · the median of the clients, each at its shortest"
    return Chart("held", title, source, drawn, ("mode", "client", "held"), tuple(rows), how=how)


def _at_least(value: float, limit: float) -> str:
    return f"≥ {duration(value)}" if limit and value >= limit else duration(value)


COLOURS = {"DROP": 3, "REJECT": 2, "TARPIT": 0, "xtables-addons": 1}


def cost(
    cells: Iterable[PageCell], benches: Iterable[tuple[str, list[PageFigure], str]]
) -> list[Chart]:
    """Instructions per packet, for each backend of iptables; a bench has the peer's as well."""
    title = "What an answer costs the host"
    how = "invoke bench --packets"
    source, figures = newest(cells, "cost")
    for kernel, found, when in benches:
        figures, source = found, " · ".join(filter(None, (f"Linux {kernel}", when)))
    if not figures:
        return [Chart("cost", title, "", how=how)]
    charts: list[Chart] = []
    for backend in dict.fromkeys(one.backend for one in figures):
        part = [one for one in figures if one.backend == backend]
        kinds = list(dict.fromkeys(one.subject for one in part))
        names = [name for name in COLOURS if any(one.series == name for one in part)]
        value = {(one.subject, one.series): one.value for one in part}
        columns = [
            (COLOURS[name], name, [value.get((kind, name)) for kind in kinds]) for name in names
        ]
        missing = "" if "xtables-addons" in names else f"; xtables-addons: {NOT_MEASURED}"
        charts.append(
            Chart(
                f"cost-{len(charts)}",
                f"{title}: instructions per packet, iptables-{backend or 'legacy'}",
                f"{source}{missing}",
                bars(kinds, columns, number),
                ("packet", *names),
                tuple(
                    (kind, *(_or_not(value.get((kind, name))) for name in names)) for kind in kinds
                ),
                tuple((colour, name) for colour, name, _ in columns),
                how=how,
            )
        )
    return charts


def _or_not(value: float | None) -> str:
    return NOT_MEASURED if value is None else number(value)


# -- the matrix ------------------------------------------------------------------------------------


def builds(cells: Iterable[PageCell]) -> Chart:
    """How long builds took."""
    title = "Build times"
    how = "invoke matrix --run"
    timed = sorted((c for c in cells if c.seconds), key=lambda c: -c.seconds)
    if not timed:
        return Chart("builds", title, "", how=how)
    middle = statistics.median(cell.seconds for cell in timed)
    count = f"{number(len(timed))} build{'' if len(timed) == 1 else 's'}"
    shown = timed[:SLOWEST]
    names = [cell.names[0] if cell.names else cell.kernel for cell in shown]
    more = f", the slowest {len(shown)} drawn" if len(timed) > len(shown) else ""
    return Chart(
        "builds",
        title,
        f"{count}, median {duration(middle)}{more}",
        bars(
            [n.removeprefix("debian-") for n in names],
            [(0, "seconds", [cell.seconds for cell in shown])],
            duration,
        ),
        ("cell", "time", "of it the slowest step"),
        tuple(
            (
                cell.names[0] if cell.names else cell.kernel,
                duration(cell.seconds),
                _slowest(cell),
            )
            for cell in timed[:200]
        ),
        how=how,
    )


def _slowest(cell: PageCell) -> str:
    if not cell.stages:
        return NOT_MEASURED
    title, seconds = max(cell.stages, key=lambda stage: stage[1])
    return f"{title}: {duration(seconds)}"


def history(runs: Sequence[PageRun]) -> Chart:
    """How the last runs of the matrix went."""
    title = "Runs of the matrix"
    how = "invoke matrix --run"
    if not runs:
        return Chart("history", title, "", how=how)
    shown = list(reversed(runs[-LAST:]))
    kinds = (
        (0, "good", ("built", "present")),
        (2, "failed", ("failed", "timeout")),
        (3, "not tried", ("error",)),
    )
    drawn = bars(
        [run.when for run in shown],
        [(colour, name, [run.count(*how) for run in shown]) for colour, name, how in kinds],
        number,
        stacked=True,
        texts=[_counts(run.count(*how) for _, _, how in kinds) for run in shown],
    )
    rows = tuple(
        (
            run.when,
            *(number(run.count(*outcomes)) for _, _, outcomes in kinds),
            duration(run.seconds),
            _median(run),
        )
        for run in reversed(runs)
    )
    return Chart(
        "history",
        title,
        f"{number(len(runs))} run{'' if len(runs) == 1 else 's'}, the newest first",
        drawn,
        ("run", *(name for _, name, _ in kinds), "time", "median of its builds"),
        rows,
        tuple((colour, name) for colour, name, _ in kinds),
        how=how,
    )


def _counts(counts: Iterable[int]) -> str:
    return " · ".join(number(count) for count in counts)


def _median(run: PageRun) -> str:
    times = [seconds for outcome, seconds, _ in run.cells.values() if outcome == "built"]
    return duration(statistics.median(times)) if times else NOT_MEASURED
