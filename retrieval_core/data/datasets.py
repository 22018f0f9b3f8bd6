"""Queries and fabrics of a run, whatever the format of the data set.

- ``published``: the files of the published data sets (``retrieval_core.data.published_layout``).
- ``manifest``: CSV or Parquet; queries ``query_path,category``, fabrics ``image_path,categories`` (``;`` between them).
- ``folder``: a tree of images as the gallery; a folder, an image or a text file of paths as the queries; no labels.

The functions that return iterators open nothing before the first item is asked for, and raise from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal

from retrieval_core.config.sections import DataConfig
from retrieval_core.data import manifests, published_layout
from retrieval_core.data.image_tree import PASSED_OVER, LeftOut, PassedOver, is_folder, untold, walk_images
from retrieval_core.data.records import (
    DataError,
    Labelled,
    Record,
    Report,
    fabric_path,
    fabric_record,
    fail,
    find_source,
    from_root,
    has_image_suffix,
    is_there,
    query_record,
    unite,
)
from retrieval_core.files import storage

__all__ = [
    "DataError",
    "Labelled",
    "Record",
    "has_labels",
    "has_training_data",
    "iter_gallery",
    "iter_queries",
    "labelled_split",
]

LabelledSplit = Literal["train", "validation"]
_MANIFEST_KEYS: dict[LabelledSplit, tuple[str, str]] = {
    "train": ("train_queries", "train_gallery"),
    "validation": ("val_queries", "val_gallery"),
}
_TABLE_SUFFIXES = (".csv", ".parquet", ".pq")


def iter_gallery(data: DataConfig, left_out: LeftOut = untold) -> Iterator[Record]:
    """The fabrics that are searched, in the order of the data set. A path may repeat: the caller unites its records.

    A local file whose name is not UTF-8 has a path that shows the odd bytes and a location that does not open:
    ``records.name_problem`` says why. ``left_out`` is that of ``walk_images``. Raises DataError if
    there are no fabrics, or the data set cannot be read. Memory: O(largest folder) for a folder, O(rows in a batch) for
    a manifest, O(split) for the published layout.
    """
    passed_over = _PassedOver(left_out)
    return _at_least_one(
        gallery_records(data, left_out=passed_over.add),
        lambda: f"the gallery is empty: {_where_the_gallery_is(data)}{passed_over.told()}",
    )


def iter_queries(data: DataConfig, left_out: LeftOut = untold) -> Iterator[Record]:
    """The queries that are searched for, in list order, repeats left in; a missing image is a record like any other.

    ``left_out`` is that of ``walk_images``, for a folder of queries. Raises DataError if there are none, or the data
    set cannot be read. Memory O(1), for the published layout O(split).
    """
    passed_over = _PassedOver(left_out)
    return _at_least_one(
        query_records(data, left_out=passed_over.add),
        lambda: f"there are no queries: {_where_the_queries_are(data)}{passed_over.told()}",
    )


class _PassedOver:
    """Counts what a walk passes over, for the error where nothing else is there."""

    def __init__(self, left_out: LeftOut) -> None:
        self.left_out, self.counts, self.first = left_out, Counter[PassedOver](), ""

    def add(self, reason: PassedOver, relative: str) -> None:
        self.counts[reason] += 1
        self.first = self.first or relative
        self.left_out(reason, relative)

    def told(self) -> str:
        if not self.counts:
            return ""
        kinds = ", ".join(f"{count:,} {PASSED_OVER[reason]}" for reason, count in self.counts.items())
        return f"; left out: {kinds}, such as {self.first!r}"


def _at_least_one(records: Iterator[Record], problem: Callable[[], str]) -> Iterator[Record]:
    found = False
    for record in records:
        found = True
        yield record
    if not found:
        raise DataError(problem(), "missing-file")


def labelled_split(data: DataConfig, split: LabelledSplit) -> Labelled:
    """The queries and fabrics to train on or to validate with. Memory O(split).

    Raises DataError, which names the file or key that is missing, or the faulty line.
    """
    if data.format == "published":
        queries = list(published_layout.read_queries(data.root, split))
        fabrics = unite(
            published_layout.read_fabrics(data.root, split, labels_needed=True, exclude=data.exclude).records
        )
    elif data.format == "manifest":
        listed, held = split_records(data, split, fail)
        queries, fabrics = list(listed), unite(held)
    else:
        raise DataError(
            "data.format = 'folder' has no labels to train or validate with; use a manifest, or train.enabled=false",
            "unset-key",
        )
    if not queries or not fabrics:
        what = "queries" if not queries else "fabric images"
        raise DataError(f"the {split} split has no {what} ({_where_a_split_is(data, split)})", "missing-file")
    return Labelled(queries, fabrics)


def has_labels(data: DataConfig) -> bool:
    """True if at least one query and one fabric have a category, so that a ranking can be judged.

    Reads up to the first labelled row. Memory as ``iter_gallery``. Raises DataError if the data set cannot be read.
    """
    if data.format == "folder":
        return False
    if data.format == "published":
        if not published_layout.label_files(data.root, data.gallery_split):
            return False
    else:
        for key, layout in (("queries", manifests.QUERIES), ("gallery", manifests.FABRICS)):
            if layout.categories not in manifests.manifest_columns(find_source(data, key)):
                return False
    return any(record.categories for record in query_records(data)) and any(
        record.categories for record in gallery_records(data)
    )


def has_training_data(data: DataConfig) -> bool:
    """True if the data set names what ``labelled_split`` reads, for training and for validation.

    Files are not opened: a fault in them is an error of the training, no reason to skip it.
    """
    if data.format == "manifest":
        return all(getattr(data, key) for keys in _MANIFEST_KEYS.values() for key in keys)
    return data.format == "published" and all(
        is_there(from_root(data.root, names[split]))
        for split in _MANIFEST_KEYS
        for names in (published_layout.QUERY_LISTS, published_layout.SPLIT_FILES)
    )


def gallery_records(data: DataConfig, report: Report = fail, left_out: LeftOut = untold) -> Iterator[Record]:
    """As ``iter_gallery``, but may be empty. ``report`` is told of faults."""
    if data.format == "published":
        yield from published_layout.read_fabrics(
            data.root, data.gallery_split, exclude=data.exclude, left_out=left_out, report=report
        ).records
    elif data.format == "manifest":
        yield from _manifest_fabrics(data, "gallery", labels_needed=False, report=report)
    else:
        folder = _gallery_folder(data)
        for name, stamp in walk_images(folder, exclude=data.exclude, left_out=left_out, report=report):
            yield fabric_record(storage.join(folder, name), stamp=stamp)


def query_records(data: DataConfig, report: Report = fail, left_out: LeftOut = untold) -> Iterator[Record]:
    """As ``iter_queries``, but there may be none and faults go to ``report``."""
    if data.format == "published":
        yield from published_layout.read_queries(data.root, data.gallery_split, report)
    elif data.format == "manifest":
        yield from _manifest_queries(data, "queries", labels_needed=False, report=report)
    else:
        yield from _loose_queries(data, report, left_out)


def _gallery_folder(data: DataConfig) -> str:
    """``data.gallery``, or ``data.root`` where only that is set."""
    if data.gallery or not data.root:
        folder, key = find_source(data, "gallery"), "data.gallery"
    else:
        folder, key = data.root, "data.root"
    if not is_folder(folder):
        remedy = "name a folder of images, or set data.format=manifest for a table of them"
        raise DataError(f"{key} = {folder!r} is not a folder; {remedy}", "missing-file")
    return folder


def split_records(data: DataConfig, split: LabelledSplit, report: Report) -> tuple[Iterator[Record], Iterator[Record]]:
    """Queries and fabrics of a manifest's split as streams; faults go to ``report``."""
    queries_key, gallery_key = _MANIFEST_KEYS[split]
    return (
        _manifest_queries(data, queries_key, labels_needed=True, report=report),
        _manifest_fabrics(data, gallery_key, labels_needed=True, report=report),
    )


