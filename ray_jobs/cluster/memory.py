"""Whether this machine has the memory that a run needs, told before it is missed.

Numbers are bytes. In a container its own limit counts, not the machine's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ray_jobs.console.progress import size

PROCESS_NEEDS = 700_000_000
"""A worker that has torch loaded and a small model in it."""
BASE_NEEDS = 1_000_000_000
"""The command itself and Ray's own processes."""
_GROUPS = (  # limit, use, and the name of what can be given back; version 2, then 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


class Memory(NamedTuple):
    """What there is; None where it cannot be told."""

    total: int | None
    available: int | None
    shm: int | None
    """Free in /dev/shm."""


def problems(memory: Memory, store: int, cpus: int) -> list[str]:
    """A line for each thing that will be short, with the numbers and what to do.

    Args:
        memory: of this machine.
        store: bytes that Ray's object store takes.
        cpus: as many workers run at a time.
    """
    found = []
    if memory.shm is not None and memory.shm < store:
        found.append(
            f"/dev/shm has {size(memory.shm)} free and Ray's object store takes {size(store)}, so it lies on the disk "
            f"under /tmp, which is slow: start the container with --shm-size={-(-store // 10**9) + 1}g, free /dev/shm, "
            "or start Ray with less (`ray start --head --object-store-memory=BYTES`, then RAY_ADDRESS=auto)"
        )
    needed = BASE_NEEDS + PROCESS_NEEDS * cpus
    if memory.available is not None and memory.total is not None and memory.available < needed:
        found.append(
            f"{size(memory.available)} of {size(memory.total)} memory are available and {cpus} workers need about "
            f"{size(needed)}: close other programs or raise the container's limit, else set embed.num_actors=1 and "
            "smaller embed.shard_size, embed.batch_size, train.batch_size and retrieve.gallery_block"
        )
    return found


def measure(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup"), shm: Path = Path("/dev/shm")) -> Memory:
    """What this machine, or the container that this process is in, has now."""
    lines = dict(line.split(":", 1) for line in _text(proc / "meminfo").splitlines() if ":" in line)
    total, available = (_kilobytes(lines.get(name, "")) for name in ("MemTotal", "MemAvailable"))
    for limit_file, use_file, spare_name in _GROUPS:
        limit, used = _text(groups / limit_file).strip(), _text(groups / use_file).strip()
        if limit.isdigit() and used.isdigit() and (total is None or int(limit) < total):
            stat = _text((groups / use_file).with_name("memory.stat")).split()
            spare = int(stat[stat.index(spare_name) + 1]) if spare_name in stat else 0
            free = max(0, int(limit) - int(used) + spare)
            total, available = int(limit), free if available is None else min(available, free)
    try:
        room = os.statvfs(shm)
    except OSError:
        return Memory(total, available, None)
    return Memory(total, available, room.f_bsize * room.f_bavail)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def _kilobytes(text: str) -> int | None:
    number = text.partition("kB")[0].strip()
    return int(number) * 1024 if number.isdigit() else None
