"""A printed fabric: a design (layout, ground, motifs) in one colouring, cut to an image, with its motifs' boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.simulation.colours import Colourway, draw_colourway, print_inks
from retrieval_core.simulation.grounds import Ground, choose_ground, draw_ground
from retrieval_core.simulation.layouts import Layout, draw_layout
from retrieval_core.simulation.motifs import Motif, sprite
from retrieval_core.simulation.repeats import Frame, frames, neighbours, tile

_VISIBLE = 64  # alpha from which a pixel counts as printed


class Design(NamedTuple):
    """What stays the same when a design is coloured anew."""

    motifs: tuple[Motif, ...]
    layout: Layout
    ground: Ground


class Stamp(NamedTuple):
    """A motif as printed: its number in the design, the corner of its sprite, and 255 where it can be seen, else 0."""

    motif: int
    x: int
    y: int
    seen: NDArray[np.uint8]


class Box(NamedTuple):
    """A printed motif: its number in the design and its pixels' bounds, x1 and y1 beyond the last pixel."""

    motif: int
    x0: int
    y0: int
    x1: int
    y1: int


class Cell(NamedTuple):
    """One printed repeat: pixels (h, w, 3) uint8 and what was printed where."""

    pixels: NDArray[np.uint8]
    layout: Layout
    stamps: tuple[Stamp, ...]


def draw_design(rng: np.random.Generator, motifs: Sequence[Motif], size: int) -> Design:
    """Lay out 1 to 5 motifs for fabric images of ``size`` pixels."""
    return Design(tuple(motifs), draw_layout(rng, len(motifs), size), choose_ground(rng))


def print_cell(design: Design, colour_rng: np.random.Generator, ground_rng: np.random.Generator) -> Cell:
    """Print one repeat.

    Args:
        design: what to print.
        colour_rng: stream of this colouring.
        ground_rng: stream of the design, the same for all its colourings.

    Returns:
        The cell, joined at its edges in its own repeat. Memory O(h * w).
    """
    layout = design.layout
    own = np.stack([motif.inks for motif in design.motifs])
    colourway: Colourway = draw_colourway(colour_rng, own)
    inks = print_inks(own, colourway)
    image = Image.fromarray(draw_ground(ground_rng, design.ground, layout, colourway))
    around = neighbours(layout.kind, layout.height, layout.width)
    printed: dict[tuple[int, float, float, bool], NDArray[np.uint8]] = {}
    stamps = []
    for p in layout.placements:
        key = (p.motif, p.size, p.turn, p.flip)
        if key not in printed:
            printed[key] = sprite(design.motifs[p.motif], inks[p.motif], p.size, p.turn, p.flip)
        pixels = printed[key]
        h, w = pixels.shape[:2]
        x, y = round(p.x - w / 2), round(p.y - h / 2)
        stamp = Image.fromarray(pixels)
        for dx, dy, _, _ in around:
            if -w < x + dx < layout.width and -h < y + dy < layout.height:
                image.paste(stamp, (x + dx, y + dy), stamp)
        stamps.append(Stamp(p.motif, x, y, np.where(pixels[..., 3] >= _VISIBLE, 255, 0).astype(np.uint8)))
    return Cell(np.asarray(image), layout, tuple(stamps))


def cut(cell: Cell, size: int, x0: int, y0: int) -> NDArray[np.uint8]:
    """The cloth from (x0, y0): (size, size, 3)."""
    return tile(cell.pixels, cell.layout.kind, size, size, x0, y0)


def motif_boxes(cell: Cell, size: int, x0: int, y0: int) -> list[Box]:
    """The visible bounds of every printed motif in the window that ``cut`` takes."""
    boxes = []
    for motif, x, y, seen in prints(cell, size, x0, y0):
        left, top = max(0, -x), max(0, -y)
        bounds = Image.fromarray(np.ascontiguousarray(seen[top : size - y, left : size - x])).getbbox()
        if bounds is not None:
            dx, dy = x + left, y + top
            boxes.append(Box(motif, bounds[0] + dx, bounds[1] + dy, bounds[2] + dx, bounds[3] + dy))
    return boxes


def prints(cell: Cell, size: int, x0: int, y0: int) -> list[Stamp]:
    """Every stamp that touches the window, in window pixels; they may reach beyond it."""
    layout = cell.layout
    h, w = layout.height, layout.width
    found = []
    rows, columns = range(y0 // h - 1, (y0 + size) // h + 3), range(x0 // w - 1, (x0 + size) // w + 3)
    for frame in frames(layout.kind, h, w, rows, columns):
        for stamp in cell.stamps:
            moved = _reflect(stamp, frame, h, w)
            x, y = moved.x + frame.dx - x0, moved.y + frame.dy - y0
            tall, wide = moved.seen.shape
            if x < size and y < size and x + wide > 0 and y + tall > 0:
                found.append(Stamp(moved.motif, x, y, moved.seen))
    return found


def _reflect(stamp: Stamp, frame: Frame, h: int, w: int) -> Stamp:
    tall, wide = stamp.seen.shape
    x = w - stamp.x - wide if frame.flip_x else stamp.x
    y = h - stamp.y - tall if frame.flip_y else stamp.y
    seen = stamp.seen[:: -1 if frame.flip_y else 1, :: -1 if frame.flip_x else 1]
    return Stamp(stamp.motif, x, y, seen)
