"""A query's motif: where it is on its picture, and the view of it that a model sees.

Shapes: H, W of the upright picture; S the side of the view; P its patches, rows from the top.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.config.sections import PATCH
from retrieval_core.images.resizing import background_of

QueryMask = Literal["auto", "alpha", "none"]

_LOOKED_AT = 256
"""Longer side in pixels at which the motif is looked for."""
_DIFFERENCE = 24
"""Grey levels of 255 by which a pixel of the motif differs from the ground, in any channel."""
_ODD_BORDER = 0.25
"""Share of the border that may differ from the ground, as a motif that is cut off does; with more, it is no ground."""
_CLEAN_BORDER = 0.02
"""Share of the border that may differ from a plain ground before a pattern is looked for."""
_MOST_COLOURS = 3
"""Colours of a patterned ground."""
_RARE = 0.03
"""Share of the border without a known colour at which no further colour is looked for."""
_FEWEST_RUNS = 3
"""Times that a pattern's colour comes again around the picture, at least."""
_ODD_PATTERN = 0.1
"""Share of the border that may differ from a pattern."""
_LEAST_MOTIF = 0.1
"""Share of the picture that a motif on a pattern covers; what is less may be a rare colour of a crop of cloth."""
_MARGIN = 0.04
"""Share of the motif's longer side that is kept around it."""


