"""Lists, CSV files and Parquet tables, read as a stream.

A problem names its line (row in Parquet, both from 1). Where reading can go on, it is given to a ``Report``, which
raises it unless the caller wants to see all of them.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_core.data.image_tree import is_folder
from retrieval_core.data.labels import looks_like_a_list, names_in
from retrieval_core.data.records import DataError, Report, fail
from retrieval_core.files import storage
from retrieval_core.files.formats import FIRST, format_of

BATCH_ROWS = 8192
_BUFFER = 1 << 20
LONGEST_LINE = 16 << 20  # bytes; the lines of TestAll_index.csv, with a cell per category, are the longest by far
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")  # what a file name, JSON or Parquet cannot hold


class Layout(NamedTuple):
    """The columns of a manifest."""

    path: str
    categories: str
    separator: str | None  # between the categories in a cell; None if a cell holds one


QUERIES = Layout("query_path", "category", None)
FABRICS = Layout("image_path", "categories", ";")


def text_lines(path: str, report: Report = fail) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file with their numbers, with their line ends and without a byte order mark.

    A line that is not UTF-8 is reported and skipped, and so is a whole file of another format (gzip, Feather, a
    spreadsheet, ...). Raises DataError if the file is missing or unreadable, or a line is longer than ``LONGEST_LINE``.
    Memory O(longest line).
    """
    with _open(path) as file:
        lines = io.BufferedReader(cast(io.RawIOBase, file), _BUFFER)
        try:
            other = _other_format(path, lines.peek(FIRST)[:FIRST])
        except OSError as error:
            raise _unreadable(path, error) from None
        if other is not None:
            report(other)
            return
        for number in count(1):
            try:
                raw = lines.readline(LONGEST_LINE + 1)
            except OSError as error:
                raise _unreadable(path, error) from None
            if not raw:
                return
            if len(raw) > LONGEST_LINE:
                problem = f"line {number} is longer than {LONGEST_LINE:,} bytes"
                raise DataError(f"{path}: {problem}; this is no table of text, or its line ends are lost")
            try:
                text = raw.removeprefix(b"\xef\xbb\xbf").decode() if number == 1 else raw.decode()
            except UnicodeDecodeError:
                remedy = f"if it is of Windows: iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(path)} > utf8.csv"
                report(DataError(f"{path}: line {number} is not UTF-8 text; save the file as UTF-8 ({remedy})"))
                continue
            yield number, text


def _other_format(path: str, start: bytes) -> DataError | None:
    form = format_of(start)
    if form is None:
        return None
    problem = f"is {form.name}, not a table of UTF-8 text or Parquet"
    return DataError(f"{path}: {problem}; {form.remedy_for(path)}", "other-format")


def list_lines(path: str, report: Report = fail) -> Iterator[tuple[int, str]]:
    """The entries of a list of paths: lines without surrounding blanks, empty ones left out."""
    for number, text in text_lines(path, report):
        entry = text.strip()
        if "\0" in entry or "\r" in entry:
            odd = "a zero byte" if "\0" in entry else "a carriage return"
            report(DataError(f"{path}: line {number} holds {odd}; save the file as plain text with one path a line"))
        elif entry:
            yield number, entry


def csv_rows(path: str, report: Report = fail) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file with the number of their last line; cells without surrounding blanks, blank rows left out.

    Faulty quoting is reported and ends the reading, for the cells that follow cannot be told apart. Raises DataError if
    the file is missing or unreadable.
    """
    # Strict: otherwise a quote that is never closed swallows the rest of the file into one cell.
    reader = csv.reader((text for _, text in text_lines(path, report)), strict=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any("\0" in cell for cell in cells):
                report(DataError(f"{path}: line {reader.line_num} holds a zero byte; save the file as UTF-8 text"))
            elif any(cells):
                yield reader.line_num, cells
    except csv.Error as error:
        report(DataError(f"{path}: line {reader.line_num} is not valid CSV ({error}); check quotes and line ends"))


def csv_records(
    path: str, needed: tuple[str, ...], optional: tuple[str, ...] = (), report: Report = fail
) -> Iterator[tuple[int, list[str | None]]]:
    """(line, cells) of a CSV file with a header: the needed, then the optional columns, None for one it does not have.

    Reports rows of another length than the header. Raises DataError if a needed column is missing or any comes twice.
    """
    rows = csv_rows(path, report)
    _, header = next(rows, (0, []))
    _require_columns(path, header, needed, optional)
    places = [header.index(name) if name in header else None for name in (*needed, *optional)]
    for line, cells in rows:
        if len(cells) != len(header):
            problem = f"line {line} has {len(cells)} cells where the header has {len(header)}"
            report(DataError(f"{path}: {problem}; put cells that hold a comma in double quotes"))
            continue
        yield line, [None if place is None else cells[place] for place in places]


def manifest_files(path: str) -> list[str]:
    """The files of a manifest: itself, or the Parquet files of a folder in order of names."""
    if not is_folder(path):
        return [path]
    names = [name for name in storage.list_names(path) if name.endswith(".parquet") and name[0] not in "._"]
    if not names:
        raise DataError(f"{path}: is a folder without Parquet files; name a CSV or Parquet file", "missing-file")
    return [storage.join(path, name) for name in names]


def manifest_columns(path: str) -> list[str]:
    """Names of a manifest's columns; a DataError if it cannot be read."""
    first = manifest_files(path)[0]
    if _is_parquet(first):
        with _open(first) as file, _arrow_errors(first):
            return list(pq.ParquetFile(file).schema_arrow.names)
    return next(csv_rows(first), (0, []))[1]


