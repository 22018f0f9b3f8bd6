"""Whether this machine, or rather its container, has the bytes of memory that a run needs, told before it runs out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import psutil

from ray_jobs.cluster.cores import CGROUPS, read_text
from ray_jobs.console.progress import size

WORKER_BYTES = 700_000_000  # a worker that has loaded torch and a small model
BASE_BYTES = 1_000_000_000  # the command itself and Ray's own processes
_CGROUP_FILES = (  # limit, use, and the name of what can be reclaimed; version 2, then 1
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


class Memory(NamedTuple):
    """Memory of this machine or container, in bytes."""

    total: int  # bytes, as all of them
    available: int
    shm: int | None  # free in /dev/shm; None where there is none


def problems(memory: Memory, store: int, cpus: int) -> list[str]:
    """A line for each shortage and its remedy. Ray's objects take ``store`` bytes; ``cpus`` workers run at a time."""
    found = []
    if memory.shm is not None and memory.shm < store:
        found.append(
            f"/dev/shm has {size(memory.shm)} free and Ray's object store takes {size(store)}, so it lies on the disk "
            f"under /tmp, which is slow: start the container with --shm-size={-(-store // 10**9) + 1}g, free /dev/shm, "
            "or start Ray with less (`ray start --head --object-store-memory=BYTES`, then RAY_ADDRESS=auto)"
        )
    needed = BASE_BYTES + WORKER_BYTES * cpus
    if memory.available < needed:
        found.append(
            f"{size(memory.available)} of {size(memory.total)} memory are available and {cpus} workers need about "
            f"{size(needed)}: close other programs or raise the container's limit, else set embed.num_actors=1 and "
            "smaller embed.shard_size, embed.batch_size, train.batch_size and retrieve.gallery_block"
        )
    return found


def measure(cgroup: Path = CGROUPS, shm: Path = Path("/dev/shm")) -> Memory:
    """What this machine, or the container that this process is in, has now."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for limit_file, use_file, reclaimable in _CGROUP_FILES:
        limit, used = read_text(cgroup / limit_file).strip(), read_text(cgroup / use_file).strip()
        if limit.isdigit() and used.isdigit() and int(limit) < total:
            stat = read_text((cgroup / use_file).with_name("memory.stat")).split()
            spare = int(stat[stat.index(reclaimable) + 1]) if reclaimable in stat else 0
            total, available = int(limit), min(available, max(0, int(limit) - int(used) + spare))
    try:
        return Memory(total, available, shutil.disk_usage(shm).free)
    except OSError:
        return Memory(total, available, None)
