"""Intervals over motifs, against a loop that draws whole motifs one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.evaluation.bootstrap import motif_intervals

ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1), st.floats(-1, 1)), min_size=1, max_size=20)


def naive_interval(values: list[float], motifs: list[str], resamples: int, seed: int) -> list[float]:
    names = sorted(set(motifs))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = [names[number] for number in rng.integers(len(names), size=len(names))]
        means.append(
            np.mean([value for name in drawn for value, own in zip(values, motifs, strict=True) if own == name])
        )
    return [float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))]


@given(ROWS, st.integers(0, 99))
def test_whole_motifs_are_drawn_for_all_figures_at_once(rows: list[tuple[str, float, float]], seed: int) -> None:
    motifs = [row[0] for row in rows]
    values_QM = np.array([row[1:] for row in rows])
    found = motif_intervals(values_QM, [(motif,) for motif in motifs], 30, seed)
    if len(set(motifs)) < 2:
        assert found is None
        return
    assert found == [
        pytest.approx(naive_interval(values_QM[:, column].tolist(), motifs, 30, seed), abs=1e-12) for column in (0, 1)
    ]


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_queries_changes_nothing(rows, random) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    here, there = (
        motif_intervals(np.array([row[1:] for row in some]), [(row[0],) for row in some], 20, 1)
        for some in (rows, shuffled)
    )
    assert here is there is None or np.allclose(here, there)


def test_motifs_are_told_apart_by_all_their_categories() -> None:
    motifs = [("bear",), ("bear", "rose"), ("bear",)]
    low, high = motif_intervals(np.array([[0.0], [1.0], [0.0]]), motifs, 200, 0)[0]
    assert (low, high) == (0.0, 1.0)


def test_nothing_to_draw_has_no_interval() -> None:
    ones = np.ones((2, 1))
    assert motif_intervals(ones, [("a",), ("b",)], 0, 0) is None
    assert motif_intervals(ones, [("a",), ("a",)], 100, 0) is None
    assert motif_intervals(np.empty((0, 1)), [], 100, 0) is None
    assert motif_intervals(ones, [("a",), ("b",)], 1, 0) == [[1.0, 1.0]]