def cut_motif(
    picture: Image.Image, alpha: Image.Image | None, size: int, mask: QueryMask
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The motif of an upright RGB picture, as large as fits a square, and the share of each patch that it takes.

    The view (S, S, 3), S = ``size``, keeps the motif's proportions; the rest is filled with the ground's colour. The
    shares (P,) sum to 1: a query is the mean of its patches so weighted. ``alpha`` (mode L) is the picture's
    transparency, if it has any. Memory O(H W) for the crop.
    """
    shown = motif_mask(picture, alpha, mask)
    small = picture.resize((min(64, picture.width), min(64, picture.height)), Image.Resampling.BILINEAR)
    ground = (255, 255, 255) if alpha is not None else background_of(np.asarray(small))
    box = _box_of(shown, picture.size)
    scale = size / max(box[2] - box[0], box[3] - box[1])
    wide, high = (max(1, round((box[axis + 2] - box[axis]) * scale)) for axis in (0, 1))
    x, y = (size - wide) // 2, (size - high) // 2
    view = Image.new("RGB", (size, size), ground)
    view.paste(picture.resize((wide, high), Image.Resampling.BILINEAR, box), (x, y))
    inside = Image.new("L", (size, size), 0)
    across, down = shown.width / picture.width, shown.height / picture.height
    shrunk = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    inside.paste(shown.resize((wide, high), Image.Resampling.BILINEAR, shrunk), (x, y))
    patches = np.asarray(inside, np.float32).reshape(size // PATCH, PATCH, size // PATCH, PATCH).mean((1, 3)).ravel()
    if not patches.any():  # few, faint or far apart, its pixels vanish in a small view
        patches += 1
    return np.array(view), patches / patches.sum()


def motif_mask(picture: Image.Image, alpha: Image.Image | None, mask: QueryMask) -> Image.Image:
    """Which pixels are the motif, in mode L (255 is the motif), at no more than the size that is needed to tell.

    By transparency; else, if ``auto``, what differs from the ground around it; else all. The ground is one colour, or
    grades from one edge to the other: a plane through the border's pixels, by least squares, for each channel. Or it is
    a pattern of two or three colours that come again and again along the border.
    """
    scale = min(1.0, _LOOKED_AT / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    whole = Image.new("L", size, 255)
    if mask == "none":
        return whole
    if alpha is not None:
        shown = alpha.resize(size, Image.Resampling.BILINEAR)
        return shown if shown.getbbox() and np.asarray(shown).min() < 128 else whole
    if mask == "alpha" or min(size) < 3:
        return whole
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR), np.float32)
    differs = _differs_from_ground(pixels)
    return whole if differs is None else Image.fromarray(np.where(differs, 255, 0).astype(np.uint8))


def _differs_from_ground(pixels: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """(H, W) where pixels (H, W, 3) are not the ground; None where there is no ground, or nothing else."""
    border = np.zeros(pixels.shape[:2], np.bool_)
    border[[0, -1]] = border[:, [0, -1]] = True
    differs = _differs_from_plane(pixels, border)
    odd = differs[border].mean()
    if odd > _CLEAN_BORDER and (patterned := _differs_from_pattern(pixels)) is not None:
        return patterned
    return None if odd > _ODD_BORDER or not differs.any() else differs


def _differs_from_plane(pixels: NDArray[np.float32], border: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) where pixels differ from a ground of one colour that may grade from one edge to the other."""
    height, width = border.shape
    y, x = np.mgrid[0:height, 0:width]
    place = np.stack([np.ones_like(x), x / width, y / height], axis=-1).astype(np.float32)
    # The border's median first, and then the plane through what is near it: a motif that is cut off must not tilt it.
    ground = np.broadcast_to(np.median(pixels[border], axis=0), pixels.shape)
    for _ in range(3):
        near = border & (np.abs(pixels - ground).max(axis=2) <= 2 * _DIFFERENCE)
        if near.sum() < border.sum() / 2:
            break
        plane = np.linalg.lstsq(place[near], pixels[near], rcond=None)[0]
        ground = place @ plane
    differs: NDArray[np.bool_] = np.abs(pixels - ground).max(axis=2) > _DIFFERENCE
    return differs


def _differs_from_pattern(pixels: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """(H, W) where pixels are neither of the colours of a pattern, as of stripes or checks, nor between two of them.

    None where the border is no such pattern, or too little of the picture is left for a motif.
    """
    rest = ring = np.concatenate([pixels[0], pixels[1:, -1], pixels[-1, -2::-1], pixels[-2:0:-1, 0]])
    colours: list[NDArray[np.float32]] = []
    while len(rest) > _RARE * len(ring) and len(colours) < _MOST_COLOURS:
        bins = (rest // 16).astype(np.int64) @ (256, 16, 1)
        colour = np.median(rest[bins == np.bincount(bins).argmax()], axis=0)
        near = np.abs(ring - colour).max(axis=1) <= _DIFFERENCE
        # A pattern comes again and again around the picture, a motif that is cut off hardly does.
        if np.count_nonzero(near & ~np.roll(near, 1)) >= _FEWEST_RUNS:
            colours.append(colour)
        rest = rest[np.abs(rest - colour).max(axis=1) > _DIFFERENCE]

    def differs(shown: NDArray[np.float32]) -> NDArray[np.bool_]:
        found = np.ones(shown.shape[:-1], np.bool_)
        for one, other in combinations(colours, 2):
            step = other - one
            share = np.clip((shown - one) @ step / (step @ step), 0, 1)  # how far a pixel is from one to the other
            found &= np.abs(shown - one - share[..., None] * step).max(axis=-1) > _DIFFERENCE
        return found

    found = differs(pixels)
    return None if differs(ring).mean() > _ODD_PATTERN or found.mean() < _LEAST_MOTIF else found


def _box_of(shown: Image.Image, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The motif's box with its margin, in pixels of a picture of this size."""
    found = shown.point(lambda value: 255 if value >= 128 else 0).getbbox() or (0, 0, *shown.size)
    scale = size[0] / shown.width, size[1] / shown.height
    x0, y0, x1, y1 = (edge * scale[axis % 2] for axis, edge in enumerate(found))
    margin = _MARGIN * max(x1 - x0, y1 - y0)
    return max(0.0, x0 - margin), max(0.0, y0 - margin), min(size[0], x1 + margin), min(size[1], y1 + margin)
