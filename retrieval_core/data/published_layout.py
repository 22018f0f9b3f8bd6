"""The files of the published data sets, read as their own code reads them.

- ``train_sub.txt``, ``val_sub.txt``, ``test.txt``: a query a line, ``<path>.png <category>``
- ``{Train,Validation,Test}_split.json``: items ``[n, file name, e_1..e_m, c_1..c_m]``, element ids, then categories
- ``Test_element.csv``: ``<query id>.png,<category>``, no header
- ``TestAll_index.csv``: header = categories; column c lists the ids of the fabrics that contain c
- ``.../<split>/img/images/<fabric id>.png``: fabric images

Where two fabrics share the published id (``a.png`` and ``a.b.png`` are both ``a``), a label belongs to the fabric that
it names in full; the published code would give it to both. Memory: O(split).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from retrieval_core.config.sections import Split
from retrieval_core.data.image_tree import LeftOut, find_folders, untold, walk_images
from retrieval_core.data.manifests import csv_rows, labels_of, list_lines
from retrieval_core.data.records import (
    DataError,
    Record,
    Report,
    fabric_record,
    fail,
    from_root,
    full_stem,
    has_image_suffix,
    image_suffixes,
    is_there,
    query_id,
    query_record,
    short_id,
    without_image_suffix,
)
from retrieval_core.files import storage
from retrieval_core.files.formats import FIRST, format_of

QUERY_LISTS: Mapping[Split, str] = {"train": "train_sub.txt", "validation": "val_sub.txt", "test": "test.txt"}
SPLIT_FILES: Mapping[Split, str] = {
    "train": "Train_split.json",
    "validation": "Validation_split.json",
    "test": "Test_split.json",
}
QUERY_CLASSES = "Test_element.csv"
FABRIC_INDEX = "TestAll_index.csv"
QUERY_FOLDER = "element img"
LARGEST_SPLIT_FILE = 256 << 20  # bytes, some 2 million fabrics; it is read whole and takes several times as much memory


class Labels(NamedTuple):
    """What the label files say of one fabric."""

    categories: frozenset[str] = frozenset()
    elements: frozenset[str] = frozenset()


class Fabrics(NamedTuple):
    """The fabrics of a split, with what does not fit together in its files."""

    records: list[Record]  # in the order in which the folders are walked
    categories: frozenset[str]  # every one in the label files, also those that no fabric holds
    without_image: list[str]  # ids in the label files that no image has, sorted


def read_queries(root: str, split: Split, report: Report = fail) -> Iterator[Record]:
    """Queries of a split in list order; a DataError if the list is missing.

    The category of a test query comes from ``Test_element.csv`` by its id where that file exists (a query that it
    does not name has none), otherwise from its line.
    """
    path = from_root(root, QUERY_LISTS[split])
    classes = None
    if split == "test" and is_there(from_root(root, QUERY_CLASSES)):
        classes = read_query_classes(from_root(root, QUERY_CLASSES), report)
    for number, line in list_lines(path, report):
        try:
            query, category = split_query_line(line)
        except DataError as error:
            report(DataError(f"{path}: line {number}: {error}"))
            continue
        categories = ((category,) if category else ()) if classes is None else classes.get(query_id(query), ())
        yield query_record(root, query, categories)


def split_query_line(line: str) -> tuple[str, str]:
    """(path, category) of a line of a query list; the category is empty if there is none.

    The line is split at the first ``.png `` as published, otherwise after the first suffix of an image that blanks
    follow, in either case; a line that ends in such a suffix is a path alone. Raises DataError if it names no image.
    """
    line = line.strip()
    path, found, category = line.partition(".png ")
    if found:
        return path + ".png", category.strip()
    if has_image_suffix(line):
        return line, ""
    match = _suffix_pattern().search(line)
    if match is None:
        raise DataError(f"{line[:200]!r} names no image; write <path>.png <category>")
    return line[: match.end()], line[match.end() :].strip()


@lru_cache(maxsize=1)
def _suffix_pattern() -> re.Pattern[str]:
    longest_first = sorted(image_suffixes(), key=lambda suffix: (-len(suffix), suffix))
    return re.compile(rf"(?:{'|'.join(map(re.escape, longest_first))})(?=\s)", re.IGNORECASE)


def read_query_classes(path: str, report: Report = fail) -> dict[str, tuple[str, ...]]:
    """Categories of the queries, by query id, as ``Test_element.csv`` gives them. An id listed twice has both."""
    classes: dict[str, set[str]] = defaultdict(set)
    for number, cells in csv_rows(path, report):
        name, category = [*cells, ""][:2]
        if len(cells) < 2 or not name or any(cells[2:]):
            report(DataError(f"{path}: line {number}: {cells!r}; write <query id>.png,<category>"))
            continue
        classes[without_image_suffix(name)].update({category} - {""})
    return {name: tuple(sorted(categories)) for name, categories in classes.items()}


def label_files(root: str, split: Split) -> list[str]:
    """The existing files that say what the fabrics of a split hold."""
    names = [FABRIC_INDEX] if split == "test" else []
    return [path for name in (*names, SPLIT_FILES[split]) if is_there(path := from_root(root, name))]


def read_fabrics(
    root: str,
    split: Split,
    *,
    labels_needed: bool = False,
    exclude: Sequence[str] = (),
    left_out: LeftOut = untold,
    report: Report = fail,
) -> Fabrics:
    """The fabrics of a split, sorted by folder and name, with their labels.

    Categories come from the split's JSON file, those of the test split from ``TestAll_index.csv`` if it exists; element
    ids from the JSON file. ``exclude`` and ``left_out`` are those of ``walk_images``. Raises DataError if
    ``labels_needed`` and no such file exists, or a file cannot be read.
    """
    split_file = from_root(root, SPLIT_FILES[split])
    found = label_files(root, split)
    if labels_needed and not found:
        problem = "there is no such file; it says which categories the fabrics hold"
        report(DataError(f"{split_file}: {problem}", "missing-file"))
    names: set[str] = set()
    labels = read_split_file(split_file, report) if split_file in found else {}
    if found and found[0] != split_file:
        index, names = read_fabric_index(found[0], report)
        labels = {
            key: Labels(index.get(key, frozenset()), labels.get(key, Labels()).elements) for key in (*index, *labels)
        }
    names.update(*(entry.categories for entry in labels.values()))
    found_images = list(_images(root, split, exclude, left_out, report))
    held, without_image = match_labels(labels, [path for path, _ in found_images])
    records = [
        fabric_record(path, entry.categories, entry.elements, stamp)
        for (path, stamp), entry in zip(found_images, held, strict=True)
    ]
    return Fabrics(records, frozenset(names), without_image)


def _images(
    root: str, split: Split, exclude: Sequence[str], left_out: LeftOut, report: Report
) -> Iterator[tuple[str, str | None]]:
    def skip(relative: str) -> bool:
        # Neither the fabrics, of this split or another, nor the queries hold folders of fabrics.
        return f"/{relative}".endswith("/img/images") or relative.rpartition("/")[2] == QUERY_FOLDER

    tail = (split, "img", "images")
    for relative in find_folders(root, tail, skip=skip, exclude=exclude, left_out=left_out, report=report):
        folder = from_root(root, relative)
        # A link of another name is another fabric, with labels of its own.
        for name, stamp in walk_images(folder, exclude=exclude, keep_links=True, left_out=left_out, report=report):
            yield f"{folder}/{name}", stamp


def read_split_file(path: str, report: Report = fail) -> dict[str, Labels]:
    """Labels by fabric, as a split's JSON file gives them. Memory O(file), at most ``LARGEST_SPLIT_FILE``."""
    try:
        content = storage.read_bytes(path, LARGEST_SPLIT_FILE)
    except (OSError, ValueError) as error:
        remedy = "; a catalogue of this size is read with data.format=manifest" if isinstance(error, ValueError) else ""
        report(DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}{remedy}"))
        return {}
    try:
        items = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        form = format_of(content[:FIRST])
        if form is not None:
            report(DataError(f"{path}: is {form.name}, not JSON; {form.remedy_for(path)}", "other-format"))
        else:
            report(DataError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}"))
        return {}
    if not isinstance(items, list):
        report(DataError(f"{path}: holds a {type(items).__name__}; it must be a list of items"))
        return {}
    labels: dict[str, Labels] = {}
    for index, item in enumerate(items):
        try:
            name, entry = _split_item(item)
        except DataError as error:
            report(DataError(f"{path}: item {index} (from 0): {error}"))
            continue
        known = labels.get(name, Labels())
        labels[name] = Labels(known.categories | entry.categories, known.elements | entry.elements)
    return labels


