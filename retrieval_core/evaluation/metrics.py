"""What a candidate pool is worth: recall, precision, F1 and average precision at k, with intervals over motifs.

A figure is computed from the ranks of a query's hits and the number of relevant fabrics in the whole gallery. Every
formula stands once, in ``_formulas``:

- ``mAP`` divides the sum of the precisions at the hits by ``min(relevant, k)``, as the published code does: 1 means
  that the first k could not be better. ``mAP_trec`` divides by ``relevant``, as trec_eval's ``map_cut`` does: fabrics
  beyond k count as lost. Both agree when ``relevant <= k``.
- ``precision`` divides by k even where the list is shorter, as the published code does.
- ``f1`` is the mean of the queries' own F1, not the F1 of the mean precision and recall.
- ``reachable_recall`` divides recall by the best that k candidates allow, ``min(relevant, k) / relevant``.

Letters: Q evaluated queries, H hits of all of them, M figures (metrics x ks), C motifs, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval_core.evaluation.bootstrap import motif_intervals
from retrieval_core.evaluation.outcomes import Floats, QueryOutcome, evaluated, flat_hits, relevant_counts

METRICS = ("recall", "mAP", "mAP_trec", "precision", "f1", "reachable_recall")
NO_RELEVANT = "no_relevant_fabric"
LISTED = 20  # names of left-out queries in metrics.json; their number is always given


def metric_key(metric: str, k: int) -> str:
    """The name of a figure in every file: ``recall@100``."""
    return f"{metric}@{k}"


def recall_at(hit_ranks: npt.ArrayLike, relevant: int, k: int) -> float:
    """Share of the relevant fabrics that are among the first k candidates.

    Raises ValueError if ``k < 1``, ``relevant < 1``, or the ranks do not ascend from 1 or are more than ``relevant``.
    """
    return _single(hit_ranks, relevant, k, "recall")


def average_precision_at(hit_ranks: npt.ArrayLike, relevant: int, k: int) -> float:
    """Sum of the precisions at each hit among the first k, divided by ``min(relevant, k)``; errors as ``recall_at``."""
    return _single(hit_ranks, relevant, k, "mAP")


def arm_metrics(
    outcomes: Sequence[QueryOutcome],
    ks: Sequence[int],
    left_out: Mapping[str, Sequence[str]],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """The figures of one arm, ready for JSON; independent of the order of the outcomes.

    Queries without a relevant fabric enter no mean; they are listed under ``left_out.no_relevant_fabric``. The argument
    ``left_out`` names, by reason, queries that have no outcome at all. ``bootstrap`` is the number of resamples, 0 for
    no intervals.

    Returns every metric of ``METRICS`` as ``metric@k`` for every k (null when no query could be evaluated),
    ``queries``, ``left_out`` ``{reason: {count, queries}}``, ``intervals`` ``{figure: [low, high]}`` as
    ``motif_intervals`` gives them, and ``answered_only``, the same means and count without rejected queries. Raises
    ValueError for ks or outcomes that cannot be, naming the query. Memory O(H + QM + BM), time O(HM + B(Q + CM)).
    """
    judged = evaluated(outcomes)
    values_QM, names = _values(judged, ks)
    answered_Q = np.array([outcome.answered for outcome in judged], dtype=bool)
    intervals = motif_intervals(values_QM, [outcome.categories for outcome in judged], bootstrap, seed)
    return {
        **_means(values_QM, names),
        "queries": len(judged),
        "left_out": _left_out(outcomes, left_out),
        "intervals": {} if intervals is None else dict(zip(names, intervals, strict=True)),
        "answered_only": {**_means(values_QM[answered_Q], names), "queries": int(answered_Q.sum())},
    }


def paired_difference(
    a: Sequence[QueryOutcome], b: Sequence[QueryOutcome], ks: Sequence[int], bootstrap: int, seed: int
) -> dict[str, dict[str, Any]]:
    """How much better arm ``a`` is than arm ``b`` on the same queries, figure by figure.

    Both arms are averaged over the same resampled motifs, so that what makes a motif hard for both cancels. Returns
    ``{"recall@100": {"difference": mean(a) - mean(b), "interval": [low, high]}, ...}``; ``interval`` is null without
    resamples or with fewer than two motifs, and the result is empty without an evaluated query. Raises ValueError if
    the arms do not hold the same queries with the same motif and number of relevant fabrics. Cost as ``arm_metrics``.
    """
    of_a, of_b = evaluated(a), evaluated(b)
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

    A row's average precision is called ``AP@k``; mAP is its mean over queries. A query without a relevant fabric has
    None for every figure, one without a hit has None as ``first_hit``. Memory O(QM).
    """
    judged = evaluated(outcomes)
    values_QM, names = _values(judged, ks)
    columns = [name.removeprefix("m") for name in names]
    figures = {o.query_path: row for o, row in zip(judged, values_QM.tolist(), strict=True)}
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
    query_H, rank_H, ordinal_H = flat_hits(outcomes)
    relevant_Q = relevant_counts(outcomes)
    columns: dict[str, Floats] = {}
    for k in ks:
        near_H = rank_H <= k
        queries = query_H[near_H]
        hits_Q = np.bincount(queries, minlength=len(outcomes)).astype(np.float64)
        sums_Q: Floats = np.bincount(queries, ordinal_H[near_H] / rank_H[near_H], len(outcomes)).astype(np.float64)
        figures = _formulas(hits_Q, sums_Q, relevant_Q, k)
        columns.update({metric_key(metric, k): figures[metric] for metric in METRICS})
    return np.stack(list(columns.values()), axis=1), list(columns)


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
