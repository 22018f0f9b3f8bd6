"""The shortlist keeps what a full sort puts first, in whatever tiles the scores come."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.ranking.shortlist import FREE, UNCLEAR, Ranking, Shortlist


def shortlist(scores_FRQ: torch.Tensor, tile: int, width: int, margin: float, threshold: float | None) -> Ranking:
    queries = scores_FRQ.shape[2]
    threshold_Q = None if threshold is None else torch.full((queries,), threshold)
    found = Shortlist(width, torch.full((queries,), margin), threshold_Q)
    for start in range(0, len(scores_FRQ), tile):
        found.add(scores_FRQ[start : start + tile], start)
    return found.best()


@settings(max_examples=150)
@given(
    st.integers(0, 999),
    st.integers(1, 150),
    st.sampled_from([1, 3]),
    st.sampled_from([16, 32, 400]),
    st.integers(1, 20),
    st.sampled_from([None, -2.0, 0.0, 2.0]),
    st.sampled_from([5, 1000]),
)
def test_what_is_held_is_what_a_full_sort_puts_first(seed, fabrics, regions, tile, width, threshold, distinct) -> None:
    width, margin = min(width, fabrics), 0.25
    rng = np.random.default_rng(seed)
    scores_FRQ = rng.choice(np.linspace(-3, 3, distinct), (fabrics, regions, 4)).astype(np.float32)
    found = shortlist(torch.from_numpy(scores_FRQ), tile, width, margin, threshold)
    for query in range(4):
        scores_FR = scores_FRQ[:, :, query]
        taken = found.scores[query] > FREE
        scores, rows, regions_M = (part[query][taken].numpy() for part in found)
        assert len(set(rows.tolist())) == len(rows)
        np.testing.assert_array_equal(scores, scores_FR[rows].max(1))
        first = np.sort(scores_FR.max(1))[::-1][:width]
        needed = first if threshold is None else first[first > np.float32(threshold - margin)]
        np.testing.assert_array_equal(scores[: len(needed)], needed)
        near = (scores_FR[rows] >= scores[:, None] - np.float32(margin)).sum(1)
        np.testing.assert_array_equal(regions_M, np.where(near > 1, UNCLEAR, scores_FR[rows].argmax(1)))


def test_places_below_a_threshold_stay_free() -> None:
    scores_FRQ = torch.linspace(-1, 1, 100).reshape(100, 1, 1)
    found = shortlist(scores_FRQ, 16, 8, 0.01, 0.95)
    assert found.rows[0, :3].tolist() == [99, 98, 97]
    assert (found.scores[0, 3:] == FREE).all()