def _split_item(item: object) -> tuple[str, Labels]:
    if not isinstance(item, list) or len(item) < 2 or len(item) % 2:
        shown = f"has {len(item)} values" if isinstance(item, list) else "is no list"
        raise DataError(f"{shown}; write [n, file name, m element ids, their m categories]")
    half = len(item) // 2 + 1  # [n, name] + m ids + m categories, m = len / 2 - 1
    texts = [labels_of(value) if isinstance(value, str | int) else None for value in item[1:]]
    for position, text in enumerate(texts, start=1):
        if not text:
            role = "file name" if position == 1 else "element id" if position < half else "category"
            raise DataError(f"the {role} at place {position} is {item[position]!r}; it must be text or a whole number")
    names = [text[0] for text in texts if text]
    return names[0], Labels(frozenset(names[half - 1 :]), frozenset(names[1 : half - 1]))


def read_fabric_index(path: str, report: Report = fail) -> tuple[dict[str, frozenset[str]], set[str]]:
    """Categories by fabric and all categories, as ``TestAll_index.csv`` gives them. Memory O(file)."""
    rows = csv_rows(path, report)
    _, header = next(rows, (0, []))
    if not header:
        report(DataError(f"{path}: is empty; its first line must name the categories"))
    index: dict[str, set[str]] = defaultdict(set)
    for number, cells in rows:
        for column, cell in enumerate(cells):
            if not cell:
                continue
            if column >= len(header) or not header[column]:
                problem = f"line {number}, column {column + 1}: {cell!r} stands under no category"
                report(DataError(f"{path}: {problem}; name one in the first line or delete the cell"))
            else:
                index[cell].add(header[column])
    return {name: frozenset(categories) for name, categories in index.items()}, {name for name in header if name}


def match_labels(labels: Mapping[str, Labels], paths: Sequence[str]) -> tuple[list[Labels], list[str]]:
    """What each image holds by the label files, and the sorted entries that mean no image.

    An entry, with or without an image suffix, means the images that it names in full but for their suffix; if there are
    none, those whose published id (the name up to the first dot) it is. Where no two images share a published id, this
    is what the published code does. Memory O(entries + paths).
    """
    by_stem, by_short_id = _group(paths, full_stem), _group(paths, short_id)
    held = [Labels()] * len(paths)
    unmatched = []
    for name, entry in labels.items():
        bare = without_image_suffix(name)
        rows = by_stem.get(name) or by_stem.get(bare) or by_short_id.get(bare)
        for row in rows or ():
            held[row] = Labels(held[row].categories | entry.categories, held[row].elements | entry.elements)
        if rows is None:
            unmatched.append(name)
    return held, sorted(unmatched)


def _group(paths: Iterable[str], rule: Callable[[str], str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row, path in enumerate(paths):
        groups[rule(path)].append(row)
    return dict(groups)
