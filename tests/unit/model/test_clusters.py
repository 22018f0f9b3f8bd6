"""Clusters of a fabric's windows: against k-means written out, and what must hold for any windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.model.clusters import cluster, cluster_motif


def unit(seed, *shape):
    rows = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def normalised_mean(rows):
    mean = np.mean(rows, axis=0)
    return mean / np.linalg.norm(mean)


def naive(windows, vectors):
    """Spherical k-means of one fabric's windows, a line a thought."""
    seeds = [min(range(len(windows)), key=lambda w: windows[w] @ windows.mean(axis=0))]
    while len(seeds) < vectors - 1:
        seeds.append(min(range(len(windows)), key=lambda w: max(windows[w] @ windows[s] for s in seeds)))
    means = [windows[s] for s in seeds]
    for _ in range(8):
        nearest = [max(range(len(means)), key=lambda m: window @ means[m]) for window in windows]
        for m in range(len(means)):
            members = [window for window, owner in zip(windows, nearest, strict=True) if owner == m]
            if members:
                means[m] = normalised_mean(members)
    return np.stack([normalised_mean(windows), *means])


@given(st.integers(0, 999), st.integers(1, 3), st.integers(3, 12), st.data())
def test_against_k_means_written_out(seed, fabrics, count, data):
    """From three windows on: of two neither is the less typical one."""
    vectors = data.draw(st.integers(2, count))
    windows = unit(seed, fabrics, count, 6)
    pooled, nearest = cluster(windows, vectors)
    assert (pooled.shape, nearest.shape, nearest.dtype) == ((fabrics, vectors, 6), (fabrics, vectors), torch.int64)
    for row, found, places in zip(windows.numpy(), pooled.numpy(), nearest.tolist(), strict=True):
        np.testing.assert_allclose(found, naive(row, vectors), atol=1e-9)
        assert places[0] == -1
        for mean, place in zip(found[1:], places[1:], strict=True):
            # Of a cluster of two, both are as near.
            assert row[place] @ mean == pytest.approx(max(window @ mean for window in row), abs=1e-12)


def test_one_vector_is_the_whole():
    windows = unit(1, 3, 5, 4)
    pooled, nearest = cluster(windows, 1)
    np.testing.assert_allclose(pooled[:, 0], [normalised_mean(row) for row in windows.numpy()], atol=1e-12)
    assert nearest.tolist() == [[-1]] * 3


def test_as_many_as_there_are_windows_gives_each_once():
    windows = unit(2, 3, 6, 8)
    pooled, nearest = cluster(windows, 7)
    for row in range(3):
        assert sorted(nearest[row].tolist()) == [-1, *range(6)]
        torch.testing.assert_close(pooled[row, 1:], windows[row, nearest[row, 1:]])


def test_a_motif_printed_once_has_a_vector_of_its_own():
    ground, rare = unit(3, 2, 64)
    windows = torch.nn.functional.normalize(torch.stack([*[ground] * 30, rare]) + 0.01 * unit(4, 31, 64), dim=1)[None]
    pooled, nearest = cluster(windows, 3)
    assert float((pooled[0] @ rare).max()) > 0.99 > float(pooled[0, 0] @ rare)
    assert 30 in nearest[0]


@pytest.mark.parametrize("vectors", [1, 3, 6])
def test_gradients_are_those_of_the_means_and_reach_every_window(vectors):
    windows = unit(5, 2, 5, 4).requires_grad_()
    pooled, _ = cluster(windows, vectors)
    torch.testing.assert_close(pooled, cluster(windows.detach(), vectors)[0])
    (pooled * unit(6, *pooled.shape)).sum().backward()
    assert windows.grad.isfinite().all()
    assert (windows.grad.abs().sum(dim=2) > 0).all()


@pytest.mark.parametrize("vectors", [1, 3, 7])
def test_fabrics_do_not_depend_on_each_other_and_there_may_be_none(vectors):
    windows = unit(7, 4, 9, 5).float()
    whole, nearest = cluster(windows, vectors)
    for row in range(4):
        alone, places = cluster(windows[row : row + 1], vectors)
        torch.testing.assert_close(alone[0], whole[row], atol=1e-6, rtol=0)
        assert torch.equal(places[0], nearest[row])
    assert cluster(windows[:0], vectors)[0].shape == (0, vectors, 5)


@pytest.mark.parametrize("vectors", [2, 4, 7])
def test_equal_and_opposite_windows_stay_finite(vectors):
    one = unit(8, 4)
    for windows in (torch.stack([one] * 6), torch.stack([one, -one] * 3)):
        pooled, nearest = cluster(windows[None].requires_grad_(), vectors)
        assert pooled.isfinite().all() and (pooled.norm(dim=2) < 1 + 1e-6).all()
        assert ((nearest >= -1) & (nearest < 6)).all()


