"""The container images of cells, made before the cells are built.

Those of kernel.org's releases share one, so CI makes it once and hands it to all their jobs.
"""

from __future__ import annotations

from collections.abc import Iterable

from tarpit_builder import plan as planning
from tarpit_builder.console import Console
from tarpit_builder.container import Engine
from tarpit_builder.matrix.definition import Cell
from tarpit_builder.sources.debian import Archive


def make_images(cells: Iterable[Cell], archive: Archive, console: Console) -> tuple[str, ...]:
    """Make what building *cells* runs in; the tags of the images, each once.

    :raises TarpitError: if one cannot be made.
    """
    engine = Engine.connect()
    tags: dict[str, None] = {}
    for cell in cells:
        for recipe in planning.make(cell.request, archive).kernel.userland.recipes:
            if recipe.tag not in tags:
                engine.ensure_image(recipe, console)
                tags[recipe.tag] = None
    return tuple(tags)
