"""From an image to its views, and from its views to the vectors that are stored.

Shapes: N images, R views of one, h, w their sides, V vectors kept of one, W windows, D dimensions.
X = 1 + PARTS.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from PIL import Image

from retrieval_core.config.config import Config
from retrieval_core.config.sections import ImagesConfig, ModelConfig, Role
from retrieval_core.encoding.region_pooling import pool_regions
from retrieval_core.images.motif import QueryMask, cut_motif
from retrieval_core.images.patches import (
    Windows,
    boxes_in_pixels,
    grid_of,
    grid_of_view,
    window_weights,
    windows_of,
)
from retrieval_core.images.regions import cut_views
from retrieval_core.images.rgb import Picture, decode_rgb
from retrieval_core.store.windows import Kept

if TYPE_CHECKING:
    from retrieval_core.encoding.encoders import Encoder, ModelEncoder

PARTS = 2
"""Parts of a query's motif that a second look compares besides the whole: clusters of its own patches."""
_PIXELS_PER_PIXEL = 2  # that a reduced JPEG keeps along a side of a view, so that it is still resized with a filter


class Cut(NamedTuple):
    """The views of an image."""

    pixels: np.ndarray  # (R, h, w, 3) uint8
    boxes: np.ndarray  # (R, 4) int32, of the whole image
    shares: np.ndarray | None = None  # (P,) float32, of each patch in the motif, where that is looked for


class Embedded(NamedTuple):
    """What is stored of N images."""

    vectors: np.ndarray  # (N, V, D) float32, rows of L2 norm 1
    boxes: np.ndarray  # (N, V, 4) int32
    kept: list[Kept] | None = None  # of each image, where windows are kept


