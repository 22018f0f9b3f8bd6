"""Finding image files in folder trees, on local disks and object stores.

Every folder is listed in order of names, so that two walks over the same tree agree. Hidden names (``.x``) are
skipped. Memory is O(entries of the folders on one path + folders reached through links), never O(tree).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import fsspec

from retrieval_core.data.records import DataError, Report, fail, has_image_suffix
from retrieval_core.files import stamps, storage
from retrieval_core.files.credentials import credentials_needed

Identity = tuple[int, int]


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    is_link: bool = False
    is_special: bool = False  # a pipe or device: opening it could wait for ever
    stamp: str | None = None  # as `stamps.stamp`, where the listing tells it


class _Tree(Protocol):
    def entries(self, relative: str) -> list[_Entry]: ...
    def identity(self, relative: str) -> Identity | None: ...


class _LocalTree:
    def __init__(self, root: str) -> None:
        self.root = root

    def entries(self, relative: str) -> list[_Entry]:
        with os.scandir(os.path.join(self.root, relative)) as listing:  # noqa: PTH118 - the spelling is kept
            return sorted(self._describe(entry) for entry in listing if not entry.name.startswith("."))

    @staticmethod
    def _describe(entry: os.DirEntry[str]) -> _Entry:
        try:
            if entry.is_dir():
                return _Entry(entry.name, True, is_link=entry.is_symlink())
            # A broken link is listed, and rejected later: someone meant an image to be there.
            return _Entry(entry.name, False, is_special=not entry.is_file() and os.path.exists(entry.path))  # noqa: PTH110
        except OSError:  # a link to itself
            return _Entry(entry.name, False)

    def identity(self, relative: str) -> Identity:
        info = os.stat(os.path.join(self.root, relative))  # noqa: PTH116, PTH118
        return info.st_dev, info.st_ino


class _RemoteTree:
    def __init__(self, root: str) -> None:
        self.root = root
        # fsspec's cache of listings would hold the names of the whole tree.
        self.fs, key = fsspec.url_to_fs(root, use_listings_cache=False)
        self.key = str(key).rstrip("/")

    def entries(self, relative: str) -> list[_Entry]:
        folder = f"{self.key}/{relative}" if relative else self.key
        found: list[_Entry] = []
        entry: dict[str, Any]
        with credentials_needed(self.root):
            listing = self.fs.ls(folder, detail=True)
        for entry in listing:
            key = str(entry["name"]).rstrip("/")
            name = key.rpartition("/")[2]
            if key.strip("/") != folder.strip("/") and name and not name.startswith("."):
                found.append(_Entry(name, entry["type"] == "directory", stamp=stamps.stamp_of(entry)))
        return sorted(found, key=lambda entry: entry[:2])

    def identity(self, relative: str) -> Identity | None:
        return None  # object stores have no links


class _Level(NamedTuple):
    relative: str
    entries: Iterator[_Entry]
    identity: Identity | None
    linked: bool  # reached through a symbolic link


def is_folder(path: str) -> bool:
    """True if a folder is there. Raises DataError if the store cannot be asked."""
    local = storage.local_path(path)
    if local is not None:
        return os.path.isdir(local)  # noqa: PTH112
    try:
        fs, key = fsspec.url_to_fs(path, use_listings_cache=False)
        with credentials_needed(path):
            return bool(fs.isdir(key))
    except (ImportError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be looked at: {reason}", "missing-file") from None


def walk_images(
    folder: str, *, ignored: Callable[[str], None] | None = None, report: Report = fail
) -> Iterator[tuple[str, str | None]]:
    """Image files under a local folder or URL, folder by folder in order of names: (path from there, stamp).

    The stamp is that of an object store's listing, which saves a request per file; it is None on a local disk. A folder
    that is reached through symbolic links is read once, and never from inside itself. ``ignored`` is told of pipes,
    devices and files whose suffix is no image's, ``report`` of folders that cannot be listed.
    """
    for relative, entry in _walk(folder, lambda relative: True, report):
        if entry.is_folder:
            continue
        if has_image_suffix(entry.name) and not entry.is_special:
            yield relative, entry.stamp
        elif ignored is not None:
            ignored(relative)


def find_folders(
    root: str, tail: tuple[str, ...], *, skip: Callable[[str], bool], report: Report = fail
) -> Iterator[str]:
    """Folders under ``root`` whose relative path ends in the parts ``tail``, in order of names.

    ``skip`` says which folders are not entered; ``report`` is told of folders that cannot be listed.
    """
    for relative, entry in _walk(root, lambda relative: not skip(relative), report):
        if entry.is_folder and tuple(relative.split("/")[-len(tail) :]) == tail:
            yield relative


def _walk(root: str, enter: Callable[[str], bool], report: Report) -> Iterator[tuple[str, _Entry]]:
    try:
        local = storage.local_path(root)
        tree: _Tree = _RemoteTree(root) if local is None else _LocalTree(local or ".")
    except (ImportError, ValueError) as error:
        report(DataError(f"{root}: this kind of URL cannot be opened here: {error}", "missing-file"))
        return
    levels: list[_Level] = []
    followed: set[Identity | None] = set()  # folders reached through links

    def open_level(relative: str, linked: bool) -> None:
        try:
            identity = tree.identity(relative)
            inside_itself = identity is not None and any(identity == level.identity for level in levels)
            if inside_itself or (linked and identity in followed):
                return
            levels.append(_Level(relative, iter(tree.entries(relative)), identity, linked))
        except OSError as error:
            where = storage.join(root, relative) if relative else root or "."
            why = f"cannot be listed: {error.strerror or type(error).__name__}"
            report(DataError(f"{where}: {why}; check that it is a folder you may read", "missing-file"))
            return
        if linked:
            followed.add(identity)

    open_level("", linked=False)
    while levels:
        level = levels[-1]
        entry = next(level.entries, None)
        if entry is None:
            levels.pop()
            continue
        relative = f"{level.relative}/{entry.name}" if level.relative else entry.name
        yield relative, entry
        if entry.is_folder and enter(relative):
            open_level(relative, level.linked or entry.is_link)
