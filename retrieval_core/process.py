"""Settings of this process: the C library's allocator, and Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process reuse the memory it frees, instead of returning it to the system and asking for it again.

    By default glibc returns a network's activations and ranking's blocks of scores to the system, which clears every
    page again at its next touch: up to a fifth of the time of a small network on a CPU. The process then holds its
    peak. Results do not change; calling it again is harmless. Returns False, and changes nothing, where the C library
    has no such setting (macOS, Windows, musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; on Windows no library without a name
        return False
    # Older versions accept at most 32 MiB here; larger pieces are then returned as before.
    mapped = mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES) or mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    return bool(mapped and mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause the garbage collector while millions of rows are built; also a decorator.

    The collector scans all live objects each time their number has grown by a quarter: a fifth of the time of planning
    a bucket, for nothing, as rows are freed by reference counting. Do not wrap one request per image in it: clients of
    stores leave cycles, which then pile up.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
