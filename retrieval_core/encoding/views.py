"""From an image to its views, and from the embeddings of the views to the vectors that are stored.

Shapes: N images, R views of one, S their side, V vectors kept of one, D dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from retrieval_core.config.sections import EmbedConfig, ImagesConfig, Role
from retrieval_core.encoding.region_pooling import mean_of_views, pool_regions
from retrieval_core.images.regions import cut_views, rotated_views
from retrieval_core.images.rgb import decode_rgb

_PIXELS_PER_PIXEL = 2  # that a reduced JPEG keeps along a side of a view, so that it is still resized with a filter


class Views(NamedTuple):
    """How an image becomes views, and the embeddings of its views the vectors that are stored.

    Every field is part of a store's fingerprint (``encoder_fingerprint``).
    """

    image_size: int  # S, in pixels
    regions: tuple[int, ...]  # grids of tiles, see ``region_boxes``
    overlap: float  # of the tiles
    vectors: int | None = None  # V of a fabric, to which its regions are pooled; None for one a region
    rotations: tuple[float, ...] | None = None  # degrees of the copies of a query to average; None for a fabric

    @property
    def per_image(self) -> int:
        """R, views of an image."""
        return sum(grid * grid for grid in self.regions) if self.rotations is None else len(self.rotations)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of an image's views."""
        return self.per_image * self.image_size**2 * 3

    @property
    def rows(self) -> int:
        """V, rows of an image in the store."""
        return 1 if self.rotations is not None else self.vectors or self.per_image

    def of(self, content: bytes, images: ImagesConfig) -> tuple[np.ndarray, np.ndarray]:
        """Decode the bytes of a file and ``cut`` the picture; raises ImageRejected."""
        least = _PIXELS_PER_PIXEL * self.image_size * max(self.regions) if images.jpeg == "reduced" else None
        picture, whole = decode_rgb(content, images, least)
        return self.cut(picture, images, whole)

    def cut(
        self, image: np.ndarray | Image.Image, images: ImagesConfig, whole: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Views (R, S, S, 3) uint8 and boxes (R, 4) int32 of an upright image; ``whole`` as from ``decode_rgb``."""
        if self.rotations is not None:
            return rotated_views(image, images, self.image_size, self.rotations, whole)
        return cut_views(image, images, self.image_size, self.regions, self.overlap, whole)

    def pool(self, embeddings: np.ndarray, boxes_NR4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings (N V, D) and boxes (N, V, 4) to store, from embeddings (N R, D), image by image, and boxes."""
        if self.rows == self.per_image:
            return embeddings, boxes_NR4
        embeddings_NRD = embeddings.reshape(len(boxes_NR4), self.per_image, embeddings.shape[1])
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
