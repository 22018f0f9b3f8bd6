"""What each query found: the ranks of its hits, and what a random ranking would find.

Letters: Q queries, H hits of all of them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class QueryOutcome:
    """What one query found."""

    query_path: str  # as the query list spells it; unique in an arm
    categories: tuple[str, ...]  # sorted; queries with the same ones show the same motif and are resampled together
    relevant: int  # fabrics of the whole gallery that hold the motif
    hit_ranks: Ints  # (hits,) ranks of relevant fabrics in the candidate list, from 1, ascending
    answered: bool = True  # False when the query image was rejected: no hits, 0 in the headline figures


def evaluated(outcomes: Sequence[QueryOutcome]) -> list[QueryOutcome]:
    """The queries with a relevant fabric, by path, so that sums do not depend on the order of arrival.

    Raises ValueError if two outcomes have the same path.
    """
    ordered = sorted(outcomes, key=lambda outcome: outcome.query_path)
    for before, after in itertools.pairwise(ordered):
        if before.query_path == after.query_path:
            raise ValueError(f"{after.query_path}: two outcomes for one query; a path listed twice is searched once")
    return [outcome for outcome in ordered if outcome.relevant > 0]


def relevant_counts(outcomes: Sequence[QueryOutcome]) -> Floats:
    """(Q,) relevant fabrics of each query."""
    return np.array([outcome.relevant for outcome in outcomes], dtype=np.float64)


def flat_hits(outcomes: Sequence[QueryOutcome]) -> tuple[Ints, Ints, Ints]:
    """Flat (H,) arrays: index of the query, rank of the hit, number of its query's hits up to and including it.

    Raises ValueError, naming the query, if ranks do not ascend from 1 or a query has more hits than it can have.
    """
    counts_Q = np.array([len(outcome.hit_ranks) for outcome in outcomes], dtype=np.int64)
    ranks = [outcome.hit_ranks for outcome in outcomes]
    rank_H = np.concatenate([np.empty(0, dtype=np.int64), *ranks]).astype(np.int64, copy=False)
    query_H = np.repeat(np.arange(len(outcomes)), counts_Q)
    starts_Q = np.cumsum(counts_Q) - counts_Q
    ordinal_H = np.arange(len(rank_H)) - starts_Q[query_H] + 1
    before_H = np.roll(rank_H, 1)
    before_H[ordinal_H == 1] = 0
    wrong_H = rank_H <= before_H
    if wrong_H.any():
        first = outcomes[int(query_H[np.argmax(wrong_H)])]
        raise ValueError(f"{first.query_path}: hit ranks must ascend from 1, got {first.hit_ranks.tolist()[:10]}")
    for outcome, count in zip(outcomes, counts_Q.tolist(), strict=True):
        if count > (outcome.relevant if outcome.answered else 0):
            state = f"{outcome.relevant} relevant fabrics" if outcome.answered else "a rejected query image"
            raise ValueError(f"{outcome.query_path}: {count} hits with {state}")
    return query_H, rank_H, ordinal_H


def random_outcomes(
    outcomes_template: Sequence[QueryOutcome], gallery_size: int, k: int, seed: int
) -> list[QueryOutcome]:
    """What a random ranking of the gallery finds in its first k: the baseline that every arm should beat.

    The relevant fabrics take positions without replacement. Only those up to k are drawn: their number is
    hypergeometric, and given it every set of positions is equally likely. A draw depends on (seed, query path) alone. A
    rejected query stays rejected. Raises ValueError if ``k < 1`` or a query has more relevant fabrics than the gallery
    holds. Memory O(H + k), time O(Qk), whatever the gallery's size.
    """
    if k < 1:
        raise ValueError(f"k = {k}: must be at least 1")
    depth = min(k, gallery_size)
    drawn = []
    for outcome in outcomes_template:
        if outcome.relevant > gallery_size:
            raise ValueError(f"{outcome.query_path}: {outcome.relevant} relevant of only {gallery_size} fabrics")
        ranks = np.empty(0, dtype=np.int64)
        if outcome.answered and outcome.relevant:
            digest = hashlib.sha256(f"{seed}\0{outcome.query_path}".encode(errors="surrogatepass")).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
            hits = int(rng.hypergeometric(outcome.relevant, gallery_size - outcome.relevant, depth))
            ranks = np.sort(rng.choice(depth, hits, replace=False, shuffle=False)).astype(np.int64) + 1
        drawn.append(replace(outcome, hit_ranks=ranks))
    return drawn
