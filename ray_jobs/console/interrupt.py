"""Being told to stop: Ctrl-C, SIGTERM (docker stop, scancel, systemd, `ray job stop`), SIGHUP (a closed terminal).

The first one stops cleanly, Ctrl-C after it at once. SIGTERM or SIGHUP after it change nothing: schedulers send theirs
to a process and to its group.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from ray_jobs.console.command_line import PROGRAM
from ray_jobs.console.progress import Console

AGAIN_SECONDS = 0.1  # until the callback has returned
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Stop:
    """What has told this process to stop."""

    signal: signal.Signals | None = None
    lost = False  # the exception, in a callback from which none gets out

    @property
    def code(self) -> int:
        """Exit code of a program that the signal stopped: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + (self.signal or signal.SIGINT)

    def line(self) -> str:
        """What became of the program."""
        return "stopped" if self.signal in {None, signal.SIGINT} else f"stopped by {NAMES[self.signal]}"


@contextmanager
def stops_on_signals(console: Console) -> Iterator[Stop]:
    """Raise KeyboardInterrupt on the first signal, and say so at once: it takes seconds to end workers.

    The exception is the same for all of them, as Ray passes on no other; what was sent is in the Stop that is yielded.
    Where Python drops it (callbacks of weak references: an import has many) it is raised again, or the run would go on.
    """
    told = Stop()

    def stop(number: int, _: FrameType | None) -> None:
        if told.signal is None:
            told.signal = signal.Signals(number)
            what = "stopping; Ctrl-C again" if number == signal.SIGINT else f"{NAMES[told.signal]}: stopping; Ctrl-C"
            console.clear()
            _write(console, f"\n{what} stops at once\n")
            raise KeyboardInterrupt
        if told.lost:
            told.lost = False
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            console.before_exit()
            os._exit(told.code)

    def again(ignored: sys.UnraisableHookArgs) -> None:
        if told.signal is None or not issubclass(ignored.exc_type, KeyboardInterrupt):
            hook(ignored)
            return
        told.lost = True
        main = threading.main_thread().ident
        threading.Timer(AGAIN_SECONDS, lambda: signal.pthread_kill(main or 0, signal.SIGTERM)).start()

    hook, sys.unraisablehook = sys.unraisablehook, again
    try:
        with _handlers(stop, NAMES):
            yield told
    finally:
        sys.unraisablehook = hook


@contextmanager
def says_when_terminated(console: Console) -> Iterator[None]:
    """On SIGTERM and SIGHUP write a line before the signal ends this process. Ctrl-C is left as it is."""

    def end(number: int, _: FrameType | None) -> None:
        _write(console, f"{PROGRAM}: stopped by {NAMES[signal.Signals(number)]}\n")
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    with _handlers(end, [signal.SIGTERM, signal.SIGHUP]):
        yield


@contextmanager
def _handlers(handler: Callable[[int, FrameType | None], None], signals: Iterable[signal.Signals]) -> Iterator[None]:
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in signals:
            # Of nohup: it means that the command outlives its terminal.
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _write(console: Console, text: str) -> None:
    # Straight to the descriptor: this very thread may be in the middle of writing a line to the stream.
    with suppress(OSError, ValueError):
        os.write(console.rich.file.fileno(), text.encode())


def how_to_go_on(words: Sequence[str]) -> str:
    """The command that continues from what is committed; with --overwrite it would begin anew."""
    return shlex.join([PROGRAM, *(word for word in words if word != "--overwrite")])
