"""The pool of a second look is what scoring all stored windows of the first n gives, whatever the blocks."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_jobs.retrieval import second_look as module
from ray_jobs.retrieve import retrieve_arm
from ray_jobs.run import Run
from retrieval_core.files import storage
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import read_manifest
from retrieval_core.store.windows import Kept, windows_file, write_windows
from tests.jobs.small_data import config
from tests.jobs.test_exact_pool import (
    BLOCKS,
    DIM,
    QUERIES,
    REJECTED_QUERY,
    fabric_name,
    full_sort,
    keys,
    store,
    vectors,
)

DEPTH, TOP_K, MOTIFS = 14, 9, 3
Match = tuple[float, bytes, list[int], list[float]]
"""Minus the score of a fabric, its path, the windows that matched the parts, and their cosines."""


def windows_of(path: str) -> Kept:
    """3 to 6 windows of small numbers, so that many cosines are equal; those of some fabrics are the same."""
    rng = np.random.default_rng(zlib.crc32(path[-6:].encode()) % 11)
    count = int(rng.integers(3, 7))
    windows = rng.integers(-2, 3, (count, DIM)).astype(np.int8)
    return Kept(windows, np.arange(4 * count, dtype=np.int32).reshape(count, 4) + len(path))


def motif_of(path: str) -> Kept:
    """The motif of a query and its parts."""
    motif = np.random.default_rng(zlib.crc32(path.encode())).integers(-3, 4, (MOTIFS, DIM)).astype(np.int8)
    return Kept(motif, np.zeros((MOTIFS, 4), np.int32))


def with_windows(run: Run) -> None:
    """Leave behind what the embedding stage would have: the stores of vectors, and windows beside them."""
    store(run, 1)
    for role, kept_of in (("gallery", windows_of), ("queries", motif_of)):
        folder = run.store(run.main, role)
        for entry in read_manifest(folder)["shards"]:
            shard = storage.join(folder, entry["file"])
            paths = pq.read_table(shard, columns=["path"]).column("path").to_pylist()
            write_windows(windows_file(shard), paths, [kept_of(path) for path in paths], DIM)
        record = run.done(f"embed.{role}")
        marks = {key: record[key] for key in ("shards", "order", "counts")} | {"windows": 2}
        run.workspace.stage(f"embed.{role}", marks, [], lambda marks=marks: marks)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Of whole numbers, divided by the length of the second and then by that of the first; 0 for a vector of zeros."""
    product = sum(int(x) * int(y) for x, y in zip(left, right, strict=True))
    return product / float(np.linalg.norm(right.astype(float)) or 1) / float(np.linalg.norm(left.astype(float)) or 1)


def as_float(vector: np.ndarray) -> np.ndarray:
    return (vector / (np.linalg.norm(vector.astype(float)) or 1)).astype(np.float32)


def as_bytes(vector: np.ndarray) -> np.ndarray:
    return np.rint(vector.astype(np.float32) / np.abs(vector).max() * np.float32(127)).astype(np.int8)


def sorted_again(motifs: list[np.ndarray], paths: list[str]) -> list[Match]:
    """Fabrics in the order of the pool."""
    found = []
    for path in paths:
        cosines = [[cosine(motif, window) for window in windows_of(path).windows] for motif in motifs]
        best = [max(values) for values in cosines]
        score = float(np.float32(sum(best) / len(best)))
        places = [values.index(most) for values, most in zip(cosines, best, strict=True)]
        found.append((-score, path.encode(), places, best))
    return sorted(found)


def second_look(expand: int) -> dict[str, list[dict[str, Any]]]:
    """The definition, for the fabrics that the first look finds."""
    first = full_sort(1, expand, top_k=DEPTH)
    pool = {}
    for row in range(QUERIES):
        query = f"q{row}.png"
        paths, motifs = [entry["image_path"] for entry in first[query]], list(motif_of(query).windows)
        if expand and paths:
            motifs[0] = as_bytes(expanded_query(row, expand))
            own = list(motifs)
            for _ in range(2):
                matched = sorted_again(motifs, paths)[:expand]
                motifs = [expanded_part(part, motif, matched) for part, motif in enumerate(own)]
        pool[query] = [
            {
                "image_path": path.decode(),
                "similarity": -score,
                "box": windows_of(path.decode()).boxes[places[0]].tolist(),
            }
            for score, path, places, _ in sorted_again(motifs, paths)[:TOP_K]
        ]
    return pool


def expanded_part(part: int, motif: np.ndarray, matched: list[Match]) -> np.ndarray:
    """A part and the windows that it matched, each times the sixth power of its cosine."""
    total = as_float(motif).astype(np.float64)
    for _, path, places, cosines in matched:
        weight = max(np.float64(np.float32(cosines[part])), 0) ** 6
        total = total + weight * as_float(windows_of(path.decode()).windows[places[part]])
    return as_bytes(as_float(total))


def expanded_query(row: int, expand: int) -> np.ndarray:
    queries, fabrics = vectors(1)
    total = queries[row].astype(np.float64)
    numbers = {fabric_name(number): number for number in range(len(fabrics))}
    for entry in full_sort(1, top_k=expand)[f"q{row}.png"]:
        total = total + max(np.float64(entry["similarity"]), 0) ** 6 * fabrics[numbers[entry["image_path"]], 0]
    return (total / np.linalg.norm(total)).astype(np.float32)


@pytest.mark.parametrize("expand", [0, 4])
def test_the_pool_is_that_of_all_windows_for_all_block_sizes(
    ray_cluster: None, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expand: int
) -> None:
    with_windows(Run(config(**keys(tmp_path, weights))))
    expected = second_look(expand)
    assert [len(rows) for rows in expected.values()] == [TOP_K * (row != REJECTED_QUERY) for row in range(QUERIES)]
    for blocks in BLOCKS:
        monkeypatch.setattr(module, "LEAST_IMAGES", blocks[1])
        looks = {"model__pooling": "patches", "retrieve__expand": expand, "retrieve__rescore": DEPTH}
        run = Run(config(**keys(tmp_path, weights, blocks), **looks), overwrite=True)
        retrieve_arm(run, run.main)
        folder = tmp_path / "out" / "trial"
        assert json.loads((folder / "first_retrieval_results.json").read_text()) == {
            query: [{key: row[key] for key in ("image_path", "similarity")} for row in rows]
            for query, rows in expected.items()
        }
        assert pq.read_table(folder / "candidate_pool.parquet").to_pylist() == [
            {"query_path": query, "rank": rank, **row}
            for query, rows in expected.items()
            for rank, row in enumerate(rows, 1)
        ]


def test_a_second_look_needs_windows(ray_cluster: None, weights: Path, tmp_path: Path) -> None:
    run = Run(config(**keys(tmp_path, weights), model__pooling="patches", retrieve__rescore=DEPTH))
    store(run, 1)
    with pytest.raises(RunError, match=r"retrieve.rescore = 14: .*gallery was embedded without windows; run `fabric"):
        retrieve_arm(run, run.main)
