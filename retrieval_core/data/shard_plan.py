"""The plan of what is embedded: which image has which id and lies in which shard.

Each bucket of the listing is planned on its own. Plan files (``bucket-00000.parquet``) have one row per image, in shard
and slot order. Memory of a worker: O(bucket), about ``BUCKET_ROWS`` images; of the driver: O(shards).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_core.data.listing import assign_ids, listing_file
from retrieval_core.files import stamps, storage, tables
from retrieval_core.process import no_collection

_GROUP_ROWS = 1_024  # rows of a plan file that are read together: a task reads a shard's, everyone else all
_STAMP_BATCH = 64  # rows that a thread takes at once: handing over each would cost more than a local stat
_ENCODER = b"encoder"
_LINKS_TOLD = 1024  # of a bucket: names of hard-linked files that lie in other buckets are looked for among so many
_MISSING, _UNREADABLE = _NOT_THERE = "missing", "unreadable: "

PLAN_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("path", pa.string()),
        ("id", pa.string()),
        ("location", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("position", pa.int64()),  # place in the list; orders the queries
        ("stamp", pa.string()),  # size and modification time or ETag; "missing" if it is not there
    ]
)

Row = dict[str, Any]
"""Columns of ``PLAN_SCHEMA``."""


class Shard(NamedTuple):
    """Images that are embedded and committed together."""

    bucket: int
    number: int
    images: int
    fingerprint: str

    @property
    def file_name(self) -> str:
        """Name of the committed file: other content has another name."""
        return f"{self.bucket:05d}-{self.number:06d}-{self.fingerprint[:16]}.parquet"


class ShrunkenShard(NamedTuple):
    """A shard that lost images since the last plan; the vectors of the others can be taken from its old file."""

    before: Shard
    after: Shard
    kept: list[str]  # paths of the images that stay, in slot order


class Removals(NamedTuple):
    """What went since the last plan, whatever its encoder. A file that is missing or does not answer is not there."""

    before: int  # images that were there
    gone: int  # of those, the ones that are not listed or not there any more
    there: int  # images that are there now


class BucketSummary(NamedTuple):
    """What the driver needs to know of a bucket's plan."""

    shards: list[Shard]
    images: int
    repeats: int  # rows of the listing whose path was listed before; it is searched once
    doubles: int  # images that are a file of this bucket under another path: each is searched
    links: tuple[int, ...]  # the smallest ``_LINKS_TOLD`` numbers (``stamps.Look.file``) of hard-linked files
    labels: str  # fingerprint of the categories, which only the evaluation depends on
    removals: Removals
    order: str  # fingerprint of the places in the list, by which the queries' pool is written; constant for fabrics


class BucketPlan(NamedTuple):
    """The plan of one bucket, not yet written."""

    table: pa.Table  # content of the plan file
    summary: BucketSummary
    shrunken: list[ShrunkenShard]


def plan_file(folder: str, bucket: int) -> str:
    """Path of a bucket's plan."""
    return storage.join(folder, f"bucket-{bucket:05d}.parquet")


def write_plan(folder: str, bucket: int, table: pa.Table) -> None:
    """Write a bucket's plan, so that the rows of a shard are read without the others."""
    tables.write_table(plan_file(folder, bucket), table, _GROUP_ROWS)


def bucket_shards(files: Iterable[str], bucket: int) -> list[str]:
    """The shards of one bucket among a store's files, known by the names that ``Shard`` gives them."""
    return [name for name in files if name.startswith(f"{bucket:05d}-")]


def plan_bucket(
    listing: str,
    folder: str,
    bucket: int,
    *,
    images_per_shard: int,
    encoder: str,
    keep_order: bool,
    retry: Collection[str] = (),
    fresh: bool = False,
) -> BucketPlan:
    """Plan one bucket from its listing and the last plan in ``folder``, which is not written. Memory O(bucket).

    Unchanged images keep their shard and order; new and changed ones get new shards; a shard that loses images shrinks.
    ``encoder`` is the fingerprint of model and preprocessing, which enters that of every shard. Another one starts a
    new plan. ``keep_order`` orders new shards by the place in the list (queries) instead of by path. Paths in ``retry``
    count as changed; with ``fresh`` all images do.
    """
    with no_collection():
        rows, repeats = _unite(tables.read_table(listing_file(listing, bucket)).to_pylist())
        ids = assign_ids([row["path"] for row in rows])
    looks = _looks(rows)
    for row, look in zip(rows, looks, strict=True):
        row |= {"stamp": look.stamp, "id": ids[row["path"]]}
    with no_collection():
        last, same_encoder = last_plan(folder, bucket, encoder)
        removals = _removals(last, rows)
        last = last if same_encoder and not fresh else []
        rows = _assign_shards(rows, last, images_per_shard, keep_order, retry)
        shards, shrunken = _compare(rows, last, bucket, encoder)
        labels = _digest([(row["path"], row["categories"]) for row in rows])
        order = _digest([row["position"] for row in rows] if keep_order else "")
        files = [look.file for look in looks if look.file is not None]
        links = sorted({look.file for look in looks if look.linked and look.file is not None})[:_LINKS_TOLD]
        doubles = len(files) - len(set(files))
        summary = BucketSummary(shards, len(rows), repeats, doubles, tuple(links), labels, removals, order)
        return BucketPlan(plan_table(rows, encoder), summary, shrunken)


def plan_table(rows: Sequence[Row], encoder: str) -> pa.Table:
    """The content of a plan file that was made for an encoder; what a row lacks is null."""
    return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA.with_metadata({_ENCODER: encoder}))


