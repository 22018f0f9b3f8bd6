"""The quality benchmark runs its protocol on a small simulated catalogue, and goes on where it was stopped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import quality
from quality_data import Split, read_split
from quality_results import BINS

from retrieval_core.data.datasets import Record
from retrieval_core.evaluation.metrics import recall_at


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    run(folder)
    return folder


def run(folder, *more):
    quality.main(["--quick", "--size", "56", "--images", "96", "--results", str(folder), *more])


def figures(folder):
    """The rows without what a clock measured."""
    rows = json.loads((folder / "quality.json").read_text())
    return [{name: value for name, value in row.items() if name != "encode_ms"} for row in rows]


def test_rows_for_every_arm_and_index(results):
    rows = json.loads((results / "quality.json").read_text())
    shown = {(row["arm"], row["vectors"], row.get("query_turned")) for row in rows}
    for arm in ("frozen", "published", "published_best", "ours"):
        assert {(arm, 1, False), (arm, 1, True), (arm, 10, True), (arm, 30, False), (arm, 30, True)} <= shown
    assert ("random", 0, None) in shown and ("histogram", 1, False) in shown and ("tiled_histogram", 30, True) in shown
    for row in rows:
        assert {"arm", "vectors", "track", "seed"} <= row.keys()
        assert all(0 <= row[name] <= 1 for name in ("recall@10", "recall@50", "recall@100", "mAP@100"))
    text = (results / "quality.md").read_text()
    assert "| ours |" in text and "Overlap of the first 100 with float32" in text and "NaN" not in text
    assert (results / "quality.svg").read_text().startswith("<svg")


def test_a_second_run_computes_nothing_and_says_the_same(results):
    before = {path: path.stat().st_mtime_ns for path in (results / "quality").rglob("*") if path.is_file()}
    rows = figures(results)
    run(results)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert figures(results) == rows


def test_motif_sizes_and_relevance_come_from_the_data_set(results):
    split = read_split(str(results / "quality" / "quick-data"), "test")
    for (query, fabric), area in zip(split.pairs.tolist(), split.areas.tolist(), strict=True):
        assert set(split.queries[query].categories) & set(split.fabrics[fabric].categories)
        assert 0 < area < 1
    total = sum(bool(set(q.categories) & set(f.categories)) for q in split.queries for f in split.fabrics)
    assert len(split.pairs) == total
    assert math.isclose(min(low for low, _ in BINS.values()), 0)


def test_recall_of_a_split_is_the_mean_over_queries():
    queries = [Record(f"q{n}", "", ("a",)) for n in range(3)]
    split = Split(queries, [], np.array([[0, 0], [0, 1], [2, 0]]), np.array([0.01, 0.2, 0.01]))
    ranks = np.array([1, 9, 4])
    expected = np.mean([recall_at([1, 9], 2, 5), recall_at([4], 1, 5)])
    assert split.recall(ranks, 5) == pytest.approx(expected)
    assert split.recall(ranks, 5, split.areas > 0.1) == 0.0
    assert math.isnan(split.recall(ranks, 5, np.zeros(3, bool)))
    assert [outcome.hit_ranks.tolist() for outcome in split.outcomes(ranks)] == [[1, 9], [], [4]]
