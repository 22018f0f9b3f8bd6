"""The plan of what is embedded: which image has which id and lies in which shard.

A listing lies in buckets (see ``catalogue_listing``), each of which is planned on its own. Memory of a worker:
O(bucket), about ``BUCKET_ROWS`` images; of the driver: O(shards).

Plan files (``bucket-00000.parquet``): one row an image, in shard and slot order.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_core.data.listing import assign_ids, listing_file
from retrieval_core.files import storage, tables
from retrieval_core.process import no_collection

_ASKED_TOGETHER = 64  # rows of one piece of a thread's work: handing over each would cost more than a local stat
_ENCODER = b"encoder"

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


def plan_file(folder: str, bucket: int) -> str:
    """Where the plan of a bucket is."""
    return storage.join(folder, f"bucket-{bucket:05d}.parquet")


def bucket_shards(files: Iterable[str], bucket: int) -> list[str]:
    """Of a store's shards those of one bucket, known by the names that ``Shard`` gives them."""
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
    with no_collection():
        merged, repeats = _unite(tables.read_table(listing_file(listing, bucket)).to_pylist())
        ids = assign_ids([row["path"] for row in merged])
    for row, stamp in zip(merged, _stamps(merged), strict=True):
        row |= {"stamp": stamp, "id": ids[row["path"]]}
    with no_collection():
        places, old = _read_plan(plan_file(folder, bucket), encoder)
        kept, fresh = _part(merged, places, retry)
        fresh.sort(key=lambda row: row["position"] if keep_order else row["path"].encode())
        first = max(old, default=-1) + 1
        rows = kept + [row | {"shard": first + index // images_per_shard} for index, row in enumerate(fresh)]
        summary, shrunken = _summary(bucket, rows, old, encoder, repeats, keep_order)
        return pa.Table.from_pylist(rows, schema=PLAN_SCHEMA.with_metadata({_ENCODER: encoder})), summary, shrunken


def _summary(
    bucket: int,
    rows: Sequence[dict[str, Any]],
    old: Mapping[int, list[tuple[str, str]]],
    encoder: str,
    repeats: int,
    keep_order: bool,
) -> tuple[BucketPlan, dict[str, tuple[Shard, list[str]]]]:
    """What ``plan_bucket`` tells of its rows beside the plan."""
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
    order = hashlib.sha256(repr([row["position"] for row in rows] if keep_order else "").encode()).hexdigest()
    return BucketPlan([shards[n] for n in sorted(shards)], len(rows), repeats, labels, order), shrunken


def _part(
    rows: Iterable[dict[str, Any]], places: dict[tuple[str, str, str], tuple[int, int]], retry: Collection[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows that keep the shard they have, in its order, and those that need one."""
    kept, fresh = [], []
    for row in rows:
        place = places.get((row["path"], row["id"], row["stamp"]))
        if place is None or row["path"] in retry:
            fresh.append(row)
        else:
            kept.append((place, row))
    kept.sort(key=lambda pair: pair[0])
    return [row | {"shard": place[0]} for place, row in kept], fresh


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


def _stamps(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Of all rows; those that the listing did not tell are asked for by many at a time, as a store may be far."""

    def of_part(start: int) -> list[str]:
        part = rows[start : start + _ASKED_TOGETHER]
        return [row["stamp"] or _stamp(row["location"]) for row in part]

    with ThreadPoolExecutor(16) as pool:
        parts = list(pool.map(of_part, range(0, len(rows), _ASKED_TOGETHER)))
    return [stamp for part in parts for stamp in part]


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
