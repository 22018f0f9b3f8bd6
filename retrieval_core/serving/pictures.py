"""Pictures of the catalogue's fabrics, encoded anew as JPEG: no byte of a file leaves as it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import read_image
from retrieval_core.report.thumbnails import reduced_jpeg


def cached_pictures(images: ImagesConfig, side: int, keep: int) -> Callable[[str], bytes]:
    """A thread-safe function from a location to a reduced JPEG file; it raises ``ImageRejected`` as ``read_image``.

    ``side`` is the longer side in pixels; smaller images are not enlarged. Memory O(``keep``) files, the latest ones
    (about 20 kB each at 256 pixels), and one decoded image a call.
    """

    @lru_cache(keep)
    def picture(location: str) -> bytes:
        return reduced_jpeg(read_image(location, images), side)

    return picture