def _manifest_queries(data: DataConfig, key: str, *, labels_needed: bool, report: Report) -> Iterator[Record]:
    rows = _manifest_rows(data, key, manifests.QUERIES, labels_needed, report)
    for path, categories in rows:
        yield query_record(data.root, path, categories)


def _manifest_fabrics(data: DataConfig, key: str, *, labels_needed: bool, report: Report) -> Iterator[Record]:
    rows = _manifest_rows(data, key, manifests.FABRICS, labels_needed, report)
    for path, categories in rows:
        yield fabric_record(fabric_path(data.root, path), categories)


def _manifest_rows(
    data: DataConfig, key: str, layout: manifests.Layout, labels_needed: bool, report: Report
) -> Iterator[tuple[str, tuple[str, ...]]]:
    return manifests.manifest_rows(
        find_source(data, key), layout, labels_needed, report, keep_lists=data.list_like == "keep"
    )


def _loose_queries(data: DataConfig, report: Report, left_out: LeftOut) -> Iterator[Record]:
    source = find_source(data, "queries")
    if is_folder(source):
        for name, stamp in walk_images(source, exclude=data.exclude, left_out=left_out, report=report):
            # Listed, not spelled by a person: it opens as it is.
            yield fabric_record(storage.join(source, name), stamp=stamp)
    elif has_image_suffix(source):
        yield fabric_record(source)
    elif source.lower().endswith(_TABLE_SUFFIXES):
        raise DataError(f"data.queries = {source!r} is a table, which is read with data.format=manifest")
    else:
        for _, path in manifests.list_lines(source, report):
            yield query_record(data.root, path)


def _where_the_gallery_is(data: DataConfig) -> str:
    if data.format == "published":
        folders = from_root(data.root, f"**/{data.gallery_split}/img/images")
        return f"no image lies under {folders}; check data.root and data.gallery_split"
    if data.format == "manifest":
        return f"data.gallery = {data.gallery!r} has no rows"
    return f"no image lies under {_gallery_folder(data)}"


def _where_the_queries_are(data: DataConfig) -> str:
    if data.format == "published":
        return f"{from_root(data.root, published_layout.QUERY_LISTS[data.gallery_split])} has no lines"
    return f"nothing is in data.queries = {data.queries!r}"


def _where_a_split_is(data: DataConfig, split: LabelledSplit) -> str:
    if data.format == "published":
        images = from_root(data.root, f"**/{split}/img/images")
        return f"looked for {from_root(data.root, published_layout.QUERY_LISTS[split])} and {images}"
    return " and ".join(f"data.{key} = {getattr(data, key)!r}" for key in _MANIFEST_KEYS[split])
