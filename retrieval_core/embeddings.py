"""The embedding store: Parquet shards that any reader opens, and a manifest written last.

Shapes: N = images of a shard, R = regions an image, V = N * R views, D = embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval_core import storage

MANIFEST = "manifest.json"
_REJECTS = b"rejects"


class Reject(NamedTuple):
    """An image that is not in the result, and why."""

    path: str
    reason: str
    detail: str


def shard_schema(dim: int, dtype: str) -> pa.Schema:
    """Columns of a shard. ``embedding`` is L2-normalised; ``box`` is (x0, y0, x1, y1) in pixels after orientation."""
    value = pa.float16() if dtype == "float16" else pa.float32()
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("region", pa.int16(), nullable=False),
            pa.field("box", pa.list_(pa.int32(), 4), nullable=False),
            pa.field("embedding", pa.list_(value, dim), nullable=False),
        ]
    )


def write_shard(
    path: str,
    images: Sequence[tuple[str, str]],
    boxes_NR4: np.ndarray,
    embeddings_VD: np.ndarray,
    rejects: Sequence[Reject],
    dtype: str = "float32",
) -> None:
    """Commit a shard: one file, whole or absent, that carries its rejects in its metadata.

    Args:
        path: of the file.
        images: (path, id) of the N embedded images.
        boxes_NR4: int32, the view of each region in the image.
        embeddings_VD: float32, image-major.
        rejects: images of the shard that have no row.
        dtype: of the stored vectors.
    """
    regions = boxes_NR4.shape[1]
    assert embeddings_VD.shape[0] == len(images) * regions
    schema = shard_schema(embeddings_VD.shape[1], dtype)
    values = embeddings_VD.astype(dtype).reshape(-1)
    table = pa.Table.from_arrays(
        [
            pa.array([image[0] for image in images for _ in range(regions)], pa.string()),
            pa.array([image[1] for image in images for _ in range(regions)], pa.string()),
            pa.array(np.tile(np.arange(regions, dtype=np.int16), len(images))),
            pa.FixedSizeListArray.from_arrays(pa.array(boxes_NR4.reshape(-1).astype(np.int32)), 4),
            pa.FixedSizeListArray.from_arrays(pa.array(values), embeddings_VD.shape[1]),
        ],
        schema=schema,
    )
    _write(path, table, rejects)


def shrink_shard(source: str, target: str, keep: Iterable[str]) -> None:
    """Write a shard again without the images that left the catalogue; vectors are copied, not computed."""
    kept = set(keep)
    with storage.open_read(source) as file:
        reader = pq.ParquetFile(file)
        table, rejects = reader.read(), _rejects_of(reader)
    table = table.filter(pc.is_in(table.column("path"), pa.array(sorted(kept), pa.string())))
    _write(target, table, [reject for reject in rejects if reject.path in kept])


def _write(path: str, table: pa.Table, rejects: Sequence[Reject]) -> None:
    metadata = {**(table.schema.metadata or {}), _REJECTS: json.dumps([list(reject) for reject in rejects])}
    storage.write_table(path, table.replace_schema_metadata(metadata), plain="embedding")


def _rejects_of(reader: pq.ParquetFile) -> list[Reject]:
    return [Reject(*row) for row in json.loads((reader.schema_arrow.metadata or {})[_REJECTS])]


def shard_summary(path: str) -> tuple[int, list[Reject]]:
    """(rows, rejects) of a committed shard; reads the footer only."""
    with storage.open_read(path) as file:
        reader = pq.ParquetFile(file)
        return reader.metadata.num_rows, _rejects_of(reader)


class Vectors(NamedTuple):
    """Some images of a store, ordered by path."""

    paths: pa.Array
    embeddings_FRD: np.ndarray
    boxes_FR4: np.ndarray


def read_vectors(files: Sequence[tuple[str, int, int]], regions: int, *, boxes: bool = False) -> Vectors:
    """Read row ranges of shards and order their images by path.

    Args:
        files: (shard file, first image, last image + 1) triples.
        regions: rows an image.
        boxes: whether to read the boxes too.

    Returns:
        Vectors with F images: float32, (F, R, D). Memory O(F R D).
    """
    room = sum(stop - start for _, start, stop in files)
    columns = ["path", "embedding", *(["box"] if boxes else [])]
    paths: list[pa.Array] = []
    embeddings, found = np.zeros((0, regions, 1), np.float32), np.zeros((room, regions, 4), np.int32)
    filled = 0
    for path, start, stop in files:
        table = storage.read_table(path, columns=columns).slice(start * regions, max(stop - start, 0) * regions)
        count = len(table) // regions  # a slice may end beyond the shard
        vectors = _matrix(table.column("embedding"))
        if not filled:
            embeddings = np.empty((room, regions, vectors.shape[1]), np.float32)
        rows = slice(filled, filled + count)
        # Each shard is copied to its place while it is in the cache; all of them are in memory once.
        embeddings[rows] = vectors.reshape(count, regions, vectors.shape[1])
        if boxes:
            found[rows] = _matrix(table.column("box")).reshape(count, regions, 4)
        names = table.column("path").combine_chunks()
        paths.append(names if regions == 1 else names.take(pa.array(np.arange(0, count * regions, regions))))
        filled += count
    names = pa.concat_arrays(paths) if paths else pa.array([], pa.string())
    embeddings, found = embeddings[:filled], found[:filled]
    order = np.asarray(pc.sort_indices(names))
    if np.array_equal(order, np.arange(len(order))):
        return Vectors(names, embeddings, found)
    return Vectors(names.take(pa.array(order)), embeddings[order], found[order])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as a (rows, width) array, without a copy where it is one chunk."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    values: np.ndarray = array.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(array), column.type.list_size)


def write_manifest(
    folder: str, fingerprint: str, shards: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> None:
    """Write the list of live shards, last, then remove what is no longer live.

    Args:
        folder: of the store.
        fingerprint: of the catalogue as embedded.
        shards: file, images, rows, rejected of each.
        facts: model and preprocessing, for people.
    """
    value = {"fingerprint": fingerprint, **facts, "shards": list(shards)}
    path = storage.join(folder, MANIFEST)
    if not storage.exists(path) or storage.read_json(path) != value:
        storage.write_json(path, value)
    live = {MANIFEST, *(shard["file"] for shard in shards)}
    for name in storage.list_names(folder):
        if name not in live and (name.endswith(".parquet") or name.endswith(".tmp")):
            storage.remove(storage.join(folder, name))


def read_manifest(folder: str) -> dict[str, Any]:
    """The manifest of a finished store.

    Raises:
        FileNotFoundError: if the store is not finished.
    """
    manifest: dict[str, Any] = storage.read_json(storage.join(folder, MANIFEST))
    return manifest
