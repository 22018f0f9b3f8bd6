"""Relevance: what buckets judge on their own adds up to what a plain loop over everything finds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.data.shard_plan import PLAN_SCHEMA
from retrieval_core.evaluation.motif_size import CLASSES, UNKNOWN
from retrieval_core.evaluation.relevance import Queries, judge_bucket, outcomes_of, read_query_plan, unite
from retrieval_core.files import tables

LABELS = st.frozensets(st.sampled_from(["flower", "bear", "paisley, red", "é"]), max_size=3)


def write_plan(file, rows):
    """A plan file from (path, categories), positions in this order."""
    values = [
        {
            "shard": 0,
            "path": path,
            "id": path,
            "location": path,
            "categories": list(names),
            "position": place,
            "stamp": "",
        }
        for place, (path, names) in enumerate(rows)
    ]
    tables.write_table(str(file), pa.Table.from_pylist(values, schema=PLAN_SCHEMA))
    return str(file)


def write_pool(file, ranked):
    """A candidate pool from query -> fabrics, best first; several row groups."""
    rows = [
        {"query_path": query, "image_path": image, "similarity": 1 - rank / 100, "rank": rank}
        for query, images in ranked.items()
        for rank, image in enumerate(images, 1)
    ]
    schema = pa.schema(
        [
            ("query_path", pa.string()),
            ("image_path", pa.string()),
            ("similarity", pa.float32()),
            ("rank", pa.int32()),
        ]
    )
    tables.write_table(str(file), pa.Table.from_pylist(rows, schema=schema), row_group_size=3)
    return str(file)


def naive(queries, fabrics, ranked):
    """query -> (relevant, ranks of hits) by the definition; queries without a category have none."""
    found = {}
    for path, names in queries:
        if names:
            relevant = {fabric for fabric, held in fabrics if set(held) & set(names)}
            hits = [rank for rank, fabric in enumerate(ranked.get(path, []), 1) if fabric in relevant]
            found[path] = (len(relevant), hits)
    return found


def judged(folder, queries, fabrics, pools, buckets):
    """Outcomes by arm, with the fabrics dealt out over buckets."""
    listed = Queries([path for path, _ in queries], [tuple(sorted(names)) for _, names in queries])
    files = {arm: write_pool(folder / f"{arm}.parquet", ranked) for arm, ranked in pools.items()}
    judgements = []
    for bucket in range(buckets):
        plan = write_plan(folder / f"bucket-{bucket}.parquet", fabrics[bucket::buckets])
        judgements.append(judge_bucket(plan, listed, files))
    return {arm: outcomes_of(listed, unite(judgements), arm, set()) for arm in pools}


@settings(max_examples=40)
@given(data=st.data(), buckets=st.integers(1, 4))
def test_buckets_add_up_to_a_plain_loop(tmp_path_factory, data, buckets):
    queries = [(f"q {n}.png", names) for n, names in enumerate(data.draw(st.lists(LABELS, min_size=1, max_size=5)))]
    fabrics = [(f"f{n}.png", sorted(names)) for n, names in enumerate(data.draw(st.lists(LABELS, max_size=9)))]
    pools = {}
    for arm in ("frozen", "histogram"):
        orders = st.permutations([path for path, _ in fabrics]).map(lambda order: order[:6])
        pools[arm] = {path: data.draw(orders) for path, _ in queries}
    found = judged(tmp_path_factory.mktemp("judged"), queries, fabrics, pools, buckets)
    for arm, ranked in pools.items():
        expected = naive(queries, fabrics, ranked)
        assert [outcome.query_path for outcome in found[arm]] == list(expected)
        for outcome in found[arm]:
            assert (outcome.relevant, outcome.hit_ranks.tolist()) == expected[outcome.query_path]
            assert outcome.categories == tuple(sorted(dict(queries)[outcome.query_path]))
            assert outcome.answered


def test_a_query_of_several_motifs_counts_a_fabric_once(tmp_path):
    queries = [("q.png", {"bear", "flower"})]
    fabrics = [("both.png", ["bear", "flower"]), ("bear.png", ["bear"]), ("none.png", []), ("other.png", ["paisley"])]
    ranked = {"q.png": ["other.png", "both.png", "none.png", "bear.png"]}
    (outcome,) = judged(tmp_path, queries, fabrics, {"frozen": ranked}, 2)["frozen"]
    assert (outcome.relevant, outcome.hit_ranks.tolist()) == (2, [2, 4])
    assert outcome.hit_ranks.dtype == np.int64


def test_a_rejected_query_is_unanswered_and_keeps_its_relevant_fabrics(tmp_path):
    queries = Queries(["a.png", "b.png", "c.png"], [("bear",), ("bear",), ()])
    plan = write_plan(tmp_path / "plan.parquet", [("f.png", ["bear"]), ("g.png", ["bear"])])
    pool = write_pool(tmp_path / "pool.parquet", {"b.png": ["g.png", "f.png"]})
    outcomes = outcomes_of(queries, judge_bucket(plan, queries, {"frozen": pool}), "frozen", {"a.png"})
    assert [(o.query_path, o.relevant, o.hit_ranks.tolist(), o.answered) for o in outcomes] == [
        ("a.png", 2, [], False),
        ("b.png", 2, [1, 2], True),
    ]


@pytest.mark.parametrize("fabrics", [[], [("f.png", [])]])
def test_without_labels_nothing_is_relevant(tmp_path, fabrics):
    pools = {"frozen": {"q.png": [path for path, _ in fabrics]}}
    (outcome,) = judged(tmp_path, [("q.png", {"bear"})], fabrics, pools, 1)["frozen"]
    assert (outcome.relevant, outcome.hit_ranks.tolist()) == (0, [])


def test_an_empty_pool_is_judged(tmp_path):
    (outcome,) = judged(tmp_path, [("q.png", {"bear"})], [("f.png", ["bear"])], {"frozen": {}}, 1)["frozen"]
    assert (outcome.relevant, outcome.hit_ranks.tolist()) == (1, [])


def test_the_query_list_comes_back_in_its_order(tmp_path):
    rows = [("z.png", ["b", "a"]), ("a.png", []), ("m.png", ["c"])]
    file = write_plan(tmp_path / "plan.parquet", rows)
    table = tables.read_table(file)
    tables.write_table(file, table.take(pa.array([2, 0, 1])))  # a plan is in shard order
    assert read_query_plan(file) == Queries(["z.png", "a.png", "m.png"], [("a", "b"), (), ("c",)])


def test_pairs_are_told_apart_by_the_size_of_their_motif(tmp_path):
    queries = Queries(["bear.png", "both.png", "none.png"], [("bear",), ("bear", "rose"), ()])
    fabrics = [("a.png", ["bear"]), ("b.png", ["bear", "rose"]), ("c.png", ["rose"]), ("d.png", [])]
    sizes = {"a.png": {"bear": 1}, "b.png": {"bear": 2, "rose": 5, "moon": 4}}
    ranked = {"bear.png": ["b.png", "c.png", "a.png"], "both.png": ["c.png", "b.png"]}
    plan = write_plan(tmp_path / "plan.parquet", fabrics)
    pool = write_pool(tmp_path / "pool.parquet", ranked)
    found = judge_bucket(plan, queries, {"arm": pool}, sizes)
    expected = np.zeros((CLASSES, 3), int)
    expected[[1, 2], 0] = 1  # a's bear and b's
    expected[[1, 5, UNKNOWN], 1] = 1  # a's bear, b's rose, and c's rose, of which nothing is known
    assert found.relevant_by_size.tolist() == expected.tolist()
    assert found.relevant.tolist() == [2, 3, 0]
    assert sorted(zip(*(part.tolist() for part in found.hits["arm"]), strict=True)) == [
        (0, 1, 2),
        (0, 3, 1),
        (1, 1, UNKNOWN),
        (1, 2, 5),
    ]