def manifest_rows(
    path: str, layout: Layout, labels_needed: bool = False, report: Report = fail, keep_lists: bool = False
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(path, categories) of each row, as the manifest spells them. Memory O(``BATCH_ROWS`` and a row group's pages).

    A manifest is a CSV file, a Parquet file or a folder of Parquet files; its layout is ``QUERIES`` or ``FABRICS``.
    Faulty rows are reported and skipped; a category that looks like a list is reported unless ``keep_lists``. Raises
    DataError if the manifest cannot be read or lacks a column; that of the categories must be there if
    ``labels_needed``.
    """
    needed = (layout.path, layout.categories) if labels_needed else (layout.path,)
    optional = () if labels_needed else (layout.categories,)
    for file in manifest_files(path):
        is_parquet = _is_parquet(file)
        rows = _parquet_records(file, needed, optional) if is_parquet else csv_records(file, needed, optional, report)
        unit = "row" if is_parquet else "line"
        for number, (name, cell) in rows:
            labels = labels_of(cell, layout.separator)
            if not isinstance(name, str) or not name.strip() or _UNSTORABLE.search(name):
                problem = f"{layout.path} is {name!r}; every {unit} must name an image"
            elif labels is None:
                problem = f"{layout.categories} is {cell!r}, which is no text; write the names of categories there"
            else:
                whole = [cell] if isinstance(cell, str) else []
                if not keep_lists and any(map(looks_like_a_list, (*whole, *labels))):
                    report(DataError(f"{file}: {unit} {number}: {_list_problem(layout, str(cell))}"))
                yield name, labels
                continue
            report(DataError(f"{file}: {unit} {number}: {problem}"))


def _list_problem(layout: Layout, cell: str) -> str:
    names = names_in(cell)
    remedy = "leave the cell empty"
    if names and layout.separator is not None:
        remedy = f"write {layout.separator.join(names)}"
    elif names:
        remedy = f"write one name, such as {names[0]}"
    shown = f"{layout.categories} is {cell!r}, a list written as text"
    return f"{shown}; {remedy}, or set data.list_like=keep if that is a name"


def labels_of(cell: object, separator: str | None = None) -> tuple[str, ...] | None:
    """Stripped categories in a cell of a table or JSON: text, a whole number, a list of them or nothing; else None."""
    if cell is None:
        return ()
    if isinstance(cell, int) and not isinstance(cell, bool):
        return (str(cell),)
    if isinstance(cell, str) and not _UNSTORABLE.search(cell):
        texts = cell.split(separator) if separator else [cell]
        return tuple(text.strip() for text in texts if text.strip())
    if isinstance(cell, list):
        parts = [labels_of(item) for item in cell]
        return None if None in parts else tuple(text for part in parts if part for text in part)
    return None


def _parquet_records(
    path: str, needed: tuple[str, ...], optional: tuple[str, ...]
) -> Iterator[tuple[int, list[object]]]:
    with _open(path) as file, _arrow_errors(path):
        table = pq.ParquetFile(file, pre_buffer=False)
        names = table.schema_arrow.names
        _require_columns(path, names, needed, optional)
        columns = [name for name in (*needed, *optional) if name in names]
        number = 0
        for batch in table.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            missing = [None] * batch.num_rows
            cells = (batch.column(name).to_pylist() if name in columns else missing for name in (*needed, *optional))
            for row in zip(*cells, strict=True):
                number += 1
                yield number, list(row)


def _require_columns(path: str, found: list[str], needed: tuple[str, ...], optional: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in found]
    twice = [name for name in (*needed, *optional) if found.count(name) > 1]
    if missing or twice:
        problem = f"has no column {', '.join(missing)}" if missing else f"has the column {', '.join(twice)} twice"
        columns = ", ".join(found) if found else "none"
        hint = _header_hint(found)
        raise DataError(f"{path}: {problem}; columns found: {columns}; needed: {', '.join(needed)}{hint}")


def _header_hint(found: list[str]) -> str:
    """What a header without the columns tells of the file."""
    first = found[0] if found else ""
    if first.startswith(("{", "[")):
        return '; this is JSON: write it as CSV, or as Parquet with pandas.read_json("...").to_parquet("...")'
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(found) == 1 and separator in first:
            return f"; the columns are separated by {name}: save the file with commas"
    return ""


def _is_parquet(path: str) -> bool:
    with _open(path) as file:
        start = bytes(file.read(FIRST))
    if start.startswith(b"PAR1"):
        return True
    other = _other_format(path, start)
    if other is not None:
        raise other
    return False


def _open(path: str) -> Any:
    try:
        return storage.open_read(path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        problem = f"there is no such file{storage.started_in(path)}"
        return DataError(f"{path}: {problem}; put it there or correct the path", "missing-file")
    return DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}", "missing-file")


@contextmanager
def _arrow_errors(path: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}; copy it again") from None
