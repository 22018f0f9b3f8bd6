"""What people see while something computes: a live bar in a terminal, sparse plain lines in a log."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import rich.console
    import rich.progress

log = logging.getLogger("fabric_retrieval")
T = TypeVar("T")
BAR_COLUMNS = 20
REDRAW_SECONDS = 0.1
FIRST_LINE_SECONDS = 10.0
LATER_LINES_SHARE = 0.1  # of the time so far, until the next line of a log: a day of work is a few dozen lines
LONGEST_PAUSE_SECONDS = 600.0
LONGEST_WATCH_SECONDS = 15.0  # between two looks at whether anything moved


def rich_console(stream: IO[str]) -> rich.console.Console:
    """Writes to the stream, in colours if it is a terminal and NO_COLOR (no-color.org) does not ask for none."""
    import rich.console

    try:
        terminal = stream.isatty()
    except (AttributeError, ValueError):  # a stand-in for a stream, or one that is closed
        terminal = False
    # Left to itself, rich would take a log file for a terminal where FORCE_COLOR is set.
    return rich.console.Console(file=stream, force_terminal=terminal, force_jupyter=False, highlight=False)


def coloured(text: str, colour: str, stream: IO[str]) -> str:
    """The text with the codes for a colour where the stream shows colours."""
    console = rich_console(stream)
    with console.capture() as captured:
        console.out(text, style=colour, end="")
    return captured.get()


def printable(text: str) -> str:
    """The text with what would move a cursor or start a line escaped: names of files may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def say(text: str, level: int = logging.INFO) -> None:
    """A line of the log; printed in a process that has none, such as a worker or a notebook."""
    if log.handlers:
        log.log(level, "%s", text)
    else:
        print(text, flush=True)


class Console(logging.Handler):
    """Writes log lines, and in a terminal a live bar below them."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self.rich = rich_console(stream)
        self.live = self.rich.is_terminal and not self.rich.is_dumb_terminal
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        self._bar: rich.progress.Progress | None = None
        self.before_exit: Callable[[], object] = self.clear  # what a process does that ends at once

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self.live:
                colour = {logging.WARNING: "yellow", logging.ERROR: "red"}.get(record.levelno)
                self.rich.out(text if colour is None else coloured(text, colour, self.rich.file))
            else:  # rich would expand tabs
                self.rich.file.write(f"{text}\n")
                self.rich.file.flush()
        except Exception:
            self.handleError(record)

    def show(self, what: str, done: int, total: int, counts: str) -> None:
        """Draw the bar, in place of the last one."""
        if self._bar is None:
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(BAR_COLUMNS),
                TextColumn("{task.fields[counts]}", markup=False),
                console=self.rich,
                transient=True,
                auto_refresh=False,
                redirect_stdout=False,  # else it would put streams of its own in place of both
                redirect_stderr=False,
            )
            self._bar.add_task(what, completed=done, total=total, counts=counts)
            self._bar.start()
        else:
            self._bar.update(self._bar.task_ids[0], completed=done, counts=counts, refresh=True)

    def clear(self) -> None:
        """Take the bar away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()


class Watch(NamedTuple):
    """Has a warning written when nothing moves."""

    minutes: float  # until the first warning; the next one comes after twice as many, and so on; 0 for none
    look: Callable[[], str]  # describes the state of the cluster for the warning; may take its time, or raise


class Silence:
    """Tells for how long nothing has moved: after ``limit`` seconds, and then each time it has doubled."""

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
        what: str,  # is done; the line starts with it
        total: int,
        unit: str,  # in the plural
        done: int = 0,  # before; they do not count for the rate
        clock: Callable[[], float] = time.monotonic,  # seconds
        watch: Watch | None = None,  # from `with` on until `close`
    ) -> None:
        self._watch, self._closed = watch, threading.Event()
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._clock = clock
        self._began = self._drawn = self._said = clock()
        self._base = (self._began, done)
        self._warm = False
        consoles = [handler for handler in log.handlers if isinstance(handler, Console) and handler.live]
        self._console = consoles[0] if consoles else None
        self._draw()

    def __enter__(self) -> Progress:
        if self._watch is not None and self._watch.minutes > 0:
            threading.Thread(target=self._keep_watch, args=[self._watch], name="watch", daemon=True).start()
        return self

    def _keep_watch(self, watch: Watch) -> None:
        limit = 60 * watch.minutes
        silence = Silence(limit, self._clock)
        while not self._closed.wait(min(limit / 10, LONGEST_WATCH_SECONDS)):
            seconds = silence.seconds(self.done)
            if seconds is not None:
                say(self.stuck_line(seconds, watch.look), logging.WARNING)

    def stuck_line(self, seconds: float, look: Callable[[], str]) -> str:
        """The warning after so many seconds in which nothing moved."""
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
        """Count more of them as done."""
        now = self._clock()
        self.done += count
        if not self._warm:
            # The first ones waited for workers to start and models to load: the rate is that of those after them.
            self._warm, self._base = True, (now, self.done)
        if now - self._drawn >= REDRAW_SECONDS:
            self._drawn = now
            self._draw()
        pause = min(LONGEST_PAUSE_SECONDS, max(FIRST_LINE_SECONDS, LATER_LINES_SHARE * (now - self._began)))
        if self._console is None and now - self._said >= pause and self.done < self.total:
            self._said = now
            say(self.line())

    def close(self) -> None:
        """Take the bar away, and stop watching."""
        self._closed.set()
        if self._console is not None:
            self._console.clear()

    @property
    def rate(self) -> float | None:
        """Units a second; None until there is something to tell it by."""
        since, done = self._base
        seconds = self._clock() - since
        return (self.done - done) / seconds if self.done > done and seconds > 0 else None

    def line(self) -> str:
        """A line of a log."""
        return f"{self.what}: {self._counts()}"

    def _draw(self) -> None:
        if self._console is not None:
            self._console.show(self.what, self.done, self.total, self._counts())

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