class Views(NamedTuple):
    """How an image becomes views, and the embeddings of its views the vectors that are stored.

    Every field is part of a store's fingerprint (``encoder_fingerprint``).
    """

    image_size: int  # side of a square view, or of the square that has as many pixels as a fabric with windows
    regions: tuple[int, ...] = (1,)  # grids of tiles, see ``region_boxes``
    overlap: float = 0.25  # of the tiles
    vectors: int | None = None  # V of a fabric, to which its regions are pooled; None for one a region
    windows: Windows | None = None  # of a fabric in one view
    mask: QueryMask | None = None  # how the motif is found of a query that is the mean of its own patches

    @property
    def per_image(self) -> int:
        """R, views of an image."""
        return sum(grid * grid for grid in self.regions)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of an image's views; those of a fabric with windows differ by a few patches."""
        return self.per_image * self.image_size**2 * 3

    @property
    def rows(self) -> int:
        """V, rows of an image in the store."""
        if self.windows is not None:
            return self.windows.vectors
        return self.vectors or self.per_image

    def of(self, content: bytes, images: ImagesConfig) -> Cut:
        """Decode the bytes of a file and ``cut`` the picture; raises ImageRejected."""
        least = _PIXELS_PER_PIXEL * self.image_size * max(self.regions) if images.jpeg == "reduced" else None
        return self.cut(decode_rgb(content, images, least), images)

    def cut(self, image: np.ndarray | Image.Image | Picture, images: ImagesConfig) -> Cut:
        """The views of an upright image: (H, W, 3) uint8, a picture in mode RGB, or one from ``decode_rgb``."""
        if not isinstance(image, Picture):
            rgb = image if isinstance(image, Image.Image) else Image.fromarray(image)
            image = Picture(rgb, rgb.size)
        if self.mask is not None:
            view, shares = cut_motif(image.rgb, image.alpha, self.image_size, self.mask)
            return Cut(view[None], np.array([[0, 0, *image.whole]], np.int32), shares)
        if self.windows is not None:
            high, wide = grid_of(*image.whole, self.image_size).pixels
            scale = round(image.whole[0] / image.rgb.width)
            inside = (0, 0, image.whole[0] / scale, image.whole[1] / scale)  # as in ``cut_views``
            view = np.asarray(image.rgb.resize((wide, high), Image.Resampling.BILINEAR, inside))
            return Cut(view[None], np.array([[0, 0, *image.whole]], np.int32))
        return Cut(*cut_views(image.rgb, images, self.image_size, self.regions, self.overlap, image.whole))

    def embed(self, encoder: Encoder, cuts: Sequence[Cut]) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (N, V, D) and boxes (N, V, 4) to store of N images."""
        return self.embed_all(encoder, cuts, keep=False)[:2]

    def embed_all(self, encoder: Encoder, cuts: Sequence[Cut], *, keep: bool) -> Embedded:
        """As ``embed``; with ``keep`` also all windows of the images, where they have some, or the parts of motifs."""
        boxes_NR4 = np.array([cut.boxes for cut in cuts], np.int32).reshape(len(cuts), self.per_image, 4)
        if self.windows is not None:
            return self._embed_windows(cast("ModelEncoder", encoder), cuts, self.windows, keep)
        views = [view for cut in cuts for view in cut.pixels]
        if self.mask is not None:
            model, shares = cast("ModelEncoder", encoder), np.array([cut.shares for cut in cuts], np.float32)
            if not keep:
                return Embedded(model.encode_motifs(views, shares)[:, None], boxes_NR4)
            wholes_ND, parts_NXD = model.encode_parts(views, shares, PARTS)
            boxes_NX4 = np.repeat(boxes_NR4, parts_NXD.shape[1], axis=1)
            return Embedded(wholes_ND[:, None], boxes_NR4, list(map(Kept, parts_NXD, boxes_NX4)))
        embeddings_NRD = encoder.encode(views).reshape(len(cuts), self.per_image, encoder.dim)
        if self.rows == self.per_image:
            return Embedded(embeddings_NRD, boxes_NR4)
        pooled_NVD, source_NV = pool_regions(embeddings_NRD, self.rows)
        return Embedded(pooled_NVD, np.take_along_axis(boxes_NR4, source_NV[:, :, None], axis=1))

    def _embed_windows(self, encoder: ModelEncoder, cuts: Sequence[Cut], windows: Windows, keep: bool) -> Embedded:
        """As ``embed_all``, shape by shape; a vector's box is that of the window that is most like it."""
        embeddings_NVD = np.empty((len(cuts), windows.vectors, encoder.dim), np.float32)
        boxes_NV4 = np.empty((len(cuts), windows.vectors, 4), np.int32)
        kept: dict[int, Kept] = {}
        by_shape = defaultdict(list)
        for row, cut in enumerate(cuts):
            by_shape[cut.pixels.shape[1:3]].append(row)
        for shape, rows in by_shape.items():
            grid = grid_of_view(*shape)
            views = [cuts[row].pixels[0] for row in rows]
            embeddings_NVD[rows], nearest, windows_NWD = encoder.encode_windows(
                views, window_weights(grid, windows), windows.vectors, keep=keep
            )
            for place, row in enumerate(rows):
                boxes = boxes_in_pixels(grid, windows, *cuts[row].boxes[0, 2:].tolist())
                boxes_NV4[row] = boxes[nearest[place]]
                if windows_NWD is not None:
                    kept[row] = Kept(windows_NWD[place], boxes[:-1])
        return Embedded(embeddings_NVD, boxes_NV4, [kept[row] for row in range(len(cuts))] if keep else None)


def views_of(config: Config, model: ModelConfig | None, role: Role) -> Views:
    """The views of an arm with this model, the colour histogram without one.

    ConfigError if a fabric has fewer windows than ``embed.vectors``.
    """
    keys, size = config.embed, config.model.image_size
    windows = config.model.pooling == "patches"
    if role == "queries":
        return Views(size, mask=config.images.query_mask if windows and model is not None else None)
    if not windows:
        return Views(size, tuple(keys.regions), keys.region_overlap, keys.vectors)
    if model is None:
        return Views(keys.fabric_size)
    return Views(keys.fabric_size, windows=windows_of(keys))
