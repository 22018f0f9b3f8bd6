"""What queries found, told apart from what cannot be; a random ranking against the probabilities it must have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.evaluation.outcomes import QueryOutcome, evaluated, flat_hits, random_outcomes, relevant_counts


def outcome(path: str, ranks: list[int], relevant: int, answered: bool = True) -> QueryOutcome:
    return QueryOutcome(path, ("rose",), relevant, np.array(ranks, dtype=np.int64), answered)


def test_evaluated_queries_are_sorted_and_have_a_relevant_fabric() -> None:
    queries = [outcome("b", [1], 1), outcome("none", [], 0), outcome("a", [], 2)]
    assert [query.query_path for query in evaluated(queries)] == ["a", "b"]
    with pytest.raises(ValueError, match="a: two outcomes"):
        evaluated([outcome("a", [1], 1), outcome("b", [], 1), outcome("a", [1], 1)])


@given(st.lists(st.sets(st.integers(1, 30), max_size=6), max_size=8))
def test_flat_hits_are_those_of_a_loop_over_queries(ranks: list[set[int]]) -> None:
    queries = [outcome(f"q{i}", sorted(own), len(own) + i) for i, own in enumerate(ranks)]
    expected = [(i, rank, ordinal) for i, own in enumerate(ranks) for ordinal, rank in enumerate(sorted(own), start=1)]
    assert list(zip(*(part.tolist() for part in flat_hits(queries)), strict=True)) == expected
    assert relevant_counts(queries).tolist() == [len(own) + i for i, own in enumerate(ranks)]


@pytest.mark.parametrize(
    ("ranks", "relevant", "answered", "message"),
    [
        ([0], 1, True, "odd: hit ranks must ascend from 1"),
        ([3, 2], 2, True, "odd: hit ranks must ascend from 1"),
        ([2, 2], 2, True, "odd: hit ranks must ascend from 1"),
        ([1, 2, 3], 2, True, "odd: 3 hits with 2 relevant"),
        ([1], 3, False, "odd: 1 hits with a rejected query image"),
    ],
)
def test_impossible_hits_are_refused(ranks: list[int], relevant: int, answered: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flat_hits([outcome("fine", [5], 1), outcome("odd", ranks, relevant, answered)])


def test_random_ranking_draws_like_a_shuffled_gallery() -> None:
    gallery, relevant, k, queries = 60, 9, 20, 4000
    template = [outcome(f"q{i}", [], relevant) for i in range(queries)]
    drawn = random_outcomes(template, gallery, k, seed=7)
    recall = np.mean([len(query.hit_ranks) / relevant for query in drawn])
    # Each relevant fabric is in the first k with probability k / N; five standard errors of a hypergeometric mean.
    share = k / gallery
    spread = math.sqrt(share * (1 - share) * (gallery - relevant) / (gallery - 1) / relevant / queries)
    assert abs(recall - share) < 5 * spread
    per_rank = np.bincount(np.concatenate([query.hit_ranks for query in drawn]), minlength=k + 1)[1:]
    assert per_rank.min() > 0.8 * queries * relevant / gallery
    assert per_rank.max() < 1.2 * queries * relevant / gallery


def test_a_random_draw_depends_on_seed_and_query_alone() -> None:
    template = [outcome(f"q{i}", [], 5) for i in range(20)]
    forward = random_outcomes(template, 30, 10, seed=1)
    backward = random_outcomes(template[::-1], 30, 10, seed=1)[::-1]
    other = random_outcomes(template, 30, 10, seed=2)
    ranks = [[query.hit_ranks.tolist() for query in drawn] for drawn in (forward, backward, other)]
    assert ranks[0] == ranks[1] != ranks[2]
    assert len({tuple(row) for row in ranks[0]}) > 1


def test_random_ranking_of_a_gallery_smaller_than_k() -> None:
    template = [outcome("all", [], 4), outcome("none", [], 0), outcome("torn", [], 2, answered=False)]
    whole, empty, torn = random_outcomes(template, 4, 100, seed=0)
    assert whole.hit_ranks.tolist() == [1, 2, 3, 4]
    assert empty.hit_ranks.tolist() == torn.hit_ranks.tolist() == []
    assert not torn.answered
    with pytest.raises(ValueError, match="all: 4 relevant of only 3 fabrics"):
        random_outcomes(template, 3, 100, seed=0)
