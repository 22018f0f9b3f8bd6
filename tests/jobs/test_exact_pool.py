"""The pool is what a full sort of the stored vectors gives, whatever the blocks it was computed in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_jobs.retrieve import retrieve_arm
from ray_jobs.run import Run
from retrieval_core.data.listing import write_listing
from retrieval_core.data.records import Record
from retrieval_core.data.shard_plan import plan_bucket, write_plan
from retrieval_core.files import storage
from retrieval_core.store.embeddings import Reject, write_manifest, write_shard
from tests.jobs.small_data import as_options, config, settings

FABRICS, QUERIES, TOP_K, DIM = 23, 7, 9, 12
REJECTED_FABRIC, REJECTED_QUERY = 4, 3
BLOCKS = [(1, 1), (3, 7), (1000, 7), (3, 1000), (1000, 1000)]


def vectors(regions: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries (QUERIES, D) and fabrics (FABRICS, R, D) full of ties and of scores that differ in the last bit."""
    rng = np.random.default_rng(5)
    queries = rng.normal(size=(QUERIES, DIM))
    fabrics = rng.normal(size=(FABRICS, regions, DIM))
    fabrics[10:16] = fabrics[2]
    fabrics[16:20] = fabrics[3] * (1 + 1e-7 * np.arange(4)[:, None, None])
    fabrics[20:22] = fabrics[2, ::-1]

    def unit(values: np.ndarray) -> np.ndarray:
        return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)

    return unit(queries), unit(fabrics)


def fabric_name(index: int) -> str:
    """Names whose order is not that of the numbers, and differs between bytes and UTF-16."""
    return f"/fabrics/{['b', 'ä', 'B', '花', '🌸', 'a'][index % 6]}{index}.png"


def store(run: Run, regions: int) -> None:
    """Leave behind what the embedding stage would have: plan, shards, manifest and record of both roles."""
    queries, fabrics = vectors(regions)
    roles: list[tuple[str, list[str], np.ndarray, int, int]] = [
        ("gallery", [fabric_name(index) for index in range(FABRICS)], fabrics, REJECTED_FABRIC, regions),
        ("queries", [f"q{index}.png" for index in range(QUERIES)], queries[:, None], REJECTED_QUERY, 1),
    ]
    for role, names, values, rejected, views in roles:
        listing, plan = run.workspace.work("listing", role), run.plan(run.main, role)
        write_listing((Record(name, f"/nowhere/{name}", (), ()) for name in names), listing, 1)
        table, summary, _ = plan_bucket(
            listing, plan, 0, images_per_shard=4, encoder="test", keep_order=role == "queries"
        )
        write_plan(plan, 0, table)
        entries = []
        for shard in summary.shards:
            paths = [row["path"] for row in table.to_pylist() if row["shard"] == shard.number]
            kept = [path for path in paths if path != names[rejected]]
            rejects = [Reject(path, "corrupt", "") for path in paths if path not in kept]
            embeddings = values[[names.index(path) for path in kept]].reshape(-1, DIM)
            boxes = np.tile(np.arange(views, dtype=np.int32)[None, :, None], (len(kept), 1, 4))
            file = storage.join(run.store(run.main, role), shard.file_name)
            write_shard(file, [(path, path) for path in kept], boxes, embeddings, rejects)
            entries.append(
                {
                    "file": shard.file_name,
                    "images": shard.images,
                    "rows": len(kept) * views,
                    "rejected": len(rejects),
                }
            )
        write_manifest(run.store(run.main, role), "mark", entries, {"regions": views})
        marks = {"shards": f"{role}{regions}", "order": summary.order, "counts": {}}
        run.workspace.stage(f"embed.{role}", marks, [], lambda marks=marks: marks)


