"""What a candidate pool is worth: recall, precision, F1 and average precision at k, with intervals over motifs.

One query is known by the ranks of the relevant fabrics that its candidate list holds (from 1, ascending) and by the
number of relevant fabrics in the whole gallery. Every formula stands once, in ``_formulas``.

Letters: Q evaluated queries, H hits of all of them, M figures (metrics x ks), C motifs, B resamples.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from retrieval_core.evaluation.bootstrap import motif_intervals

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Convention = Literal["published", "trec"]

METRICS = ("recall", "mAP", "mAP_trec", "precision", "f1", "reachable_recall")
NO_RELEVANT = "no_relevant_fabric"
LISTED = 20  # names of left-out queries in metrics.json; their number is always given


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class QueryOutcome:
    """What one query found.

    Attributes:
        query_path: as the query list spells it; unique in an arm.
        categories: sorted; queries with the same ones show the same motif and are resampled together.
        relevant: fabrics of the whole gallery that contain the motif.
        hit_ranks: (hits,) int64, ranks of relevant fabrics in the candidate list, from 1, ascending.
        answered: False when the query image was rejected: an empty list, 0 in the headline figures.
    """

    query_path: str
    categories: tuple[str, ...]
    relevant: int
    hit_ranks: Ints
    answered: bool = True


def metric_key(metric: str, k: int) -> str:
    """The name of a figure in every file: ``recall@100``."""
    return f"{metric}@{k}"


def recall_at(hit_ranks: npt.ArrayLike, relevant: int, k: int) -> float:
    """Share of the relevant fabrics that are among the first k candidates.

    Raises:
        ValueError: if ``k < 1``, ``relevant < 1``, or the ranks are not ascending, from 1 and at most ``relevant``.
    """
    return _single(hit_ranks, relevant, k, "recall")


def precision_at(hit_ranks: npt.ArrayLike, relevant: int, k: int) -> float:
    """Hits among the first k, divided by k even when the list is shorter, as the published code does.

    Raises:
        ValueError: as ``recall_at``.
    """
    return _single(hit_ranks, relevant, k, "precision")


def f1_at(hit_ranks: npt.ArrayLike, relevant: int, k: int) -> float:
    """Harmonic mean of this query's precision and recall at k; 0 without a hit. An arm's F1 is the mean of these.

    Raises:
        ValueError: as ``recall_at``.
    """
    return _single(hit_ranks, relevant, k, "f1")


def average_precision_at(
    hit_ranks: npt.ArrayLike, relevant: int, k: int, convention: Convention = "published"
) -> float:
    """Sum of the precisions at each hit among the first k, divided by what the convention says.

    ``published`` divides by ``min(relevant, k)``: 1 means that the first k could not be better. ``trec`` divides by
    ``relevant`` as trec_eval's ``map_cut`` does: fabrics beyond k count as lost. Both agree when ``relevant <= k``.

    Raises:
        ValueError: as ``recall_at``.
    """
    return _single(hit_ranks, relevant, k, "mAP" if convention == "published" else "mAP_trec")


def reachable_recall_at(hit_ranks: npt.ArrayLike, relevant: int, k: int) -> float:
    """Recall divided by the best recall that k candidates allow, ``min(relevant, k) / relevant``.

    Raises:
        ValueError: as ``recall_at``.
    """
    return _single(hit_ranks, relevant, k, "reachable_recall")


def arm_metrics(
    outcomes: Sequence[QueryOutcome],
    ks: Sequence[int],
    left_out: Mapping[str, Sequence[str]],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """The figures of one arm, ready for JSON; independent of the order of the outcomes.

    Queries without a relevant fabric have no recall. They do not enter any mean and are listed under
    ``left_out.no_relevant_fabric``, beside what the caller left out.

    Args:
        outcomes: one per query.
        ks: depths, at least 1 each.
        left_out: query paths by reason, for queries that have no outcome at all.
        bootstrap: resamples for the intervals; 0 for none.
        seed: of the resampling.

    Returns:
        ``{"recall@k", "mAP@k", "mAP_trec@k", "precision@k", "f1@k", "reachable_recall@k"}`` for every k (null when no
        query could be evaluated), ``queries``, ``left_out`` ``{reason: {count, queries}}``, ``intervals``
        ``{figure: [low, high]}`` and ``answered_only``, the same means and count without rejected queries.
        Intervals are 95 % percentiles of a bootstrap over motifs; with fewer than two motifs there are none.
        Memory O(H + QM + BM); time O(HM + B(Q + CM)).

    Raises:
        ValueError: for ks or outcomes that cannot be, naming the query.
    """
    evaluated = _evaluated(outcomes)
    values_QM, names = _values(evaluated, ks)
    answered_Q = np.array([outcome.answered for outcome in evaluated], dtype=bool)
    intervals = motif_intervals(values_QM, [outcome.categories for outcome in evaluated], bootstrap, seed)
    return {
        **_means(values_QM, names),
        "queries": len(evaluated),
        "left_out": _left_out(outcomes, left_out),
        "intervals": {} if intervals is None else dict(zip(names, intervals, strict=True)),
        "answered_only": {**_means(values_QM[answered_Q], names), "queries": int(answered_Q.sum())},
    }


def paired_difference(
    a: Sequence[QueryOutcome], b: Sequence[QueryOutcome], ks: Sequence[int], bootstrap: int, seed: int
) -> dict[str, dict[str, Any]]:
    """How much better arm ``a`` is than arm ``b`` on the same queries, figure by figure.

    Both arms are averaged over the same resampled motifs, so that what makes a motif hard for both cancels.

    Returns:
        ``{"recall@100": {"difference": mean(a) - mean(b), "interval": [low, high]}, ...}``; ``interval`` is null
        without resamples or with fewer than two motifs, and the result is empty without an evaluated query.
        Memory and time as ``arm_metrics``.

    Raises:
        ValueError: if the arms do not hold the same queries with the same motif and number of relevant fabrics.
    """
    of_a, of_b = _evaluated(a), _evaluated(b)
    sides = [{(o.query_path, o.categories, o.relevant) for o in side} for side in (of_a, of_b)]
    if sides[0] != sides[1]:
        odd = min(sides[0] ^ sides[1])
        raise ValueError(f"paired arms must hold the same queries; {odd[0]} differs or is in one of them only")
    if not of_a:
        return {}
    values_a_QM, names = _values(of_a, ks)
    difference_QM = values_a_QM - _values(of_b, ks)[0]
    intervals = motif_intervals(difference_QM, [outcome.categories for outcome in of_a], bootstrap, seed)
    return {
        name: {"difference": mean, "interval": None if intervals is None else intervals[column]}
        for column, (name, mean) in enumerate(_means(difference_QM, names).items())
    }


def per_query_rows(outcomes: Sequence[QueryOutcome], ks: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of ``per_query.csv`` in the order of the outcomes.

    A row's average precision is called ``AP@k``, as it is the mean over queries that is called mAP. A query without a
    relevant fabric has None for every figure, one without a hit has None as ``first_hit``. Memory O(QM).
    """
    evaluated = _evaluated(outcomes)
    values_QM, names = _values(evaluated, ks)
    columns = [name.removeprefix("m") for name in names]
    figures = {o.query_path: row for o, row in zip(evaluated, values_QM.tolist(), strict=True)}
    return [
        {
            "query_path": outcome.query_path,
            "categories": ";".join(outcome.categories),
            "answered": outcome.answered,
            "relevant": outcome.relevant,
            "first_hit": int(outcome.hit_ranks[0]) if len(outcome.hit_ranks) else None,
            **dict(zip(columns, figures.get(outcome.query_path, [None] * len(columns)), strict=True)),
        }
        for outcome in outcomes
    ]


