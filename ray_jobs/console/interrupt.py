"""Ctrl-C: the first one stops cleanly, the second one at once."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from ray_jobs.console.command_line import PROGRAM
from ray_jobs.console.progress import Console

STOPPED = 130  # exit code of a program that Ctrl-C stopped: 128 + SIGINT


@contextmanager
def stops_on_ctrl_c(console: Console) -> Iterator[None]:
    """Raise KeyboardInterrupt on the first Ctrl-C, and say so at once: it takes seconds to end workers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    times = 0

    def stop(_: int, __: FrameType | None) -> None:
        nonlocal times
        times += 1
        if times > 1:
            os._exit(STOPPED)
        console.clear()
        # Straight to the descriptor: this very thread may be in the middle of writing a line to the stream.
        with suppress(OSError, ValueError):
            os.write(console.rich.file.fileno(), b"\nstopping; Ctrl-C again stops at once\n")
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def how_to_go_on(words: Sequence[str]) -> str:
    """The command that continues from what is committed; with --overwrite it would begin anew."""
    return shlex.join([PROGRAM, *(word for word in words if word != "--overwrite")])
