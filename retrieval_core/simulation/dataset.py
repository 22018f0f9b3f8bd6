"""A simulated data set in the published layout, drawn item by item: the same bytes in any order of the items.

A parallel run asks ``is_complete``, plans with ``plan_dataset``, calls ``write_range`` on any ranges in any processes,
and ends with ``write_lists``; ``simulate`` is the same in one process.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.config.sections import SimulateConfig
from retrieval_core.files import storage
from retrieval_core.simulation.cloth import cut, draw_design, motif_boxes, print_cell
from retrieval_core.simulation.listing import BoxRow, claim, holds, write_lists
from retrieval_core.simulation.motifs import sprite
from retrieval_core.simulation.photograph import photograph
from retrieval_core.simulation.plan import (
    SPLITS,
    DatasetPlan,
    Stream,
    fabric_path,
    is_recoloured,
    plan_dataset,
    query_path,
)


class Summary(NamedTuple):
    """What is in the folder; ``drawn`` is False when it was there already."""

    folder: str
    motifs: int
    fabrics: int
    queries: int
    drawn: bool


class Drawn(NamedTuple):
    """An image (H, W, 3) uint8, where it belongs in the data set, and its boxes (none for a query)."""

    path: str
    pixels: NDArray[np.uint8]
    boxes: list[BoxRow]


def draw_fabric(plan: DatasetPlan, index: int) -> Drawn:
    """Draw fabric ``index`` of all splits. Memory O(fabric_size^2)."""
    assert 0 <= index < plan.fabrics, index
    split = next(s for s in reversed(plan.splits) if index >= s.first_fabric)
    code, place = SPLITS.index(split.name), index - split.first_fabric
    first = place - 1 if is_recoloured(place) else place
    size = plan.config.fabric_size
    motifs = [split.motifs[m] for m in split.fabrics[place]]
    design = draw_design(np.random.default_rng([plan.seed, Stream.DESIGN, code, first]), motifs, size)
    rng = np.random.default_rng([plan.seed, Stream.COLOURS, code, place])
    cell = print_cell(design, rng, np.random.default_rng([plan.seed, Stream.GROUND, code, first]))
    x0, y0 = (int(v) for v in rng.integers(0, 2 * size, 2))
    if rng.random() < plan.config.photographed:
        pixels, boxes = photograph(np.random.default_rng([plan.seed, Stream.CAMERA, code, place]), cell, size, x0, y0)
    else:
        pixels, boxes = cut(cell, size, x0, y0), motif_boxes(cell, size, x0, y0)
    path = fabric_path(split.name, index)
    return Drawn(path, pixels, [BoxRow(path, motifs[box.motif].name, *box[1:]) for box in boxes])


def draw_query(plan: DatasetPlan, index: int) -> Drawn:
    """Draw query ``index`` of all splits: the motif in its own colours on white, a little turned."""
    assert 0 <= index < plan.queries, index
    split = next(s for s in reversed(plan.splits) if index >= s.first_query)
    place, copy = divmod(index - split.first_query, plan.config.queries_per_motif)
    motif, side = split.motifs[place], plan.config.query_size
    rng = np.random.default_rng([plan.seed, Stream.QUERY, SPLITS.index(split.name), place, copy])
    turn = float(rng.uniform(-12, 12))
    lean = abs(np.cos(np.radians(turn))) + abs(np.sin(np.radians(turn)))
    stamp = Image.fromarray(sprite(motif, motif.inks, side * float(rng.uniform(0.76, 0.94)) / lean, turn))
    slack = (side - stamp.width, side - stamp.height)
    x, y = (int(s / 2 + s * rng.uniform(-0.2, 0.2)) for s in slack)
    image = Image.new("RGB", (side, side), "white")
    image.paste(stamp, (x, y), stamp)
    return Drawn(query_path(index, motif), np.asarray(image), [])


def write_range(plan: DatasetPlan, folder: str, start: int, stop: int) -> list[BoxRow]:
    """Draw and write items ``start`` to ``stop - 1``: first the fabrics, then the queries.

    Ranges may be written in any order and by any number of processes; what lies beyond the last item is left out.

    Returns:
        The boxes of the fabrics among them, for ``write_lists``.

    Raises:
        OSError: if a file cannot be written.
    """
    claim(plan, folder)
    rows: list[BoxRow] = []
    for item in range(start, min(stop, plan.items)):
        drawn = draw_fabric(plan, item) if item < plan.fabrics else draw_query(plan, item - plan.fabrics)
        with storage.atomic_write(storage.join(folder, drawn.path)) as file:
            Image.fromarray(drawn.pixels).save(file, "PNG", compress_level=3)
        rows += drawn.boxes
    return rows


def is_complete(folder: str, config: SimulateConfig, seed: int) -> bool:
    """Whether a folder has this whole data set already; False also where an interrupted run can be gone on with.

    Raises:
        ValueError: if the plan is impossible or the folder holds something else, naming it and the remedy.
    """
    return holds(plan_dataset(config, seed), folder)


def simulate(config: SimulateConfig, seed: int, folder: str) -> Summary:
    """Draw a whole data set in this process; nothing to do when it is there already.

    Raises:
        ValueError: as ``is_complete``.
        OSError: if a file cannot be written.
    """
    plan = plan_dataset(config, seed)
    complete = holds(plan, folder)
    if not complete:
        write_lists(plan, folder, write_range(plan, folder, 0, plan.items))
    motifs = sum(len(split.motifs) for split in plan.splits)
    return Summary(folder, motifs, plan.fabrics, plan.queries, drawn=not complete)


__all__ = [
    "BoxRow",
    "DatasetPlan",
    "Drawn",
    "Summary",
    "draw_fabric",
    "draw_query",
    "is_complete",
    "plan_dataset",
    "simulate",
    "write_lists",
    "write_range",
]
