"""All windows of the images of a shard, in 8 bits: a file of its own beside the vectors, for a second look.

The windows of an image are consecutive rows, in the order of the images of the shard, so that those of a few images are
read without the others. The footer has the numbers of windows.

Shapes: N images of a shard, W windows of one, D dimensions.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrieval_core.files import storage, tables
from retrieval_core.store import vector_files

_COUNTS = b"windows"
_GAP = 1 << 20
"""Bytes between two images that are read with them from a URL: to ask an object store once more takes longer."""


class Kept(NamedTuple):
    """All W windows of a fabric; or a query's motif and its parts, which a second look compares with them."""

    windows: NDArray[np.int8]  # (W, D)
    boxes: NDArray[np.int32]  # (W, 4) x0, y0, x1, y1 in pixels after orientation


def windows_folder(store: str) -> str:
    """Where the windows of a store lie: not below it, where a reader of all files of the store would meet them."""
    parent, _, role = store.rpartition("/")
    return storage.join(parent, "windows", role)


def windows_file(shard: str) -> str:
    """The file with the windows of a shard's images."""
    store, _, name = shard.rpartition("/")
    return storage.join(windows_folder(store), name)


def windows_schema(dim: int) -> pa.Schema:
    """Columns of a file: ``window`` are D bytes, each a signed whole number."""
    return pa.schema(
        [
            pa.field("path", pa.string(), nullable=False),
            pa.field("box", pa.list_(pa.int32(), 4), nullable=False),
            pa.field("window", pa.binary(dim), nullable=False),
        ]
    )


def write_windows(path: str, names: Sequence[str], kept: Sequence[Kept], dim: int) -> None:
    """Write the windows of a shard's N embedded images, whole or not at all. Memory O(N W D)."""
    counts = [len(image.windows) for image in kept]
    boxes = np.concatenate([np.empty((0, 4), np.int32), *(image.boxes for image in kept)])
    windows = np.concatenate([np.empty((0, dim), np.int8), *(image.windows for image in kept)])
    columns = [
        pa.array(np.repeat(np.array(names, object), counts), pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1), pa.int32()), 4),
        pa.Array.from_buffers(pa.binary(dim), len(windows), [None, pa.py_buffer(windows)]),
    ]
    _write(path, pa.Table.from_arrays(columns, schema=windows_schema(dim)), counts)


def copy_windows(sources: Sequence[tuple[str, Collection[str]]], target: str) -> None:
    """Write the windows of images of other shards, at least one; arguments and memory as those of ``copy_images``."""
    taken, counts = list[pa.Table](), list[int]()
    for source, paths in sources:
        table, lengths = tables.with_table(source, lambda reader, _: (reader.read(use_threads=False), _counts(reader)))
        names = table.column("path").combine_chunks().take(pa.array(np.cumsum(lengths) - lengths))
        is_taken = np.isin(names.to_numpy(zero_copy_only=False), list(paths))
        taken.append(table.filter(pa.array(np.repeat(is_taken, lengths))))
        counts += lengths[is_taken].tolist()
    _write(target, pa.concat_tables(taken), counts)


def _write(path: str, table: pa.Table, counts: Sequence[int]) -> None:
    marked = table.replace_schema_metadata({_COUNTS: json.dumps(list(counts))})
    storage.write_bytes(path, vector_files.encode(marked, "window"))


def windows_summary(path: str) -> int:
    """The number of images of a committed file, from its footer."""
    with storage.open_read(path) as file:
        return len(_counts(pq.ParquetFile(file)))


def _counts(reader: pq.ParquetFile) -> NDArray[np.int64]:
    return np.array(json.loads((reader.schema_arrow.metadata or {})[_COUNTS]), np.int64)


def read_windows(path: str, images: NDArray[np.int64], *, boxes: bool = True) -> list[Kept]:
    """The windows of some images, by their ascending numbers in the shard. Memory O(their windows + boxes of all).

    Without ``boxes``, whose decoding takes most of the time where images are few, there are none: (0, 4).
    """
    return tables.with_table(path, partial(_read, images, boxes, _GAP if storage.is_url(path) else 0))


def read_places(
    slices: Sequence[tuple[str, int, int]], first: int, places: NDArray[np.int64], *, boxes: bool = True
) -> Iterator[tuple[NDArray[np.int64], list[Kept]]]:
    """The windows of some images, shard by shard: their numbers and windows. Memory O(those of a shard).

    ``slices`` are shard file, first image and last + 1 of consecutive images of a store, numbered from ``first`` on;
    ``places`` are numbers of images, ascending, no two equal; ``boxes`` is that of ``read_windows``.
    """
    for shard, start, stop in slices:
        chosen = places[slice(*np.searchsorted(places, (first, first + stop - start)))]
        if len(chosen):
            yield chosen, read_windows(windows_file(shard), chosen - first + start, boxes=boxes)
        first += stop - start


def _read(images: NDArray[np.int64], with_boxes: bool, gap: int, reader: pq.ParquetFile, file: IO[bytes]) -> list[Kept]:
    counts = _counts(reader)
    stops = np.cumsum(counts)
    boxes = np.empty((0, 4), np.int32)
    if with_boxes:
        boxes = vector_files.matrix(reader.read(columns=["box"], use_threads=False).column(0))
    dim = reader.schema_arrow.field("window").type.byte_width
    found: list[Kept] = []
    for start, stop in _stretches(stops[images] - counts[images], stops[images], gap // dim):
        first, last = int(stops[images[start]] - counts[images[start]]), int(stops[images[stop - 1]])
        windows = np.empty((last - first, dim), np.int8)
        vector_files.read_rows(reader, file, "window", first, windows)
        for image in images[start:stop].tolist():
            rows = slice(stops[image] - counts[image], stops[image])
            found.append(Kept(windows[rows.start - first : rows.stop - first], boxes[rows]))
    return found


def _stretches(starts: NDArray[np.int64], stops: NDArray[np.int64], gap: int) -> list[tuple[int, int]]:
    """Ranges of images of which no two neighbours are more than ``gap`` rows apart."""
    cuts = np.flatnonzero(starts[1:] - stops[:-1] > gap) + 1
    bounds = [0, *cuts.tolist(), len(starts)]
    return [(start, stop) for start, stop in pairwise(bounds) if stop > start]
