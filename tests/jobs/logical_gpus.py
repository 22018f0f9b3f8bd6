"""Logical GPUs, which Ray only believes in: how many are in use, seen from outside."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def watch_gpus() -> Iterator[list[float]]:
    """The numbers of GPUs that Ray had given out while the block ran, one entry for each change."""
    seen = [0.0]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            used = ray.cluster_resources()["GPU"] - ray.available_resources().get("GPU", 0.0)
            if used != seen[-1]:
                seen.append(used)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()
