"""The curve of recall by depth and what it says about the depth to choose, against loops a reader can follow."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.evaluation.depth import (
    SHARES,
    depth_figures,
    precision_by_depth,
    read_by_depth,
    recall_by_depth,
    share_key,
    write_by_depth,
)
from retrieval_core.evaluation.metrics import arm_metrics
from retrieval_core.evaluation.outcomes import QueryOutcome

NO_DEPTH = dict.fromkeys(map(share_key, SHARES))
TINY = 1e-9

Query = tuple[set[int], int, bool]
QUERIES = st.lists(
    st.tuples(st.sets(st.integers(1, 60), max_size=8), st.integers(0, 5), st.booleans()), min_size=1, max_size=12
)
DEPTHS = st.integers(1, 60)


def outcome(path: str, ranks: list[int], relevant: int, answered: bool = True) -> QueryOutcome:
    return QueryOutcome(path, ("rose",), relevant, np.array(ranks, dtype=np.int64), answered)


def outcomes(queries: list[Query]) -> list[QueryOutcome]:
    """Queries with ranks, some relevant fabrics beyond the pool, and rejected ones, which have no ranks."""
    return [
        outcome(f"q{i}", sorted(ranks) if answered else [], len(ranks) + more, answered)
        for i, (ranks, more, answered) in enumerate(queries)
    ]


def naive_recall(queries: list[QueryOutcome], k: int) -> float:
    shares = [sum(rank <= k for rank in query.hit_ranks) / query.relevant for query in queries if query.relevant]
    return sum(shares) / len(shares)


@given(QUERIES, DEPTHS)
def test_precision_at_each_depth_is_that_of_the_metrics(queries: list[Query], depth: int) -> None:
    rows = outcomes(queries)
    found = precision_by_depth(rows, depth)
    figures = arm_metrics(rows, range(1, depth + 1), {}, 0, 0)
    if figures["queries"]:
        assert found.tolist() == pytest.approx([figures[f"precision@{k}"] for k in range(1, depth + 1)])
    else:
        assert len(found) == 0


def test_no_depth_no_precision() -> None:
    assert len(precision_by_depth(outcomes([({1}, 0, True)]), 0)) == 0


def naive_depth(curve: list[float], share: float) -> int | None:
    """Walk down the pool until enough is found."""
    for k, recall in enumerate(curve, start=1):
        if curve[-1] > 0 and recall >= share * curve[-1] - TINY:
            return k
    return None


def figures(queries: list[QueryOutcome], depth: int, gallery_size: int = 1000) -> dict[str, Any]:
    return depth_figures(recall_by_depth(queries, depth), depth, gallery_size)


def test_one_query_worked_by_hand() -> None:
    # Twenty relevant fabrics, ten of which are in the pool of 50: nine by depth 9, the tenth at depth 46.
    query = outcome("q", [*range(1, 10), 46], 20)
    found = figures([query], 50)
    assert found["pool_recall"] == pytest.approx(0.5)
    # Nine of the ten that the pool holds are 90 % of it, though not of the twenty.
    assert found["depth_for"] == {"0.90": 9, "0.95": 46, "0.99": 46}
    assert found["recall_gained_by_last_tenth"] == pytest.approx(1 / 20)  # ranks 46 to 50
    assert (found["pool_depth"], found["whole_gallery"]) == (50, False)


def test_a_share_that_is_met_exactly_does_not_fall_to_rounding() -> None:
    assert sum([0.1] * 9) < 0.9
    for relevant in (10, 20, 50, 100, 700):
        depth = figures([outcome("q", list(range(1, relevant + 1)), relevant)], relevant)["depth_for"]["0.90"]
        assert depth == relevant * 9 // 10


@given(QUERIES, DEPTHS)
def test_curve_is_the_naive_recall_at_every_depth_and_never_falls(queries: list[Query], depth: int) -> None:
    drawn = outcomes(queries)
    curve = recall_by_depth(drawn, depth)
    if not any(query.relevant for query in drawn):
        assert curve.shape == (0,)
        return
    assert curve.shape == (depth,)
    assert curve == pytest.approx([naive_recall(drawn, k) for k in range(1, depth + 1)])
    assert (np.diff(curve) >= 0).all()
    assert curve[0] >= 0
    assert curve[-1] <= 1
    assert curve[-1] == pytest.approx(arm_metrics(drawn, [depth], {}, 0, 0)[f"recall@{depth}"])


@given(QUERIES, DEPTHS)
def test_depth_for_a_share_is_the_smallest_that_reaches_it(queries: list[Query], depth: int) -> None:
    curve = recall_by_depth(outcomes(queries), depth).tolist()
    found = depth_figures(np.array(curve), depth, 1000)
    if not curve or not curve[-1]:
        assert found["depth_for"] == NO_DEPTH
        return
    for share in SHARES:
        k = found["depth_for"][share_key(share)]
        assert k == naive_depth(curve, share)
        target = share * found["pool_recall"]
        assert curve[k - 1] >= target - TINY
        assert k == 1 or curve[k - 2] < target
    assert found["depth_for"]["0.90"] <= found["depth_for"]["0.95"] <= found["depth_for"]["0.99"] <= depth


@given(QUERIES, DEPTHS, st.randoms())
def test_figures_do_not_depend_on_the_order_of_arrival(queries: list[Query], depth: int, random: Random) -> None:
    drawn = outcomes(queries)
    shuffled = list(drawn)
    random.shuffle(shuffled)
    assert figures(drawn, depth) == figures(shuffled, depth)


@pytest.mark.parametrize(
    ("ranks", "depth", "gained"),
    [
        ([90], 100, 0.0),
        ([91], 100, 0.5),
        ([100], 100, 0.5),
        ([1, 14], 15, 0.5),  # the last tenth of 15 is a candidate and a half: the last two
        ([1, 9], 9, 0.5),  # less than one candidate: the last one
        ([1], 1, 0.5),  # all that there is
    ],
)
def test_recall_gained_by_the_last_tenth(ranks: list[int], depth: int, gained: float) -> None:
    assert figures([outcome("q", ranks, 2)], depth)["recall_gained_by_last_tenth"] == pytest.approx(gained)


def test_no_hit_reaches_a_share_at_no_depth() -> None:
    found = figures([outcome("a", [], 3), outcome("b", [], 2, answered=False)], 10)
    assert found["depth_for"] == NO_DEPTH
    assert (found["pool_recall"], found["recall_gained_by_last_tenth"]) == (0.0, 0.0)


def test_hits_beyond_the_depth_are_not_in_the_pool() -> None:
    assert figures([outcome("a", [11], 1)], 10)["pool_recall"] == 0.0


@pytest.mark.parametrize("queries", [[], [outcome("unmatched", [], 0)]])
def test_no_evaluated_query_has_no_figures(queries: list[QueryOutcome]) -> None:
    found = figures(queries, 10)
    assert found["depth_for"] == NO_DEPTH
    assert found["pool_recall"] is found["recall_gained_by_last_tenth"] is None
    assert found["pool_depth"] == 10


def test_a_gallery_without_a_fabric_has_no_figures() -> None:
    found = figures([outcome("a", [], 1)], 0, gallery_size=0)
    assert (found["pool_recall"], found["pool_depth"], found["whole_gallery"]) == (None, 0, True)


def test_a_pool_of_the_whole_gallery_says_so() -> None:
    everything = outcome("a", [2, 7], 2)
    assert figures([everything], 7, gallery_size=8)["whole_gallery"] is False
    whole = figures([everything], 7, gallery_size=7)
    assert (whole["whole_gallery"], whole["pool_recall"]) == (True, 1.0)


@given(QUERIES, DEPTHS)
def test_figures_are_plain_json(queries: list[Query], depth: int) -> None:
    found = figures(outcomes(queries), depth)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_file_has_a_row_a_depth_and_reads_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "out" / "recall_by_depth.csv"
    third = np.array([1 / 3, 1 / 3, 2 / 3])
    write_by_depth(str(path), {"random": np.zeros(3), "odd, name": third, "silent": np.empty(0)}, 3)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["depth", "random", "odd, name", "silent"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert [row[3] for row in rows[1:]] == ["", "", ""]
    assert read_by_depth(str(path)) == {
        "random": [(1, 0.0), (2, 0.0), (3, 0.0)],
        "odd, name": list(enumerate(third.tolist(), start=1)),
        "silent": [],
    }
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_file_without_a_depth_or_an_arm_has_a_header(tmp_path: Path) -> None:
    path = str(tmp_path / "recall_by_depth.csv")
    write_by_depth(path, {"a": np.empty(0)}, 0)
    assert read_by_depth(path) == {"a": []}
    write_by_depth(path, {}, 2)
    assert read_by_depth(path) == {}
