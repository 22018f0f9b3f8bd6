"""Vectors read straight from the file equal decoded ones."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.store import vector_files

BITS = {"float32": np.uint32, "float16": np.uint16}


def table_of(vectors: np.ndarray, *, chunks: int = 1) -> pa.Table:
    kind = pa.list_(pa.from_numpy_dtype(vectors.dtype), vectors.shape[1])
    parts = [pa.FixedSizeListArray.from_arrays(part.reshape(-1), type=kind) for part in np.array_split(vectors, chunks)]
    names = pa.array([f"fabric {row % 7}" for row in range(len(vectors))])
    schema = pa.schema([pa.field("path", pa.string()), pa.field("embedding", kind, nullable=False)])
    return pa.table([names, pa.chunked_array(parts, kind)], schema=schema.with_metadata({"kept": "yes"}))


def read(content: bytes, first: int, count: int, dim: int) -> np.ndarray:
    out = np.full((count, dim), np.nan, np.float32)
    vector_files.read_rows(pq.ParquetFile(io.BytesIO(content)), io.BytesIO(content), "embedding", first, out)
    return out


def is_plain(content: bytes) -> bool:
    return vector_files._place(pq.ParquetFile(io.BytesIO(content)), 0) is not None


@settings(max_examples=60)
@given(st.data(), st.integers(0, 60), st.integers(1, 40), st.sampled_from(sorted(BITS)), st.integers(1, 3))
def test_every_row_is_read_to_its_last_bit(data: st.DataObject, rows: int, dim: int, dtype: str, chunks: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    vectors = rng.standard_normal((rows, dim)).astype(dtype)
    if data.draw(st.booleans()):
        vectors[:] = vectors[:1]  # Arrow would encode what repeats
    content = vector_files.encode(table_of(vectors, chunks=chunks), "embedding")
    assert rows == 0 or is_plain(content)
    first = data.draw(st.integers(0, rows))
    count = data.draw(st.integers(0, rows - first))
    found = read(content, first, count, dim)
    np.testing.assert_array_equal(found, vectors[first : first + count].astype(np.float32))
    whole = pq.read_table(io.BytesIO(content))
    assert whole.schema.metadata[b"kept"] == b"yes"
    stored = whole["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    np.testing.assert_array_equal(stored.view(BITS[dtype]), vectors.reshape(-1).view(BITS[dtype]))


def bytes_table(vectors: np.ndarray, *, chunks: int = 1) -> pa.Table:
    kind = pa.binary(vectors.shape[1])
    parts = [pa.array([row.tobytes() for row in part], kind) for part in np.array_split(vectors, chunks)]
    names = pa.array([f"fabric {row % 7}" for row in range(len(vectors))])
    schema = pa.schema([pa.field("path", pa.string()), pa.field("window", kind, nullable=False)])
    return pa.table([names, pa.chunked_array(parts, kind)], schema=schema.with_metadata({"kept": "yes"}))


@settings(max_examples=40)
@given(st.data(), st.integers(0, 60), st.integers(1, 40), st.integers(1, 3))
def test_every_number_of_8_bits_is_read(data: st.DataObject, rows: int, dim: int, chunks: int) -> None:
    vectors = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-128, 128, (rows, dim)).astype(np.int8)
    if data.draw(st.booleans()):
        vectors[:] = vectors[:1]  # Arrow would encode what repeats
    table = bytes_table(vectors, chunks=chunks)
    content = vector_files.encode(table, "window")
    assert rows == 0 or is_plain(content)
    first = data.draw(st.integers(0, rows))
    out = np.full((data.draw(st.integers(0, rows - first)), dim), 99, np.int8)
    vector_files.read_rows(pq.ParquetFile(io.BytesIO(content)), io.BytesIO(content), "window", first, out)
    np.testing.assert_array_equal(out, vectors[first : first + len(out)])
    whole = pq.read_table(io.BytesIO(content))
    assert whole.schema.metadata[b"kept"] == b"yes" and whole.equals(table)
    for column in (table["window"], whole["window"]):
        found = vector_files.matrix(column)
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, vectors)
        np.testing.assert_array_equal(vector_files.matrix(column.slice(first)), vectors[first:])


def test_bytes_of_another_writer_are_decoded() -> None:
    vectors = np.random.default_rng(0).integers(-128, 128, (500, 6)).astype(np.int8)
    buffer, out = io.BytesIO(), np.empty((300, 6), np.int8)
    pq.write_table(bytes_table(vectors), buffer, row_group_size=100)
    vector_files.read_rows(pq.ParquetFile(buffer), buffer, "window", 99, out)
    np.testing.assert_array_equal(out, vectors[99:399])


def test_more_rows_than_arrow_puts_on_a_page() -> None:
    vectors = np.random.default_rng(0).standard_normal((25_000, 3)).astype(np.float32)
    content = vector_files.encode(table_of(vectors), "embedding")
    assert is_plain(content)
    np.testing.assert_array_equal(read(content, 24_990, 10, 3), vectors[-10:])


def test_a_file_of_another_writer_is_decoded() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
    buffer = io.BytesIO()
    pq.write_table(table_of(vectors), buffer, row_group_size=100)
    assert not is_plain(buffer.getvalue())
    np.testing.assert_array_equal(read(buffer.getvalue(), 99, 300, 6), vectors[99:399])


def test_a_layout_that_does_not_hold_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "_ONE_PAGE", 1000)  # as if Arrow had begun new pages
    vectors = np.random.default_rng(0).standard_normal((5000, 8)).astype(np.float32)
    content = vector_files.encode(table_of(vectors), "embedding")
    assert not is_plain(content)
    np.testing.assert_array_equal(read(content, 4000, 1000, 8), vectors[4000:])


def test_a_file_without_its_end_is_an_error() -> None:
    vectors = np.ones((50, 8), np.float32)
    content = vector_files.encode(table_of(vectors), "embedding")
    out = np.empty((50, 8), np.float32)
    short = io.BytesIO(content[: len(content) // 2])
    with pytest.raises(pa.ArrowInvalid, match="in the middle"):
        vector_files.read_rows(pq.ParquetFile(io.BytesIO(content)), short, "embedding", 0, out)
