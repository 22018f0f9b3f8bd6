"""A shortage of memory is told with the numbers and what to do."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from ray_jobs.cluster.memory import Memory, measure, problems

GB = 10**9
PLENTY = Memory(64 * GB, 60 * GB, 30 * GB)


def test_plenty_is_no_problem() -> None:
    assert problems(PLENTY, 18 * GB, 16) == []
    assert problems(PLENTY._replace(shm=None), 18 * GB, 16) == []


def test_a_small_shared_memory_names_the_option_of_docker() -> None:
    (line,) = problems(PLENTY._replace(shm=64_000_000), 2_400_000_000, 2)
    assert line.startswith("/dev/shm has 64 MB free and Ray's object store takes 2.4 GB")
    assert "--shm-size=4g" in line
    assert "--object-store-memory" in line


@pytest.mark.parametrize(("available", "lines"), [(2_400_000_000, 0), (2_300_000_000, 1)])
def test_little_memory_names_the_keys_that_need_less(available: int, lines: int) -> None:
    found = problems(PLENTY._replace(total=4 * GB, available=available), GB, 2)
    assert len(found) == lines
    for line in found:
        assert line.startswith("2.3 GB of 4.0 GB memory are available and 2 workers need about 2.4 GB")
        assert "embed.shard_size" in line
        assert "retrieve.gallery_block" in line


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("limit", "expected"), [("1000000", (1_000_000, 450_000)), ("max", (8_192_000, 4_096_000))])
def test_the_limit_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, limit: str, expected: tuple[int, int]
) -> None:
    machine = psutil.virtual_memory()._replace(total=8_192_000, available=4_096_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    folder = tmp_path / "memory" if version == 1 else tmp_path
    folder.mkdir(exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text("600000\n")
    spare = "total_inactive_file" if version == 1 else "inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\n{spare} 50000\n")
    found = measure(tmp_path, tmp_path)
    assert found[:2] == expected
    assert found.shm is not None and found.shm > 0


def test_without_a_container_the_machine_counts(tmp_path: Path) -> None:
    found = measure(tmp_path, tmp_path / "absent")
    assert 0 < found.available <= found.total == psutil.virtual_memory().total
    assert found.shm is None
