"""A store is finished only if no image was lost; its rejects are listed. Tasks run in this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_jobs.embedding import finish_store
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import Reject, read_manifest, write_shard
from retrieval_core.store.windows import Kept, windows_file, write_windows

REJECT = Reject("bad.png", "corrupt", "cut short")


def shard(folder: Path, name: str, images: int, rejects: list[Reject], planned: int) -> Any:
    boxes, vectors = np.zeros((images, 1, 4), np.int32), np.ones((images, 3), np.float32)
    paths = [(f"{name}-{number}.png", str(number)) for number in range(images)]
    write_shard(str(folder / name), paths, boxes, vectors, rejects)
    return SimpleNamespace(file_name=name, images=planned)


@pytest.fixture(autouse=True)
def tasks_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish_store, "run_tasks", lambda function, calls: (function(*call) for call in calls))


def store(folder: Path, shards: list[Any], done: set[str], *, keeps_windows: bool = False) -> Any:
    arm = SimpleNamespace(name="frozen", weights="w")
    views = SimpleNamespace(rows=1, per_image=1, image_size=28)
    inputs = {"shards": "fingerprint"}
    return SimpleNamespace(
        folder=str(folder),
        shards=shards,
        done=done,
        arm=arm,
        views=views,
        inputs=inputs,
        encoder="e",
        keeps_windows=keeps_windows,
    )


def test_counts_and_manifest_follow_from_the_shards(tmp_path: Path) -> None:
    names = ["00000-000000-aa.parquet", "00000-000001-bb.parquet"]
    shards = [shard(tmp_path, names[0], 2, [REJECT], 3), shard(tmp_path, names[1], 2, [], 2)]
    counts = finish_store.finish(store(tmp_path, shards, {names[1]}))
    assert counts == {"inputs": 5, "embedded": 4, "rejected": 1, "reused": 2}
    entries = read_manifest(str(tmp_path))["shards"]
    assert [(entry["file"], entry["rows"], entry["rejected"]) for entry in entries] == [
        (names[0], 2, 1),
        (names[1], 2, 0),
    ]
    assert list(finish_store.rejects_of(str(tmp_path))) == [REJECT]


def test_a_lost_image_is_an_error_that_names_the_shard(tmp_path: Path) -> None:
    lost = shard(tmp_path, "00000-000000-aa.parquet", 2, [], 3)
    with pytest.raises(RunError, match=r"aa\.parquet: 2 rows for 3 images; delete it"):
        finish_store.finish(store(tmp_path, [lost], set()))


def test_lost_windows_are_an_error_that_names_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "gallery"
    whole = shard(folder, "00000-000000-aa.parquet", 2, [REJECT], 3)
    file = windows_file(str(folder / whole.file_name))
    one = Kept(np.ones((4, 3), np.int8), np.zeros((4, 4), np.int32))
    write_windows(file, ["a"], [one], 3)
    with pytest.raises(
        RunError, match=r"windows/gallery/00000-000000-aa\.parquet: windows of 1 images, not of 2; delete"
    ):
        finish_store.finish(store(folder, [whole], set(), keeps_windows=True))
    write_windows(file, ["a", "b"], [one, one], 3)
    assert finish_store.finish(store(folder, [whole], set(), keeps_windows=True))["embedded"] == 2


def test_rejects_of_training_and_embedding_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "queries"
    shards = [shard(folder, "00000-000000-aa.parquet", 1, [REJECT], 2)]
    finish_store.finish(store(folder, shards, set()))
    target = str(tmp_path / "rejects.parquet")
    counted = finish_store.write_rejects(target, [["t.png", "missing", "gone"]], {"queries": str(folder)})
    assert counted == {"queries": ({"corrupt": 1}, ["bad.png"])}
    rows = [tuple(row.values()) for row in pq.read_table(target).to_pylist()]
    assert rows == [
        ("t.png", "train", "train", "missing", "gone"),
        ("bad.png", "query", "embed", "corrupt", "cut short"),
    ]
