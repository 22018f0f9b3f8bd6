"""YAML that may be malformed or hostile: bounded when it is read, and bounded when it is shown.

Tags never make objects (PyYAML's safe loader). But ten lines of aliases can stand for a billion values, which must
never be printed.
"""

from __future__ import annotations

import reprlib
import stat
from pathlib import Path
from typing import Any

import yaml

from retrieval_core.files.credentials import hide_credentials

UNREADABLE_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""Errors of PyYAML's loader; it raises ValueError for what only looks like a date or number (2026-99-99, 0x_)."""
MAX_FILE_BYTES = 100_000
"""Bytes of a configuration file at most: ten times what every key with a comment takes."""


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 2, 8, 8, 8

    def repr_str(self, x: str, level: int) -> str:
        text = hide_credentials(repr(x))  # before the cut, which could remove what marks a password
        return text if len(text) <= 200 else f"{text[:120]}...{text[-40:]}"

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() < 1000 else f"a number of {x.bit_length():,} bits"


def read_text(path: Path) -> str:
    """The text of a configuration file.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is a FIFO, too large, or not UTF-8; the message goes on after the file's name.
    """
    # A FIFO without a writer would block for ever; the pipe of a shell's `<(command)` has one.
    from_shell = path.is_relative_to("/dev") or path.is_relative_to("/proc")
    if stat.S_ISFIFO(path.stat().st_mode) and not from_shell:
        raise ValueError("is a FIFO, not a file")
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"is larger than {MAX_FILE_BYTES:,} bytes, so it is no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def shown(value: Any) -> str:
    """A value for a message, on one line: shortened if it is deep or long, and without passwords."""
    return _Short().repr(value)
