"""Figures against loops a reader can follow, and the properties every figure must have."""

from __future__ import annotations

import json
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.evaluation import metrics
from retrieval_core.evaluation.bootstrap import motif_intervals
from retrieval_core.evaluation.outcomes import QueryOutcome

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
    arm = metrics.arm_metrics([outcome("q", ranks, relevant)], [k], {}, 0, 0)
    return {metric: arm[f"{metric}@{k}"] for metric in metrics.METRICS}


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
    # Hits at ranks 1, 3 and 10; the fourth relevant fabric is not in the list.
    at_5, at_3 = of_one([1, 3, 10], 4, 5), of_one([1, 3, 10], 4, 3)
    assert (at_5["recall"], at_5["precision"]) == (2 / 4, 2 / 5)
    assert at_5["f1"] == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    assert at_5["mAP"] == pytest.approx((1 / 1 + 2 / 3) / 4)
    assert at_3["mAP"] == pytest.approx((1 / 1 + 2 / 3) / 3)
    assert at_3["mAP_trec"] == pytest.approx((1 / 1 + 2 / 3) / 4)
    assert at_3["reachable_recall"] == pytest.approx((2 / 4) / (3 / 4))


def test_a_list_shorter_than_k_still_divides_precision_by_k() -> None:
    # A gallery of 2 fabrics, both relevant, both found: k = 10 is larger than the gallery.
    found = of_one([1, 2], 2, 10)
    assert found == pytest.approx(naive([1, 2], 2, 10))
    assert (found["precision"], found["recall"], found["mAP"]) == (0.2, 1.0, 1.0)


def test_more_relevant_fabrics_than_k() -> None:
    perfect = of_one(list(range(1, 11)), 50, 10)
    assert (perfect["mAP"], perfect["reachable_recall"]) == (1.0, 1.0)
    assert (perfect["mAP_trec"], perfect["recall"]) == pytest.approx((0.2, 0.2))


@given(ONE_QUERY)
def test_one_query_equals_the_naive_walk(query: tuple[list[int], int, int]) -> None:
    ranks, relevant, k = query
    expected = naive(ranks, relevant, k)
    assert of_one(ranks, relevant, k) == pytest.approx(expected)
    assert metrics.recall_at(ranks, relevant, k) == pytest.approx(expected["recall"])
    assert metrics.average_precision_at(ranks, relevant, k) == pytest.approx(expected["mAP"])


@given(ONE_QUERY)
def test_properties_of_one_query(query: tuple[list[int], int, int]) -> None:
    ranks, relevant, k = query
    here, deeper = of_one(ranks, relevant, k), of_one(ranks, relevant, k + 1)
    assert all(0 <= value <= 1 + 1e-12 for value in here.values())
    assert deeper["recall"] >= here["recall"]
    assert here["mAP"] >= here["mAP_trec"]
    assert (here["mAP"] == here["mAP_trec"]) or relevant > k
    assert here["reachable_recall"] >= here["recall"]


@pytest.mark.parametrize(("relevant", "k", "message"), [(0, 5, "no recall"), (1, 0, "at least 1")])
def test_impossible_queries_are_refused(relevant: int, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.recall_at([1], relevant, k)


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


def test_no_depths_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one depth"):
        metrics.arm_metrics([outcome("a", [1], 1)], [], {}, 0, 0)


def test_intervals_are_those_of_the_bootstrap_in_order_of_paths() -> None:
    found = {"q3": ("a", [1, 2]), "q1": ("b", [2]), "q2": ("c", []), "q0": ("a", [1])}
    arm = metrics.arm_metrics(
        [outcome(path, ranks, 4, motif) for path, (motif, ranks) in found.items()], [2], {}, 50, 7
    )
    recalls = np.array([[len(found[path][1]) / 4] for path in sorted(found)])
    expected = motif_intervals(recalls, [(found[path][0],) for path in sorted(found)], 50, 7)
    assert expected is not None
    assert arm["intervals"]["recall@2"] == pytest.approx(expected[0])
    assert set(arm["intervals"]) == {f"{metric}@2" for metric in metrics.METRICS}


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