def count_doubles(buckets: Iterable[BucketSummary]) -> int:
    """Images that are the file of another one under another path. Memory O(buckets).

    Paths that share the short id are in one bucket, and all of them count. Of hard links with other names each bucket
    tells a bounded number, so that of very many the count is a lower bound.
    """
    buckets = list(buckets)
    links = [file for bucket in buckets for file in bucket.links]
    return sum(bucket.doubles for bucket in buckets) + len(links) - len(set(links))


def staged_plan(
    staged: str, folder: str, bucket: int, encoder: str
) -> tuple[pa.Table, list[Shard], list[ShrunkenShard]]:
    """A plan that was written to the folder ``staged`` instead: its table, its shards, and those that lost images."""
    table = tables.read_table(plan_file(staged, bucket))
    with no_collection():
        last, same_encoder = last_plan(folder, bucket, encoder)
        return table, *_compare(table.to_pylist(), last if same_encoder else [], bucket, encoder)


def read_shard_plan(folder: str, bucket: int, number: int) -> pa.Table:
    """The rows of one shard, in slot order. Memory O(shard) and a constant."""
    with storage.open_read(plan_file(folder, bucket)) as file:
        return pq.read_table(file, filters=[("shard", "=", number)], partitioning=None)


def _unite(rows: list[Row]) -> tuple[list[Row], int]:
    """One row for each path with all its categories, and the number of repeats."""
    united: dict[str, Row] = {}
    for row in rows:
        first = united.setdefault(row["path"], row)
        if first is not row:
            first["categories"] = sorted({*first["categories"], *row["categories"]})
            first["position"] = min(first["position"], row["position"])
    return list(united.values()), len(rows) - len(united)


def _looks(rows: Sequence[Row]) -> list[stamps.Look]:
    """A look at each row; threads take those that the listing did not stamp, as a store may be slow to answer."""

    def of_batch(start: int) -> list[stamps.Look]:
        batch = rows[start : start + _STAMP_BATCH]
        return [stamps.Look(row["stamp"]) if row["stamp"] else _look(row["location"]) for row in batch]

    with ThreadPoolExecutor(16) as pool:
        return [look for batch in pool.map(of_batch, range(0, len(rows), _STAMP_BATCH)) for look in batch]


def _look(location: str) -> stamps.Look:
    try:
        return stamps.look(location)
    except FileNotFoundError:
        return stamps.Look(_MISSING)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or an unknown kind of URL
        return stamps.Look(f"{_UNREADABLE}{type(error).__name__}")


def last_plan(folder: str, bucket: int, encoder: str) -> tuple[list[Row], bool]:
    """The rows (shard, path, id and stamp) of a bucket's last plan, and whether it was made for this encoder."""
    if not storage.exists(plan_file(folder, bucket)):
        return [], True
    table = tables.read_table(plan_file(folder, bucket), columns=["shard", "path", "id", "stamp"])
    same_encoder = (table.schema.metadata or {}).get(_ENCODER) == encoder.encode()
    return list(table.to_pylist()), same_encoder


def _removals(last: Iterable[Row], rows: Iterable[Row]) -> Removals:
    before, there = ({row["path"] for row in each if is_there(row["stamp"])} for each in (last, rows))
    return Removals(len(before), len(before - there), len(there))


def is_there(stamp: str) -> bool:
    """Whether an image was there when it got this stamp."""
    return not stamp.startswith(_NOT_THERE)


def shards_of(rows: Iterable[Row], bucket: int, encoder: str) -> list[Shard]:
    """The shards that rows with shard, path and stamp make up, by number."""
    return _compare(rows, (), bucket, encoder)[0]


def _compare(
    rows: Iterable[Row], last: Iterable[Row], bucket: int, encoder: str
) -> tuple[list[Shard], list[ShrunkenShard]]:
    """The shards of a plan, and those of the last plan that lost images."""
    by_shard = _by_shard(rows)
    shards = {number: _shard(bucket, number, held, encoder) for number, held in by_shard.items()}
    shrunken = [
        ShrunkenShard(
            before=_shard(bucket, number, held, encoder),
            after=shards[number],
            kept=[row["path"] for row in by_shard[number]],
        )
        for number, held in _by_shard(last).items()
        if number in by_shard and len(held) > len(by_shard[number])
    ]
    return [shards[number] for number in sorted(shards)], shrunken


def _assign_shards(
    rows: Iterable[Row], last: Sequence[Row], images_per_shard: int, keep_order: bool, retry: Collection[str]
) -> list[Row]:
    """The rows in shard and slot order: first those that keep their place of the last plan, then the others."""
    places = {(row["path"], row["id"], row["stamp"]): (row["shard"], order) for order, row in enumerate(last)}
    kept, fresh = [], []
    for row in rows:
        place = places.get((row["path"], row["id"], row["stamp"]))
        if place is None or row["path"] in retry:
            fresh.append(row)
        else:
            kept.append((place, row))
    kept.sort(key=lambda pair: pair[0])
    fresh.sort(key=lambda row: row["position"] if keep_order else row["path"].encode())
    first = 1 + max((row["shard"] for row in last), default=-1)
    return [row | {"shard": shard} for (shard, _), row in kept] + [
        row | {"shard": first + index // images_per_shard} for index, row in enumerate(fresh)
    ]


def _by_shard(rows: Iterable[Row]) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["shard"]].append(row)
    return groups


def _shard(bucket: int, number: int, rows: Sequence[Row], encoder: str) -> Shard:
    digest = hashlib.sha256(encoder.encode())
    for row in rows:
        digest.update(f"\0{row['path']}\0{row['stamp']}".encode())
    return Shard(bucket, number, len(rows), digest.hexdigest())


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