def random_outcomes(
    outcomes_template: Sequence[QueryOutcome], gallery_size: int, k: int, seed: int
) -> list[QueryOutcome]:
    """What a random ranking of the gallery finds in its first k: the floor under every arm.

    The R relevant fabrics take R of the N positions without replacement. Only those up to k are drawn: their number is
    hypergeometric, and given it every set of positions is equally likely. A draw depends on (seed, query path) alone.
    A rejected query stays rejected. Memory O(H + k), time O(Qk), whatever the gallery's size.

    Raises:
        ValueError: if ``k < 1`` or a query has more relevant fabrics than the gallery holds.
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
        drawn.append(QueryOutcome(outcome.query_path, outcome.categories, outcome.relevant, ranks, outcome.answered))
    return drawn


def recall_curve(outcomes: Sequence[QueryOutcome], depths: Sequence[int]) -> list[tuple[int, float]]:
    """Mean recall at each depth, in the order given; empty without an evaluated query.

    Memory O(H), time O(H log H), whatever the number of depths.

    Raises:
        ValueError: if a depth is below 1.
    """
    _check_ks(depths)
    evaluated = _evaluated(outcomes)
    if not evaluated:
        return []
    owner_H, rank_H, _ = _hits(evaluated)
    order = np.argsort(rank_H, kind="stable")
    share_H = 1.0 / _relevant(evaluated)[owner_H[order]]
    found = np.concatenate([[0.0], np.cumsum(share_H)]) / len(evaluated)
    at = np.searchsorted(rank_H[order], np.asarray(depths), side="right")
    # A running sum of R times 1/R may end a rounding error above the whole.
    return [(int(depth), min(float(found[index]), 1.0)) for depth, index in zip(depths, at, strict=True)]


def _formulas(hits: Floats, precision_sum: Floats, relevant: Floats, k: int) -> dict[str, Floats]:
    """All figures at k, elementwise: hits up to k, sum of the precisions at them, relevant (at least 1)."""
    reachable = np.minimum(relevant, k)
    return {
        "recall": hits / relevant,
        "mAP": precision_sum / reachable,
        "mAP_trec": precision_sum / relevant,
        "precision": hits / k,
        # 2pr / (p + r) with p = hits / k and r = hits / relevant: never 0 / 0.
        "f1": 2 * hits / (k + relevant),
        "reachable_recall": hits / reachable,
    }


def _single(hit_ranks: npt.ArrayLike, relevant: int, k: int, metric: str) -> float:
    if relevant < 1:
        raise ValueError(f"relevant = {relevant}: a query without a relevant fabric has no {metric}; leave it out")
    outcome = QueryOutcome("query", (), relevant, np.asarray(hit_ranks, dtype=np.int64))
    values_QM, names = _values([outcome], [k])
    return float(values_QM[0, names.index(metric_key(metric, k))])


def _values(outcomes: Sequence[QueryOutcome], ks: Sequence[int]) -> tuple[Floats, list[str]]:
    """(Q, M) float64 and the M names, metric by metric within each k."""
    ks = _check_ks(ks)
    owner_H, rank_H, ordinal_H = _hits(outcomes)
    relevant_Q = _relevant(outcomes)
    columns: dict[str, Floats] = {}
    for k in ks:
        near_H = rank_H <= k
        owner = owner_H[near_H]
        hits_Q = np.bincount(owner, minlength=len(outcomes)).astype(np.float64)
        sums_Q: Floats = np.bincount(owner, ordinal_H[near_H] / rank_H[near_H], len(outcomes)).astype(np.float64)
        figures = _formulas(hits_Q, sums_Q, relevant_Q, k)
        columns.update({metric_key(metric, k): figures[metric] for metric in METRICS})
    return np.stack(list(columns.values()), axis=1), list(columns)


def _hits(outcomes: Sequence[QueryOutcome]) -> tuple[Ints, Ints, Ints]:
    """Flat (H,) arrays: index of the query, rank of the hit, how many hits of its query stand at or before it."""
    counts_Q = np.array([len(outcome.hit_ranks) for outcome in outcomes], dtype=np.int64)
    ranks = [outcome.hit_ranks for outcome in outcomes]
    rank_H = np.concatenate([np.empty(0, dtype=np.int64), *ranks]).astype(np.int64, copy=False)
    owner_H = np.repeat(np.arange(len(outcomes)), counts_Q)
    starts_Q = np.cumsum(counts_Q) - counts_Q
    ordinal_H = np.arange(len(rank_H)) - starts_Q[owner_H] + 1
    before_H = np.roll(rank_H, 1)
    before_H[ordinal_H == 1] = 0
    wrong_H = rank_H <= before_H
    if wrong_H.any():
        first = outcomes[int(owner_H[np.argmax(wrong_H)])]
        raise ValueError(f"{first.query_path}: hit ranks must ascend from 1, got {first.hit_ranks.tolist()[:10]}")
    for outcome, count in zip(outcomes, counts_Q.tolist(), strict=True):
        if count > (outcome.relevant if outcome.answered else 0):
            state = f"{outcome.relevant} relevant fabrics" if outcome.answered else "a rejected query image"
            raise ValueError(f"{outcome.query_path}: {count} hits with {state}")
    return owner_H, rank_H, ordinal_H


def _relevant(outcomes: Sequence[QueryOutcome]) -> Floats:
    return np.array([outcome.relevant for outcome in outcomes], dtype=np.float64)


def _evaluated(outcomes: Sequence[QueryOutcome]) -> list[QueryOutcome]:
    """The queries with a relevant fabric, by path, so that sums do not depend on the order of arrival."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.query_path)
    for before, after in itertools.pairwise(ordered):
        if before.query_path == after.query_path:
            raise ValueError(f"{after.query_path}: two outcomes for one query; a path listed twice is searched once")
    return [outcome for outcome in ordered if outcome.relevant > 0]


def _check_ks(ks: Sequence[int]) -> list[int]:
    if not ks or min(ks) < 1:
        raise ValueError(f"ks = {list(ks)}: name at least one depth, each at least 1")
    return list(dict.fromkeys(ks))


def _means(values_QM: Floats, names: Sequence[str]) -> dict[str, float | None]:
    means = values_QM.mean(axis=0).tolist() if len(values_QM) else [None] * len(names)
    return dict(zip(names, means, strict=True))


def _left_out(outcomes: Sequence[QueryOutcome], given: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    reasons = {reason: list(queries) for reason, queries in given.items()}
    known = {query for queries in reasons.values() for query in queries}
    unmatched = [o.query_path for o in outcomes if o.relevant < 1 and o.query_path not in known]
    if unmatched:
        reasons[NO_RELEVANT] = [*reasons.get(NO_RELEVANT, []), *unmatched]
    return {
        reason: {"count": len(queries), "queries": sorted(queries)[:LISTED]}
        for reason, queries in sorted(reasons.items())
        if queries
    }
