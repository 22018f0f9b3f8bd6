"""A fabric as a shop photographs it: weave, folds and light, perspective, blur, noise and JPEG."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from retrieval_core.simulation.cloth import Box, Cell, cut, prints

_MARGIN = 1.3  # side of the cloth in front of the camera, in image sides


class Photograph(NamedTuple):
    """(size, size, 3) uint8 and the boxes of the motifs in it."""

    pixels: NDArray[np.uint8]
    boxes: list[Box]


def photograph(rng: np.random.Generator, cell: Cell, size: int, x0: int, y0: int) -> Photograph:
    """Take a picture of the cloth around the window at (x0, y0).

    The camera is turned and tilted a little; were a motif lost by that, it looks straight down.

    Returns:
        Pixels, and the bounds of every printed motif in them. Memory O(size^2).
    """
    side = round(size * _MARGIN)
    border = (side - size) // 2
    corner = (x0 - border, y0 - border)
    corners = _camera(rng, size, side)
    motifs = {stamp.motif for stamp in cell.stamps}
    boxes: list[Box] = []
    for strength in (1.0, 0.5, 0.0):
        straight = np.array([(0, 0), (size, 0), (size, size), (0, size)], dtype=np.float64) + border
        to_cloth = _homography(straight + strength * (corners - straight), size)
        to_picture = np.linalg.inv(to_cloth).astype(np.float64)
        boxes = _seen(cell, size, side, corner, to_picture)
        if {box.motif for box in boxes} == motifs:
            break
    cloth = cut(cell, side, *corner)
    shown = Image.fromarray(_weave(rng, cloth)).transform(
        (size, size),
        Image.Transform.PERSPECTIVE,
        (to_cloth / to_cloth[2, 2]).ravel()[:8].tolist(),
        Image.Resampling.BICUBIC,
    )
    return Photograph(_expose(rng, shown, size), boxes)


def photographed(rng: np.random.Generator, cloth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A square picture of cloth (S, S, 3) as a camera straight above it takes it."""
    return _expose(rng, Image.fromarray(_weave(rng, cloth)), len(cloth))


def _camera(rng: np.random.Generator, size: int, side: int) -> NDArray[np.float64]:
    """Corners of the picture on the cloth, clockwise from the upper left: (4, 2), all of them on the cloth."""
    angle = np.radians(rng.uniform(-7, 7))
    square = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64) * size / 2 * rng.uniform(0.96, 1.08)
    turned = square @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners: NDArray[np.float64] = np.clip(turned + side / 2 + rng.uniform(-0.05, 0.05, (4, 2)) * size, 0, side)
    return corners


def _homography(corners: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The (3, 3) map from picture pixels to the cloth that takes the picture's corners to ``corners``."""
    rows, values = [], []
    for (u, v), (x, y) in zip(((0, 0), (size, 0), (size, size), (0, size)), corners, strict=True):
        rows += [[u, v, 1, 0, 0, 0, -u * x, -v * x], [0, 0, 0, u, v, 1, -u * y, -v * y]]
        values += [x, y]
    solution = np.linalg.solve(np.array(rows, dtype=np.float64), np.array(values))
    return np.append(solution, 1.0).reshape(3, 3)


def _seen(cell: Cell, size: int, side: int, corner: tuple[int, int], to_picture: NDArray[np.float64]) -> list[Box]:
    """Bounds of the printed pixels that fall into the picture, motif by motif."""
    boxes = []
    for stamp in prints(cell, side, *corner):
        ys, xs = np.nonzero(stamp.seen)
        on_cloth = np.stack([xs + stamp.x + 0.5, ys + stamp.y + 0.5, np.ones(len(xs))])
        u, v, scale = to_picture @ on_cloth
        u, v = u / scale, v / scale
        inside = (u >= 0) & (u < size) & (v >= 0) & (v < size)
        if inside.any():
            u, v = np.floor(u[inside]).astype(int), np.floor(v[inside]).astype(int)
            boxes.append(Box(stamp.motif, int(u.min()), int(v.min()), int(u.max()) + 1, int(v.max()) + 1))
    return boxes


def _weave(rng: np.random.Generator, cloth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Threads as a fine relief: plain weave or twill."""
    side = len(cloth)
    thread = 2 * np.pi / rng.uniform(2.6, 4.2)
    x, y = np.arange(side)[None, :] * thread, np.arange(side)[:, None] * thread
    relief = np.sin(x) * np.sin(y) if rng.random() < 0.6 else np.sin(x + y)
    shade = 1 + rng.uniform(0.03, 0.09) * relief
    return np.clip(np.round(cloth * shade[..., None]), 0, 255).astype(np.uint8)


def _expose(rng: np.random.Generator, shown: Image.Image, size: int) -> NDArray[np.uint8]:
    blurred = shown.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0)) * size / 256))
    light = Image.fromarray(rng.uniform(0.78, 1.1, (4, 4)).astype(np.float32)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    field = np.asarray(light, dtype=np.float64) * _folds(rng, size)
    warmth = 1 + np.array([1.0, 0.2, -1.0]) * rng.uniform(-0.05, 0.06)
    noise = rng.normal(0, rng.uniform(1.5, 4.5), (size, size, 3))
    exposed = np.asarray(blurred, dtype=np.float64) * field[..., None] * warmth + noise
    developed = Image.fromarray(np.clip(np.round(exposed), 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    developed.save(buffer, "JPEG", quality=int(rng.integers(60, 88)))
    return np.asarray(Image.open(buffer))


def _folds(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Soft creases: light on one side of a line and shade on the other; (size, size) around 1."""
    x, y = np.meshgrid(np.arange(size) / size - 0.5, np.arange(size) / size - 0.5)
    field = np.ones((size, size))
    for _ in range(int(rng.integers(0, 4))):
        angle, offset, width = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5), rng.uniform(0.03, 0.12)
        across = (x * np.cos(angle) + y * np.sin(angle) - offset) / width
        field += rng.uniform(-0.16, 0.16) * across * np.exp(0.5 - across**2 / 2)
    return field
