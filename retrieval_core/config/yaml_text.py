"""YAML from people and strangers: bounded before it is read, bounded when it is shown.

Tags never make objects (PyYAML's safe loader), but ten lines of aliases can stand for a billion values: they are never
printed.
"""

from __future__ import annotations

import reprlib
import stat
from pathlib import Path
from typing import Any

import yaml

from retrieval_core.files.credentials import hide_credentials

# PyYAML raises ValueError for what looks like a date or number and is none (2026-99-99, 0x_).
UNREADABLE_YAML = (yaml.YAMLError, ValueError, RecursionError)
LARGEST_FILE = 100_000
"""Bytes; every key with a comment is a tenth of it."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 2, 8, 8, 8

    def repr_str(self, x: str, level: int) -> str:
        text = hide_credentials(repr(x))  # before it is cut, or what tells a password might be lost
        return text if len(text) <= 200 else f"{text[:120]}...{text[-40:]}"

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 1000 else f"a number of {x.bit_length():,} bits"


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is a FIFO, too large, or not UTF-8; the message goes on after the file's name.
    """
    # `<(command)` of a shell is a pipe that somebody writes to; a FIFO without a writer would block for ever.
    shell = path.is_relative_to("/dev") or path.is_relative_to("/proc")
    if stat.S_ISFIFO(path.stat().st_mode) and not shell:
        raise ValueError("is a FIFO, not a file")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"is larger than {LARGEST_FILE:,} bytes, so it is no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def shown(value: Any) -> str:
    """A value in a message: however deep and long it is, a line is left, and no password."""
    return _Short().repr(value)
