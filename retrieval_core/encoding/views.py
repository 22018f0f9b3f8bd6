"""From an image to its views, and from the embeddings of the views to the vectors that are stored.

Shapes: N images, R views of one, S their side, V rows (N R of views), D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from retrieval_core.config.sections import EmbedConfig, ImagesConfig, Role
from retrieval_core.encoding.region_pooling import mean_of_views, pool_regions
from retrieval_core.images.regions import cut_views, rotated_views
from retrieval_core.images.rgb import decode_rgb

_SPARE = 2  # pixels that a reduced JPEG keeps for each of the model's, so that it is still resized with a filter


class Views(NamedTuple):
    """How an image becomes views, and the embeddings of its views the vectors that are stored.

    Every field is part of a store's fingerprint (``encoder_fingerprint``).
    """

    image_size: int
    """S."""
    regions: tuple[int, ...]
    """Grids of tiles, see ``region_boxes``."""
    overlap: float
    vectors: int | None = None
    """Vectors that the regions of a fabric are pooled to; None for one a region."""
    rotations: tuple[float, ...] | None = None
    """Of a query: the rotated copies whose embeddings are averaged; None for a fabric."""

    @property
    def per_image(self) -> int:
        """R."""
        return sum(grid * grid for grid in self.regions) if self.rotations is None else len(self.rotations)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of an image's views."""
        return self.per_image * self.image_size**2 * 3

    @property
    def rows(self) -> int:
        """Rows an image has in the store."""
        return 1 if self.rotations is not None else self.vectors or self.per_image

    def of(self, content: bytes, images: ImagesConfig) -> tuple[np.ndarray, np.ndarray]:
        """Views of a file's bytes, as ``cut``; ImageRejected if there are none."""
        least = _SPARE * self.image_size * max(self.regions) if images.jpeg == "reduced" else None
        picture, whole = decode_rgb(content, images, least)
        return self.cut(picture, images, whole)

    def cut(
        self, image: np.ndarray | Image.Image, images: ImagesConfig, whole: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Views (R, S, S, 3) uint8 and boxes (R, 4) int32 of an upright image; ``whole`` as ``decode_rgb`` gives it."""
        if self.rotations is not None:
            return rotated_views(image, images, self.image_size, self.rotations, whole)
        return cut_views(image, images, self.image_size, self.regions, self.overlap, whole)

    def pool(self, embeddings_VD: np.ndarray, boxes_NR4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is stored of the embeddings (image-major) and boxes of the views: ``rows`` rows an image."""
        if self.rows == self.per_image:
            return embeddings_VD, boxes_NR4
        embeddings_NRD = embeddings_VD.reshape(len(boxes_NR4), self.per_image, embeddings_VD.shape[1])
        if self.rotations is not None:
            return mean_of_views(embeddings_NRD), boxes_NR4[:, :1]
        pooled_NVD, source_NV = pool_regions(embeddings_NRD, self.rows)
        boxes_NV4 = np.take_along_axis(boxes_NR4, source_NV[:, :, None], axis=1)
        return pooled_NVD.reshape(-1, pooled_NVD.shape[2]), boxes_NV4


def views_of(keys: EmbedConfig, image_size: int, role: Role) -> Views:
    """Queries are rotated as ``embed.query_turns`` says, fabrics cut as ``embed.regions`` says."""
    if role == "queries":
        return Views(image_size, (1,), keys.region_overlap, rotations=tuple(keys.query_turns))
    return Views(image_size, tuple(keys.regions), keys.region_overlap, keys.vectors)
