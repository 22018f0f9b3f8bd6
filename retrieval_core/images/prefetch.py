"""Reading the next image files while one is decoded: object stores and disks of other machines answer late."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from retrieval_core.images.decoding import read_content

# A GET of an object store takes 20 to 100 ms, decoding what it brings 5 to 80.
THREADS = 16
MAX_FILES = 32
MAX_BYTES = 64 << 20


def read_ahead(locations: Sequence[str], max_pixels: int) -> Iterator[Future[bytes]]:
    """The contents of files in order, as ``read_content`` reads them, each handed out when it is there or has failed.

    Beside the file that was handed out, at most ``MAX_FILES`` are held; fewer where files as large as the largest so
    far would pass ``MAX_BYTES``. Memory O(``MAX_BYTES`` + the next two files).
    """
    with ThreadPoolExecutor(THREADS, "read-ahead") as pool:
        rest = iter(locations)
        waiting: deque[Future[bytes]] = deque()
        largest = 1
        try:
            for done in range(len(locations)):
                # Few at first, to learn how large files are here.
                ahead = max(1, min(2 + done, MAX_FILES, MAX_BYTES // largest))
                while len(waiting) < ahead and (location := next(rest, None)) is not None:
                    waiting.append(pool.submit(read_content, location, max_pixels))
                reading = waiting.popleft()
                if reading.exception() is None:
                    largest = max(largest, len(reading.result()))
                yield reading
        finally:
            for reading in waiting:
                reading.cancel()
