"""Peak memory of this process and of the Ray workers below it, as Linux counts it.

Resident memory (RSS) includes pages that several processes share, of libraries and of Ray's object store; each process
counts them. The kernel keeps its peak (``VmHWM``), so no sample can miss it. The anonymous part (``RssAnon``) is the
process's own; it is sampled.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

SECONDS = 0.1  # between samples


def peak_rss(pid: int | str = "self") -> float:
    """Peak resident megabytes of a process."""
    return status(pid)["VmHWM"]


def restart_peak() -> None:
    """Reset this process's peak to its current memory."""
    Path("/proc/self/clear_refs").write_text("5")


def status(pid: int | str) -> dict[str, float]:
    """The memory lines of /proc/<pid>/status in megabytes."""
    lines = [line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in lines if words[-1] == "kB"}


def workers(root: int) -> Iterator[int]:
    """Processes below ``root`` named ``ray::...``: workers, busy or idle."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    for pid, name in names.items():
        above = parents.get(pid, 0)
        while above not in (0, root):
            above = parents.get(above, 0)
        if above == root and name.startswith(b"ray::"):
            yield pid


class Peaks:
    """Watches this process and its Ray workers from a thread."""

    def __init__(self) -> None:
        self._found = dict.fromkeys(
            ("driver_peak_mb", "driver_private_peak_mb", "worker_peak_mb", "worker_private_peak_mb"), 0.0
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def megabytes(self) -> dict[str, float]:
        """The driver's peaks, and those of the largest worker."""
        return self._found

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS):
            self._sample()

    def _sample(self) -> None:
        self._record("driver", "self")
        for pid in workers(os.getpid()):
            try:
                self._record("worker", pid)
            except (OSError, KeyError):  # it has ended
                continue

    def _record(self, who: str, pid: int | str) -> None:
        memory = status(pid)
        for name, key in ((f"{who}_peak_mb", "VmHWM"), (f"{who}_private_peak_mb", "RssAnon")):
            self._found[name] = max(self._found[name], memory[key])
