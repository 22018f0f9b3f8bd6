"""Parquet files, whole or absent, under the paths that ``storage`` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_core.files import storage
from retrieval_core.files.retries import retried

T = TypeVar("T")


def write_table(path: str, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write one Parquet file whole; ``row_group_size`` is in rows, None leaves it to Arrow."""
    with storage.atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=row_group_size)


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """Read one Parquet file in this thread, without a scan of its folder. Errors are those of ``with_table``."""
    return with_table(path, lambda reader, _: reader.read(columns=columns, use_threads=False))


def with_table(path: str, use: Callable[[pq.ParquetFile, IO[bytes]], T]) -> T:
    """Open a Parquet file and return what ``use(reader, file)`` returns; a read that failed is tried again.

    Raises FileNotFoundError if it is absent, ValueError naming it if it is no Parquet file or not a whole one.
    """
    local = storage.local_path(path)

    def read() -> T:
        with storage.open_once(path) as file:
            # Arrow opens a local file itself. Its read-ahead helps with slow stores; on a disk it costs a copy.
            return use(pq.ParquetFile(file) if local is None else pq.ParquetFile(local, pre_buffer=False), file)

    try:
        return retried(read)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a whole Parquet file ({error}); delete it to have it made again") from None


def row_count(path: str) -> int:
    """Rows of a Parquet file, from its footer."""
    with storage.open_read(path) as file:
        return int(pq.ParquetFile(file).metadata.num_rows)


def is_whole_table(path: str) -> bool:
    """True for a Parquet file that has its footer, its last bytes; False where it is absent or was cut short.

    No writer of ours leaves a torn file, but in a power cut a disk can lose content that it had confirmed.
    """
    try:
        row_count(path)
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return True
