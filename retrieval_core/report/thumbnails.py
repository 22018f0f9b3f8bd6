"""Small pictures inside a page, each stored once however often it is shown."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

from PIL import Image

from retrieval_core.config import ImagesConfig
from retrieval_core.images import ImageRejected, read_image

QUALITY = 85


class Thumbnail(NamedTuple):
    """A picture to place on the page.

    Attributes:
        id: element id, the same for the same location.
        width: of the full image in pixels, after orientation; the thumbnail is drawn in these units, so that a
            region's box needs no scaling.
        height: likewise.
        data: JPEG as a data URI at the first placing, empty later, when the page already holds element ``id``.
        problem: why there is no picture, or empty.
    """

    id: str
    width: int
    height: int
    data: str
    problem: str


class Thumbnails:
    """Reads each location once, when it is first placed.

    Holds sizes and ids, not pictures: memory O(locations placed) plus one decoded image.

    Args:
        images: how a file becomes pixels, as for the embeddings.
        side: longer side of a thumbnail in pixels; smaller images are not enlarged.
    """

    def __init__(self, images: ImagesConfig, side: int) -> None:
        self._images = images
        self._side = side
        self._placed: dict[str, Thumbnail] = {}

    def place(self, location: str) -> Thumbnail:
        """The thumbnail of an image; an image that cannot be read gives its ``problem`` instead of raising."""
        placed = self._placed.get(location)
        if placed is not None:
            return placed
        name = f"picture-{len(self._placed) + 1}"
        try:
            pixels = read_image(location, self._images)
        except ImageRejected as rejection:
            thumbnail = Thumbnail(name, 0, 0, "", rejection.reason)
        else:
            height, width = pixels.shape[:2]
            picture = Image.fromarray(pixels)
            picture.thumbnail((self._side, self._side), Image.Resampling.LANCZOS)
            thumbnail = Thumbnail(name, width, height, _data_uri(picture), "")
        self._placed[location] = thumbnail._replace(data="")
        return thumbnail


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    # Full colour resolution: prints are saturated and their edges would bleed.
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