@pytest.mark.parametrize("vectors", [-1, 0, 7])
def test_out_of_range_is_refused(vectors):
    with pytest.raises(ValueError, match=rf"embed\.vectors = {vectors}: must lie between 1 and 1 \+ the 5 windows"):
        cluster(unit(9, 2, 5, 3), vectors)


# ---- parts of motifs


def drawn_shares(seed, *shape, none=0.3):
    """Shares that sum to 1 in each row; some are 0, but never that of the last patch."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0.1, 1, shape) * (rng.random(shape) >= none)
    drawn[..., -1] = 0.5
    return torch.from_numpy(drawn / drawn.sum(axis=-1, keepdims=True))


def naive_parts(patches, shares, parts):
    """Spherical k-means of the patches that have a share, each counted by it, a line a thought."""
    own = [(patch, share) for patch, share in zip(patches, shares, strict=True) if share > 0]
    mean = sum(share * patch for patch, share in own)
    means = [min((patch for patch, _ in own), key=lambda patch: patch @ mean)]
    while len(means) < parts:
        means.append(min((patch for patch, _ in own), key=lambda patch: max(patch @ seed for seed in means)))
    for _ in range(8):
        nearest = [max(range(parts), key=lambda m: patch @ means[m]) for patch, _ in own]
        for m in range(parts):
            members = [share * patch for (patch, share), owner in zip(own, nearest, strict=True) if owner == m]
            if members:
                means[m] = normalised_mean(members)
    return np.stack(means)


@given(st.integers(0, 999), st.integers(1, 3), st.integers(3, 12), st.data())
def test_parts_are_those_of_k_means_written_out(seed, motifs, count, data):
    patches, shares = unit(seed, motifs, count, 6), drawn_shares(seed, motifs, count)
    parts = data.draw(st.integers(1, max(1, int((shares > 0).sum(dim=1).min()))))
    found = cluster_motif(patches, shares, parts)
    assert found.shape == (motifs, parts, 6)
    for row in range(motifs):
        own = shares[row] > 0
        if own.sum() != 2:  # of two neither is the less typical one, if their shares are equal
            np.testing.assert_allclose(
                found[row], naive_parts(patches[row].numpy(), shares[row].numpy(), parts), atol=1e-9
            )


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_patches_without_a_share_do_not_matter(parts):
    patches, shares = unit(1, 5, 20, 8), drawn_shares(1, 5, 20, none=0.5)
    assert ((shares == 0).sum(dim=1) > 3).all()
    found = cluster_motif(patches, shares, parts)
    others = torch.where(shares[:, :, None] > 0, patches, unit(2, 5, 20, 8))
    torch.testing.assert_close(cluster_motif(others, shares, parts), found, atol=1e-9, rtol=0)
    for row in range(5):
        own = shares[row] > 0
        alone = cluster_motif(patches[row, own][None], shares[row, own][None], parts)[0]
        torch.testing.assert_close(alone, found[row], atol=1e-9, rtol=0)


def test_a_patch_counts_by_its_share():
    patches = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])
    for shares in ([0.5, 0.5], [0.9, 0.1], [0.2, 0.8]):
        (part,) = cluster_motif(patches, torch.tensor([shares]), 1)[0].numpy()
        expected = normalised_mean([share * patch for share, patch in zip(shares, patches[0].numpy(), strict=True)])
        np.testing.assert_allclose(part, expected, atol=1e-6)


@pytest.mark.parametrize("own", [[4], [1, 4], [0, 2, 3]])
def test_of_fewer_patches_than_parts_each_is_a_part(own):
    patches, shares = unit(3, 1, 6, 8), torch.zeros(1, 6, dtype=torch.float64)
    shares[0, own] = 1 / len(own)
    found = cluster_motif(patches, shares, 4)[0]
    nearest = (found @ patches[0].T).max(dim=1)
    np.testing.assert_allclose(nearest.values, 1, atol=1e-9)
    assert set(nearest.indices.tolist()) == set(own)


def test_motifs_do_not_depend_on_each_other_and_there_may_be_none():
    patches, shares = unit(4, 4, 9, 5), drawn_shares(4, 4, 9)
    whole = cluster_motif(patches, shares, 3)
    for row in range(4):
        alone = cluster_motif(patches[row : row + 1], shares[row : row + 1], 3)[0]
        torch.testing.assert_close(alone, whole[row], atol=1e-9, rtol=0)
    assert cluster_motif(patches[:0], shares[:0], 3).shape == (0, 3, 5)
