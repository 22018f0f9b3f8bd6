"""Pooling of a fabric's regions: against k-means written out, and what must hold for any vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.encoding.region_pooling import pool_regions


def unit(rng, *shape):
    rows = rng.normal(size=shape).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def naive(views, vectors):
    """Spherical k-means of one fabric's tiles, a line a thought."""
    tiles = views[1:].astype(np.float64)
    seeds = [min(range(len(tiles)), key=lambda i: tiles[i] @ tiles.mean(axis=0))]
    while len(seeds) < vectors - 1:
        seeds.append(min(range(len(tiles)), key=lambda i: max(tiles[i] @ tiles[s] for s in seeds)))
    means = [tiles[s] for s in seeds]
    for _ in range(8):
        nearest = [max(range(len(means)), key=lambda m: tile @ means[m]) for tile in tiles]
        for m in range(len(means)):
            members = [tile for tile, owner in zip(tiles, nearest, strict=True) if owner == m]
            if members:
                total = np.sum(members, axis=0)
                means[m] = total / np.linalg.norm(total)
    return np.stack([views[0], *means])


@given(st.integers(0, 999), st.integers(1, 4), st.integers(5, 12), st.data())
def test_against_k_means_written_out(seed, fabrics, regions, data):
    """From five regions on: of two tiles neither is the less typical one."""
    vectors = data.draw(st.integers(2, regions - 1))
    views = unit(np.random.default_rng(seed), fabrics, regions, 6)
    pooled, source = pool_regions(views, vectors)
    assert pooled.dtype == np.float32
    for row in range(fabrics):
        np.testing.assert_allclose(pooled[row], naive(views[row], vectors), atol=1e-5)
        scores = pooled[row, 1:] @ views[row, 1:].T
        chosen = np.take_along_axis(scores, source[row, 1:, None] - 1, axis=1)[:, 0]
        np.testing.assert_allclose(chosen, scores.max(axis=1), atol=1e-6)
        assert source[row, 0] == 0


def test_repeats_of_a_few_tiles_are_found_exactly():
    rng = np.random.default_rng(0)
    kinds = unit(rng, 3, 8)
    views = np.concatenate([unit(rng, 1, 8), kinds[[0, 1, 2, 1, 0, 2, 2, 1, 0]]])[None]
    pooled, source = pool_regions(views, 4)
    np.testing.assert_array_equal(pooled[0, 0], views[0, 0])
    scores = kinds @ pooled[0, 1:].T
    np.testing.assert_allclose(np.sort(scores.max(axis=1)), 1, atol=1e-6)
    np.testing.assert_allclose(views[0, source[0]], pooled[0], atol=1e-6)


def test_one_vector_is_the_memory_vector():
    """It solves the ridge regression for a vector with the same dot product, 1, with every region."""
    views = unit(np.random.default_rng(1), 5, 7, 4)
    pooled, source = pool_regions(views, 1)
    assert pooled.shape == (5, 1, 4)
    for row in range(5):
        ridge = np.linalg.lstsq(np.concatenate([views[row], np.eye(4)]), np.repeat([1.0, 0.0], [7, 4]), rcond=None)[0]
        np.testing.assert_allclose(pooled[row, 0], ridge / np.linalg.norm(ridge), atol=1e-5)
    assert (source == 0).all()


def test_a_motif_printed_once_counts_more_than_in_the_mean():
    rng = np.random.default_rng(6)
    common, rare = unit(rng, 2, 64)
    views = np.concatenate([np.repeat(common[None], 15, axis=0), rare[None]])
    views = (views + 0.02 * rng.normal(size=views.shape)).astype(np.float32)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    mean = views.mean(axis=0) / np.linalg.norm(views.mean(axis=0))
    assert pool_regions(views[None], 1)[0][0, 0] @ rare > 2 * (mean @ rare)


def test_all_vectors_are_the_regions_themselves():
    views = unit(np.random.default_rng(2), 3, 5, 4)
    pooled, source = pool_regions(views, 5)
    np.testing.assert_array_equal(pooled, views)
    assert source.tolist() == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("vectors", [1, 2, 4])
def test_fabrics_do_not_depend_on_each_other_and_there_may_be_none(vectors):
    views = unit(np.random.default_rng(3), 6, 9, 5)
    whole, source = pool_regions(views, vectors)
    for row in range(6):
        alone, alone_source = pool_regions(views[row : row + 1], vectors)
        np.testing.assert_allclose(alone[0], whole[row], atol=1e-6)
        np.testing.assert_array_equal(alone_source[0], source[row])
    assert pool_regions(views[:0], vectors)[0].shape == (0, vectors, 5)


@pytest.mark.parametrize("vectors", [1, 3])
def test_equal_and_opposite_regions_stay_finite(vectors):
    one = unit(np.random.default_rng(4), 4)
    for views in (np.stack([one] * 6)[None], np.stack([one, -one] * 3)[None]):
        pooled, _ = pool_regions(views, vectors)
        assert np.isfinite(pooled).all()
        assert (np.linalg.norm(pooled, axis=2) < 1 + 1e-6).all()


@pytest.mark.parametrize("vectors", [0, 6])
def test_out_of_range_is_refused(vectors):
    with pytest.raises(ValueError, match=rf"vectors = {vectors}: must lie between 1 and the 5 regions"):
        pool_regions(unit(np.random.default_rng(5), 2, 5, 3), vectors)
