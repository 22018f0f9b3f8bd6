"""Outlines that motifs are drawn from: closed polygons around the origin.

Shapes: every outline is (N, 2) float64, x to the right and y **down** as in an image, about one unit in radius; a
petal or leaf starts at the origin and points up. Turns are degrees, clockwise as one sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]
Tip = Literal["round", "point", "notch", "square", "lens"]


def outline(*pairs: tuple[float, float]) -> Outline:
    """An outline through the given corners."""
    return np.array(pairs, dtype=np.float64)


def place(
    shape: Outline, x: float = 0.0, y: float = 0.0, turn: float = 0.0, scale: float = 1.0, flip: bool = False
) -> Outline:
    """Flip left to right, scale, turn about the origin, then move to (x, y)."""
    angle = np.radians(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, sin], [-sin, cos]]) * scale
    flipped = shape * np.array([-1.0, 1.0]) if flip else shape
    placed: Outline = flipped @ matrix + np.array([x, y])
    return placed


def ring(shape: Outline, count: int, radius: float = 0.0, turn: float = 0.0) -> list[Outline]:
    """``count`` copies around the origin, each pushed ``radius`` outwards along its own axis."""
    raised = shape - np.array([0.0, radius])
    return [place(raised, turn=turn + 360.0 * i / count) for i in range(count)]


def pair(shape: Outline) -> list[Outline]:
    """The shape and its reflection in the vertical axis: ears, wings, leaves on a stem."""
    return [shape, place(shape, flip=True)]


def smooth(corners: Outline, closed: bool = True, steps: int = 6) -> Outline:
    """A Catmull-Rom curve through the corners (uniform parametrisation); (N * steps, 2) when closed."""
    if closed:
        padded = np.concatenate([corners[-1:], corners, corners[:2]])
    else:
        padded = np.concatenate([2 * corners[:1] - corners[1:2], corners, 2 * corners[-1:] - corners[-2:-1]])
    before, start, stop, after = (padded[i : len(padded) - 3 + i, None, :] for i in range(4))
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * start
        + (stop - before) * t
        + (2 * before - 5 * start + 4 * stop - after) * t**2
        + (3 * start - before - 3 * stop + after) * t**3
    )
    flat: Outline = curve.reshape(-1, 2)
    return flat if closed else np.concatenate([flat, corners[-1:]])


def mirrored(half: Outline) -> Outline:
    """Close a right half, listed from top to bottom, with its reflection."""
    return np.concatenate([half, (half * np.array([-1.0, 1.0]))[::-1]])


def ellipse(x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Outline:
    """An ellipse, or a circle when ``ry`` is left out."""
    t = np.linspace(0.0, 2 * np.pi, 40, endpoint=False)
    return place(np.stack([rx * np.cos(t), (rx if ry is None else ry) * np.sin(t)], axis=1), x, y, turn)


def dot(centre: Outline, radius: float) -> Outline:
    """A circle around a point (2,), for example one that ``regular`` gave."""
    return ellipse(float(centre[0]), float(centre[1]), radius)


def at(shape: Outline, point: Outline, turn: float = 0.0, scale: float = 1.0) -> Outline:
    """Scale, turn about the origin, then move to a point (2,)."""
    return place(shape, float(point[0]), float(point[1]), turn, scale)


def box(x: float, y: float, width: float, height: float, turn: float = 0.0) -> Outline:
    """A rectangle around (x, y)."""
    corners = outline((-1, -1), (1, -1), (1, 1), (-1, 1)) * np.array([width / 2, height / 2])
    return place(corners, x, y, turn)


def regular(corners: int, radius: float = 1.0, turn: float = 0.0) -> Outline:
    """A regular polygon with a corner on top."""
    t = np.linspace(0.0, 2 * np.pi, corners, endpoint=False) + np.radians(turn)
    return np.stack([radius * np.sin(t), -radius * np.cos(t)], axis=1)


def star(points: int, outer: float = 1.0, inner: float = 0.5, turn: float = 0.0) -> Outline:
    """A star with a point on top."""
    both = np.empty((2 * points, 2))
    both[0::2] = regular(points, outer, turn)
    both[1::2] = regular(points, inner, turn + 180.0 / points)
    return both


def wavy(radius: float, lobes: int, depth: float, turn: float = 0.0) -> Outline:
    """A circle whose radius swings by ``depth`` (a share of it) with ``lobes`` waves."""
    t = np.linspace(0.0, 2 * np.pi, max(48, 14 * lobes), endpoint=False)
    r = radius * (1 + depth * np.cos(lobes * (t - np.radians(turn))))
    return np.stack([r * np.sin(t), -r * np.cos(t)], axis=1)


def arc(x: float, y: float, radius: float, start: float, stop: float, steps: int = 24) -> Outline:
    """An open path along a circle; degrees, 0 up, clockwise."""
    t = np.radians(np.linspace(start, stop, steps))
    return np.stack([x + radius * np.sin(t), y - radius * np.cos(t)], axis=1)


def ribbon(path: Outline, width: float, taper: float = 1.0) -> Outline:
    """The band around an open path: ``width`` at its start, ``width * taper`` at its end."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    half = np.linspace(0.5, 0.5 * taper, len(path))[:, None] * width
    return np.concatenate([path + across * half, (path - across * half)[::-1]])


