"""Who holds a folder, as its lease says, and what this process can know for certain about whether that one lives."""

from __future__ import annotations

import fcntl
import json
import math
import os
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

from retrieval_core.files import storage

MAX_BYTES = 1 << 16
LOCK_TRIES, LOCK_WAIT_SECONDS = 5, 0.02
"""A look at the lock holds it for a moment, so one that is held is tried again."""


class Holder(NamedTuple):
    """The content of a lease. What earlier versions did not write may be None."""

    token: str  # of one run of one process
    host: str
    boot: str
    pid: int
    process_start: str | None
    since: str
    renewed: float  # seconds of the holder's own clock
    pid_namespace: str | None = None
    device: int | None = None  # where it has locked the folder

    def named(self) -> str:
        """The holder in a message."""
        return f"process {self.pid} on {self.host}"


TORN = Holder("", "", "", 0, None, "", 0.0)
"""A file that holds no lease: cut short, empty or not ours."""


def this_process(token: str, since: str, device: int | None) -> Holder:
    """What this process writes now."""
    host, pid = socket.gethostname(), os.getpid()
    return Holder(token, host, _boot_id(), pid, _process_start("self"), since, time.time(), _pid_namespace(), device)


def read_holder(path: str) -> Holder | None:
    """The lease in a file, ``TORN`` if it holds none, or None without a file. OSError if it cannot be read."""
    try:
        content = storage.read_json(path, MAX_BYTES)
    except FileNotFoundError:
        return None
    except ValueError:
        return TORN
    return _parsed(content) or TORN


def _parsed(content: Any) -> Holder | None:
    texts, numbers = ("token", "host", "boot", "since"), ("pid", "renewed")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), str) for name in texts):
        return None
    if not all(isinstance(content.get(name), int | float) and math.isfinite(content[name]) for name in numbers):
        return None
    return Holder._make(content.get(name) for name in Holder._fields)


def lives(holder: Holder, locked: int | None) -> bool | None:
    """Whether the holder's process lives; None if that cannot be known here.

    ``locked`` is the device of the folder if this process has locked it now. On one kernel and device nobody else then
    has, in whatever container; a device that is mounted twice has two numbers, each with locks of its own.
    """
    if not holder.boot or (holder.host, holder.boot) != (socket.gethostname(), _boot_id()):
        return None
    if locked is not None and holder.device == locked:
        return False
    # The start time tells a living holder from another process that got its number.
    if (start := _process_start(str(holder.pid))) is not None and start == holder.process_start:
        return True
    # In another PID namespace the holder has another number, or none that can be seen from here.
    same_numbers = holder.pid_namespace is not None and holder.pid_namespace == _pid_namespace()
    return False if same_numbers else None


def lock_folder(folder: str) -> int | None:
    """Lock a local folder until the descriptor that is returned is closed or this process ends, however it ends.

    The lock is the kernel's and on the folder itself: it leaves no file, needs no right to write, and no network file
    system asks a server for it. None where the system locks no folders. BlockingIOError if another one holds it.
    """
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        # Not one of the numbers that a program started without stdout or stderr has free: those are written over.
        descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(opened)
    for left in reversed(range(LOCK_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if not left:
                os.close(descriptor)
                raise
            time.sleep(LOCK_WAIT_SECONDS)
        except OSError:
            break
    os.close(descriptor)
    return None


def as_bytes(holder: Holder) -> bytes:
    """What ``read_holder`` reads."""
    return json.dumps(holder._asdict(), indent=1).encode()


def _process_start(pid: str) -> str | None:
    """Start time of a living process in clock ticks; None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _pid_namespace() -> str | None:
    """In which /proc numbers processes; None if unknown, or if /proc is another namespace's than this process's."""
    try:
        same = os.readlink("/proc/self") == str(os.getpid())  # noqa: PTH115
        return os.readlink("/proc/self/ns/pid") if same else None  # noqa: PTH115
    except OSError:
        return None


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
