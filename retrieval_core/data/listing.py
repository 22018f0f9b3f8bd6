"""The listing: which images there are, spread over buckets as it streams, and the ids of the images in a bucket.

A hash of the image's short id chooses the bucket, so that everything that must meet (one path listed twice, two names
that would get the same id) meets in one bucket, however large the catalogue.
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

from retrieval_core.data.records import Record, full_stem, short_id
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


def write_listing(
    records: Iterable[Record], folder: str, buckets: int | None, *, may_grow: bool = True
) -> tuple[int, int]:
    """Stream records into bucket files ``listing-00000.parquet`` of a folder of their own.

    Records are in list order; their paths may repeat. ``buckets`` is as in the last plan, or None before there is one.
    If that is too few for ``BUCKET_ROWS`` images in each and ``may_grow``, its smallest multiple that is enough is
    taken, so that each bucket is divided, not all of them mixed. Returns (images listed, buckets). Memory
    O(buckets * chunk), whatever the catalogue.
    """
    buckets = buckets or 1
    images = _spread(_chunks(records), folder, buckets)
    factor = max(1, -(-images // (buckets * BUCKET_ROWS))) if may_grow else 1
    if factor > 1:
        _spread(_listed(folder, buckets), folder, buckets * factor)
    return images, buckets * factor


def remove_other_listings(folder: str, kept: str) -> None:
    """Remove the listings in a folder, those of earlier versions too, except the one in its folder ``kept``."""
    for name in storage.list_names(folder):
        if name.startswith("listing-") and name != kept:
            storage.remove(storage.join(folder, name))


def _listed(folder: str, buckets: int) -> Iterator[pa.RecordBatch]:
    for bucket in range(buckets):
        with storage.open_read(listing_file(folder, bucket)) as file:
            yield from pq.ParquetFile(file).iter_batches(_CHUNK)


def _chunks(records: Iterable[Record]) -> Iterator[pa.RecordBatch]:
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
            yield pa.RecordBatch.from_pylist(rows, schema=LISTING_SCHEMA)
            rows = []
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=LISTING_SCHEMA)


def _spread(chunks: Iterable[pa.RecordBatch], folder: str, buckets: int) -> int:
    """Write each row to the file of its bucket; returns the number of rows."""
    images = 0
    with ExitStack() as stack:
        writers = []
        for bucket in range(buckets):
            file = stack.enter_context(storage.atomic_write(listing_file(folder, bucket)))
            writers.append(stack.enter_context(pq.ParquetWriter(file, LISTING_SCHEMA)))
        waiting: dict[int, list[pa.RecordBatch]] = defaultdict(list)
        for chunk in chunks:
            images += chunk.num_rows
            rows: dict[int, list[int]] = defaultdict(list)
            for row, path in enumerate(chunk.column("path").to_pylist()):
                rows[bucket_of(path, buckets)].append(row)
            for bucket, taken in sorted(rows.items()):
                waiting[bucket].append(chunk.take(pa.array(taken)))
                if sum(map(len, waiting[bucket])) >= _GROUP:
                    writers[bucket].write_table(pa.Table.from_batches(waiting.pop(bucket)))
        for bucket, rest in sorted(waiting.items()):
            writers[bucket].write_table(pa.Table.from_batches(rest))
    return images


def listing_file(folder: str, bucket: int) -> str:
    """Path of a bucket's listing."""
    return storage.join(folder, f"listing-{bucket:05d}.parquet")


def assign_ids(paths: Sequence[str]) -> dict[str, str]:
    """Ids of images: the base name up to the first dot, as published, unless two images would share it.

    Those get the first name that is not shared: base name without its last suffix, path without it, whole path. The
    short id of an id is that of its image, so ids are unique over all buckets. ``paths`` must not repeat.
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
