"""A part of a fabric as the query: which part a click means, and the view of it that a model sees.

A motif on a fabric has no ground of its own. It is seen with what is around it, and what is around it is taken away.
Shapes: S the side of the view; G its patches along a side, P = G * G, rows from the top; D dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.config.sections import PATCH
from retrieval_core.images.resizing import background_of

_SURROUNDINGS = 2
"""Sides of the view over the longer side of the part."""
_MIDDLE = 0.7
"""Share of the part's sides that the query is made of: the corners of a box show the ground."""
_OUTSIDE = 1.2
"""Sides, over those of the part, of what counts neither for the part nor for its surroundings."""
_CLICKED = 0.5
"""Side of what is looked at around a click over that of a square as large as the picture."""
_SMALLEST, _LARGEST = 2, 12
"""Patches of the sides of a part that a click may mean, of the 24 that are looked at."""
_LONGEST = 2
"""Longer over shorter side of such a part, at most."""
_RING = 0.25
"""Width of what a part is compared with, over its longer side."""
_LOOKED_AT = 24
"""Patches along the side of what is looked at around a click."""


class Part(NamedTuple):
    """A part of a picture with its surroundings."""

    view: NDArray[np.uint8]  # (S, S, 3)
    shares: NDArray[np.float32]  # (P,) of each patch in the part; they sum to 1
    around: NDArray[np.float32]  # (P,) of each patch in the surroundings; they sum to 1, or all are 0


class Square(NamedTuple):
    """A square of a picture in pixels; it may extend beyond the picture where that is narrower."""

    x: float
    y: float
    side: float


def cut_part(picture: Image.Image, box: Sequence[int], size: int) -> Part:
    """The part of an upright RGB picture in a box x0, y0, x1, y1, with as much around it: S = 2 ``size``.

    The view keeps the picture's proportions. It is moved to lie within the picture; where the picture is narrower, the
    rest has the colour of its edge and counts for nothing. Memory O(S^2).
    """
    x0, y0, x1, y1 = box
    square = _square(picture.size, ((x0 + x1) / 2, (y0 + y1) / 2), _SURROUNDINGS * max(x1 - x0, y1 - y0))
    side = _SURROUNDINGS * size
    shares, near = (_coverage(square, box, side // PATCH, scale) for scale in (_MIDDLE, _OUTSIDE))
    around = (1 - near) * _coverage(square, (0, 0, *picture.size), side // PATCH)
    total = around.sum()
    return Part(_seen(picture, square, side), shares / shares.sum(), around / total if total else around)


def around_click(picture: Image.Image, at: tuple[int, int]) -> tuple[NDArray[np.uint8], Square]:
    """What ``part_at`` looks at: a square around a pixel, half as wide as the picture; its view and where it lies."""
    square = _square(picture.size, (at[0] + 0.5, at[1] + 0.5), _CLICKED * math.sqrt(math.prod(picture.size)))
    return _seen(picture, square, _LOOKED_AT * PATCH), square


def part_at(patches_PD: NDArray[np.float32], square: Square, at: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of the motif at a pixel, for P patches, rows of L2 norm 1, of ``around_click``.

    It is in pixels of the picture, rounded outwards, and has the pixel in it; it may reach beyond the picture. Of boxes
    around the pixel it is the one that differs most from the ring around it: the squared distance of both means, times
    the root of the box's area, as a small box always differs more. Memory O(P D).
    """
    sums = np.zeros((_LOOKED_AT + 1, _LOOKED_AT + 1, patches_PD.shape[1]))
    sums[1:, 1:] = patches_PD.reshape(_LOOKED_AT, _LOOKED_AT, -1).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)

    def total(boxes: NDArray[np.int64]) -> NDArray[np.float64]:
        x0, y0, x1, y1 = boxes.T
        found: NDArray[np.float64] = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
        return found

    scale = square.side / _LOOKED_AT
    boxes = _boxes_around((at[0] + 0.5 - square.x) / scale, (at[1] + 0.5 - square.y) / scale)
    sides = boxes[:, 2:] - boxes[:, :2]
    width = np.maximum(1, np.rint(_RING * sides.max(axis=1))).astype(np.int64)[:, None]
    rings = np.clip(np.concatenate([boxes[:, :2] - width, boxes[:, 2:] + width], axis=1), 0, _LOOKED_AT)
    area, ring_area = sides.prod(axis=1), (rings[:, 2:] - rings[:, :2]).prod(axis=1)
    inside, outside = total(boxes), total(rings)
    means = inside / area[:, None], (outside - inside) / (ring_area - area)[:, None]
    best = boxes[np.argmax(((means[0] - means[1]) ** 2).sum(axis=1) * np.sqrt(area))]
    x0, y0, x1, y1 = best * scale + np.array([square.x, square.y] * 2)
    return math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)


def _boxes_around(x: float, y: float) -> NDArray[np.int64]:
    """(B, 4) boxes in patches of every size, with a place in patches at their middle as far as the edges let them."""
    lengths = range(_SMALLEST, _LARGEST + 1)
    sides = [(w, h) for w in lengths for h in lengths if max(w, h) <= _LONGEST * min(w, h)]
    starts = np.rint(np.array([x, y]) - np.array(sides) / 2).astype(np.int64)
    starts = np.clip(starts, 0, _LOOKED_AT - np.array(sides))
    return np.concatenate([starts, starts + np.array(sides)], axis=1)


def _square(size: tuple[int, int], centre: tuple[float, float], side: float) -> Square:
    """A square around a point, moved into a picture of width x height; centred where it is larger than that."""
    starts = [
        (whole - side) / 2 if side >= whole else min(max(0.0, middle - side / 2), whole - side)
        for whole, middle in zip(size, centre, strict=True)
    ]
    return Square(starts[0], starts[1], side)


def _seen(picture: Image.Image, square: Square, side: int) -> NDArray[np.uint8]:
    """A square of a picture, resized to a view of side x side pixels."""
    inside = [max(0.0, square.x), max(0.0, square.y)]
    inside += [min(picture.width, square.x + square.side), min(picture.height, square.y + square.side)]
    x0, y0, x1, y1 = (
        round((edge - start) * side / square.side) for edge, start in zip(inside, square[:2] * 2, strict=True)
    )
    shown = max(1, x1 - x0), max(1, y1 - y0)
    part = picture.resize(shown, Image.Resampling.BILINEAR, (inside[0], inside[1], inside[2], inside[3]))
    if part.size == (side, side):
        return np.array(part)
    view = Image.new("RGB", (side, side), background_of(np.asarray(part)))
    view.paste(part, (x0, y0))
    return np.array(view)


def _coverage(square: Square, box: Sequence[int], patches: int, scale: float = 1.0) -> NDArray[np.float32]:
    """(P,): the share of each patch's area that a box, made larger or smaller around its middle, covers."""
    places, axes = np.arange(patches), []
    for start, low, high in zip(square[:2], box[:2], box[2:], strict=True):
        middle, half = (low + high) / 2, (high - low) / 2 * scale
        edges = [(edge - start) * patches / square.side for edge in (middle - half, middle + half)]
        axes.append(np.clip(np.minimum(places + 1, edges[1]) - np.maximum(places, edges[0]), 0, 1))
    found: NDArray[np.float32] = np.outer(axes[1], axes[0]).ravel().astype(np.float32)
    return found
