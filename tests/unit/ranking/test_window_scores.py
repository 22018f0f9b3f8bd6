"""Parts of motifs and windows of fabrics compared in 8 bits, against whole numbers of Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrieval_core.ranking import window_scores as module
from retrieval_core.ranking.window_scores import WindowScores, lengths, quantised, window_scores

SMALL, ALL = st.integers(-2, 2), st.integers(-127, 127)


def norm(vector: np.ndarray) -> float:
    return math.sqrt(sum(int(number) ** 2 for number in vector)) or 1.0


def naive(windows: np.ndarray, parts: np.ndarray) -> tuple[float, list[float], list[int]]:
    """Score, cosines and best windows of one fabric's windows (W, D) and one query's parts (P, D)."""
    cosines, best = [], []
    for part in parts:
        quotients = [sum(int(a) * int(b) for a, b in zip(part, row, strict=True)) / norm(row) for row in windows]
        best.append(quotients.index(max(quotients)))
        cosines.append(max(quotients) / norm(part))
    return sum(cosines) / len(cosines), cosines, best


def found(windows: np.ndarray, parts: np.ndarray, queries: np.ndarray) -> WindowScores:
    return window_scores([*torch.from_numpy(windows)], torch.from_numpy(parts), torch.from_numpy(queries))


def assert_same(result: WindowScores, windows: np.ndarray, parts: np.ndarray, queries: np.ndarray) -> None:
    """Every number is the naive one, to its last bit."""
    fabrics, count = queries.shape
    assert (result.scores.shape, result.scores.dtype) == ((fabrics, count), np.float32)
    assert (result.cosines.shape, result.cosines.dtype) == ((fabrics, count, parts.shape[1]), np.float32)
    assert (result.windows.shape, result.windows.dtype) == ((fabrics, count, parts.shape[1]), np.int64)
    for fabric in range(fabrics):
        for place, query in enumerate(queries[fabric]):
            score, cosines, best = naive(windows[fabric], parts[query])
            assert result.scores[fabric, place] == np.float32(score)
            assert result.cosines[fabric, place].tolist() == np.array(cosines, np.float32).tolist()
            assert result.windows[fabric, place].tolist() == best


@settings(max_examples=60)
@given(st.data(), st.sampled_from([SMALL, ALL]))
def test_every_number_is_the_one_of_whole_numbers(data: st.DataObject, numbers: st.SearchStrategy[int]) -> None:
    """Few different numbers give many windows that are equally like a part."""
    fabrics, count, wide, queries, parts = (data.draw(st.integers(1, 4)) for _ in range(5))
    dim = data.draw(st.integers(1, 9))
    windows_FWD = data.draw(arrays.arrays(np.int8, (fabrics, wide, dim), elements=numbers))
    parts_QPD = data.draw(arrays.arrays(np.int8, (queries, parts, dim), elements=numbers))
    queries_FC = data.draw(arrays.arrays(np.int64, (fabrics, count), elements=st.integers(0, queries - 1)))
    assert_same(found(windows_FWD, parts_QPD, queries_FC), windows_FWD, parts_QPD, queries_FC)


@settings(max_examples=15)
@given(st.integers(0, 999), st.sampled_from([384, 1024, 1025, 2500]))
def test_vectors_as_long_as_those_of_a_model(seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    windows = rng.integers(-127, 128, (2, 3, dim)).astype(np.int8)
    parts, queries = rng.integers(-127, 128, (3, 2, dim)).astype(np.int8), rng.integers(0, 3, (2, 2))
    assert_same(found(windows, parts, queries), windows, parts, queries)


@pytest.mark.parametrize("dim", [2, 1024, 1025, 2048, 2049, 3072, 4096, 5001])
def test_of_two_windows_a_unit_apart_the_better_one_is_found(dim: int) -> None:
    part = np.full(dim, 127, np.int8)
    part[0] = 126
    worse, better = np.full(dim, 127, np.int8), part.copy()
    worse[1] = 126
    assert better.astype(int) @ part - worse.astype(int) @ part == 1 and norm(better) == norm(worse)
    windows = np.stack([worse, better, worse, better])[None]
    result = found(windows, part[None, None], np.zeros((1, 1), np.int64))
    assert result.windows.tolist() == [[[1]]]
    assert_same(result, windows, part[None, None], np.zeros((1, 1), np.int64))


@pytest.mark.parametrize("dim", [1024, 1025, 1041, 2049, 5001])
def test_the_largest_products_are_whole_numbers_without_an_error(dim: int) -> None:
    """A sum in float32 has no odd numbers beyond 2^24."""
    parts, windows = np.full((1, 2, dim), 127, np.int8), np.full((1, 3, dim), 127, np.int8)
    parts[0, 1] *= -1
    pieces = (module._exact_parts(torch.from_numpy(vectors)) for vectors in (parts, windows))
    products = module._summed(torch.bmm(x, w.transpose(1, 2)) for x, w in zip(*pieces, strict=True))
    assert products.dtype == torch.float64
    assert products.tolist() == [[[dim * 127**2] * 3, [-dim * 127**2] * 3]]
    assert module.lengths(torch.from_numpy(windows)).tolist() == [[math.sqrt(dim * 127**2)] * 3]


def test_a_vector_of_zeros_is_like_none() -> None:
    windows = np.array([[[0, 0], [-3, 4]], [[0, 0], [0, 0]]], np.int8)
    parts = np.array([[[6, -8], [0, 0]]], np.int8)
    result = found(windows, parts, np.zeros((2, 1), np.int64))
    assert result.cosines.tolist() == [[[0, 0]], [[0, 0]]]
    assert result.windows.tolist() == [[[0, 0]], [[0, 0]]]  # opposite to the window that is not 0
    assert result.scores.tolist() == [[0], [0]]


def test_the_best_of_opposite_windows_is_the_least_opposite_one() -> None:
    windows = np.array([[[-5, 0], [-3, 4], [-4, 3]]], np.int8)
    result = found(windows, np.array([[[7, 0]]], np.int8), np.zeros((1, 1), np.int64))
    assert (result.windows.item(), result.scores.item()) == (1, np.float32(-0.6))


def test_a_longer_window_is_not_a_more_similar_one() -> None:
    windows = np.array([[[100, 100], [3, 4]]], np.int8)
    result = found(windows, np.array([[[30, 40]]], np.int8), np.zeros((1, 1), np.int64))
    assert (result.windows.item(), result.scores.item()) == (1, 1.0)


@pytest.mark.parametrize("size", [1, 250, 500])
def test_the_fabrics_held_at_a_time_do_not_matter(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    rng = np.random.default_rng(size)
    windows, parts = rng.integers(-9, 10, (7, 5, 6)).astype(np.int8), rng.integers(-9, 10, (4, 3, 6)).astype(np.int8)
    queries = rng.integers(0, 4, (7, 2))
    whole = found(windows, parts, queries)
    calls, multiply = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda left, right: calls.append(len(right)) or multiply(left, right))
    monkeypatch.setattr(module, "_BYTES", size)
    for expected, value in zip(whole, found(windows, parts, queries), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert len(calls) > 1 and sum(calls) == 7
    assert_same(whole, windows, parts, queries)


# ---- 8 bits


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    )
)
@example(np.array([[1e-38, -2e-38], [3e38, 1]], np.float32))
def test_the_largest_number_becomes_127_and_the_others_in_proportion(vectors: np.ndarray) -> None:
    found = quantised(torch.from_numpy(vectors))
    assert found.dtype == torch.int8 and found.shape == vectors.shape
    for row, whole in zip(vectors.astype(np.float64), found.numpy().astype(int), strict=True):
        largest = np.abs(row).max()
        if largest == 0:
            assert not whole.any()
        elif largest >= np.finfo(np.float32).tiny:
            assert np.abs(whole).max() == 127
            np.testing.assert_allclose(whole, row / largest * 127, atol=0.5001)


def test_vectors_of_any_shape_are_each_scaled_by_themselves() -> None:
    vectors = torch.tensor([[[0.5, -0.25], [0, 0]], [[-3, 3], [1e-20, 5e-21]]])
    assert quantised(vectors).tolist() == [[[127, -64], [0, 0]], [[-127, 127], [127, 64]]]
    assert quantised(vectors[:0]).shape == (0, 2, 2)
    assert vectors[0, 0].tolist() == [0.5, -0.25], "they were changed"


@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 0.9999), (torch.bfloat16, 0.999)])
def test_cosines_stay_what_they_were(dtype: torch.dtype, least: float) -> None:
    rows = torch.nn.functional.normalize(torch.randn(50, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    whole = quantised(rows.to(dtype)).to(torch.float32)
    assert whole.abs().amax(dim=1).tolist() == [127] * 50
    whole = torch.nn.functional.normalize(whole, dim=1)
    assert (rows * whole).sum(dim=1).min() > least
    assert (rows @ rows.T - whole @ whole.T).abs().max() < 0.005


@given(arrays.arrays(np.int8, st.tuples(st.integers(0, 3), st.integers(1, 300)), elements=st.integers(-128, 127)))
@example(np.array([[1, 1], [2, 2]], np.int8))
def test_lengths_are_roots_of_whole_numbers(vectors: np.ndarray) -> None:
    found = lengths(torch.from_numpy(vectors))
    assert found.dtype == torch.float64
    assert found.tolist() == [norm(row) for row in vectors]
