"""Committed files that a power cut has cut short are made again; no Ray is started."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ray_jobs.embedding.plan_store import _plan_task
from ray_jobs.retrieval.blocks import _merge_group, gallery_blocks, query_blocks
from ray_jobs.retrieve import _rank_block
from ray_jobs.run import Run
from retrieval_core.data.listing import write_listing
from retrieval_core.data.records import Record
from retrieval_core.data.shard_plan import plan_file
from retrieval_core.files import storage, tables
from retrieval_core.store.embeddings import write_shard
from tests.jobs.small_data import config
from tests.jobs.test_exact_pool import TOP_K, keys, store


def tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_a_torn_shard_is_planned_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(tmp_path / name) for name in ("listing", "plan", "store", "staged")]
    write_listing((Record(f"{n}.png", f"/nowhere/{n}.png", (), ()) for n in range(6)), folders[0], 1)

    def plan() -> list[str]:
        _, found = _plan_task(*folders, 0, 2, "encoder", "gallery", False, False)
        return [shard.file_name for shard in found.shards]

    names = plan()
    for name in names:
        vectors = np.ones((2, 3), np.float32)
        write_shard(str(tmp_path / "store" / name), [("a", "a"), ("b", "b")], np.zeros((2, 1, 4)), vectors, [])
    assert plan() == names
    assert storage.list_names(folders[2]) == names
    tear(tmp_path / "store" / names[1])
    assert plan() == names
    assert storage.list_names(folders[2]) == [names[0], names[2]]
    assert f"{names[1]}: cut short" in capsys.readouterr().out


def test_a_torn_partial_ranking_is_made_again(weights: Path, tmp_path: Path) -> None:
    run = Run(config(**keys(tmp_path, weights)))
    store(run, 1)
    (query,) = query_blocks(run.store(run.main, "queries"), plan_file(run.plan(run.main, "queries"), 0), 1000)
    blocks = list(gallery_blocks(run.store(run.main, "gallery"), 12))
    ranking = tmp_path / "ranking"
    files = [tmp_path / f"ranking-{block.fingerprint}.parquet" for block in blocks]
    merged = tmp_path / "merged.parquet"

    def rank(execution: str) -> bytes:
        for block in blocks:
            _rank_block(query, block, 1, TOP_K, str(ranking), execution)
        _merge_group([str(file) for file in files], TOP_K, str(merged))
        return merged.read_bytes()

    whole = rank("first")
    tear(files[1])
    tear(merged)
    kept = files[0].stat()
    assert rank("second") == whole
    assert files[0].stat().st_ino == kept.st_ino
    assert tables.is_whole_table(str(files[1]))
