"""Figures against loops a reader can follow, and the properties every figure must have."""

from __future__ import annotations

import json
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.evaluation import metrics
from retrieval_core.evaluation.metrics import QueryOutcome

KS = [1, 3, 10]


def outcome(path: str, ranks: list[int], relevant: int, motif: str = "rose", answered: bool = True) -> QueryOutcome:
    return QueryOutcome(path, (motif,), relevant, np.array(ranks, dtype=np.int64), answered)


def naive(ranks: list[int], relevant: int, k: int) -> dict[str, float]:
    """The published definitions, walking down the list one rank at a time."""
    hits = 0
    precisions = 0.0
    for rank in range(1, k + 1):
        if rank in ranks:
            hits += 1
            precisions += hits / rank
    recall = hits / relevant
    precision = hits / k
    return {
        "recall": recall,
        "mAP": precisions / min(relevant, k),
        "mAP_trec": precisions / relevant,
        "precision": precision,
        "f1": 0.0 if hits == 0 else 2 * precision * recall / (precision + recall),
        "reachable_recall": recall / (min(relevant, k) / relevant),
    }


def of_one(ranks: list[int], relevant: int, k: int) -> dict[str, float]:
    return {
        "recall": metrics.recall_at(ranks, relevant, k),
        "mAP": metrics.average_precision_at(ranks, relevant, k),
        "mAP_trec": metrics.average_precision_at(ranks, relevant, k, "trec"),
        "precision": metrics.precision_at(ranks, relevant, k),
        "f1": metrics.f1_at(ranks, relevant, k),
        "reachable_recall": metrics.reachable_recall_at(ranks, relevant, k),
    }


ONE_QUERY = st.tuples(st.sets(st.integers(1, 40), max_size=15), st.integers(0, 10), st.integers(1, 60)).map(
    lambda drawn: (sorted(drawn[0]), max(1, len(drawn[0]) + drawn[1]), drawn[2])
)
QUERIES = st.lists(
    st.tuples(st.sets(st.integers(1, 30), max_size=6), st.integers(0, 5), st.sampled_from("abcd"), st.booleans()),
    min_size=1,
    max_size=12,
).map(
    lambda rows: [
        outcome(f"q{i}", sorted(ranks) if answered else [], len(ranks) + more, motif, answered)
        for i, (ranks, more, motif, answered) in enumerate(rows)
    ]
)


def test_one_query_worked_by_hand() -> None:
    # Candidates: hit, miss, hit, miss, miss; four relevant fabrics, one of which never shows up before rank 10.
    ranks, relevant = [1, 3, 10], 4
    assert metrics.recall_at(ranks, relevant, 5) == 2 / 4
    assert metrics.precision_at(ranks, relevant, 5) == 2 / 5
    assert metrics.f1_at(ranks, relevant, 5) == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    assert metrics.average_precision_at(ranks, relevant, 5) == pytest.approx((1 / 1 + 2 / 3) / 4)
    assert metrics.average_precision_at(ranks, relevant, 3) == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert metrics.average_precision_at(ranks, relevant, 3, "trec") == pytest.approx((1 / 1 + 2 / 3) / 4)
    assert metrics.reachable_recall_at(ranks, relevant, 3) == pytest.approx((2 / 4) / (3 / 4))


def test_a_list_shorter_than_k_still_divides_precision_by_k() -> None:
    # A gallery of 2 fabrics, both relevant, both found: k = 10 is larger than the gallery.
    assert of_one([1, 2], 2, 10) == pytest.approx(naive([1, 2], 2, 10))
    assert metrics.precision_at([1, 2], 2, 10) == 0.2
    assert metrics.recall_at([1, 2], 2, 10) == metrics.average_precision_at([1, 2], 2, 10) == 1.0


def test_more_relevant_fabrics_than_k() -> None:
    perfect = list(range(1, 11))
    assert metrics.average_precision_at(perfect, 50, 10) == 1.0
    assert metrics.average_precision_at(perfect, 50, 10, "trec") == pytest.approx(0.2)
    assert metrics.recall_at(perfect, 50, 10) == pytest.approx(0.2)
    assert metrics.reachable_recall_at(perfect, 50, 10) == 1.0


