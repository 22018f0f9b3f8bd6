"""The candidate pool's files: ``candidate_pool.parquet`` and ``first_retrieval_results.json``.

The pool comes in parts, one per block of queries in the order of the query list: the tables of
``partials.merge_partials``. One part is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from json.encoder import encode_basestring
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrieval_core.files import storage, tables

_BOX = pa.list_(pa.int32(), 4)
_ROWS = 1 << 16  # converted or read at a time


class PoolCounts(NamedTuple):
    """Sizes of a pool."""

    queries: int  # in the query list, rejected ones too
    answered: int  # with at least one candidate
    candidates: int  # rows of the Parquet file


class QueryCandidates(NamedTuple):
    """The candidates of one query, best first; K of them."""

    query_path: str
    image_paths: list[str]
    similarities: NDArray[np.float32]  # (K,)
    boxes: NDArray[np.int32] | None  # (K, 4) x0, y0, x1, y1 in pixels, when the pool has regions


class PartError(ValueError):
    """A part of the pool does not belong to this query list or is not in order."""


def pool_schema(with_boxes: bool) -> pa.Schema:
    """Columns of ``candidate_pool.parquet``; ``rank`` counts from 1."""
    fields = [
        pa.field("query_path", pa.string(), nullable=False),
        pa.field("image_path", pa.string(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
    ]
    return pa.schema([*fields, pa.field("box", _BOX, nullable=False)] if with_boxes else fields)


def write_pool(
    parts: Iterable[str], queries: Sequence[str], parquet_path: str, json_path: str, *, with_boxes: bool
) -> PoolCounts:
    """Write both files of the pool, each whole or not at all. Memory O(rows of one part) beside the query list.

    The JSON maps each query path to its ``[{"image_path", "similarity"}, ...]``, in the order of ``queries``; a query
    without candidates, such as a rejected one, has ``[]`` there and no row in the Parquet file. A similarity is printed
    as the float64 that equals the float32 of the Parquet file.

    ``parts`` are paths in query order. ``queries`` is the whole query list, no two equal. ``with_boxes`` says whether
    the pool has regions. Raises PartError, and writes nothing, if a part is out of order or names a query beyond the
    list.
    """
    done = answered = candidates = 0
    columns, schema = ["query", "similarity", "image_path", *(["box"] if with_boxes else [])], pool_schema(with_boxes)
    with storage.atomic_write(parquet_path) as parquet_file, storage.atomic_write(json_path) as json_file:
        results = _JsonResults(json_file)
        with pq.ParquetWriter(parquet_file, schema, compression="zstd") as writer:
            for path in parts:
                part = tables.read_table(path, columns)
                starts = _starts(part, path, done)
                stop = int(part["query"][-1].as_py()) + 1 if len(part) else done
                if stop > len(queries):
                    raise PartError(f"{path}: answers query {stop - 1}, but the query list has {len(queries)} queries")
                _write_rows(writer, part, starts, queries[done:stop], done)
                _write_results(results, part, starts, queries[done:stop], done)
                done, answered, candidates = stop, answered + len(starts), candidates + len(part)
        for name in queries[done:]:
            results.add(name, [])
        results.close()
    return PoolCounts(len(queries), answered, candidates)


def read_pool(parquet_path: str) -> Iterator[QueryCandidates]:
    """Candidates of each answered query, in the order of the query list.

    Memory O(K) for the query with the most candidates, plus a constant.
    """
    with storage.open_read(parquet_path) as file:
        rest: pa.Table | None = None
        for batch in pq.ParquetFile(file).iter_batches(_ROWS, use_threads=False):
            table = pa.Table.from_batches([batch])
            table = table if rest is None else pa.concat_tables([rest, table])
            firsts = np.flatnonzero(table["rank"].to_numpy() == 1).tolist()
            for start, end in pairwise(firsts):
                yield _candidates(table.slice(start, end - start))
            rest = table.slice(firsts[-1])
        if rest is not None and len(rest):
            yield _candidates(rest)


class _JsonResults:
    """One JSON object, a line per query."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._separator = b"{\n"

    def add(self, query_path: str, candidates: Iterable[tuple[str, str]]) -> None:
        """Write a query; candidates are paths and similarities as JSON."""
        items = [f'{{"image_path": {path}, "similarity": {similarity}}}' for path, similarity in candidates]
        self._file.write(self._separator + f"{encode_basestring(query_path)}: [{', '.join(items)}]".encode())
        self._separator = b",\n"

    def close(self) -> None:
        self._file.write(b"{}\n" if self._separator == b"{\n" else b"\n}\n")


def _starts(part: pa.Table, path: str, first: int) -> NDArray[np.int64]:
    """First row of each query in a part, having checked the part's order."""
    query, similarity = part["query"].to_numpy(), part["similarity"].to_numpy()
    same = query[1:] == query[:-1]
    disordered = (query[1:] < query[:-1]) | (same & ~(similarity[1:] <= similarity[:-1]))
    if disordered.any() or (len(query) and query[0] < first):
        raise PartError(f"{path}: candidates are not ordered by query and similarity; delete it to have it made again")
    if not np.isfinite(similarity).all():
        raise PartError(f"{path}: a similarity is not a finite number; delete it to have it made again")
    return np.flatnonzero(np.concatenate([np.ones(min(len(query), 1), bool), ~same]))


def _write_rows(
    writer: pq.ParquetWriter, part: pa.Table, starts: NDArray[np.int64], queries: Sequence[str], first: int
) -> None:
    if not len(part):
        return
    names = pa.array(queries, pa.large_string())
    lengths = np.diff(starts, append=len(part))
    rank = np.arange(1, len(part) + 1, dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)
    columns = {
        "query_path": names.take(pc.subtract(part["query"], first)),
        "image_path": part["image_path"],
        "similarity": part["similarity"],
        "rank": pa.chunked_array([rank]),
    }
    if "box" in part.column_names:
        columns["box"] = part["box"]
    table = pa.table(columns)
    for start in range(0, len(table), _ROWS):
        # A column of Arrow's 32-bit strings holds 2 GiB, which is enough for these rows but not for any part.
        writer.write_table(table.slice(start, _ROWS).cast(writer.schema))


def _write_results(
    results: _JsonResults, part: pa.Table, starts: NDArray[np.int64], queries: Sequence[str], first: int
) -> None:
    bounds = pairwise([*starts.tolist(), len(part)])
    answered = dict(zip(part["query"].to_numpy()[starts].tolist(), bounds, strict=True))
    for number, name in enumerate(queries, first):
        start, end = answered.get(number, (0, 0))
        rows = part.slice(start, end - start)
        paths = map(encode_basestring, rows["image_path"].to_pylist())
        results.add(name, zip(paths, _numbers(rows["similarity"].to_numpy()), strict=True))


def _numbers(values: NDArray[np.float32]) -> list[str]:
    """Finite numbers as JSON; the float64 read back equals the float32. Arrow prints them faster than Python."""
    texts: list[str] = pc.cast(pa.array(values.astype(np.float64)), pa.string()).to_pylist()
    for place in np.flatnonzero(values == np.rint(values)):
        texts[place] = repr(float(values[place]))  # Arrow prints 1, which JSON reads as an integer
    return texts


def _candidates(rows: pa.Table) -> QueryCandidates:
    boxes = None
    if "box" in rows.column_names:
        boxes = rows["box"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    return QueryCandidates(
        rows["query_path"][0].as_py(), rows["image_path"].to_pylist(), rows["similarity"].to_numpy(), boxes
    )
