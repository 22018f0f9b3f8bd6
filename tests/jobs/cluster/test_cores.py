"""Cores that this process may use: its affinity, and the quotas of the control groups that it is in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_jobs.cluster import cores

GROUPS = [
    ({}, "0::/", 8),
    ({"cpu.max": "max 100000"}, "0::/", 8),
    ({"cpu.max": "150000 100000"}, "0::/", 1),
    ({"cpu.max": "50000 100000"}, "0::/", 1),
    ({"cpu.max": "300000 100000"}, "0::/", 3),
    ({"cpu.max": "3200000 100000"}, "0::/", 8),
    # Of the job, below that of the machine, as with Slurm or systemd; the strictest one counts.
    ({"a/b/cpu.max": "200000 100000", "a/cpu.max": "400000 100000"}, "0::/a/b", 2),
    ({"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000"}, "0::/a/b", 2),
    ({"other/cpu.max": "200000 100000"}, "0::/a", 8),
    ({"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/docker/1", 2),
    ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/", 8),
    ({"cpu,cpuacct/job/cpu.cfs_quota_us": "1", "cpu,cpuacct/job/cpu.cfs_period_us": "5"}, "4:cpu,cpuacct:/job", 1),
]


@pytest.mark.parametrize(("files", "own", "expected"), GROUPS)
def test_the_strictest_quota_counts(
    files: dict[str, str], own: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{text}\n")
    (tmp_path / "own").write_text(f"9:name=systemd:/x\n{own}\n")
    monkeypatch.setattr(cores, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cores.usable_cores() == expected


def test_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores.usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