@given(ONE_QUERY)
def test_one_query_equals_the_naive_walk(query: tuple[list[int], int, int]) -> None:
    ranks, relevant, k = query
    assert of_one(ranks, relevant, k) == pytest.approx(naive(ranks, relevant, k))


@given(ONE_QUERY)
def test_properties_of_one_query(query: tuple[list[int], int, int]) -> None:
    ranks, relevant, k = query
    here, deeper = of_one(ranks, relevant, k), of_one(ranks, relevant, k + 1)
    assert all(0 <= value <= 1 + 1e-12 for value in here.values())
    assert deeper["recall"] >= here["recall"]
    assert here["mAP"] >= here["mAP_trec"]
    assert (here["mAP"] == here["mAP_trec"]) or relevant > k
    assert here["reachable_recall"] >= here["recall"]


@pytest.mark.parametrize(
    ("ranks", "relevant", "k", "message"),
    [
        ([1], 0, 5, "no recall"),
        ([1], 1, 0, "at least 1"),
        ([0], 1, 5, "ascend from 1"),
        ([3, 2], 2, 5, "ascend from 1"),
        ([2, 2], 2, 5, "ascend from 1"),
        ([1, 2, 3], 2, 5, "3 hits with 2 relevant"),
    ],
)
def test_impossible_queries_are_refused(ranks: list[int], relevant: int, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.recall_at(ranks, relevant, k)


def test_a_rejected_query_with_hits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"torn\.png: 1 hits with a rejected query image"):
        metrics.arm_metrics([outcome("torn.png", [1], 3, answered=False)], KS, {}, 0, 0)


@given(QUERIES)
def test_arm_is_the_mean_over_queries_with_a_relevant_fabric(queries: list[QueryOutcome]) -> None:
    arm = metrics.arm_metrics(queries, KS, {}, 0, 0)
    evaluated = [query for query in queries if query.relevant > 0]
    assert arm["queries"] == len(evaluated)
    for k in KS:
        walked = [naive(query.hit_ranks.tolist(), query.relevant, k) for query in evaluated]
        for metric in metrics.METRICS:
            got = arm[f"{metric}@{k}"]
            assert (got is None) if not walked else got == pytest.approx(sum(w[metric] for w in walked) / len(walked))
    assert json.loads(json.dumps(arm, allow_nan=False)) == arm


@given(QUERIES, st.randoms())
def test_arm_does_not_depend_on_the_order_of_arrival(queries: list[QueryOutcome], random: Random) -> None:
    shuffled = list(queries)
    random.shuffle(shuffled)
    assert metrics.arm_metrics(queries, KS, {}, 20, 3) == metrics.arm_metrics(shuffled, KS, {}, 20, 3)


def test_a_rejected_query_counts_as_zero_beside_the_answered_ones() -> None:
    queries = [outcome("a", [1, 2], 2), outcome("b", [], 2, answered=False)]
    arm = metrics.arm_metrics(queries, [2], {}, 0, 0)
    assert (arm["recall@2"], arm["queries"]) == (0.5, 2)
    assert (arm["answered_only"]["recall@2"], arm["answered_only"]["queries"]) == (1.0, 1)


def test_queries_without_a_relevant_fabric_are_listed_not_averaged() -> None:
    queries = [outcome("a", [1], 1), outcome("b", [], 0)]
    missing = [f"gone{i:02}.png" for i in range(25)]
    arm = metrics.arm_metrics(queries, [1], {"no_file": missing, "no_class": []}, 0, 0)
    assert (arm["recall@1"], arm["queries"]) == (1.0, 1)
    assert arm["left_out"] == {
        "no_file": {"count": 25, "queries": missing[:20]},
        "no_relevant_fabric": {"count": 1, "queries": ["b"]},
    }


