"""Where a command's messages go: our lines to stderr, everything to ``work/logs/<time>-<command>.txt``.

That includes the traceback of a failure and warnings of libraries, some of them written below Python's own streams.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from ray_jobs.console.command_line import PROGRAM
from ray_jobs.console.progress import Console
from ray_jobs.console.streams import ANY_ERROR, Dropping, text_stream
from retrieval_core.files import storage
from retrieval_core.run.workspace import Workspace

log = logging.getLogger("fabric_retrieval")
RECORD = "%(asctime)s %(levelname)-7s run=%(run)s stage=%(stage)s node=%(node)s %(name)s: %(message)s"


@contextmanager
def on_screen(*, debug: bool) -> Iterator[Console]:
    """Our lines go to stderr while this holds; those of libraries only with ``debug``."""
    console, root = Console(sys.stderr), logging.getLogger()
    before = log.handlers[:], log.propagate, log.level, root.level
    log.handlers[:] = [console]
    log.propagate = False
    log.setLevel(logging.INFO)
    root.setLevel(logging.INFO if debug else logging.ERROR)
    logging.captureWarnings(not debug)
    try:
        yield console
    finally:
        console.clear()
        logging.captureWarnings(False)
        log.handlers[:], log.propagate = before[:2]
        log.setLevel(before[2])
        root.setLevel(before[3])


class _RunFields(logging.Filter):
    def __init__(self, workspace: Workspace) -> None:
        super().__init__()
        self.workspace, self.node = workspace, socket.gethostname()

    def filter(self, record: logging.LogRecord) -> bool:
        record.run, record.node = self.workspace.config.run.name, self.node
        record.stage = self.workspace.current_stage or "-"
        return True


@contextmanager
def in_file(workspace: Workspace, command: str, console: Console, *, debug: bool) -> Iterator[str]:
    """Keep a log of the command in the run's folder; yields its path. With ``debug`` libraries also write to stderr."""
    name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{command}-{os.getpid()}.txt"
    target = workspace.work("logs", name)
    with ExitStack() as stack:
        local = storage.local_path(target)
        if local is None:  # an object store, whose files cannot grow, gets the log at the end
            local = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / name)
            stack.callback(_upload, local, target)
        Path(local).parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(_log_file(local))
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter(RECORD))
        handler.addFilter(_RunFields(workspace))
        root = logging.getLogger()
        for logger in (log, root):
            logger.addHandler(handler)
            stack.callback(logger.removeHandler, handler)
        stack.enter_context(_last_word(console, local))
        if not debug:
            stack.callback(root.setLevel, root.level)
            root.setLevel(logging.WARNING)
            stack.enter_context(_stderr_into(file, console))
        try:
            yield target
        except BaseException as error:
            record = logging.LogRecord(log.name, logging.ERROR, "", 0, "ended by", None, (type(error), error, None))
            record.exc_info = (type(error), error, error.__traceback__)
            handler.handle(record)
            raise


@contextmanager
def _log_file(path: str) -> Iterator[IO[str]]:
    """A log that a full disk makes incomplete, without ending the run."""
    raw = Dropping(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), ANY_ERROR, path, closefd=True)
    with text_stream(raw, "utf-8", by_line=False) as file:
        yield file
        file.flush()
    if raw.failed is not None:
        log.warning("%s: this log is incomplete (%s)", path, raw.failed.strerror)


@contextmanager
def _last_word(console: Console, path: str) -> Iterator[None]:
    """Have another process write a line if this one dies where Python cannot: kill -9, out of memory, in a library.

    Else nobody would say anything, as the last words of libraries go into the log at ``path``.
    """
    line = (
        f"{PROGRAM}: this process was killed or died in a library (out of memory, a limit, a crash, Ray's node gone); "
        f"{path} has what was said last, and the same command goes on"
    )
    command = ["/bin/sh", "-c", 'read -r end || printf "\\n%s\\n" "$0"', line]
    try:
        screen = console.rich.file.fileno()
        watcher = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=screen, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError):  # no more processes, or not a screen
        yield
        return

    def end() -> None:
        with suppress(ValueError):  # said before
            watcher.communicate(b"end\n")

    console.before_exit = end
    try:
        yield
    finally:
        end()


def _upload(local: str, target: str) -> None:
    try:
        storage.copy(local, target)
    except Exception as error:  # a lost log must not hide why the run ended
        log.warning("%s: could not be written (%s)", target, type(error).__name__)


@contextmanager
def _stderr_into(file: IO[str], console: Console) -> Iterator[None]:
    """Send into a file what anybody but the console writes to stderr, also from below Python."""
    if sys.stderr is not sys.__stderr__ or sys.stderr is None or sys.stderr.fileno() != 2:
        yield  # a stand-in, as in a notebook, stays as it is
        return
    sys.stderr.flush()
    kept, stream = os.dup(2), console.rich.file
    raw = Dropping(kept, ANY_ERROR, "standard error", closefd=True)
    with text_stream(raw, sys.stderr.encoding, by_line=True) as screen:
        console.rich.file = screen
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            console.clear()
            sys.stderr.flush()
            os.dup2(kept, 2)
            console.rich.file = stream
