"""Parquet files with a column of vectors that any reader opens, and that we read at the speed of the disk.

Parquet readers decode a list number by number, which for vectors takes as long as ranking them. But numbers that are
neither compressed nor encoded lie in the file as they do in memory: where the column is one page of one row group, they
are the last bytes of its chunk, and the footer says where that ends. A file of ours is marked as such if this was
verified when it was written; every other file is decoded.

Shapes: V rows, D dimensions.
"""

from __future__ import annotations

from io import BytesIO
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_LAYOUT = b"vectors"
_PLAIN = b"one plain page"
_ONE_PAGE = 1 << 30  # bytes of a page at most; its limit of rows is lifted too


def encode(table: pa.Table, column: str) -> bytes:
    """The content of a Parquet file. Memory O(V D).

    ``column`` holds the vectors: the last column, a fixed-size list of floats or a fixed number of bytes, without
    nulls. Others are flat or lists. The table's metadata is kept.
    """
    # Numbers of vectors hardly repeat: a dictionary would make them larger, and compression saves a tenth.
    others = [_leaf(field) for field in table.schema if field.name != column]
    leaf = _leaf(table.schema.field(column))
    values = _values(table.column(column)).tobytes()
    for layout in (_PLAIN, b""):
        buffer = BytesIO()
        pq.write_table(
            table.replace_schema_metadata({**(table.schema.metadata or {}), _LAYOUT: layout}),
            buffer,
            compression=dict.fromkeys(others, "zstd") | {leaf: "none"},
            use_dictionary=others,
            row_group_size=max(len(table), 1),
            data_page_size=_ONE_PAGE,
            max_rows_per_page=max(len(table), 1),
        )
        content = buffer.getvalue()
        place = _place(pq.ParquetFile(BytesIO(content)), len(values))
        if place is None or content[place : place + len(values)] == values:
            break
    return content


def read_rows(reader: pq.ParquetFile, file: IO[bytes], column: str, first: int, out_VD: np.ndarray) -> None:
    """Read the vectors from row ``first`` on into ``out_VD``: float32, or int8 where each is a number of bytes.

    ``out_VD`` is contiguous, ``file`` the one of ``reader``.

    Raises ``pyarrow.ArrowInvalid`` if the file is shorter than its footer says.
    """
    if not len(out_VD):
        return
    stored, numbers = _numbers(reader.schema_arrow.field(column).type)
    row = numbers * stored.itemsize
    place = _place(reader, reader.metadata.num_rows * row)
    if place is None:
        out_VD[:] = matrix(reader.read(columns=[column], use_threads=False).column(0).slice(first, len(out_VD)))
        return
    target = out_VD if stored == out_VD.dtype else np.empty(out_VD.shape, stored)
    file.seek(place + first * row)
    if file.readinto(target.reshape(-1).view(np.uint8).data) != target.nbytes:  # type: ignore[attr-defined]
        raise pa.ArrowInvalid("it ends in the middle of its vectors")
    if target is not out_VD:
        out_VD[:] = target


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of vectors as a (V, D) array, without a copy where it is one chunk."""
    return _values(column).reshape(len(column), _numbers(column.type)[1])


def _numbers(kind: pa.DataType) -> tuple[np.dtype, int]:
    """Type and count of the numbers of a vector: Parquet has no list of int8, so those are bytes."""
    if pa.types.is_fixed_size_binary(kind):
        return np.dtype(np.int8), kind.byte_width
    return np.dtype(kind.value_type.to_pandas_dtype()), kind.list_size


def _values(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        return np.frombuffer(array.buffers()[1], np.int8, len(array) * width, array.offset * width)
    values: np.ndarray = array.flatten().to_numpy(zero_copy_only=False)
    return values


def _place(reader: pq.ParquetFile, size: int) -> int | None:
    """Byte at which the vectors' numbers begin, if the file is marked as having them in one plain page."""
    if (reader.schema_arrow.metadata or {}).get(_LAYOUT) != _PLAIN or reader.metadata.num_row_groups != 1:
        return None
    chunk = reader.metadata.row_group(0).column(reader.metadata.num_columns - 1)
    return int(chunk.data_page_offset + chunk.total_compressed_size - size)


def _leaf(field: pa.Field) -> str:
    """Parquet's name of a column; our lists are one level deep."""
    is_list = pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)
    return f"{field.name}.list.element" if is_list else str(field.name)
