"""Streams that never end a command: what a terminal cannot show is escaped, what nobody can read is dropped."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Set
from typing import IO, Any

NOBODY_READS = frozenset({errno.EPIPE, errno.EIO, errno.EBADF})  # `| head -1` has seen enough, the terminal is closed
ANY_ERROR = frozenset(errno.errorcode)


class Dropping(io.FileIO):
    """A descriptor for which an error in ``drops`` is no error: what would be written is dropped from then on."""

    def __init__(self, descriptor: int, drops: Set[int], label: str, *, closefd: bool = False) -> None:
        super().__init__(descriptor, "w", closefd=closefd)
        self.drops, self.label = drops, label
        self.failed: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes, or drop them. Raises OSError, once, for an error that is not among ``drops``."""
        if self.failed is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failed = error
                if error.errno not in self.drops:
                    raise OSError(error.errno, error.strerror, self.label) from None
        return len(data)


def text_stream(raw: Dropping, encoding: str, *, by_line: bool) -> IO[str]:
    """Text for a descriptor; characters that the encoding lacks become escapes."""
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_line)


def prepare_streams() -> None:
    """Make both output streams of this process such ones. A stand-in, as in a notebook, stays as it is.

    A closed descriptor (``>&-``) becomes /dev/null, or the next file that is opened would get its number.
    """
    if sys.stdin is None:
        _open_null()
    # A disk without room ends a command whose results go there, not one of which only the messages do.
    for name, label, drops in (("stdout", "standard output", NOBODY_READS), ("stderr", "standard error", ANY_ERROR)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        if stream is None:
            descriptor, encoding, by_line = _open_null(), "utf-8", False
        else:
            stream.flush()
            descriptor, encoding = stream.fileno(), stream.encoding
            by_line = stream.line_buffering or stream.write_through
        ours = text_stream(Dropping(descriptor, drops, label), encoding, by_line=by_line)
        setattr(sys, name, ours)
        setattr(sys, f"__{name}__", ours)


def _open_null() -> int:
    descriptor = os.open(os.devnull, os.O_RDWR)
    os.set_inheritable(descriptor, True)
    return descriptor
