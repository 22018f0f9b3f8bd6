"""The square views of an image: its regions, each resized to what a model sees.

Shapes: H, W of the upright image; S the side of a view; R regions. Pixels are uint8 RGB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.resizing import resize


def region_boxes(width: int, height: int, grids: Sequence[int], overlap: float) -> np.ndarray:
    """The regions of an upright image that get an embedding each: (R, 4) int32 of x0, y0, x1, y1 (ends exclusive).

    Grid 1 is the whole image. Grid n is n x n tiles that cover it and overlap by a share of their side t, which
    satisfies ``n * t - (n - 1) * overlap * t = side``, separately for width and height. Edges are rounded half up to
    pixels; a tile has at least one pixel, so tiles repeat where the image has fewer pixels than tiles. There are R =
    sum of n * n regions: grids in the given order, rows from the top, each from the left.

    Raises ValueError without a grid, for a side or grid below 1, or an ``overlap`` outside [0, 1).
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
    """Crop the regions of an image and resize each by itself: no pixel outside a region takes part in its view.

    ``image`` is upright, (H, W, 3) uint8 or a picture in mode RGB; the latter spares copies of all its pixels.
    ``grids`` and ``overlap`` are those of ``region_boxes``. ``whole`` is the width and height of what the image is a
    reduced copy of; boxes are in its pixels. Returns views (R, S, S, 3) uint8 with S = ``size``, and boxes (R, 4)
    int32. Memory O(R S^2) beside the image.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    width, height = whole or picture.size
    boxes = region_boxes(width, height, grids, overlap)
    views = np.empty((len(boxes), size, size, 3), dtype=np.uint8)
    if images.resize == "published":
        pixels = np.asarray(image)
        for view, (x0, y0, x1, y1) in zip(views, boxes, strict=True):
            view[...] = resize(pixels[y0:y1, x0:x1], size, images.resize)
        return views, boxes
    # A reduced side is rounded up, so its last pixel is only partly picture: the boxes say to which part.
    scale = round(width / picture.width)
    for view, (x0, y0, x1, y1) in zip(views, (boxes / scale).tolist(), strict=True):
        edges = (math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1))
        region = picture if edges == (0, 0, *picture.size) else picture.crop(edges)
        inside = (x0 - edges[0], y0 - edges[1], x1 - edges[0], y1 - edges[1])
        view[...] = np.asarray(region.resize((size, size), Image.Resampling.BILINEAR, inside))
    return views, boxes


def _intervals(side: int, grid: int, overlap: float) -> list[tuple[int, int]]:
    tile = side / (grid - (grid - 1) * overlap)
    intervals = []
    for i in range(grid):
        start = i * tile * (1 - overlap)
        first = min(int(start + 0.5), side - 1)
        intervals.append((first, min(max(int(start + tile + 0.5), first + 1), side)))
    return intervals
