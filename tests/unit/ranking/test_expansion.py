"""Queries expanded by what they found first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from retrieval_core.ranking.expansion import expand_queries, first_found, first_rows
from retrieval_core.ranking.partials import PARTIAL_SCHEMA, merge_partials, topk_table
from retrieval_core.ranking.topk import block_topk


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def test_a_match_counts_as_the_sixth_power_of_its_similarity() -> None:
    query, matches = np.array([[1, 0, 0]], np.float32), np.array([[[0, 1, 0], [0, 0, 1]]], np.float32)
    expanded = expand_queries(query, matches, np.array([[0.5, 0.25]], np.float32))
    total = np.array([1, 0.5**6, 0.25**6])
    np.testing.assert_array_equal(expanded[0], (total / np.linalg.norm(total)).astype(np.float32))


def test_places_without_a_fabric_and_opposite_vectors_add_nothing() -> None:
    query, matches = unit(np.array([[3.0, 4.0]])), np.array([[[0, 0], [-1, 0]]], np.float32)
    np.testing.assert_array_equal(expand_queries(query, matches, np.array([[0, -0.6]], np.float32)), query)


def test_the_groups_of_queries_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    queries, matches = unit(rng.normal(size=(9, 5))), unit(rng.normal(size=(9, 3, 5)))
    scores = rng.uniform(-0.2, 1, (9, 3)).astype(np.float32)
    whole = expand_queries(queries, matches, scores)
    alone = [expand_queries(queries[i : i + 1], matches[i : i + 1], scores[i : i + 1])[0] for i in range(9)]
    np.testing.assert_array_equal(whole, np.stack(alone))
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("cuts", [[], [3], [1, 2, 5]])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_vectors_that_matched_are_found_in_merged_blocks(cuts: list[int], count: int) -> None:
    rng = np.random.default_rng(4)
    queries, fabrics = unit(rng.normal(size=(4, 5))), unit(rng.normal(size=(6, 3, 5)))
    paths, rows = pa.array(list("abcdef")), np.array([2, 3, 5, 8], np.int32)
    tables = []
    for start, stop in zip([0, *cuts], [*cuts, 6], strict=True):
        block = fabrics[start:stop]
        tables.append(topk_table(block_topk(queries, block, count), rows, paths[start:stop], None, block))
    merged = merge_partials([PARTIAL_SCHEMA.empty_table(), *tables], count)
    asked = np.array([5, 1, 8, 2, 3])  # in any order; 1 was not ranked
    vectors, scores = first_found(merged, asked, count, 5)
    assert not vectors[1].any() and not scores[1].any()
    whole = block_topk(queries, fabrics, count)
    for place, query in enumerate([2, None, 3, 0, 1]):
        if query is not None:
            found = min(count, 6)
            np.testing.assert_array_equal(scores[place, :found], whole.scores[query])
            np.testing.assert_array_equal(vectors[place, :found], fabrics[whole.rows[query], whole.regions[query]])
            assert not vectors[place, found:].any() and not scores[place, found:].any()


def test_nothing_was_found() -> None:
    vectors, scores = first_found(merge_partials([], 2), np.array([0, 1]), 2, 3)
    assert vectors.shape == (2, 2, 3) and not vectors.any() and not scores.any()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_first_rows_of_a_query_are_those_of_a_loop(count: int) -> None:
    ranked = [0, 0, 3, 5, 5, 5, 5]
    ranking = pa.table({"query": pa.array(ranked, pa.int32())})
    asked = np.array([5, 4, 0, 9, 3, 1])  # in any order; three were not ranked
    expected = []
    for query in asked.tolist():
        rows = [row for row, other in enumerate(ranked) if other == query][:count]
        expected.append(rows + [-1] * (count - len(rows)))
    assert first_rows(ranking, asked, count).tolist() == expected
