"""The quality benchmark runs its protocol on a small simulated catalogue, and goes on where it was stopped."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import quality
from quality_data import ARMS, Split, read_split
from quality_results import BINS, FIGURES

from retrieval_core.data.datasets import Record
from retrieval_core.evaluation.metrics import recall_at


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    run(folder)
    return folder


ASKED = {arm: kind for arm, kind in ARMS.items() if arm != "shipped"}
"""The model that comes with the project takes its time."""


def run(folder):
    keys = ["--size", "56", "--images", "96", "--arms", *ASKED, "--indexes", "whole", "tiles", "windows"]
    keys += ["windows_expanded", "windows_twice", "windows_both", "windows_30"]
    quality.main(["--quick", "--results", str(folder), *keys])


def rows_of(folder):
    return json.loads((folder / "quality.json").read_text())["rows"]


def test_a_row_for_every_arm_and_index(results):
    rows = rows_of(results)
    assert {(row["arm"], row.get("index")) for row in rows} == {("random", None)} | {
        (shown, index)
        for arm, kind in ASKED.items()
        for shown in ({"published_x1", best_of(results)} if arm == "published" else {arm})
        for index in kind.indexes
        if index not in ("windows_504", "windows_dense")
    }
    for row in rows:
        assert all(0 <= row[name] <= 1 for name in FIGURES)
        assert row["arm"] == "random" or all(row["intervals"][name][0] <= row[name] for name in FIGURES)
    text = (results / "quality.md").read_text()
    assert "| windows | 10 of windows |" in text and "nan" not in text.lower()
    assert (results / "quality.svg").read_text().startswith("<svg")


def best_of(folder):
    return "published_" + json.loads((folder / "quality.json").read_text())["about"]["published rates"]["choice"]


def test_bytes_and_operations_of_a_fabric(results):
    rows = {(row["arm"], row.get("index")): row for row in rows_of(results)}
    assert rows["frozen", "tiles"]["gflop"] == pytest.approx(37 * rows["frozen", "whole"]["gflop"], rel=0.01)
    assert rows["windows_frozen", "windows"]["gflop"] > rows["frozen", "whole"]["gflop"] > 0
    assert rows["histogram", "whole"]["bytes"] == 4 * 512
    assert rows["windows_frozen", "windows_30"]["bytes"] == 3 * rows["windows_frozen", "windows"]["bytes"]


def test_a_second_run_computes_nothing_and_says_the_same(results):
    before = {path: path.stat().st_mtime_ns for path in (results / "quality").rglob("*") if path.is_file()}
    rows = rows_of(results)
    run(results)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert rows_of(results) == rows


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
