"""Grounds of a cell: plain, striped, checked, dotted, shaded, or strewn with a small filler.

Every ground joins at the cell's edges in every repeat: its own period divides half a cell, and it is symmetric.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.colours import Colourway, to_rgb
from retrieval_core.simulation.drawing import Drawing, Role, render_labels
from retrieval_core.simulation.layouts import Layout
from retrieval_core.simulation.repeats import neighbours

Ground = Literal["plain", "stripe", "pinstripe", "gingham", "dots", "trellis", "chevron", "gradient", "filler"]
GROUNDS: tuple[Ground, ...] = (
    "plain",
    "stripe",
    "pinstripe",
    "gingham",
    "dots",
    "trellis",
    "chevron",
    "gradient",
    "filler",
)
_SHARES = (0.27, 0.09, 0.07, 0.09, 0.12, 0.06, 0.05, 0.09, 0.16)
_FILLERS = ("dot", "cross", "leaf", "star", "ring", "heart")


def choose_ground(rng: np.random.Generator) -> Ground:
    """Draw a ground from the mix of a catalogue."""
    return GROUNDS[int(rng.choice(len(GROUNDS), p=_SHARES))]


def _coverage(kind: Ground, pitch: int) -> NDArray[np.float64]:
    """How much of the second ink covers each pixel of one period: (pitch, pitch), 0 to 1, symmetric left to right."""
    x = np.abs(np.arange(pitch) - (pitch - 1) / 2)[None, :]
    y = x.T
    cover = np.zeros((pitch, pitch))
    if kind == "stripe":
        cover += pitch / 4 - x + 0.5
    elif kind == "pinstripe":
        cover += max(0.6, pitch / 14) - x + 0.5
    elif kind == "gingham":
        cover += np.clip(pitch / 4 - x + 0.5, 0, 1) / 2 + np.clip(pitch / 4 - y + 0.5, 0, 1) / 2
    elif kind == "dots":
        nearest = np.minimum(np.hypot(x, y), np.hypot(pitch / 2 - x, pitch / 2 - y))
        cover += pitch * 0.17 - nearest + 0.5
    elif kind == "trellis":
        cover += max(0.7, pitch / 16) - np.abs(x + y - pitch / 2) / np.sqrt(2) + 0.5
    else:
        assert kind == "chevron"
        phase = (np.arange(pitch)[:, None] + x) % (pitch / 2) - pitch / 4
        cover += pitch / 8 - np.abs(phase) + 0.5
    return np.clip(cover, 0, 1, out=cover)


def draw_ground(rng: np.random.Generator, kind: Ground, layout: Layout, colourway: Colourway) -> NDArray[np.uint8]:
    """The cell before motifs are printed.

    Args:
        rng: stream of the design; only ``filler`` and ``gradient`` draw from it.
        kind: which ground; a striped layout prints its bands over it.
        layout: gives the cell and where the motifs will be.
        colourway: gives the inks.

    Returns:
        (height, width, 3) uint8.
    """
    h, w = layout.height, layout.width
    ground, second = to_rgb(np.stack([colourway.ground, colourway.second])).astype(np.float64)
    cover = np.zeros((h, w))
    if kind == "gradient":
        along_x = layout.kind == "half-drop" or (layout.kind != "brick" and bool(rng.random() < 0.5))
        n = w if along_x else h
        wave = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)
        cover = cover + (wave[None, :] if along_x else wave[:, None])
    elif kind == "chevron" and layout.kind == "mirror":
        cover = np.tile(_coverage("trellis", layout.pitch), (h // layout.pitch, w // layout.pitch))
    elif kind not in ("plain", "filler"):
        cover = np.tile(_coverage(kind, layout.pitch), (h // layout.pitch, w // layout.pitch))
    if layout.bands:
        cover = cover * 0.35 + _bands(layout)
    cell = np.round(ground + np.clip(cover, 0, 1)[..., None] * (second - ground)).astype(np.uint8)
    return _strew(rng, cell, layout, colourway) if kind == "filler" else cell


def _bands(layout: Layout) -> NDArray[np.float64]:
    """Every other band in the second ink, with a thin line beside each edge."""
    x = np.arange(layout.width)
    cover = np.zeros(layout.width)
    start, line = 0, max(1, layout.width // 70)
    for i, stop in enumerate(layout.bands):
        if i % 2:
            cover[start:stop] = 0.65
        start = stop
        gap = np.minimum(np.abs(x - stop), layout.width - np.abs(x - stop))
        cover[gap < line] = 1.0
    return np.broadcast_to(cover, (layout.height, layout.width))


def _strew(
    rng: np.random.Generator, cell: NDArray[np.uint8], layout: Layout, colourway: Colourway
) -> NDArray[np.uint8]:
    """Print a small mark wherever a dart finds room between the motifs."""
    h, w = layout.height, layout.width
    shape = _FILLERS[int(rng.integers(len(_FILLERS)))]
    reach = float(np.mean([p.size for p in layout.placements]))
    size = max(3, round(reach * float(rng.uniform(0.12, 0.22))))
    stencil = _filler(shape, size)
    ink = Image.new("RGB", (size, size), tuple(to_rgb(colourway.filler)[0].tolist()))
    image = Image.fromarray(cell)
    around = neighbours(layout.kind, h, w)
    copies = np.array([(f.dx, f.dy) for f in around])
    taken = [(p.x, p.y, p.size * 0.5) for p in layout.placements]
    for x, y in rng.uniform(0, 1, (60, 2)) * (w, h):
        centres = np.array([(a, b) for a, b, _ in taken])[:, None, :] + copies[None]
        radii = np.array([r for _, _, r in taken])[:, None]
        if (np.hypot(centres[..., 0] - x, centres[..., 1] - y) < radii + size * 0.75).any():
            continue
        if layout.kind == "mirror" and not (size < x < w - size and size < y < h - size):
            continue
        taken.append((float(x), float(y), size * 1.1))
        for frame in around:
            image.paste(ink, (round(x) - size // 2 + frame.dx, round(y) - size // 2 + frame.dy), stencil)
    return np.asarray(image)


def _filler(shape: str, size: int) -> Image.Image:
    drawing = Drawing()
    if shape == "cross":
        drawing.fill(Role.MAIN, o.box(0, 0, 2, 0.5), o.box(0, 0, 0.5, 2))
    elif shape == "ring":
        drawing.fill(Role.MAIN, o.ribbon(o.arc(0, 0, 0.8, 0, 360, 32), 0.35))
    else:
        outline = {"dot": o.ellipse(0, 0, 0.8), "leaf": o.petal(2, 0.9, "lens"), "star": o.star(5), "heart": o.heart()}
        drawing.fill(Role.MAIN, outline[shape])
    labels = render_labels(drawing.normalised(), size * 4, "flat")
    return Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8)).reduce(4)
