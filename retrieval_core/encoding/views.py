"""From an image to its views, and from the embeddings of the views to the vectors that are stored.

Shapes: N images, R views of one, S their side, V rows (N R of views), D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from retrieval_core.config.sections import EmbedConfig, ImagesConfig, Role
from retrieval_core.encoding.region_pooling import mean_of_views, pool_regions
from retrieval_core.images.decoding import read_content
from retrieval_core.images.regions import cut_views, turned_views
from retrieval_core.images.rgb import picture_of

_SPARE = 2  # pixels that a reduced JPEG keeps for each of the model's, so that it is still resized with a filter


class Views(NamedTuple):
    """How an image becomes views, and the embeddings of its views the vectors that are stored."""

    size: int
    grids: tuple[int, ...]
    overlap: float
    kept: int | None = None
    """Vectors that the regions of a fabric are pooled to; None for one a region."""
    turns: tuple[float, ...] | None = None
    """Of a query: the turned copies whose embeddings are averaged; None for a fabric."""

    @property
    def each(self) -> int:
        """Views an image."""
        return sum(grid * grid for grid in self.grids) if self.turns is None else len(self.turns)

    @property
    def pixel_bytes(self) -> int:
        """Of an image's pixels."""
        return self.each * self.size**2 * 3

    @property
    def vectors(self) -> int:
        """Rows an image has in the store."""
        return 1 if self.turns is not None else self.kept or self.each

    def load(self, location: str, images: ImagesConfig) -> tuple[np.ndarray, np.ndarray]:
        """Views (each, S, S, 3) uint8 and boxes (each, 4) int32 of an image; ImageRejected if there are none."""
        return self.of(read_content(location, images.max_pixels), images)

    def of(self, content: bytes, images: ImagesConfig) -> tuple[np.ndarray, np.ndarray]:
        """``load`` of a file that is in memory."""
        least = _SPARE * self.size * max(self.grids) if images.jpeg == "reduced" else None
        picture, whole = picture_of(content, images, least)
        return self.cut(picture, images, whole)

    def cut(
        self, image: np.ndarray | Image.Image, images: ImagesConfig, whole: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """``load`` of an image that has been read, as ``cut_views``; ``whole`` as ``read_picture`` gives it."""
        if self.turns is not None:
            return turned_views(image, images, self.size, self.turns, whole)
        return cut_views(image, images, self.size, self.grids, self.overlap, whole)

    def pool(self, embeddings_VD: np.ndarray, boxes_NR4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is stored of the embeddings (image-major) and boxes of the views: ``vectors`` rows an image."""
        if self.vectors == self.each:
            return embeddings_VD, boxes_NR4
        embeddings_NRD = embeddings_VD.reshape(len(boxes_NR4), self.each, embeddings_VD.shape[1])
        if self.turns is not None:
            return mean_of_views(embeddings_NRD), boxes_NR4[:, :1]
        pooled_NVD, source_NV = pool_regions(embeddings_NRD, self.vectors)
        boxes_NV4 = np.take_along_axis(boxes_NR4, source_NV[:, :, None], axis=1)
        return pooled_NVD.reshape(-1, pooled_NVD.shape[2]), boxes_NV4


def views_of(keys: EmbedConfig, size: int, role: Role) -> Views:
    """Queries are turned as ``embed.query_turns`` says, fabrics cut as ``embed.regions`` says."""
    if role == "queries":
        return Views(size, (1,), keys.region_overlap, turns=tuple(keys.query_turns))
    return Views(size, tuple(keys.regions), keys.region_overlap, keys.vectors)
