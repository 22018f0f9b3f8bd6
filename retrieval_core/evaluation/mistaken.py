"""What a query was mistaken for: the categories of its wrong candidates, which share none with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from retrieval_core.files import tables


def wrong_categories(
    plan: str, wanted: Sequence[frozenset[str]], found: Sequence[Collection[str]]
) -> list[Counter[str]]:
    """For each query, how many wrong candidates among the fabrics of one bucket hold each category.

    ``plan`` is the bucket's plan file; ``wanted`` has the categories of each query, ``found`` the paths of its
    candidates. Memory O(bucket + candidates).
    """
    asked: dict[str, list[int]] = defaultdict(list)
    for number, paths in enumerate(found):
        for path in paths:
            asked[path].append(number)
    table = tables.read_table(plan, columns=["path", "categories"])
    table = table.filter(pc.is_in(table.column("path"), pa.array(list(asked), pa.string())))
    counts = [Counter[str]() for _ in wanted]
    for path, names in zip(*(column.to_pylist() for column in table.columns), strict=True):
        for number in asked[path]:
            if wanted[number].isdisjoint(names):
                counts[number].update(set(names))
    return counts


def most_frequent(counts: Counter[str], limit: int) -> list[tuple[str, int]]:
    """The ``limit`` most frequent categories with their counts; equal ones by name."""
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:limit]