def test_a_query_the_caller_left_out_is_counted_once() -> None:
    arm = metrics.arm_metrics([outcome("b", [], 0)], [1], {"no_class": ["b"]}, 0, 0)
    assert arm["left_out"] == {"no_class": {"count": 1, "queries": ["b"]}}
    assert arm["recall@1"] is None
    assert arm["answered_only"] == {**dict.fromkeys(f"{metric}@1" for metric in metrics.METRICS), "queries": 0}


def test_two_outcomes_for_one_query_are_refused() -> None:
    with pytest.raises(ValueError, match="a: two outcomes"):
        metrics.arm_metrics([outcome("a", [1], 1), outcome("a", [1], 1)], [1], {}, 0, 0)


def test_no_depths_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one depth"):
        metrics.arm_metrics([outcome("a", [1], 1)], [], {}, 0, 0)


def naive_interval(by_motif: dict[str, list[float]], resamples: int, seed: int) -> list[float]:
    motifs = sorted(by_motif)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(resamples):
        drawn = [value for number in rng.integers(len(motifs), size=len(motifs)) for value in by_motif[motifs[number]]]
        means.append(sum(drawn) / len(drawn))
    return [float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))]


def test_interval_resamples_whole_motifs() -> None:
    rng = np.random.default_rng(5)
    queries, by_motif = [], {}
    for motif in "abcdefg":
        found = [int(rng.integers(0, 5)) for _ in range(1 + ord(motif) % 3)]
        by_motif[motif] = [hits / 4 for hits in found]
        # Paths sort the other way round: the draws go by the motifs' names.
        queries += [outcome(f"{200 - ord(motif)}_{i}", list(range(1, n + 1)), 4, motif) for i, n in enumerate(found)]
    arm = metrics.arm_metrics(queries, [10], {}, 300, 11)
    assert arm["intervals"]["recall@10"] == pytest.approx(naive_interval(by_motif, 300, 11))
    assert arm["intervals"]["recall@10"][0] <= arm["recall@10"] <= arm["intervals"]["recall@10"][1]
    assert set(arm["intervals"]) == {f"{metric}@10" for metric in metrics.METRICS}


def test_queries_of_one_motif_do_not_pretend_to_be_independent() -> None:
    # The same 40 results; as 2 motifs of 20 they say far less about a third motif than as 40 motifs.
    hits = [1] * 20 + [0] * 20
    many = [outcome(f"{i:02}", [1] * hit, 1, motif=f"{i:02}") for i, hit in enumerate(hits)]
    few = [outcome(f"{i:02}", [1] * hit, 1, motif=f"{i // 20}") for i, hit in enumerate(hits)]
    widths = []
    for queries in (many, few):
        low, high = metrics.arm_metrics(queries, [1], {}, 500, 0)["intervals"]["recall@1"]
        widths.append(high - low)
    assert widths[0] < 0.4
    assert widths[1] == 1.0


@pytest.mark.parametrize(("motifs", "bootstrap"), [(["a", "a"], 100), (["a", "b"], 0)])
def test_no_interval_where_nothing_can_vary(motifs: list[str], bootstrap: int) -> None:
    queries = [outcome(f"q{i}", [1], 1, motif) for i, motif in enumerate(motifs)]
    assert metrics.arm_metrics(queries, [1], {}, bootstrap, 0)["intervals"] == {}
    assert metrics.paired_difference(queries, queries, [1], bootstrap, 0)["recall@1"]["interval"] is None


def test_pairing_cancels_what_is_hard_for_both_arms() -> None:
    # Arm b finds one fabric fewer than a for every motif, however hard the motif: the difference is certain.
    a = [outcome(f"q{n}", list(range(1, n + 2)), 10, f"m{n}") for n in range(9)]
    b = [outcome(f"q{n}", list(range(1, n + 1)), 10, f"m{n}") for n in range(9)]
    paired = metrics.paired_difference(a, list(reversed(b)), [10], 200, 1)["recall@10"]
    assert paired["difference"] == pytest.approx(0.1)
    assert paired["interval"] == pytest.approx([0.1, 0.1])
    low, high = metrics.arm_metrics(a, [10], {}, 200, 1)["intervals"]["recall@10"]
    assert high - low > 0.2


