"""Recall by the size of the motif, against a loop over pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.evaluation.motif_size import (
    CLASSES,
    EDGES,
    UNKNOWN,
    motif_share,
    pair_class,
    recall_by_size,
    size_class,
    sizes_of,
)
from retrieval_core.store.embeddings import write_shard


def test_an_edge_belongs_to_the_class_above_it() -> None:
    assert [size_class(area) for area in (0.0, 0.0099, *EDGES, 0.99, 1.5)] == [1, 1, 2, 3, 4, 5, 5, 5]
    assert CLASSES == 6


def test_a_pair_has_the_class_of_the_largest_motif_it_shares() -> None:
    known = {"bear": 2, "rose": 4, "moon": 5}
    assert pair_class(known, {"bear", "rose"}) == 4
    assert pair_class(known, {"leaf"}) == pair_class({}, {"bear"}) == UNKNOWN


def test_sizes_come_from_boxes_and_the_store(tmp_path: Any) -> None:
    """A fabric of 100 x 50 as a whole and as one tile; its median bear covers 2 %, its only rose 20 %."""
    boxes_NR4 = np.array([[[0, 0, 100, 50], [0, 0, 50, 50]]], np.int32)
    write_shard(str(tmp_path / "shard.parquet"), [("f.png", "f")], boxes_NR4, np.ones((2, 3), np.float32), [])
    bears = [("bear", (0, 0, 10, side)) for side in (1, 10, 50)]
    boxes = {"f.png": [*bears, ("rose", (-10, 0, 10, 50))], "elsewhere.png": [("bear", (0, 0, 1, 1))]}
    assert sizes_of(boxes, [str(tmp_path / "shard.parquet")]) == {"f.png": {"bear": 3, "rose": 5}}


def test_the_share_of_a_pair_is_that_of_the_largest_motif_it_shares() -> None:
    """On a fabric of 5,000 pixels the median bear has 100, the rose 1,000."""
    boxes = [("bear", (0, 0, 10, side)) for side in (1, 10, 50)] + [("rose", (-10, 0, 10, 50))]
    assert motif_share(boxes, {"bear"}, 5000) == 0.02
    assert motif_share(boxes, {"bear", "rose"}, 5000) == 0.2
    assert motif_share(boxes, {"leaf"}, 5000) is motif_share([], {"bear"}, 5000) is None


PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, CLASSES - 1), st.none() | st.integers(1, 30)), max_size=30)


@given(PAIRS)
def test_recall_is_the_mean_over_queries_that_have_such_a_motif(pairs: list[tuple[int, int, int | None]]) -> None:
    """Pairs of (query, class, rank); a rank of None is a relevant fabric that is not in the pool."""
    relevant_SQ = np.zeros((CLASSES, 4), np.int64)
    for query, number, _ in pairs:
        relevant_SQ[number, query] += 1
    hits = np.array([pair for pair in pairs if pair[2] is not None], np.int64).reshape(-1, 3)
    found = recall_by_size(relevant_SQ, hits[:, 0], hits[:, 2], hits[:, 1], [1, 10])
    expected = []
    for number in range(1, CLASSES):
        shares: dict[int, list[list[bool]]] = {1: [], 10: []}
        for query in range(4):
            ranks = [rank for asked, size, rank in pairs if (asked, size) == (query, number)]
            for k in shares if ranks else ():
                shares[k].append([rank is not None and rank <= k for rank in ranks])
        if shares[1]:
            means = {k: pytest.approx(np.mean([np.mean(own) for own in rows])) for k, rows in shares.items()}
            total = sum(map(len, shares[1]))
            expected.append((len(shares[1]), total, means[1], means[10]))
    assert [(row["queries"], row["fabrics"], row["recall@1"], row["recall@10"]) for row in found] == expected
    for row in found:
        assert row["to"] is None or size_class(row["from"]) + 1 == size_class(row["to"])
