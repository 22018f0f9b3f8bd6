"""Oracles for ranking: every score summed one term at a time, then one full sort."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from retrieval_core.ranking.topk import TopK

Answer = list[tuple[float, str, int]]  # (score, path, region), best first


def naive_score(query: np.ndarray, vector: np.ndarray) -> np.float32:
    total = 0.0
    for a, b in zip(query.tolist(), vector.tolist(), strict=True):
        total += a * b
    return np.float32(total)


def naive_ranking(query: np.ndarray, gallery: np.ndarray, paths: list[str], k: int) -> Answer:
    """Every region of every fabric scored, then one full sort."""
    answer = []
    for fabric, path in zip(gallery, paths, strict=True):
        scores = [naive_score(query, vector) for vector in fabric]
        answer.append((float(max(scores)), path, scores.index(max(scores))))
    return sorted(answer, key=lambda item: (-item[0], item[1].encode()))[:k]


def fast_naive_rows(queries: np.ndarray, gallery: np.ndarray, k: int) -> TopK:
    """The same on arrays: numpy's accumulate is sequential by definition."""
    scores, rows, regions = [], [], []
    for query in queries.astype(np.float64):
        each = np.add.accumulate(gallery.astype(np.float64) * query, axis=2)[:, :, -1].astype(np.float32)
        best = each.max(1)
        order = np.lexsort((np.arange(len(best)), -best))[:k]
        scores.append(best[order])
        rows.append(order)
        regions.append(each.argmax(1)[order])
    return TopK(np.array(scores), np.array(rows), np.array(regions))


def assert_same(found: TopK, expected: TopK) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.regions, expected.regions)
    assert (found.scores.dtype, found.rows.dtype, found.regions.dtype) == (np.float32, np.int64, np.int16)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_unit(seed: int, *shape: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal(shape))


def quickest(way: str) -> Callable[..., str]:
    """In place of the trial; FAISS does not know regions."""
    return lambda scores, queries, gallery: "torch" if way == "faiss" and gallery.shape[1] > 1 else way or "torch"


def answers(table: pa.Table, queries: int) -> list[Answer]:
    result: list[Answer] = [[] for _ in range(queries)]
    for row in table.to_pylist():
        result[row["query"]].append((row["similarity"], row["image_path"], row["region"]))
    return result
