"""How many CPU cores this process may use: those of its affinity, and no more than its container's quota."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_QUOTA_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))  # of version 2, of version 1


def usable_cores() -> int:
    """Cores for this process and those it starts, at least 1: taskset, Slurm, cpusets, `docker --cpus` count."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_quotas()])))


def _quotas() -> Iterator[float]:
    """Of each group that this process is in, in cores: 1.5 for 150 ms of every 100 ms."""
    for folder in control_groups("cpu"):
        for names in _QUOTA_FILES:
            words = " ".join(read_text(folder / name) for name in names).split()
            if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):  # not "max" or -1
                yield int(words[0]) / int(words[1])


def control_groups(controller: str) -> Iterator[Path]:
    """Folders of the control groups that limit this process, its own and those above, whether they exist or not."""
    yield from (CGROUPS, CGROUPS / controller)
    for line in read_text(OWN_CGROUPS).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            for base in (CGROUPS, CGROUPS / controllers):
                own = base / path.lstrip("/")
                yield from (folder for folder in (own, *own.parents) if folder == base or base in folder.parents)


def read_text(file: Path) -> str:
    """Its content; empty if it cannot be read."""
    try:
        return file.read_text()
    except OSError:
        return ""
