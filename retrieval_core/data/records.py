"""What a data set consists of, whatever its format: records, how their paths are spelled and where they open."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple, NoReturn

from retrieval_core.config.sections import DataConfig
from retrieval_core.files import storage
from retrieval_core.files.spelling import other_spelling

_LONGEST_MESSAGE = 1100
_NOT_UTF8 = "not-utf8 "  # starts the location of a file whose name cannot be written down


class DataError(ValueError):
    """The data set is wrong or incomplete; the message names the file, the line and the remedy.

    ``kind`` groups such problems: ``missing-file``, ``malformed``, ``other-format`` or ``unset-key``. A long message,
    which may quote a file, is cut in its middle: the file's name and the line stand first, the remedy last.
    """

    def __init__(self, message: str, kind: str = "malformed") -> None:
        super().__init__(message if len(message) <= _LONGEST_MESSAGE else f"{message[:700]} ... {message[-300:]}")
        self.kind = kind


Report = Callable[[DataError], None]
"""What a reader does with a problem after which it can go on: raise it, or note it and skip the entry."""


def fail(error: DataError) -> NoReturn:
    """The ``Report`` of everyone who wants the data whole."""
    raise error


class Record(NamedTuple):
    """An image of a data set."""

    path: str  # name in the pool: a query as its list spells it, a fabric so that it opens from the working directory
    location: str  # absolute path or URL to open; see ``name_problem`` for the one exception
    categories: tuple[str, ...] = ()  # sorted, unique; empty when unlabelled
    elements: tuple[str, ...] = ()  # ids of a fabric's motifs, sorted, unique, where a published split gives them
    stamp: str | None = None  # ``stamps.stamp`` where the listing told it


class Labelled(NamedTuple):
    """A training or validation set in memory; some queries and fabrics may have no category."""

    queries: list[Record]  # in list order, repeats left in
    fabrics: list[Record]  # one for each path, sorted by path


def base_name(path: str) -> str:
    """The part after the last slash."""
    return path.rpartition("/")[2]


def short_id(path: str) -> str:
    """The published id of a fabric: its base name up to the first dot. ``a.b.png`` and ``a.png`` share ``a``."""
    return base_name(path).partition(".")[0]


def full_stem(path: str) -> str:
    """The base name without its last suffix: ``a.b`` for ``x/a.b.png``."""
    return os.path.splitext(base_name(path))[0]  # noqa: PTH122 - also for URLs


def query_id(path: str) -> str:
    """The published id of a query: its base name up to the first comma, or all of it without the image suffix."""
    name, comma, _ = base_name(path).partition(",")
    return name if comma else without_image_suffix(name)


@lru_cache(maxsize=1)
def image_suffixes() -> frozenset[str]:
    """Suffixes of image files that Pillow knows, in lower case with the dot."""
    from PIL import Image

    return frozenset(suffix.lower() for suffix in Image.registered_extensions())


def has_image_suffix(name: str) -> bool:
    """True if the name ends like an image file's."""
    return os.path.splitext(name)[1].lower() in image_suffixes()  # noqa: PTH122 - also for URLs


def without_image_suffix(name: str) -> str:
    """``1800`` for ``1800.png`` and for ``1800``."""
    return os.path.splitext(name)[0] if has_image_suffix(name) else name  # noqa: PTH122 - also for URLs


def is_anchored(path: str) -> bool:
    """True for an absolute path or a URL."""
    return path.startswith("/") or storage.is_url(path)


def from_root(root: str, path: str) -> str:
    """A path that the data set spells, from the working directory; never resolved further."""
    return path if is_anchored(path) or not root else storage.join(root, path)


def fabric_path(root: str, path: str) -> str:
    """The path of a fabric that a table spells, from the working directory.

    ``./a`` and ``b//a`` are ``a`` and ``b/a`` in a local folder. ``..`` and links stay: where they lead, only a look
    would tell. The root keeps its spelling.
    """
    if storage.local_path(path) is not None and ("//" in path or "./" in path):
        scheme = "file://" if path.startswith("file://") else ""
        parts = [part for part in path.removeprefix(scheme).split("/") if part not in ("", ".")]
        path = scheme + ("/" if path.removeprefix(scheme).startswith("/") else "") + "/".join(parts)
    return from_root(root, path)


def fabric_record(
    path: str, categories: Iterable[str] = (), elements: Iterable[str] = (), stamp: str | None = None
) -> Record:
    """The record of a fabric under its path from the working directory.

    JSON and Parquet cannot hold a local name that is not UTF-8: such a record shows the odd bytes as ``\\xe9`` and has
    a location that does not open, so that it is rejected instead of lost (``name_problem``).
    """
    labels, ids = tuple(sorted(set(categories))), tuple(sorted(set(elements)))
    try:
        path.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        return Record(shown, _NOT_UTF8 + storage.absolute(shown), labels, ids, stamp)
    return Record(path, storage.absolute(path), labels, ids, stamp)


def name_problem(record: Record) -> str | None:
    """Why the record's file cannot be used although it may be there; None if nothing is wrong with its name."""
    if record.location.startswith(_NOT_UTF8):
        return "the file's name is not UTF-8, so no result can name it; rename the file"
    return None


def is_there(path: str) -> bool:
    """True if a file or folder is there. Raises DataError if the store cannot be asked."""
    try:
        return storage.exists(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: cannot be looked at: {reason}", "missing-file") from None


def query_record(root: str, path: str, categories: Iterable[str] = ()) -> Record:
    """The record of a query: its location is below the root unless a file is found from the working directory."""
    place = path
    if root and not is_anchored(path) and not storage.exists(path):
        place = storage.join(root, path)
    return Record(path, storage.absolute(place), tuple(sorted(set(categories))))


def unite(records: Iterable[Record]) -> list[Record]:
    """One record per path, sorted by path, the labels of repeats united. Memory O(records)."""
    united: dict[str, Record] = {}
    for record in records:
        known = united.setdefault(record.path, record)
        if known is not record:
            united[record.path] = known._replace(
                categories=tuple(sorted({*known.categories, *record.categories})),
                elements=tuple(sorted({*known.elements, *record.elements})),
            )
    return [united[path] for path in sorted(united)]


def find_source(data: DataConfig, key: str) -> str:
    """Path of the file or folder that ``data.<key>`` names, looked for from the working directory, then from the root.

    Raises DataError if the key is not set, or nothing is in either place.
    """
    spelled: str | None = getattr(data, key)
    if not spelled:
        raise DataError(f"data.{key} is not set; name a file, folder or URL there", "unset-key")
    tried = list(dict.fromkeys([spelled, from_root(data.root, spelled)]))
    for place in tried:
        if is_there(place):
            return place
    hint = next(filter(None, map(other_spelling, map(storage.absolute, tried))), None)
    where = " or at ".join(tried) + (f"; it {hint}" if hint else storage.started_in(spelled))
    raise DataError(f"data.{key} = {spelled!r}: nothing is at {where}", "missing-file")
