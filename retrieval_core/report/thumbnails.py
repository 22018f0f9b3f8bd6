"""Small pictures inside a page: each stored once however often it is shown, and no more than there is room for."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import ImageRejected, read_image

SMALLEST = 64  # pixels of the longer side; a smaller picture shows nothing
BLOCK = 48  # pictures that the page decodes at a time
NO_ROOM = "no room"
_QUALITY = 85
_SAMPLE, _TRIALS = 24, 4
_RESERVE = 1.1  # the sample may be smaller than the rest
_THREADS = 8  # decoding releases the GIL, and a remote store answers several requests at once

Entry = tuple[int, int, int] | str
"""Slot of a stored picture with the width and height of the full image, or why there is no picture."""


class Thumbnail(NamedTuple):
    """A small picture; ``width`` and ``height`` are those of the full image, upright, as are a region's pixels."""

    width: int
    height: int
    jpeg: bytes


class Album:
    """Pictures of many locations, written as they are made, until the room is used up.

    ``side`` is the longer side of a thumbnail in pixels; smaller images are not enlarged. ``room`` is the number of
    characters that all pictures together may take, as base64. Memory O(locations) for sizes and digests, and the
    decoded images of a few threads.
    """

    def __init__(self, images: ImagesConfig, side: int, room: int) -> None:
        self.side = side
        self.entries: dict[str, Entry] = {}
        self._images, self._room = images, room

    def blocks(self, locations: Sequence[str]) -> Iterator[list[str]]:
        """Base64 texts of the pictures, ``BLOCK`` at a time; ``entries`` is complete when all were taken.

        Locations come with the most important first, no two equal. Where a sample of the pictures says that there is no
        room for all, they are made smaller, down to ``SMALLEST``. Where that is not enough, the last ones are left out.
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            self.side = self._fitting_side(pool, locations)
            pictures = self._stored(pool, locations)
            while block := list(islice(pictures, BLOCK)):
                yield block
        for location in locations:
            self.entries.setdefault(location, NO_ROOM)

    def _stored(self, pool: ThreadPoolExecutor, locations: Sequence[str]) -> Iterator[str]:
        slots: dict[bytes, int] = {}
        for location, made in self._made(pool, locations, self.side):
            if isinstance(made, str):
                self.entries[location] = made
                continue
            digest = blake2b(made.jpeg, digest_size=16).digest()
            if digest not in slots:
                text = base64.b64encode(made.jpeg).decode("ascii")
                self._room -= len(text) + 3  # quotes and comma
                if self._room < 0:
                    return
                slots[digest] = len(slots)
                yield text
            self.entries[location] = (slots[digest], made.width, made.height)

    def _fitting_side(self, pool: ThreadPoolExecutor, locations: Sequence[str]) -> int:
        """The side at which everything fits, as an evenly spread sample says."""
        sample = locations[:: max(1, len(locations) // _SAMPLE)][:_SAMPLE]
        side = self.side
        for _ in range(_TRIALS):
            made = [one for _, one in self._made(pool, sample, side) if isinstance(one, Thumbnail)]
            mean = sum(len(one.jpeg) for one in made) * 4 / 3 / max(1, len(made))
            needed = _RESERVE * mean * len(locations)
            if needed <= self._room:
                return side
            longest = max(max(one.width, one.height) for one in made)
            # Bytes shrink more slowly than the area, so the next trial corrects this guess.
            side = int(min(side, longest) * (self._room / needed) ** 0.5)
            if side <= SMALLEST:
                return min(self.side, SMALLEST)
        return side

    def _made(
        self, pool: ThreadPoolExecutor, locations: Sequence[str], side: int
    ) -> Iterator[tuple[str, Thumbnail | str]]:
        """Thumbnails in the order of the locations, a few at a time in memory."""
        for start in range(0, len(locations), 4 * _THREADS):
            ahead = locations[start : start + 4 * _THREADS]
            made = pool.map(lambda location: thumbnail(location, self._images, side), ahead)
            yield from zip(ahead, made, strict=True)


def thumbnail(location: str, images: ImagesConfig, side: int) -> Thumbnail | str:
    """The small picture of an image, or why it cannot be read."""
    try:
        pixels = read_image(location, images)
    except ImageRejected as rejection:
        return rejection.reason
    height, width = pixels.shape[:2]
    return Thumbnail(width, height, reduced_jpeg(pixels, side))


def reduced_jpeg(pixels: NDArray[np.uint8], side: int) -> bytes:
    """A JPEG file of RGB pixels (H, W, 3), the longer side reduced to ``side`` pixels and never enlarged."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Full colour resolution: prints are saturated and their edges would bleed.
    picture.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()
