"""What people see while something computes: a line that is renewed in a terminal, sparse plain lines in a log."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, TextIO, TypeVar

log = logging.getLogger("fabric_retrieval")

T = TypeVar("T")
REDRAW_SECONDS = 0.1
FIRST_LINE_SECONDS = 10.0
LATER_LINES = 0.1
"""In a log the next line waits for this share of the time so far: a day of work is a few dozen lines."""
LONGEST_SILENCE_SECONDS = 600.0
LONGEST_BETWEEN_LOOKS = 15.0
BAR = 20
COLOURS = {"red": "31", "yellow": "33", "bold": "1"}


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at the stream, on a screen that can move its cursor."""
    try:
        return stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # a stand-in for a stream, or one that is closed
        return False


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """The text in a colour where the stream shows it and NO_COLOR (no-color.org) does not ask for none."""
    if os.environ.get("NO_COLOR") or not is_terminal(stream):
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


def printable(text: str) -> str:
    """The text with what would move a cursor or start a line escaped: names of files may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Console(logging.Handler):
    """Writes log lines, and in a terminal a live line below them."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self.live = is_terminal(stream)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        self._line = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record above the live line."""
        try:
            text = self.format(record)
            if record.levelno >= logging.WARNING:
                text = coloured(text, "red" if record.levelno >= logging.ERROR else "yellow", self.stream)
            self._write(f"{self._erased()}{text}\n{self._line}")
        except Exception:
            self.handleError(record)

    def show(self, line: str) -> None:
        """Put the live line in place of the last one; an empty one takes it away."""
        self.acquire()
        try:
            before = self._erased()
            self._line = line[: shutil.get_terminal_size().columns - 1]
            self._write(before + self._line)
        finally:
            self.release()

    def _erased(self) -> str:
        return "\r\033[K" if self._line else ""

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def say(text: str, level: int = logging.INFO) -> None:
    """A line of the log; printed in a process that has none, such as a worker or a notebook."""
    if log.handlers:
        log.log(level, "%s", text)
    else:
        print(text, flush=True)


class Watch(NamedTuple):
    """Has a line written when nothing moves."""

    minutes: float
    """Until the first line; the next one comes after twice as many, and so on. 0 for none."""
    look: Callable[[], str]
    """Asked then what there is to see, and where to look on; may take its time, or raise."""


class Silence:
    """For how long nothing has moved, told after ``limit`` seconds and then each time it has doubled."""

    def __init__(self, limit: float, clock: Callable[[], float]) -> None:
        self._limit, self._clock = limit, clock
        self._done, self._moved, self._next = -1, clock(), limit

    def seconds(self, done: int) -> float | None:
        """Seconds without a change of ``done`` if that is to be told now."""
        now = self._clock()
        if done != self._done:
            self._done, self._moved, self._next = done, now, self._limit
            return None
        if now - self._moved < self._next:
            return None
        self._next *= 2
        return now - self._moved


class Progress:
    """How much of something is done, how fast, and how long the rest will take."""

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
        watch: Watch | None = None,
    ) -> None:
        """Start the clock.

        Args:
            what: is done, as it stands at the start of the line.
            total: how many there are in the end.
            unit: what they are, in the plural.
            done: how many were done before; they do not count for the rate.
            clock: seconds.
            watch: says so when nothing moves, from ``with`` on until ``close``; None for nobody.
        """
        self._watch, self._closed = watch, threading.Event()
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._clock = clock
        self._began = self._drawn = self._said = clock()
        self._base = (self._began, done)
        self._warm = False
        consoles = [handler for handler in log.handlers if isinstance(handler, Console) and handler.live]
        self._console = consoles[0] if consoles else None
        if self._console is not None:
            self._console.show(self.bar())

    def __enter__(self) -> Progress:
        if self._watch is not None and self._watch.minutes > 0:
            threading.Thread(target=self._keep_watch, args=[self._watch], name="watch", daemon=True).start()
        return self

    def _keep_watch(self, watch: Watch) -> None:
        limit = 60 * watch.minutes
        silence = Silence(limit, self._clock)
        while not self._closed.wait(min(limit / 10, LONGEST_BETWEEN_LOOKS)):
            seconds = silence.seconds(self.done)
            if seconds is not None:
                say(self.stuck_line(seconds, watch.look), logging.WARNING)

    def stuck_line(self, seconds: float, look: Callable[[], str]) -> str:
        """What is said after so many seconds in which nothing moved."""
        try:
            seen = look()
        except Exception as error:  # the cluster may be what is stuck; the run is never ended from here
            seen = f"the cluster does not answer ({type(error).__name__})"
        return (
            f"{self.what}: nothing moved for {duration(seconds)}, {self.done:,} of {self.total:,} {self.unit} done, "
            f"seen from {socket.gethostname()}; {seen} (run.stuck_minutes says when this is told; the run goes on)"
        )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        now = self._clock()
        self.done += count
        if not self._warm:
            # The first ones waited for workers to start and models to load: the rate is that of those after them.
            self._warm, self._base = True, (now, self.done)
        if self._console is not None and now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._console.show(self.bar())
        pause = min(LONGEST_SILENCE_SECONDS, max(FIRST_LINE_SECONDS, LATER_LINES * (now - self._began)))
        if self._console is None and now - self._said >= pause and self.done < self.total:
            self._said = now
            say(self.line())

    def close(self) -> None:
        """Take the live line away, and stop watching."""
        self._closed.set()
        if self._console is not None:
            self._console.show("")

    @property
    def rate(self) -> float | None:
        """Units a second; None until there is something to tell it by."""
        since, done = self._base
        seconds = self._clock() - since
        return (self.done - done) / seconds if self.done > done and seconds > 0 else None

    def line(self) -> str:
        """As it stands in a log."""
        return f"{self.what}: {self._counts()}"

    def bar(self) -> str:
        """As it stands in a terminal."""
        full = BAR * self.done // max(1, self.total)
        return f"{self.what} [{'#' * full}{'-' * (BAR - full)}] {self._counts()}"

    def _counts(self) -> str:
        parts = [f"{self.done:,} of {self.total:,} {self.unit}"]
        if (rate := self.rate) is not None:
            parts += [f"{rate:,.1f} {self.unit}/s" if rate >= 1 else f"{1 / rate:,.1f} s each"]
            parts += [f"{duration((self.total - self.done) / rate)} left"]
        return ", ".join(parts)


def track(values: Iterable[T], progress: Progress) -> Iterator[T]:
    """The values; each counts as done when the next one is asked for."""
    with progress:
        for value in values:
            yield value
            progress.advance()


def duration(seconds: float) -> str:
    """Two units at most: 8 s, 3 min 20 s, 4 h 5 min, 2 d 3 h."""
    whole = round(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [parts[first], *(part for part in parts[first + 1 : first + 2] if part[0])]
    return " ".join(f"{count} {unit}" for count, unit in shown)


def size(count: float) -> str:
    """Bytes as people read them; 1 GB is 10^9."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
