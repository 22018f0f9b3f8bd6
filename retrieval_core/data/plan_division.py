"""Into how many buckets a plan is divided, and its division into more once the catalogue has outgrown them.

    plan.json                       {"buckets": 8, "name": "00008"}: the division that counts
    00008/bucket-00000.parquet ...  its files; those of the first division lie in the plan's folder itself

``plan.json`` is written before the first bucket of a first division, and after the last of a further one. So a process
that is killed, on whatever storage, leaves one division or the other; how many files lie there says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from math import gcd
from typing import Any, NamedTuple

import pyarrow as pa

from retrieval_core.data.listing import bucket_of
from retrieval_core.data.shard_plan import Row, last_plan, plan_table, shards_of
from retrieval_core.files import storage

PLAN = "plan.json"


class Division(NamedTuple):
    """How a plan is divided."""

    plan: str  # folder of the plan
    name: str  # of the folder with the bucket files in there; empty if they lie in the plan's own
    buckets: int  # 0 before there is a plan

    @property
    def folder(self) -> str:
        """Where the bucket files lie."""
        return storage.join(self.plan, self.name) if self.name else self.plan

    def into(self, buckets: int) -> Division:
        """The one that follows it; itself if it has as many buckets."""
        return Division(self.plan, self.name if self.buckets in (0, buckets) else f"{buckets:05d}", buckets)


class Regrouped(NamedTuple):
    """A shard whose images lie in other shards, from where their vectors are copied."""

    file: str  # its name
    sources: list[tuple[str, list[str]]]  # names of shards, and paths of the images to take, in slot order


def division_of(plan: str) -> Division:
    """The division of a plan that counts."""
    value = _stored(plan)
    if isinstance(value, dict) and value.keys() == {"buckets", "name"}:
        return Division(plan, **value)
    # A plan of an earlier version; or the file was lost, then the least division, as a larger one may be unfinished.
    names = storage.list_names(plan)
    files = sum(name.startswith("bucket-") for name in names)
    least = "" if files else next(filter(str.isdecimal, names), "")
    return Division(plan, least, int(least) if least else files)


def commit_division(division: Division) -> None:
    """Make a division the one that counts, then remove the files of others."""
    plan, value = division.plan, {"buckets": division.buckets, "name": division.name}
    if _stored(plan) != value:
        storage.write_json(storage.join(plan, PLAN), value)
    for name in storage.list_names(plan):
        if name != division.name and (name.isdecimal() or (division.name and name.startswith("bucket-"))):
            storage.remove(storage.join(plan, name))


def _stored(plan: str) -> Any:
    try:
        return storage.read_json(storage.join(plan, PLAN))
    except (FileNotFoundError, ValueError):  # ValueError: not JSON, as after a power cut
        return None


def redivided(
    last: Division, bucket: int, buckets: int, images_per_shard: int, encoder: str, is_committed: Callable[[str], bool]
) -> tuple[pa.Table, list[Regrouped]]:
    """The plan of one of ``buckets`` buckets for the images of ``last``, and those of its shards that need no encoding.

    Images whose shard ``is_committed`` (asked by its name) make up new shards in their old order; behind those come the
    others, and all images of a plan that was made for another encoder. Memory O(buckets that the images come from):
    a single one where ``buckets`` is a multiple of the last number.
    """
    held: list[tuple[str, Row]] = []
    waiting: list[Row] = []
    step = gcd(last.buckets, buckets)
    for source in range(bucket % step, last.buckets, step):
        rows, same_encoder = last_plan(last.folder, source, encoder)
        shards = shards_of(rows, source, encoder) if same_encoder else []
        committed = {shard.number: shard.file_name for shard in shards if is_committed(shard.file_name)}
        for row in rows:
            if bucket_of(row["path"], buckets) != bucket:
                continue
            if row["shard"] in committed:
                held.append((committed[row["shard"]], row))
            else:
                waiting.append(row)
    parts = [held[start : start + images_per_shard] for start in range(0, len(held), images_per_shard)]
    planned = [row | {"shard": number} for number, part in enumerate(parts) for _, row in part]
    regrouped = [
        Regrouped(
            shard.file_name,
            [(name, [row["path"] for _, row in rows]) for name, rows in groupby(part, key=lambda pair: pair[0])],
        )
        for shard, part in zip(shards_of(planned, bucket, encoder), parts, strict=True)
    ]
    planned += [row | {"shard": len(parts) + place // images_per_shard} for place, row in enumerate(waiting)]
    return plan_table(planned, encoder), regrouped
