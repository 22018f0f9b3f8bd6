"""Scores are the float64 sums in index order, rounded to float32, and the error bounds hold."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.ranking import exact_scores as exact
from tests.unit.ranking.naive_ranking import naive_score

FINITE = st.floats(-1e9, 1e9, width=32)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 12), st.integers(1, 4), st.integers(1, 5))
def test_exact_scores_are_the_sequential_sum(data: st.DataObject, dim: int, queries: int, vectors: int) -> None:
    # Each value and its opposite: sums cancel, and what remains depends on the order.
    values = st.one_of(FINITE, st.sampled_from([1e8, -1e8, 1.0, 2.0**-12, 1 / 3]))
    draw = [data.draw(st.lists(values, min_size=n * dim, max_size=n * dim)) for n in (queries, vectors)]
    q, v = (np.array(part, np.float32).reshape(-1, dim) for part in draw)
    expected = [[naive_score(query, vector) for vector in v] for query in q]
    pairs = exact.exact_scores(
        torch.tensor(q), torch.arange(queries)[:, None], torch.tensor(v), torch.arange(vectors)[None]
    )
    assert pairs.tolist() == expected
    assert exact.exact_score_matrix(torch.tensor(q), torch.tensor(v)).tolist() == expected


def test_a_sum_halfway_between_two_floats_is_summed_in_order() -> None:
    # 1 + 2^-24 lies halfway between two float32. The four 2^-54 are lost one by one when they come after the 1, and
    # tip the balance when they come first.
    query = torch.tensor([[1.0, 2.0**-12, *[2.0**-27] * 4]])
    zero = torch.zeros(1, dtype=torch.int64)
    with patch.object(exact, "sequential_sum", wraps=exact.sequential_sum) as summed:
        for vector, expected in [(query, 1.0), (query.flip(1), 1 + 2.0**-23)]:
            assert exact.exact_scores(vector, zero, vector, zero).item() == expected
            assert exact.exact_score_matrix(vector, vector).item() == expected
    assert summed.call_count == 4


def test_a_negative_score_too_small_for_float32_is_plain_zero() -> None:
    query, vector, zero = torch.tensor([[-2.6e-23]]), torch.tensor([[2.6e-23]]), torch.zeros(1, dtype=torch.int64)
    assert not exact.exact_scores(query, zero, vector, zero).signbit().any()
    assert not exact.exact_score_matrix(query, vector).signbit().any()


@pytest.mark.parametrize("dim", [1, 3, 64, 768])
def test_float32_products_stay_within_the_bound(dim: int) -> None:
    rng = np.random.default_rng(dim)
    queries = rng.standard_normal((40, dim)).astype(np.float32)
    vectors = np.concatenate([rng.standard_normal((60, dim)), np.tile(queries[:20], 1) * [[1.001]]]).astype(np.float32)
    norms = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(vectors, axis=1)
    found = np.abs(
        (queries @ vectors.T).astype(np.float64)
        - exact.exact_score_matrix(*map(torch.tensor, (queries, vectors))).numpy()
    )
    bound = exact.selection_error(dim, "float32", 1.0)
    assert (found <= bound * norms).all()
    assert bound < 2.0**-23 * (dim + 1), "a bound this wide would rescore fabrics for nothing"
    assert exact.selection_error(dim, "bfloat16", 1.0) > exact.selection_error(dim, "tf32", 1.0) > bound