def test_difference_of_an_arm_with_itself_is_nothing() -> None:
    queries = [outcome(f"q{n}", [n + 1], 2, f"m{n}") for n in range(5)]
    paired = metrics.paired_difference(queries, queries, KS, 50, 1)
    assert all(entry == {"difference": 0.0, "interval": [0.0, 0.0]} for entry in paired.values())
    assert len(paired) == len(metrics.METRICS) * len(KS)
    assert metrics.paired_difference([], [], KS, 50, 1) == {}


def test_different_queries_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="only_b differs or is in one"):
        metrics.paired_difference([outcome("a", [], 1)], [outcome("a", [], 1), outcome("only_b", [], 1)], [1], 0, 0)


def test_per_query_rows() -> None:
    queries = [
        QueryOutcome("b.png", ("bear", "rose"), 2, np.array([2, 3])),
        outcome("a.png", [], 3, answered=False),
        outcome("none.png", [], 0),
    ]
    rows = metrics.per_query_rows(queries, [2])
    assert [row["query_path"] for row in rows] == ["b.png", "a.png", "none.png"]
    assert [row["categories"] for row in rows] == ["bear;rose", "rose", "rose"]
    assert [row["first_hit"] for row in rows] == [2, None, None]
    assert [row["recall@2"] for row in rows] == [0.5, 0.0, None]
    assert [row["AP@2"] for row in rows] == [0.25, 0.0, None]
    assert [row["answered"] for row in rows] == [True, False, True]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}


def test_random_ranking_draws_like_a_shuffled_gallery() -> None:
    gallery, relevant, k, queries = 60, 9, 20, 4000
    template = [outcome(f"q{i}", [], relevant) for i in range(queries)]
    drawn = metrics.random_outcomes(template, gallery, k, seed=7)
    recall = metrics.arm_metrics(drawn, [k], {}, 0, 0)[f"recall@{k}"]
    # Each relevant fabric is in the first k with probability k / N; five standard errors of a hypergeometric mean.
    share = k / gallery
    spread = math.sqrt(share * (1 - share) * (gallery - relevant) / (gallery - 1) / relevant / queries)
    assert abs(recall - share) < 5 * spread
    per_rank = np.bincount(np.concatenate([query.hit_ranks for query in drawn]), minlength=k + 1)[1:]
    assert per_rank.min() > 0.8 * queries * relevant / gallery
    assert per_rank.max() < 1.2 * queries * relevant / gallery


def test_a_random_draw_depends_on_seed_and_query_alone() -> None:
    template = [outcome(f"q{i}", [], 5) for i in range(20)]
    forward = metrics.random_outcomes(template, 30, 10, seed=1)
    backward = metrics.random_outcomes(template[::-1], 30, 10, seed=1)[::-1]
    other = metrics.random_outcomes(template, 30, 10, seed=2)
    ranks = [[query.hit_ranks.tolist() for query in drawn] for drawn in (forward, backward, other)]
    assert ranks[0] == ranks[1] != ranks[2]
    assert len({tuple(row) for row in ranks[0]}) > 1


def test_random_ranking_of_a_gallery_smaller_than_k() -> None:
    template = [outcome("all", [], 4), outcome("none", [], 0), outcome("torn", [], 2, answered=False)]
    whole, empty, torn = metrics.random_outcomes(template, 4, 100, seed=0)
    assert whole.hit_ranks.tolist() == [1, 2, 3, 4]
    assert empty.hit_ranks.tolist() == torn.hit_ranks.tolist() == []
    assert not torn.answered
    with pytest.raises(ValueError, match="all: 4 relevant of only 3 fabrics"):
        metrics.random_outcomes(template, 3, 100, seed=0)


@given(QUERIES)
def test_recall_curve_is_recall_at_each_depth(queries: list[QueryOutcome]) -> None:
    depths = [1, 2, 5, 30, 99]
    curve = metrics.recall_curve(queries, depths)
    arm = metrics.arm_metrics(queries, depths, {}, 0, 0)
    assert curve == ([(k, pytest.approx(arm[f"recall@{k}"])) for k in depths] if arm["queries"] else [])
    assert all(value <= 1 for _, value in curve)
