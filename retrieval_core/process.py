"""Settings of this process: the C library's allocator, and Python's collector of cycles."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process use the memory that it frees again, instead of giving it back and asking for it anew.

    A network allocates and frees the activations of each layer, ranking the scores of each block, megabytes at a time.
    By default glibc returns such pieces to the system, which then has to clear every page again at its first touch: up
    to a fifth of the time of a small network on a CPU. The process holds its peak from then on. Results stay the same
    to the last bit. Calling it again changes nothing.

    Returns:
        False where the C library has no such setting (macOS, Windows, musl), and nothing was changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; on Windows no library without a name
        return False
    # Older versions take no more than 32 MiB here; larger pieces then come and go as ever.
    mapped = mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) or mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    return bool(mapped and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))


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
