"""The candidate pool's files: ``candidate_pool.parquet`` and ``first_retrieval_results.json``.

The pool comes in parts, one per block of queries and in the order of the query list: Parquet files with at least the
columns ``query`` (row of the query in the list), ``similarity``, ``image_path`` and, with regions, ``box``, ordered
by query and best first (what ``similarity.merge_partials`` returns). One part is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from json.encoder import encode_basestring
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retrieval_core.files import storage, tables

_BOX = pa.list_(pa.int32(), 4)
_ROWS = 1 << 16  # rows converted or read at a time


class PoolCounts(NamedTuple):
    """What a pool holds."""

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
    parts: Iterable[str], queries: Iterable[str], parquet_path: str, json_path: str, *, with_boxes: bool
) -> PoolCounts:
    """Write both files of the pool, each whole or not at all.

    The JSON maps each query path to its ``[{"image_path", "similarity"}, ...]``, in the order of ``queries``; a query
    without candidates (a rejected one) has ``[]`` there and no row in the Parquet file. A similarity is printed as
    the float64 that equals the float32 of the Parquet file.

    Args:
        parts: paths of the parts, in query order.
        queries: the query list: all query paths, no two equal, rejected ones too.
        parquet_path: ``candidate_pool.parquet``, a path or URL.
        json_path: ``first_retrieval_results.json``, a path or URL.
        with_boxes: whether the pool has regions.

    Returns:
        Counts. Memory O(rows of one part), whatever the number of queries.

    Raises:
        PartError: if a part is out of order or names a query beyond the list; nothing is written then.
    """
    names = _Numbered(queries)
    answered = candidates = 0
    schema = pool_schema(with_boxes)
    with storage.atomic_write(parquet_path) as parquet_file, storage.atomic_write(json_path) as json_file:
        results = _JsonResults(json_file)
        with pq.ParquetWriter(parquet_file, schema, compression="zstd") as writer:
            for path in parts:
                part = tables.read_table(path, ["query", "similarity", "image_path", *(["box"] if with_boxes else [])])
                starts = _starts(part, path, names.count)
                block = names.upto(int(part["query"][-1].as_py()) if len(part) else -1, path)
                _write_rows(writer, part, starts, block)
                _write_results(results, part, starts, block)
                answered += len(starts)
                candidates += len(part)
        for name in names.rest():
            results.add(name, [])
        results.close()
    return PoolCounts(names.count, answered, candidates)


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


class _Numbered:
    """The query list, taken from its iterator block by block."""

    def __init__(self, queries: Iterable[str]) -> None:
        self._queries = iter(queries)
        self.count = 0  # taken so far

    def upto(self, last: int, part: str) -> list[tuple[int, str]]:
        """Numbers and paths of the queries not yet taken, as far as number ``last``."""
        first, wanted = self.count, max(last + 1 - self.count, 0)
        taken = list(enumerate(islice(self._queries, wanted), first))
        if len(taken) < wanted:
            raise PartError(f"{part}: answers query {last}, but the query list has {first + len(taken)} queries")
        self.count += len(taken)
        return taken

    def rest(self) -> Iterator[str]:
        for name in self._queries:
            self.count += 1
            yield name


class _JsonResults:
    """One JSON object written entry by entry, a line each."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._before = b"{\n"

    def add(self, query_path: str, candidates: Iterable[tuple[str, str]]) -> None:
        """Add a query; candidates are paths and similarities as JSON."""
        items = [f'{{"image_path": {path}, "similarity": {similarity}}}' for path, similarity in candidates]
        self._file.write(self._before + f"{encode_basestring(query_path)}: [{', '.join(items)}]".encode())
        self._before = b",\n"

    def close(self) -> None:
        self._file.write(b"{}\n" if self._before == b"{\n" else b"\n}\n")


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
    writer: pq.ParquetWriter, part: pa.Table, starts: NDArray[np.int64], block: list[tuple[int, str]]
) -> None:
    if not block:
        return
    names = pa.array([name for _, name in block], pa.large_string())
    lengths = np.diff(starts, append=len(part))
    rank = np.arange(1, len(part) + 1, dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)
    columns = {
        "query_path": names.take(pc.subtract(part["query"], block[0][0])),
        "image_path": part["image_path"],
        "similarity": part["similarity"],
        "rank": pa.chunked_array([rank]),
    }
    if "box" in part.column_names:
        columns["box"] = part["box"]
    table = pa.table(columns)
    for start in range(0, len(table), _ROWS):
        # Arrow's 32-bit strings hold 2 GiB a column: enough for these rows, not for a part of any size.
        writer.write_table(table.slice(start, _ROWS).cast(writer.schema))


def _write_results(
    results: _JsonResults, part: pa.Table, starts: NDArray[np.int64], block: list[tuple[int, str]]
) -> None:
    bounds = pairwise([*starts.tolist(), len(part)])
    answered = dict(zip(part["query"].to_numpy()[starts].tolist(), bounds, strict=True))
    for number, name in block:
        start, end = answered.get(number, (0, 0))
        rows = part.slice(start, end - start)
        paths = map(encode_basestring, rows["image_path"].to_pylist())
        results.add(name, zip(paths, _numbers(rows["similarity"].to_numpy()), strict=True))


def _numbers(values: NDArray[np.float32]) -> list[str]:
    """Finite numbers as JSON: the float64 read from it equals the float32. Arrow prints them faster than Python."""
    texts: list[str] = pc.cast(pa.array(values.astype(np.float64)), pa.string()).to_pylist()
    for place in np.flatnonzero(values == np.rint(values)):
        texts[place] = repr(float(values[place]))  # 1.0 is to be read as a float, as all the others
    return texts


def _candidates(rows: pa.Table) -> QueryCandidates:
    boxes = None
    if "box" in rows.column_names:
        boxes = rows["box"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    return QueryCandidates(
        rows["query_path"][0].as_py(), rows["image_path"].to_pylist(), rows["similarity"].to_numpy(), boxes
    )
