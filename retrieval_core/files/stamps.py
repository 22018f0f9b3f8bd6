"""Stamps: how a changed file is noticed without reading it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from retrieval_core.files import storage

_CHANGE_KEYS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "created")
"""Names under which stores report what changes with a file's content, the most reliable first."""


def stamp(path: str) -> str:
    """Size and modification time (or ETag) of a file; another stamp means that its content may have changed.

    Raises OSError if the file cannot be looked at: FileNotFoundError if nothing is there.
    """
    local = storage.local_path(path)
    if local is not None:
        info = os.stat(local)  # noqa: PTH116
        return f"{info.st_size}:{info.st_mtime_ns}"
    with storage.remote(path) as (fs, key):
        entry = fs.info(key)
    return stamp_of(entry) or f"{entry.get('size')}:"


def stamp_of(entry: Mapping[str, Any]) -> str | None:
    """``stamp`` from a store's entry for a file, which listings also give; None if it would not show a change."""
    changed = next((entry[key] for key in _CHANGE_KEYS if entry.get(key)), None)
    return None if changed is None else f"{entry.get('size')}:{changed}"