def petal(length: float, width: float, tip: Tip = "round") -> Outline:
    """A petal or leaf from the origin upwards; ``width`` is its greatest width."""
    t = np.linspace(0.0, 1.0, 17)
    profile = {
        "round": np.sin(np.pi * t**1.5) ** 0.8,
        "notch": np.sin(np.pi * t**1.7) ** 0.7,
        "square": np.minimum(t * 2.2, 1.0) * (t < 1.0),
        "point": np.sin(np.pi * t**0.8) * (1 - 0.35 * t),
        "lens": np.sin(np.pi * t),
    }[tip]
    y = -length * t
    if tip == "notch":
        y = y + length * 0.16 * np.clip((t - 0.86) / 0.14, 0, 1)
        profile = np.where(t > 0.86, np.maximum(profile, 0.0), profile)
    half = np.stack([profile / max(profile.max(), 1e-9) * width / 2, y], axis=1)
    return mirrored(half[::-1])


def heart(size: float = 1.0) -> Outline:
    """A heart of half width ``size`` around the origin (the classic sine-cubed curve)."""
    t = np.linspace(0.0, 2 * np.pi, 60, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([x, -y - 2.5], axis=1) / 16 * size


def drop(size: float = 1.0, bend: float = 0.0) -> Outline:
    """A drop with its point on top; ``bend`` > 0 curls the point to the right, as in a paisley."""
    t = np.linspace(0.0, 2 * np.pi, 60, endpoint=False)
    y = -np.cos(t)
    x = np.sin(t) * np.sin(t / 2) ** 1.3 * 0.85
    lift = np.clip((0.35 - y) / 1.35, 0, 1)
    return np.stack([x + bend * lift**2.2, y + 0.55 * abs(bend) * lift**5], axis=1) * size


def crescent(size: float, phase: float) -> Outline:
    """A moon open to the right, horns up and down; ``phase`` in (0, 1) is how far the bite reaches."""
    t = np.linspace(0.0, np.pi, 40)
    x = np.concatenate([-np.sin(t), phase * -np.sin(t[::-1])])
    return np.stack([x, -np.cos(np.concatenate([t, t[::-1]]))], axis=1) * size


def bounds(shapes: Sequence[Outline]) -> tuple[float, float, float, float]:
    """Smallest x, smallest y, largest x, largest y of all corners."""
    every = np.concatenate(list(shapes))
    return (*every.min(axis=0).tolist(), *every.max(axis=0).tolist())
