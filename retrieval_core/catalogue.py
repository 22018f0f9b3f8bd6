"""The plan of what is embedded: which image has which id and lies in which shard.

A catalogue of any size is listed as a stream and spread over buckets by a hash of the image's short id, so that
everything that must meet (one path listed twice, two names that would get the same id) meets in one bucket. Each
bucket is then planned on its own. Memory of a worker: O(bucket), about ``BUCKET_ROWS`` images; of the driver:
O(shards).

Plan files (``bucket-00000.parquet``): one row an image, in shard and slot order.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_core import storage, tables
from retrieval_core.datasets import Record, full_stem, short_id

BUCKET_ROWS = 65_536
_CHUNK = 16_384
_GROUP = 1_024  # rows of a bucket written at once: the few of each chunk would make chunks x buckets row groups
_ENCODER = b"encoder"

LISTING_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("location", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("position", pa.int64()),
        ("stamp", pa.string()),  # null where the listing did not tell it
    ]
)
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


class Shard(NamedTuple):
    """A run of images embedded and committed together."""

    bucket: int
    number: int
    images: int
    fingerprint: str

    @property
    def file_name(self) -> str:
        """Name of the committed file: other content has another name."""
        return f"{self.bucket:05d}-{self.number:06d}-{self.fingerprint[:16]}.parquet"


class BucketPlan(NamedTuple):
    """What planning a bucket found."""

    shards: list[Shard]
    images: int
    repeats: int
    """Listed again under the same path; searched once."""
    labels: str
    """Fingerprint of the categories, which only the evaluation depends on."""
    order: str
    """Fingerprint of the places in the list, by which the pool of the queries is written; constant for fabrics."""


def bucket_of(path: str, buckets: int) -> int:
    """Bucket of a path, by a hash of its short id that is the same in every process and version."""
    digest = hashlib.blake2b(short_id(path).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def write_listing(records: Iterable[Record], folder: str, buckets: int | None) -> tuple[int, int]:
    """Stream a listing into bucket files ``listing-00000.parquet``.

    Args:
        records: in list order; paths may repeat.
        folder: emptied of listings first.
        buckets: as in the plan there is, or None to choose by the number of images.

    Returns:
        (images listed, buckets). Memory O(buckets * chunk), whatever the catalogue.
    """
    for name in storage.list_names(folder):
        if name.startswith("listing-"):
            storage.remove(storage.join(folder, name))
    count = 0
    if buckets is None:
        spool = storage.join(folder, "spool.parquet")
        with storage.atomic_write(spool) as file, pq.ParquetWriter(file, LISTING_SCHEMA) as writer:
            for table in _chunks(records):
                writer.write_table(table)
                count += len(table)
        buckets = max(1, -(-count // BUCKET_ROWS))
        with storage.open_read(spool) as file:
            _spread(pq.ParquetFile(file).iter_batches(_CHUNK), folder, buckets)
        storage.remove(spool)
        return count, buckets

    def counted() -> Iterator[pa.Table]:
        nonlocal count
        for table in _chunks(records):
            count += len(table)
            yield table

    _spread(counted(), folder, buckets)
    return count, buckets


def _chunks(records: Iterable[Record]) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    for position, record in enumerate(records):
        rows.append(
            {
                "path": record.path,
                "location": record.location,
                "categories": list(record.categories),
                "position": position,
                "stamp": record.stamp,
            }
        )
        if len(rows) == _CHUNK:
            yield pa.Table.from_pylist(rows, schema=LISTING_SCHEMA)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, schema=LISTING_SCHEMA)


def _spread(tables: Iterable[pa.Table | pa.RecordBatch], folder: str, buckets: int) -> None:
    with ExitStack() as stack:
        writers = []
        for bucket in range(buckets):
            file = stack.enter_context(storage.atomic_write(listing_file(folder, bucket)))
            writers.append(stack.enter_context(pq.ParquetWriter(file, LISTING_SCHEMA)))
        waiting: dict[int, list[pa.Table]] = defaultdict(list)
        for table in tables:
            rows: dict[int, list[int]] = defaultdict(list)
            for row, path in enumerate(table.column("path").to_pylist()):
                rows[bucket_of(path, buckets)].append(row)
            for bucket, taken in sorted(rows.items()):
                part = table.take(pa.array(taken))
                waiting[bucket].append(part if isinstance(part, pa.Table) else pa.Table.from_batches([part]))
                if sum(map(len, waiting[bucket])) >= _GROUP:
                    writers[bucket].write_table(pa.concat_tables(waiting.pop(bucket)))
        for bucket, rest in sorted(waiting.items()):
            writers[bucket].write_table(pa.concat_tables(rest))


def listing_file(folder: str, bucket: int) -> str:
    """Where the listing of a bucket is."""
    return storage.join(folder, f"listing-{bucket:05d}.parquet")


def plan_file(folder: str, bucket: int) -> str:
    """Where the plan of a bucket is."""
    return storage.join(folder, f"bucket-{bucket:05d}.parquet")


def bucket_shards(files: Iterable[str], bucket: int) -> list[str]:
    """Of a store's shards those of one bucket, known by the names that ``Shard`` gives them."""
    return [name for name in files if name.startswith(f"{bucket:05d}-")]


