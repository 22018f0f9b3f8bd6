"""Reading the next image files while one is decoded: disks of other machines and object stores answer after a while."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from retrieval_core.images.decoding import read_content

READERS = 16
"""Threads. A GET of an object store takes 20 to 100 ms, decoding what it brings 5 to 80."""
MOST_AHEAD = 32
MOST_BYTES = 64 << 20


def read_ahead(locations: Sequence[str], max_pixels: int) -> Iterator[Future[bytes]]:
    """The contents of files in order, as ``read_content`` reads them, each handed out when it is there or has failed.

    At most ``MOST_AHEAD`` files are held beside the one that was handed out, fewer where ``MOST_BYTES`` would be passed
    if all were as large as the largest so far. Memory O(``MOST_BYTES`` + the next two files).

    Args:
        locations: absolute paths or URLs.
        max_pixels: as in ``read_content``; its errors are those of the futures.
    """
    with ThreadPoolExecutor(READERS, "read-ahead") as pool:
        rest = iter(locations)
        waiting: deque[Future[bytes]] = deque()
        largest = 1
        try:
            for done in range(len(locations)):
                # The first ones alone, to learn how large files are here.
                ahead = max(1, min(2 + done, MOST_AHEAD, MOST_BYTES // largest))
                while len(waiting) < ahead and (location := next(rest, None)) is not None:
                    waiting.append(pool.submit(read_content, location, max_pixels))
                reading = waiting.popleft()
                if reading.exception() is None:
                    largest = max(largest, len(reading.result()))
                yield reading
        finally:
            for reading in waiting:
                reading.cancel()
