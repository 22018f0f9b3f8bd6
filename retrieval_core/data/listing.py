"""Which images there are: the listing as it streams, spread over buckets, and the ids of what meets in one.

A catalogue of any size is spread by a hash of the image's short id, so that everything that must meet (one path listed
twice, two names that would get the same id) meets in one bucket. Memory O(buckets * chunk).
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_core.data.datasets import Record, full_stem, short_id
from retrieval_core.files import storage

BUCKET_ROWS = 65_536
_CHUNK = 16_384
_GROUP = 1_024  # rows of a bucket written at once: the few of each chunk would make chunks x buckets row groups

LISTING_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("location", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("position", pa.int64()),
        ("stamp", pa.string()),  # null where the listing did not tell it
    ]
)


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
