"""Small pictures inside a page: each stored once however often it is shown, and no more than there is room for."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from PIL import Image

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.images.rgb import ImageRejected, read_image

QUALITY = 85
SMALLEST = 64  # pixels; smaller ones show nothing
BLOCK = 48  # pictures that the page decodes at a time
NO_ROOM = "no room"
_SAMPLE, _TRIALS = 24, 4
_RESERVE = 1.1  # the sample may be smaller than the rest
_THREADS = 8  # decoding leaves Python's lock, and a remote store answers several at once


class Thumbnail(NamedTuple):
    """A picture of one location.

    Attributes:
        width: of the full image in pixels, after orientation; a region's box is in these units.
        height: likewise.
        jpeg: its bytes; empty when there is a problem.
        problem: why there is no picture, or empty.
    """

    width: int
    height: int
    jpeg: bytes
    problem: str = ""


class Entry(NamedTuple):
    """What the page knows of a location: the place of its picture among those stored, or None and why."""

    slot: int | None
    width: int = 0
    height: int = 0
    problem: str = ""


class Album:
    """Pictures of many locations, written as they are made, until the room is used up.

    Holds sizes and digests, not pictures: memory O(locations), and the decoded images of a few threads.

    Args:
        images: how a file becomes pixels, as for the embeddings.
        side: longer side of a thumbnail in pixels; smaller images are not enlarged.
        room: characters that all pictures together may take, as base64.
    """

    def __init__(self, images: ImagesConfig, side: int, room: int) -> None:
        self._images = images
        self._room = room
        self.side = side
        self.entries: dict[str, Entry] = {}

    def blocks(self, locations: Sequence[str]) -> Iterator[list[str]]:
        """Base64 texts of the pictures, ``BLOCK`` at a time; ``entries`` is whole when all were taken.

        Pictures are made smaller, down to ``SMALLEST``, if a sample of them says that there is not room for all.
        Then those that come first have room, and the rest have none.

        Args:
            locations: the most important first, no two equal.
        """
        slots: dict[bytes, int] = {}
        with ThreadPoolExecutor(_THREADS) as pool:
            self.side = self._fitting_side(pool, locations)
            pictures = self._fitting(pool, locations, slots)
            while block := list(islice(pictures, BLOCK)):
                yield block
        for location in locations:
            self.entries.setdefault(location, Entry(None, problem=NO_ROOM))

    def _fitting(self, pool: ThreadPoolExecutor, locations: Sequence[str], slots: dict[bytes, int]) -> Iterator[str]:
        for location, thumbnail in self._made(pool, locations, self.side):
            if thumbnail.problem:
                self.entries[location] = Entry(None, problem=thumbnail.problem)
                continue
            digest = blake2b(thumbnail.jpeg, digest_size=16).digest()
            if digest not in slots:
                text = base64.b64encode(thumbnail.jpeg).decode("ascii")
                self._room -= len(text) + 3  # and what stands between two of them
                if self._room < 0:
                    return
                slots[digest] = len(slots)
                yield text
            self.entries[location] = Entry(slots[digest], thumbnail.width, thumbnail.height)

    def _fitting_side(self, pool: ThreadPoolExecutor, locations: Sequence[str]) -> int:
        """The side at which a sample, evenly spread, says that everything fits."""
        sample = locations[:: max(1, len(locations) // _SAMPLE)][:_SAMPLE]
        side = self.side
        for _ in range(_TRIALS):
            made = [thumbnail for _, thumbnail in self._made(pool, sample, side) if thumbnail.jpeg]
            each = sum(len(thumbnail.jpeg) for thumbnail in made) * 4 / 3 / max(1, len(made))
            needed = _RESERVE * each * len(locations)
            if needed <= self._room:
                return side
            longest = max(max(thumbnail.width, thumbnail.height) for thumbnail in made)
            # Bytes grow a little slower than the area, so a later trial corrects what this one guesses.
            side = int(min(side, longest) * (max(self._room, 0) / needed) ** 0.5)
            if side <= SMALLEST:
                return min(self.side, SMALLEST)
        return side

    def _made(self, pool: ThreadPoolExecutor, locations: Iterable[str], side: int) -> Iterator[tuple[str, Thumbnail]]:
        """Thumbnails in the order of the locations; some threads ahead, never all of them."""
        waiting = iter(locations)
        while ahead := list(islice(waiting, 4 * _THREADS)):
            yield from zip(
                ahead, pool.map(lambda location: thumbnail(location, self._images, side), ahead), strict=True
            )


def thumbnail(location: str, images: ImagesConfig, side: int) -> Thumbnail:
    """The small picture of an image; one that cannot be read gives its ``problem`` instead of raising."""
    try:
        pixels = read_image(location, images)
    except ImageRejected as rejection:
        return Thumbnail(0, 0, b"", rejection.reason)
    height, width = pixels.shape[:2]
    picture = Image.fromarray(pixels)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    # Full colour resolution: prints are saturated and their edges would bleed.
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return Thumbnail(width, height, buffer.getvalue())
