"""Where the motifs of a design lie in its cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from retrieval_core.simulation.repeats import Repeat, neighbours

KINDS: tuple[Repeat, ...] = ("block", "half-drop", "brick", "mirror", "toss", "stripe")
_SHARES = (0.17, 0.21, 0.17, 0.1, 0.23, 0.12)
# Rows and columns of slots that show k motifs, squarish first.
_GRIDS = {
    1: ((1, 1), (1, 1), (1, 2), (2, 1)),
    2: ((2, 2), (1, 2), (2, 1)),
    3: ((3, 3), (1, 3), (3, 1), (2, 2)),
    4: ((2, 2), (2, 2), (4, 2)),
    5: ((2, 3), (3, 2), (3, 3)),
}


class Placement(NamedTuple):
    """One motif in the cell: its number in the design, centre and longer side in pixels, turn in degrees."""

    motif: int
    x: float
    y: float
    size: float
    turn: float
    flip: bool


class Layout(NamedTuple):
    """A cell: both sides are even multiples of ``pitch``, the period of a patterned ground, in pixels."""

    kind: Repeat
    height: int
    width: int
    pitch: int
    placements: tuple[Placement, ...]
    bands: tuple[int, ...] = ()  # stripe: right edges of the bands


def draw_layout(rng: np.random.Generator, motifs: int, size: int) -> Layout:
    """Arrange 1 to 5 motifs for fabric images of ``size`` pixels; every motif is in the cell at least once.

    The cell is no larger than the image, half of it for ``mirror``: so any window shows every motif.
    """
    kind = KINDS[int(rng.choice(len(KINDS), p=_SHARES))]
    pitch = 2 * max(1, round(size * float(rng.uniform(0.03, 0.085)) / 2))
    if kind == "mirror" and motifs > 3:
        kind = "half-drop"  # half an image has no room for so many
    if kind == "toss":
        return _toss(rng, motifs, size, pitch)
    if kind == "stripe":
        return _stripe(rng, motifs, size, pitch)
    return _grid(rng, kind, motifs, size, pitch)


def _fit(length: float, pitch: int, most: int) -> int:
    """The even multiple of ``pitch`` nearest to ``length`` that is at most ``most``."""
    step = 2 * pitch
    return max(step, min(round(length / step), most // step) * step)


def _relative_sizes(rng: np.random.Generator, motifs: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """A hero motif and its companions."""
    sizes = rng.uniform(0.74, 1.0, motifs)
    sizes[int(rng.integers(motifs))] = 1.0
    return sizes


def _grid(rng: np.random.Generator, kind: Repeat, motifs: int, size: int, pitch: int) -> Layout:
    grids = _GRIDS[motifs]
    rows, columns = grids[int(rng.integers(len(grids)))]
    most = size // 2 if kind == "mirror" else size
    slot = min(size * float(rng.uniform(0.24, 0.52)), most / max(rows, columns))
    stretch = float(rng.uniform(0.9, 1.25))
    h, w = _fit(slot * rows * stretch, pitch, most), _fit(slot * columns / stretch, pitch, most)
    if kind in ("half-drop", "brick") and rows == columns == 1:
        # Neighbours interlock: the cell may be longer the way it is shifted.
        h = _fit(slot * (1.5 if kind == "half-drop" else 1.0), pitch, most)
        w = _fit(slot * (1.5 if kind == "brick" else 1.0), pitch, most)
    cover = min(h / rows, w / columns) * float(rng.uniform(0.84, 1.04)) * (0.88 if kind == "mirror" else 1.0)
    sizes = _relative_sizes(rng, motifs) * cover
    turns = _grid_turns(rng)
    placements = []
    for r in range(rows):
        for c in range(columns):
            motif = (r * columns + c + (r if columns % motifs == 0 else 0)) % motifs
            turn, flip = turns[(r + c) % len(turns)]
            x, y = (c + 0.5) * w / columns, (r + 0.5) * h / rows
            lean = 1 / (abs(np.cos(np.radians(turn))) + abs(np.sin(np.radians(turn)))) if kind == "mirror" else 1.0
            placements.append(Placement(motif, x, y, float(sizes[motif] * lean), turn, flip))
    return Layout(kind, h, w, pitch, tuple(placements))


def _grid_turns(rng: np.random.Generator) -> list[tuple[float, bool]]:
    """One-way, alternately flipped, two-way and leaning prints."""
    lean = float(rng.uniform(8, 25))
    ways: list[list[tuple[float, bool]]] = [
        [(0.0, False)],
        [(0.0, False), (0.0, True)],
        [(0.0, False), (180.0, False)],
        [(lean, False), (-lean, True)],
    ]
    return ways[int(rng.choice(4, p=[0.48, 0.22, 0.12, 0.18]))]


def _toss(rng: np.random.Generator, motifs: int, size: int, pitch: int) -> Layout:
    h, w = (_fit(size * float(rng.uniform(0.7, 1.0)), pitch, size) for _ in range(2))
    largest = min(size * float(rng.uniform(0.24, 0.46)), 0.95 * float(np.sqrt(h * w / (motifs * 1.4))))
    sizes = _relative_sizes(rng, motifs) * largest
    free = rng.random() < 0.7
    density = float(rng.uniform(0.6, 0.85))
    placed: list[Placement] = []
    covered, misses = 0.0, 0
    copies = np.array([(f.dx, f.dy) for f in neighbours("toss", h, w) if abs(f.dx) <= w and abs(f.dy) <= h])
    while len(placed) < motifs or (covered < density * h * w and misses < 6):
        motif = len(placed) % motifs
        own = float(sizes[motif] * rng.uniform(0.9, 1.1))
        spots = rng.uniform(0, 1, (16, 2)) * (w, h)
        turn = float(rng.uniform(0, 360)) if free else float(rng.uniform(-35, 35))
        flip = bool(rng.random() < 0.5)
        gaps = np.full(16, np.inf)
        for other in placed:
            apart = spots[:, None, :] - np.array([other.x, other.y]) - copies[None]
            gaps = np.minimum(gaps, np.hypot(apart[..., 0], apart[..., 1]).min(axis=1) - 0.47 * (own + other.size))
        best = int(gaps.argmax())
        if gaps[best] < 0 and len(placed) >= motifs:
            misses += 1
            continue
        placed.append(Placement(motif, float(spots[best, 0]), float(spots[best, 1]), own, turn, flip))
        covered += own * own
    return Layout("toss", h, w, pitch, tuple(placed))


def _stripe(rng: np.random.Generator, motifs: int, size: int, pitch: int) -> Layout:
    columns = 2 if motifs == 1 else min(motifs, 3)
    rows = -(-motifs // columns)
    slot = min(size * float(rng.uniform(0.25, 0.45)), size / max(columns, rows))
    h = _fit(slot * rows * float(rng.uniform(0.95, 1.2)), pitch, size)
    w = _fit(slot * columns, pitch, size)
    sizes = _relative_sizes(rng, motifs)
    edges = [round(w * (c + 1) / columns) for c in range(columns)]
    alternate = bool(rng.random() < 0.4)
    placements = []
    for c in range(columns):
        members = [m for m in range(motifs) if m % columns == c] or [0]
        for r in range(rows):
            motif = members[r % len(members)]
            cover = min(w / columns * 0.86, h / rows * 0.97) * float(sizes[motif])
            half = 0.5 * (c % 2) if alternate else 0.0
            y = (r + 0.5 + half) % rows * h / rows
            placements.append(Placement(motif, (c + 0.5) * w / columns, y, cover, 0.0, alternate and c % 2 == 1))
    return Layout("stripe", h, w, pitch, tuple(placements), tuple(edges))
