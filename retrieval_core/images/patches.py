"""Patches of an image, and windows of a few of them.

A fabric passes the network once. A motif is a few patches large, so a fabric's vectors are means of windows of a few
patches, not of the whole.
Shapes: P patches of an image, in rows from the top; W windows.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval_core.config.config import ConfigError
from retrieval_core.config.sections import PATCH, EmbedConfig

RATIOS = (1.0, 4 / 3, 3 / 2, 2.0, 3.0)
"""Longer side over shorter side of the shapes that fabrics are resized to: few, as a GPU compiles each of them."""

_VECTORS = 10
"""Vectors of a fabric unless ``embed.vectors`` says otherwise."""


class Grid(NamedTuple):
    """Patches of an image."""

    rows: int
    columns: int

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows * PATCH, self.columns * PATCH


class Windows(NamedTuple):
    """Which windows a fabric has, and how many vectors of it are kept."""

    sides: tuple[int, ...]  # in patches
    stride: int  # in patches
    vectors: int  # V, the first of the whole fabric


def grid_of(width: int, height: int, size: int) -> Grid:
    """The grid for an image of width x height pixels: about as many patches as a square of ``size`` pixels has.

    Its proportions are those of ``RATIOS`` that come nearest to the image's.
    """
    ratio = math.log(width / height)
    return min(_grids(size), key=lambda grid: abs(math.log(grid.columns / grid.rows) - ratio))


def grid_of_view(height: int, width: int) -> Grid:
    """The grid of a view in pixels."""
    return Grid(height // PATCH, width // PATCH)


@lru_cache
def _grids(size: int) -> tuple[Grid, ...]:
    side = size // PATCH
    upright = [Grid(max(1, round(side * math.sqrt(ratio))), max(1, round(side / math.sqrt(ratio)))) for ratio in RATIOS]
    return (*upright, *(Grid(grid.columns, grid.rows) for grid in upright[1:]))


def windows_of(keys: EmbedConfig) -> Windows:
    """The windows of a fabric; ConfigError if there are fewer than ``embed.vectors``."""
    windows = Windows(tuple(keys.windows), keys.window_stride, keys.vectors or _VECTORS)
    fewest = min(len(window_boxes(grid, windows)) for grid in _grids(keys.fabric_size))
    if windows.vectors > fewest + 1:
        raise ConfigError(
            f"embed.vectors = {windows.vectors}: more than the whole and the {fewest} windows of a fabric; lower it, "
            f"raise embed.fabric_size = {keys.fabric_size} (a patch is {PATCH} pixels), or lower embed.window_stride"
        )
    return windows


@lru_cache
def window_boxes(grid: Grid, windows: Windows) -> NDArray[np.int64]:
    """Windows as x0, y0, x1, y1 in patches, ends exclusive: (W, 4), side by side, rows from the top.

    They start at multiples of the stride, and the last ones end at the edge. A side larger than the grid is cut to it.
    """
    return np.array(
        [
            (x, y, x + wide, y + high)
            for side in windows.sides
            for high, wide in [(min(side, grid.rows), min(side, grid.columns))]
            for y in _starts(grid.rows, high, windows.stride)
            for x in _starts(grid.columns, wide, windows.stride)
        ],
        np.int64,
    )


def _starts(length: int, side: int, stride: int) -> list[int]:
    return sorted({*range(0, length - side + 1, stride), length - side})


@lru_cache
def window_weights(grid: Grid, windows: Windows) -> NDArray[np.float32]:
    """(W, P): the share of each patch in the mean of each window."""
    boxes = window_boxes(grid, windows)
    weights = np.zeros((len(boxes), grid.rows, grid.columns), np.float32)
    for row, (x0, y0, x1, y1) in zip(weights, boxes.tolist(), strict=True):
        row[y0:y1, x0:x1] = 1 / ((x1 - x0) * (y1 - y0))
    return weights.reshape(len(boxes), -1)


def boxes_in_pixels(grid: Grid, windows: Windows, width: int, height: int) -> NDArray[np.int32]:
    """``window_boxes`` on an image of width x height pixels, rounded outwards, then the whole image: (W + 1, 4)."""
    boxes, sides, patches = window_boxes(grid, windows), np.array([width, height]), np.array([grid.columns, grid.rows])
    # In whole numbers: 7 * (29 / 7) is more than 29.
    found = np.concatenate([boxes[:, :2] * sides // patches, -(-boxes[:, 2:] * sides // patches)], axis=1)
    return np.concatenate([found, [[0, 0, width, height]]]).astype(np.int32)
