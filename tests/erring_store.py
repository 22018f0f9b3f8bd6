"""An object store in memory that fails as a test says: ``erring://``. Under checkpoints, listings, leases, shards."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

BUSY = OSError(errno.EIO, "Input/output error")
DENIED = PermissionError(errno.EACCES, "Permission denied")


class ServerDisconnectedError(Exception):
    """As HTTP clients raise it: no OSError."""


class ErringStore(MemoryFileSystem):
    """Each call of an operation takes the next entry of its schedule: an error is raised, None passes."""

    protocol = "erring"
    cachable = False
    schedule: ClassVar[dict[str, list[Exception | None]]] = {}
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("erring://", "memory://"))

    def _next(self, operation):
        entries = self.schedule.get(operation)
        error = entries.pop(0) if entries else None
        if error is not None:
            raise error

    def ls(self, *args, **kwargs):
        self._next("list")
        return super().ls(*args, **kwargs)

    def open(self, path, mode="rb", **kwargs):
        if mode == "rb":
            self._next("read")
            return io.BytesIO(super().cat_file(path))  # a reader of its own: threads read at the same time
        return super().open(path, mode, **kwargs)

    def cat_file(self, *args, **kwargs):
        self._next("read")
        return super().cat_file(*args, **kwargs)

    def put_file(self, lpath, rpath, *args, **kwargs):
        self._next("write")
        # At once: a reader in another thread must not see half of it.
        super().pipe_file(self._strip_protocol(rpath), Path(lpath).read_bytes())

    def pipe_file(self, *args, **kwargs):
        self._next("write")
        return super().pipe_file(*args, **kwargs)

    def rm(self, *args, **kwargs):
        self._next("remove")
        return super().rm(*args, **kwargs)


def erring(**schedule: Sequence[Exception | None]) -> None:
    """Make ``erring://`` an empty store with a schedule an operation: list, read, write, remove."""
    fsspec.register_implementation("erring", ErringStore, clobber=True)
    ErringStore.store.clear()
    plan(**schedule)


def plan(**schedule: Sequence[Exception | None]) -> None:
    """Replace the schedule, not what is stored."""
    ErringStore.schedule = {operation: list(entries) for operation, entries in schedule.items()}
