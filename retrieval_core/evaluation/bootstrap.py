"""Bootstrap over motifs: how far a mean over queries would move with other motifs.

Queries of one motif succeed or fail together, so whole motifs are drawn, each with all of its queries.

Letters: Q queries, C motifs, M figures, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95


def motif_intervals(
    values_QM: npt.NDArray[np.float64], motifs: Sequence[tuple[str, ...]], resamples: int, seed: int
) -> list[list[float]] | None:
    """95 % percentile interval of the mean of every column, motifs drawn with replacement.

    ``motifs`` holds the categories that name each query's motif. The draws depend on (seed, C, B) alone and motifs are
    numbered by name: two arms over the same motifs see the same resamples, whatever the order of their queries.

    Returns M pairs ``[low, high]``, or None without resamples or with fewer than two motifs, where nothing can vary.
    Memory O(QM + BM), time O(QM + BCM).
    """
    numbers = {motif: number for number, motif in enumerate(sorted(set(motifs)))}
    if resamples < 1 or len(numbers) < 2:
        return None
    motif_Q = np.array([numbers[motif] for motif in motifs])
    totals_CM = np.stack([np.bincount(motif_Q, column) for column in values_QM.T], axis=1)
    sizes_C = np.bincount(motif_Q).astype(np.float64)
    rng = np.random.default_rng(seed)
    means_BM = np.empty((resamples, values_QM.shape[1]))
    for mean_M in means_BM:
        drawn = rng.integers(len(numbers), size=len(numbers))
        times_C = np.bincount(drawn, minlength=len(numbers)).astype(np.float64)
        mean_M[:] = (times_C @ totals_CM) / (times_C @ sizes_C)
    tail = (1 - CONFIDENCE) / 2
    bounds: list[list[float]] = np.quantile(means_BM, [tail, 1 - tail], axis=0).T.tolist()
    return bounds
