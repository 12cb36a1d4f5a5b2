"""All the builds that a distributor makes at once: what they are, running them, what came of it.

``definition`` reads ``matrix.toml`` into cells, ``pipelines`` prints them for CI systems,
``runner`` carries them out, by ``local`` on this machine or by ``cluster`` on others, and
``outcome`` judges.  A cell is one ``invoke build`` and, if asked for, one ``invoke verify``, each
in a process of its own: what hangs there can be stopped, and the command that failed is the command
that a person repeats.
"""

from tarpit_builder.matrix.definition import Cell, overview, read, select
from tarpit_builder.matrix.images import make_images
from tarpit_builder.matrix.options import RunOptions, Sources
from tarpit_builder.matrix.outcome import CellOutcome, Result, Summary, merge
from tarpit_builder.matrix.pipelines import render
from tarpit_builder.matrix.runner import run
from tarpit_builder.matrix.times import measure, measure_memory

__all__ = [
    "Cell",
    "CellOutcome",
    "Result",
    "RunOptions",
    "Sources",
    "Summary",
    "make_images",
    "measure",
    "measure_memory",
    "merge",
    "overview",
    "read",
    "render",
    "run",
    "select",
]
