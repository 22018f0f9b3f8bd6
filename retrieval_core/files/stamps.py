"""Stamps: how a changed file is noticed without reading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from retrieval_core.files import storage

_CHANGE_KEYS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "created")
"""Names under which stores report what changes with a file's content, the most reliable first."""


class Look(NamedTuple):
    """What one look at a file tells."""

    stamp: str  # size and modification time (or ETag); another one means that the content may have changed
    file: int | None = None  # 64 bits, the same for every name of a local file; None on a store that has no links
    linked: bool = False  # has several hard links


def look(path: str) -> Look:
    """Look at a file without opening it.

    Raises OSError if it cannot be looked at: FileNotFoundError if nothing is there.
    """
    local = storage.local_path(path)
    if local is not None:
        info = os.stat(local)  # noqa: PTH116
        # Without the device: a shared folder has another number on every node. Some file systems number no files.
        file = hash((info.st_ino, info.st_size, info.st_mtime_ns)) if info.st_ino else None
        return Look(f"{info.st_size}:{info.st_mtime_ns}", file, info.st_nlink > 1)
    with storage.remote(path) as (fs, key):
        entry = fs.info(key)
    return Look(stamp_of(entry) or f"{entry.get('size')}:")


def stamp(path: str) -> str:
    """The stamp that ``look`` tells."""
    return look(path).stamp


def stamp_of(entry: Mapping[str, Any]) -> str | None:
    """``stamp`` from a store's entry for a file, which listings also give; None if it would not show a change."""
    changed = next((entry[key] for key in _CHANGE_KEYS if entry.get(key)), None)
    return None if changed is None else f"{entry.get('size')}:{changed}"