def full_sort(regions: int, expand: int = 0, top_k: int = TOP_K) -> dict[str, list[dict[str, Any]]]:
    """The definition: float64 products added in index order, rounded to float32; ties by path as UTF-8 bytes.

    An expanded query is the query and the vectors that matched first, each times the sixth power of its similarity.
    """
    queries, fabrics = vectors(regions)
    pool: dict[str, list[dict[str, Any]]] = {}
    for row, query in enumerate(queries):
        total = query.astype(np.float64)
        for score, _, index, region in sorted_fabrics(query, fabrics)[:expand]:
            total = total + max(np.float64(-score), 0) ** 6 * fabrics[index, region]
        expanded = (total / np.linalg.norm(total)).astype(np.float32) if expand else query
        found = sorted_fabrics(expanded, fabrics)[:top_k] if row != REJECTED_QUERY else []
        pool[f"q{row}.png"] = [
            {"image_path": path.decode(), "similarity": -score, "box": [region] * 4} for score, path, _, region in found
        ]
    return pool


def sorted_fabrics(query: np.ndarray, fabrics: np.ndarray) -> list[tuple[float, bytes, int, int]]:
    """(-score, path, number, region that matched) of all fabrics, in the order of the pool."""
    found = []
    for index, views in enumerate(fabrics):
        if index != REJECTED_FABRIC:
            scores = [index_order_dot(query, view) for view in views]
            found.append((-max(scores), fabric_name(index).encode(), index, scores.index(max(scores))))
    return sorted(found)


def index_order_dot(left: Sequence[float], right: Sequence[float]) -> float:
    total = np.float64(0)
    for x, y in zip(left, right, strict=True):
        total += np.float64(x) * np.float64(y)
    return float(np.float32(total))


def keys(folder: Path, weights: Path, blocks: tuple[int, int] = (1000, 1000)) -> dict[str, Any]:
    """Without labels there is one arm; the catalogue itself is not looked at again."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    return {
        "root": images,
        "weights": weights,
        "out": folder / "out",
        "data__format": "folder",
        "retrieve__top_k": TOP_K,
        "retrieve__query_block": blocks[0],
        "retrieve__gallery_block": blocks[1],
    }


@pytest.mark.parametrize(("regions", "expand"), [(1, 0), (3, 0), (1, 2), (3, 4), (3, 50)])
def test_pool_is_the_full_sort_for_all_block_sizes(
    ray_cluster: None, weights: Path, tmp_path: Path, regions: int, expand: int
) -> None:
    store(Run(config(**keys(tmp_path, weights))), regions)
    expected = full_sort(regions, expand)
    plain = {
        query: [{key: row[key] for key in ("image_path", "similarity")} for row in rows]
        for query, rows in expected.items()
    }
    expected_rows = [
        {"query_path": query, "rank": rank, **row}
        for query, rows in expected.items()
        for rank, row in enumerate(rows, 1)
    ]
    for blocks in BLOCKS:
        run = Run(config(**keys(tmp_path, weights, blocks), retrieve__expand=expand), overwrite=True)
        record = retrieve_arm(run, run.main)
        assert record["gallery_blocks"] == -(-(FABRICS - 1) // max(1, blocks[1] // regions))
        assert record["query_blocks"] == -(-QUERIES // blocks[0])
        folder = tmp_path / "out" / "trial"
        assert json.loads((folder / "first_retrieval_results.json").read_text()) == plain
        table = pq.read_table(folder / "candidate_pool.parquet")
        assert ("box" in table.column_names) == (regions > 1)
        assert table.to_pylist() == [{key: row[key] for key in table.column_names} for row in expected_rows]


@pytest.mark.cluster
@pytest.mark.parametrize("cpus", [1, 4])
def test_pool_does_not_depend_on_the_number_of_workers(weights: Path, tmp_path: Path, cpus: int) -> None:
    store(Run(config(**keys(tmp_path, weights))), 1)
    subprocess.run(
        [sys.executable, "-m", "ray_jobs", "retrieve", *as_options(settings(**keys(tmp_path, weights, (2, 3))))],
        env={**os.environ, "RAY_OVERRIDE_RESOURCES": json.dumps({"CPU": cpus, "GPU": 0})},
        check=True,
        timeout=300,
    )
    found = json.loads((tmp_path / "out" / "trial" / "first_retrieval_results.json").read_text())
    assert [[row["image_path"] for row in rows] for rows in found.values()] == [
        [row["image_path"] for row in rows] for rows in full_sort(1).values()
    ]
