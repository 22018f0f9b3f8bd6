"""The embedding store: Parquet shards that any reader opens, and a manifest written last.

Shapes: N = images of a shard, R = regions an image, V = N * R views, D = embedding width.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval_core.files import storage, tables
from retrieval_core.store import vector_files
from retrieval_core.store.windows import copy_windows, windows_file, windows_folder

MANIFEST = "manifest.json"
_REJECTS = b"rejects"
Box = tuple[int, int, int, int]
"""Pixels x0, y0, x1, y1 of an image after orientation; x1 and y1 lie outside."""


class Reject(NamedTuple):
    """An image that was not embedded, and why."""

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

    ``images`` are (path, id) of the N embedded ones, ``rejects`` the images without a row. ``boxes_NR4`` are int32,
    ``embeddings_VD`` float32 and image-major; ``dtype`` is that of the stored vectors.
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


def copy_images(sources: Sequence[tuple[str, Collection[str]]], target: str) -> None:
    """Write a shard of images of other shards, at least one: vectors are copied, not computed; so are kept windows.

    ``sources`` are pairs of a shard file and the paths of the images to take. Memory O(shard written and one read).
    """
    windows = [(windows_file(source), paths) for source, paths in sources]
    if all(tables.is_whole_table(file) for file, _ in windows):
        copy_windows(windows, windows_file(target))
    taken, rejects = list[pa.Table](), list[Reject]()
    for source, paths in sources:
        wanted = set(paths)
        table, found = tables.with_table(
            source, lambda reader, _: (reader.read(use_threads=False), _rejects_of(reader))
        )
        rejects += [reject for reject in found if reject.path in wanted]
        taken.append(table.filter(pc.is_in(table.column("path"), pa.array(sorted(wanted), pa.string()))))
    _write(target, pa.concat_tables(taken), rejects)


def replace_vectors(source: str, target: str, change: Callable[[pa.ChunkedArray, np.ndarray], np.ndarray]) -> None:
    """Write a shard again with the vectors that ``change`` makes of its paths (V) and vectors (V, D), float32."""
    table, rejects = tables.with_table(source, lambda reader, _: (reader.read(use_threads=False), _rejects_of(reader)))
    place = table.schema.get_field_index("embedding")
    field = table.schema.field(place)
    vectors_VD = change(table.column("path"), vector_files.matrix(table.column(place)).astype(np.float32))
    values = pa.array(vectors_VD.astype(field.type.value_type.to_pandas_dtype()).reshape(-1))
    _write(
        target, table.set_column(place, field, pa.FixedSizeListArray.from_arrays(values, field.type.list_size)), rejects
    )


def _write(path: str, table: pa.Table, rejects: Sequence[Reject]) -> None:
    metadata = {**(table.schema.metadata or {}), _REJECTS: json.dumps([list(reject) for reject in rejects])}
    storage.write_bytes(path, vector_files.encode(table.replace_schema_metadata(metadata), "embedding"))


def _rejects_of(reader: pq.ParquetFile) -> list[Reject]:
    return [Reject(*row) for row in json.loads((reader.schema_arrow.metadata or {})[_REJECTS])]


def shard_summary(path: str) -> tuple[int, list[Reject]]:
    """(rows, rejects) of a committed shard, from its footer."""
    with storage.open_read(path) as file:
        reader = pq.ParquetFile(file)
        return reader.metadata.num_rows, _rejects_of(reader)


class Vectors(NamedTuple):
    """Some images of a store, ordered by path."""

    paths: pa.Array
    embeddings_FRD: np.ndarray
    boxes_FR4: np.ndarray
    order_F: np.ndarray
    """The place of each image in what was read, from 0."""


def read_vectors(files: Sequence[tuple[str, int, int]], regions: int, *, boxes: bool = False) -> Vectors:
    """Read row ranges of shards and order their images by path: float32 (F, R, D). Memory O(F R D).

    ``files`` are triples of shard file, first image and last image + 1; ``regions`` is the number of rows an image.
    """
    reading = _Reading(sum(stop - start for _, start, stop in files), regions, boxes)
    for path, start, stop in files:
        tables.with_table(path, partial(reading.take, start, stop))
    return reading.ordered()


class _Reading:
    """Arrays filled shard by shard: each vector is read straight to its place, so memory holds it once."""

    def __init__(self, capacity: int, regions: int, boxes: bool) -> None:
        self.capacity, self.regions, self.columns = capacity, regions, ["path", *(["box"] if boxes else [])]
        self.filled = 0
        self.paths: list[pa.Array] = []
        self.embeddings = np.zeros((0, regions, 1), np.float32)
        self.boxes = np.zeros((capacity, regions, 4), np.int32)

    def take(self, start: int, stop: int, reader: pq.ParquetFile, file: IO[bytes]) -> None:
        """Read images ``start`` to ``stop - 1`` of a shard, or as many of them as it has."""
        regions = self.regions
        table = reader.read(columns=self.columns, use_threads=False).slice(start * regions, (stop - start) * regions)
        count = len(table) // regions
        dim = reader.schema_arrow.field("embedding").type.list_size
        if not self.filled:
            self.embeddings = np.empty((self.capacity, regions, dim), np.float32)
        rows = slice(self.filled, self.filled + count)
        vector_files.read_rows(reader, file, "embedding", start * regions, self.embeddings[rows].reshape(-1, dim))
        if "box" in self.columns:
            self.boxes[rows] = vector_files.matrix(table.column("box")).reshape(count, regions, 4)
        names = table.column("path").combine_chunks()
        self.paths.append(names if regions == 1 else names.take(pa.array(np.arange(0, count * regions, regions))))
        self.filled += count

    def ordered(self) -> Vectors:
        names = pa.concat_arrays(self.paths) if self.paths else pa.array([], pa.string())
        embeddings, boxes = self.embeddings[: self.filled], self.boxes[: self.filled]
        if pc.all(pc.less(names[:-1], names[1:])).as_py() is not False:
            return Vectors(names, embeddings, boxes, np.arange(len(names)))
        order = np.asarray(pc.sort_indices(names)).astype(np.int64)
        return Vectors(names.take(pa.array(order)), embeddings[order], boxes[order], order)


def write_manifest(
    folder: str, fingerprint: str, shards: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
) -> None:
    """Write the list of live shards, then remove files of other shards.

    ``fingerprint`` is that of the catalogue as embedded. Each shard has file, images, rows and rejected. ``facts`` are
    the model and preprocessing, for people.
    """
    value = {"fingerprint": fingerprint, **facts, "shards": list(shards)}
    path = storage.join(folder, MANIFEST)
    if not storage.exists(path) or storage.read_json(path) != value:
        storage.write_json(path, value)
    live = {MANIFEST, *(shard["file"] for shard in shards)}
    for place in (folder, windows_folder(folder)):
        for name in storage.list_names(place):
            if name not in live and name.endswith((".parquet", ".tmp")):
                storage.remove(storage.join(place, name))


def read_manifest(folder: str) -> dict[str, Any]:
    """The manifest of a finished store. Raises FileNotFoundError if the store is not finished."""
    manifest: dict[str, Any] = storage.read_json(storage.join(folder, MANIFEST))
    return manifest
