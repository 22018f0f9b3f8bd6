"""The regions of an image that get an embedding each, cut out and resized to what a model sees.

Shapes: H, W of the image after orientation; S the side a model sees; R regions. Pixels are uint8 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.resizing import resize, rotated


def region_boxes(width: int, height: int, grids: Sequence[int], overlap: float) -> np.ndarray:
    """The regions of an image that get an embedding each.

    Grid 1 is the whole image. Grid n is n x n tiles that cover it; the tile's side t satisfies
    ``n * t - (n - 1) * overlap * t = side``, separately for width and height. Edges are rounded half up to pixels; a
    tile has at least one pixel, so tiles repeat where the image has fewer pixels than tiles.

    Args:
        width: of the oriented image, in pixels, at least 1.
        height: likewise.
        grids: at least one; each at least 1.
        overlap: of neighbouring tiles as a share of the tile's side, in [0, 1).

    Returns:
        (R, 4) int32 of x0, y0, x1, y1 (ends exclusive); R = sum of n * n. Grids in the given order, rows from the top,
        each from the left.

    Raises:
        ValueError: for a value out of these ranges.
    """
    if width < 1 or height < 1:
        raise ValueError(f"image of {width} x {height} pixels: both must be at least 1")
    if len(grids) == 0 or min(grids) < 1:
        raise ValueError(f"grids {list(grids)}: must name at least one grid, each at least 1")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap}: must lie in [0, 1)")
    boxes = [
        (x0, y0, x1, y1)
        for grid in grids
        for y0, y1 in _intervals(height, grid, overlap)
        for x0, x1 in _intervals(width, grid, overlap)
    ]
    return np.array(boxes, dtype=np.int32)


def cut_views(
    image: np.ndarray | Image.Image,
    images: ImagesConfig,
    size: int,
    grids: Sequence[int] = (1,),
    overlap: float = 0.25,
    whole: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut an image into what the model sees.

    Each region is cropped from the oriented image as it was read, then resized by itself: no pixel outside it takes
    part.

    Args:
        image: oriented, (H, W, 3) uint8 or a picture in mode RGB; the latter spares copies of all its pixels.
        images: the ``images`` section.
        size: S, the side of a view in pixels.
        grids: as in ``region_boxes``.
        overlap: as in ``region_boxes``.
        whole: width and height of what the image is a reduced copy of; boxes are in its pixels.

    Returns:
        views (R, S, S, 3) uint8 and boxes (R, 4) int32. Memory O(R S^2) beside the image.

    Raises:
        ValueError: as ``region_boxes``.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    width, height = whole or picture.size
    boxes = region_boxes(width, height, grids, overlap)
    views = np.empty((len(boxes), size, size, 3), dtype=np.uint8)
    scale = round(width / picture.width)
    if scale > 1:
        # A reduced side is rounded up, so its last pixel is only partly picture: the boxes say to which part.
        for view, (x0, y0, x1, y1) in zip(views, (boxes / scale).tolist(), strict=True):
            left, top = math.floor(x0), math.floor(y0)
            region = picture.crop((left, top, math.ceil(x1), math.ceil(y1)))
            inside = (x0 - left, y0 - top, x1 - left, y1 - top)
            view[...] = np.asarray(region.resize((size, size), Image.Resampling.BILINEAR, inside))
        return views, boxes
    pixels = np.asarray(image) if images.resize == "published" else None
    for view, box in zip(views, boxes.tolist(), strict=True):
        x0, y0, x1, y1 = box
        cut = _crop(picture, box) if pixels is None else pixels[y0:y1, x0:x1]
        view[...] = resize(cut, size, images.resize)
    return views, boxes


def _crop(picture: Image.Image, box: list[int]) -> Image.Image:
    return picture if box == [0, 0, *picture.size] else picture.crop((box[0], box[1], box[2], box[3]))


def rotated_views(
    image: np.ndarray | Image.Image,
    images: ImagesConfig,
    size: int,
    rotations: Sequence[float] = (0.0,),
    whole: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rotated copies of a query image, as prints rotate their motifs.

    Args:
        image: as in ``cut_views``.
        images: the ``images`` section.
        size: S, the side of a view in pixels.
        rotations: degrees, see ``rotated``.
        whole: as in ``cut_views``.

    Returns:
        views (len(rotations), S, S, 3) uint8; boxes (len(rotations), 4) int32, each the whole image.
    """
    views, boxes = cut_views(image, images, size, whole=whole)
    return np.stack([rotated(views[0], degrees) for degrees in rotations]), np.repeat(boxes, len(rotations), axis=0)


def _intervals(side: int, grid: int, overlap: float) -> list[tuple[int, int]]:
    tile = side / (grid - (grid - 1) * overlap)
    intervals = []
    for i in range(grid):
        start = i * tile * (1 - overlap)
        first = min(int(start + 0.5), side - 1)
        intervals.append((first, min(max(int(start + tile + 0.5), first + 1), side)))
    return intervals
