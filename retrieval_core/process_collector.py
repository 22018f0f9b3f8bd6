"""Python's collector of cycles, where there are many objects and no cycles."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Let the collector rest; also a decorator. Not around a request an image: clients of stores leave cycles.

    It walks over all that lives whenever a quarter more does. Rows, which are freed by counting their references, make
    that a fifth of the time of planning a bucket, and none of it for a few.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