def assign_ids(paths: Sequence[str]) -> dict[str, str]:
    """Ids of the images: the base name up to the first dot, as published, unless two images would share it.

    Those get the base name without its last suffix, and if that is shared too, the path without its last suffix, or
    the whole path. An id up to its base name's first dot is the short id, so ids are unique over all buckets.

    Args:
        paths: without repeats.
    """
    ids: dict[str, str] = {}
    remaining = list(paths)
    for rule in (short_id, full_stem, lambda path: os.path.splitext(path)[0]):  # noqa: PTH122 - also for URLs
        names = Counter(rule(path) for path in remaining)
        # A whole path is the last resort of its own image: `a.png.png` must not be called `a.png`.
        names.update(set(paths))
        ids.update({path: rule(path) for path in remaining if names[rule(path)] - (rule(path) == path) == 1})
        remaining = [path for path in remaining if path not in ids]
    ids.update({path: path for path in remaining})
    return ids


def plan_bucket(
    listing: str,
    folder: str,
    bucket: int,
    *,
    images_per_shard: int,
    encoder: str,
    keep_order: bool,
    retry: Collection[str] = (),
) -> tuple[pa.Table, BucketPlan, dict[str, tuple[Shard, list[str]]]]:
    """Plan one bucket from its listing and the plan there is.

    Images that are still there, unchanged, keep their shard and order; new and changed ones get new shards; a shard
    that loses images shrinks. Another encoder starts a new plan.

    Args:
        listing: folder of the listing.
        folder: of the plan.
        bucket: number.
        images_per_shard: of new shards.
        encoder: fingerprint of model and preprocessing; part of every shard's fingerprint.
        keep_order: order new shards by the place in the list (queries) instead of by path.
        retry: paths that count as changed whatever their stamp says.

    Returns:
        The plan, not yet written; its summary; and for each shrunken shard, keyed by the file name it had, the shard
        it becomes and the paths it keeps. Memory O(bucket).
    """
    merged, repeats = _unite(tables.read_table(listing_file(listing, bucket)).to_pylist())
    with ThreadPoolExecutor(16) as pool:
        stamps = list(pool.map(lambda row: row["stamp"] or _stamp(row["location"]), merged))
    ids = assign_ids([row["path"] for row in merged])
    places, old = _read_plan(plan_file(folder, bucket), encoder)
    kept, fresh = [], []
    for row, stamp in zip(merged, stamps, strict=True):
        row |= {"stamp": stamp, "id": ids[row["path"]]}
        place = places.get((row["path"], row["id"], stamp))
        if place is None or row["path"] in retry:
            fresh.append(row)
        else:
            kept.append((place, row))
    fresh.sort(key=lambda row: row["position"] if keep_order else row["path"].encode())
    rows = [row | {"shard": place[0]} for place, row in sorted(kept, key=lambda pair: pair[0])]
    first = max(old, default=-1) + 1
    rows += [row | {"shard": first + index // images_per_shard} for index, row in enumerate(fresh)]
    content: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        content[row["shard"]].append((row["path"], row["stamp"]))
    shards = {
        number: Shard(bucket, number, len(images), _fingerprint(encoder, images)) for number, images in content.items()
    }
    shrunken = {
        Shard(bucket, number, 0, _fingerprint(encoder, images)).file_name: (
            shards[number],
            [path for path, _ in content[number]],
        )
        for number, images in old.items()
        if number in content and images != content[number]
    }
    labels = hashlib.sha256(repr([(row["path"], row["categories"]) for row in rows]).encode()).hexdigest()
    table = pa.Table.from_pylist(rows, schema=PLAN_SCHEMA.with_metadata({_ENCODER: encoder}))
    order = hashlib.sha256(repr([row["position"] for row in rows] if keep_order else "").encode()).hexdigest()
    return table, BucketPlan([shards[n] for n in sorted(shards)], len(rows), repeats, labels, order), shrunken


def read_shard_plan(folder: str, bucket: int, number: int) -> pa.Table:
    """The rows of one shard, in slot order. Memory O(shard)."""
    with storage.open_read(plan_file(folder, bucket)) as file:
        return pq.read_table(file, filters=[("shard", "=", number)], partitioning=None)


def _unite(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    united: dict[str, dict[str, Any]] = {}
    for row in rows:
        first = united.setdefault(row["path"], row)
        if first is not row:
            first["categories"] = sorted({*first["categories"], *row["categories"]})
            first["position"] = min(first["position"], row["position"])
    return list(united.values()), len(rows) - len(united)


def _stamp(location: str) -> str:
    try:
        return storage.stamp(location)
    except FileNotFoundError:
        return "missing"
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or an unknown kind of URL
        return f"unreadable: {type(error).__name__}"


def _read_plan(
    path: str, encoder: str
) -> tuple[dict[tuple[str, str, str], tuple[int, int]], dict[int, list[tuple[str, str]]]]:
    """(image -> shard and order, shard -> images) of the last plan made for this encoder."""
    if not storage.exists(path):
        return {}, {}
    table = tables.read_table(path, columns=["shard", "path", "id", "stamp"])
    if (table.schema.metadata or {}).get(_ENCODER) != encoder.encode():
        return {}, {}
    places, shards = {}, defaultdict(list)
    for order, row in enumerate(table.to_pylist()):
        places[row["path"], row["id"], row["stamp"]] = (row["shard"], order)
        shards[row["shard"]].append((row["path"], row["stamp"]))
    return places, dict(shards)


def _fingerprint(encoder: str, images: list[tuple[str, str]]) -> str:
    digest = hashlib.sha256(encoder.encode())
    for path, stamp in images:
        digest.update(f"\0{path}\0{stamp}".encode())
    return digest.hexdigest()
