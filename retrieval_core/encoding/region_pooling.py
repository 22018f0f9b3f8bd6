"""Fewer vectors than regions: the embeddings of a fabric's regions, pooled to those that are worth storing.

A print repeats, so most tiles of a fabric look like others. Each cluster of tiles is stored as its mean.
Shapes: N fabrics, R regions, V vectors kept, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8  # of k-means; memberships hardly change after five


def pool_regions(embeddings_NRD: NDArray[np.float32], vectors: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pool the regions of each fabric, rows of L2 norm 1, to V = ``vectors`` such rows; ValueError unless 1 <= V <= R.

    Returns (N, V, D), and (N, V) int64: the region whose box stands for each vector, the most similar one, or region 0
    for a single vector. Memory O(N R (D + V)).

    With one vector, the memory vector of all regions T (R, D): ``T' (T T' + I)^-1 1``, a mean in which regions that
    resemble many others count less each (Iscen et al., arXiv:1412.3328, with a ridge of 1).

    With more, vector 0 stays the embedding of region 0 (the whole fabric) and the others are means of clusters of the
    remaining regions: spherical k-means (Dhillon and Modha, Machine Learning 42, 2001) from seeds chosen one by one,
    each the region least similar to those before it (Gonzalez, Theoretical Computer Science 38, 1985). No random number
    is drawn.
    """
    regions = embeddings_NRD.shape[1]
    if not 1 <= vectors <= regions:
        raise ValueError(f"vectors = {vectors}: must lie between 1 and the {regions} regions of a fabric")
    if vectors == regions:
        return embeddings_NRD, np.broadcast_to(np.arange(regions), embeddings_NRD.shape[:2])
    if vectors == 1:
        gram_NRR = embeddings_NRD @ embeddings_NRD.transpose(0, 2, 1) + np.eye(regions, dtype=np.float32)
        weights_NR1 = np.linalg.solve(gram_NRR, np.ones((len(gram_NRR), regions, 1), np.float32))
        pooled_NVD = _normalised(weights_NR1.transpose(0, 2, 1) @ embeddings_NRD)
        return pooled_NVD, np.zeros((len(pooled_NVD), 1), np.int64)
    tiles_NRD = embeddings_NRD[:, 1:]
    means_NVD = _cluster_means(tiles_NRD, vectors - 1)
    nearest_NV = 1 + (means_NVD @ tiles_NRD.transpose(0, 2, 1)).argmax(axis=2)
    return (
        np.concatenate([embeddings_NRD[:, :1], means_NVD], axis=1),
        np.concatenate([np.zeros_like(nearest_NV[:, :1]), nearest_NV], axis=1),
    )


def _cluster_means(tiles_NRD: NDArray[np.float32], clusters: int) -> NDArray[np.float32]:
    """(N, clusters, D) means of spherical k-means. A cluster that loses all its tiles keeps its last mean."""
    means_NVD = np.take_along_axis(tiles_NRD, _seeds(tiles_NRD, clusters)[:, :, None], axis=1)
    for _ in range(_ROUNDS):
        nearest_NR = (tiles_NRD @ means_NVD.transpose(0, 2, 1)).argmax(axis=2)
        member_NVR = (nearest_NR[:, None, :] == np.arange(clusters)[None, :, None]).astype(np.float32)
        sums_NVD = member_NVR @ tiles_NRD
        held_NV1 = member_NVR.any(axis=2, keepdims=True)
        means_NVD = np.where(held_NV1, _normalised(sums_NVD), means_NVD)
    return means_NVD


def _seeds(tiles_NRD: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """(N, count) tiles far from each other, the first one the least typical of its fabric."""
    rows = np.arange(len(tiles_NRD))
    chosen = [(tiles_NRD @ tiles_NRD.mean(axis=1)[:, :, None])[:, :, 0].argmin(axis=1)]
    closest_NR = np.full(tiles_NRD.shape[:2], -np.inf, np.float32)
    while len(chosen) < count:
        last_ND = tiles_NRD[rows, chosen[-1]]
        np.maximum(closest_NR, (tiles_NRD @ last_ND[:, :, None])[:, :, 0], out=closest_NR)
        chosen.append(closest_NR.argmin(axis=1))
    return np.stack(chosen, axis=1)


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    # Opposite vectors may cancel to nothing; a tiny norm keeps the result finite and it then matches no query.
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: NDArray[np.float32] = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return scaled
