"""Pictures of the catalogue's fabrics, drawn anew as JPEG: no byte of a file leaves as it is."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import read_image

QUALITY = 85


class Pictures:
    """Reduced pictures of fabrics, the latest kept in memory.

    Memory O(``keep``) small JPEG files (about 20 kB each at 256 pixels), and one decoded image a call.

    Args:
        images: how a file becomes pixels, as for the embeddings.
        side: longer side in pixels; smaller images are not enlarged.
        keep: pictures kept.
    """

    def __init__(self, images: ImagesConfig, side: int, keep: int) -> None:
        self._images, self._side, self._keep = images, side, keep
        self._made: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, location: str) -> bytes:
        """The JPEG file of an image. Thread safe.

        Raises:
            ImageRejected: if the image cannot be read.
        """
        with self._lock:
            made = self._made.get(location)
            if made is not None:
                self._made.move_to_end(location)
                return made
        made = _reduced(location, self._images, self._side)
        with self._lock:
            self._made[location] = made
            while len(self._made) > self._keep:
                self._made.popitem(last=False)
        return made


def _reduced(location: str, images: ImagesConfig, side: int) -> bytes:
    picture = Image.fromarray(read_image(location, images))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Full colour resolution: prints are saturated and their edges would bleed.
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()
