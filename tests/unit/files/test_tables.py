"""Parquet files on any store are whole, or an error says that they are not."""

from __future__ import annotations

import errno

import pyarrow as pa
import pytest

from retrieval_core.files import storage, tables


def test_tables_round_trip_with_their_metadata(folder):
    path = storage.join(folder, "table.parquet")
    table = pa.table({"a": list(range(10)), "b": list("abcdefghij")}).replace_schema_metadata({"k": "v"})
    tables.write_table(path, table, row_group_size=4)
    assert tables.row_count(path) == 10
    assert tables.read_table(path).equals(table, check_metadata=True)
    assert tables.read_table(path, columns=["b"]).column_names == ["b"]


def test_a_table_that_was_cut_short_is_no_table(folder):
    path = storage.join(folder, "a.parquet")
    assert not tables.is_whole_table(path)
    tables.write_table(path, pa.table({"a": list(range(1000))}))
    assert tables.is_whole_table(path)
    content = storage.read_bytes(path)
    for torn in (content[: len(content) // 2], content[:-1], b""):
        storage.write_bytes(path, torn)
        assert not tables.is_whole_table(path)
        with pytest.raises(ValueError, match=r"a\.parquet: not a whole Parquet file .*delete it"):
            tables.read_table(path)


def test_a_failed_read_is_tried_again(folder):
    path = storage.join(folder, "a.parquet")
    tables.write_table(path, pa.table({"a": [1]}))
    tries = []

    def use(reader, _):
        tries.append(reader)
        if len(tries) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return reader.read()

    assert tables.with_table(path, use).to_pydict() == {"a": [1]}
    assert len(tries) == 2
    with pytest.raises(FileNotFoundError):
        tables.read_table(storage.join(folder, "absent.parquet"))
