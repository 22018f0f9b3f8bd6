"""What wrong candidates hold, bucket by bucket, against a loop over pairs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrieval_core.data.shard_plan import PLAN_SCHEMA
from retrieval_core.evaluation.mistaken import most_frequent, wrong_categories
from retrieval_core.files import tables

CATEGORIES = ("bear", "rose", "moon", "leaf")


def test_buckets_together_count_as_a_loop_over_all_pairs_does(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    held = {f"f{n}": [name for name in CATEGORIES if random.random() < 0.4] for n in range(60)}
    wanted = [frozenset({"bear"}), frozenset({"rose", "moon"}), frozenset({"none"}), frozenset({"leaf"})]
    found = [frozenset(random.choice(list(held), 20, replace=False).tolist()) for _ in wanted[:3]] + [frozenset()]
    counts = [Counter[str]() for _ in wanted]
    for bucket in range(3):
        rows = [
            {"shard": 0, "path": path, "id": path, "location": path, "categories": held[path]}
            for path in list(held)[bucket::3]
        ]
        plan = str(tmp_path / f"{bucket}.parquet")
        tables.write_table(plan, pa.Table.from_pylist(rows, schema=PLAN_SCHEMA))
        for count, more in zip(counts, wrong_categories(plan, wanted, found), strict=True):
            count.update(more)
    for names, paths, count in zip(wanted, found, counts, strict=True):
        wrong = [path for path in paths if not names & set(held[path])]
        assert count == {name: number for name in CATEGORIES if (number := sum(name in held[path] for path in wrong))}
    assert sum(counts[0].values()) > 5


def test_the_most_frequent_come_first_and_equal_ones_by_name() -> None:
    counts = Counter({"b": 2, "a": 2, "c": 3, "d": 1})
    assert most_frequent(counts, 3) == [("c", 3), ("a", 2), ("b", 2)]
    assert most_frequent(Counter(), 3) == []
