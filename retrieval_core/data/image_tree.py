"""Finding image files in folder trees, on local disks and object stores.

Every folder is listed in order of names, so that two walks over the same tree agree. Hidden names (``.x``) and those
of ``data.exclude`` are passed over. Memory is O(entries of the folders on one path + folders reached through links),
never O(tree).
"""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import fsspec

from retrieval_core.data.records import DataError, Report, fail, has_image_suffix
from retrieval_core.files import stamps, storage
from retrieval_core.files.credentials import credentials_needed

Identity = tuple[int, int]
PassedOver = Literal["ignored-file", "hidden-file", "excluded-file", "linked-file"]
PASSED_OVER: dict[PassedOver, str] = {
    "ignored-file": "without an image suffix",
    "hidden-file": "hidden",
    "excluded-file": "by data.exclude",
    "linked-file": "links to images listed anyway",
}
"""Why a walk passes a file or folder over, in words that follow its number."""
LeftOut = Callable[[PassedOver, str], None]
"""Is told of each file or folder that a walk passes over: why, and its path from where the walk began."""


def untold(reason: PassedOver, relative: str) -> None:
    """The ``LeftOut`` of everyone who does not want to know."""


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    is_link: bool = False
    is_special: bool = False  # a pipe or device: opening it could wait for ever
    stamp: str | None = None  # as `stamps.stamp`, where the listing tells it


class _Tree(Protocol):
    def entries(self, relative: str) -> list[_Entry]: ...
    def identity(self, relative: str) -> Identity | None: ...
    def target(self, relative: str) -> str | None: ...


class _LocalTree:
    def __init__(self, root: str) -> None:
        self.root = root
        self.real_root = os.path.realpath(root)

    def entries(self, relative: str) -> list[_Entry]:
        with os.scandir(os.path.join(self.root, relative)) as listing:  # noqa: PTH118 - the spelling is kept
            return sorted(self._describe(entry) for entry in listing)

    @staticmethod
    def _describe(entry: os.DirEntry[str]) -> _Entry:
        try:
            if entry.is_dir():
                return _Entry(entry.name, True, is_link=entry.is_symlink())
            # A broken link is listed, and rejected later: someone meant an image to be there.
            is_file = entry.is_file()
            is_special = not is_file and os.path.exists(entry.path)  # noqa: PTH110
            return _Entry(entry.name, False, is_file and entry.is_symlink(), is_special)
        except OSError:  # a link to itself
            return _Entry(entry.name, False)

    def identity(self, relative: str) -> Identity:
        info = os.stat(os.path.join(self.root, relative))  # noqa: PTH116, PTH118
        return info.st_dev, info.st_ino

    def target(self, relative: str) -> str | None:
        """Where a link leads in this tree, as a path from its root; None if it leads out of it, or to its root."""
        real = os.path.realpath(os.path.join(self.root, relative))  # noqa: PTH118
        prefix = self.real_root.rstrip("/") + "/"
        return real.removeprefix(prefix) if real.startswith(prefix) else None


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
            if key.strip("/") != folder.strip("/") and name:
                found.append(_Entry(name, entry["type"] == "directory", stamp=stamps.stamp_of(entry)))
        return sorted(found, key=lambda entry: entry[:2])

    def identity(self, relative: str) -> Identity | None:
        return None  # object stores have no links

    def target(self, relative: str) -> str | None:
        return None


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
    folder: str,
    *,
    exclude: Sequence[str] = (),
    keep_links: bool = False,
    left_out: LeftOut = untold,
    report: Report = fail,
) -> Iterator[tuple[str, str | None]]:
    """Image files under a local folder or URL, folder by folder in order of names: (path from there, stamp).

    The stamp is that of an object store's listing, which saves a request per file; it is None on a local disk. A
    symbolic link to a folder or image that the walk finds under its own name is passed over, unless ``keep_links``,
    for those to whom each name is a fabric. Any other folder that is reached through links is read once, and never from
    inside itself. ``left_out`` is told of what is hidden, excluded
    or such a link, of pipes, devices and files whose suffix is no image's; ``report`` of folders that cannot be listed.
    """
    hidden = _hidden_by(exclude)

    def passed_over(tree: _Tree, relative: str, entry: _Entry) -> PassedOver | None:
        reason = hidden(relative)
        if reason is not None:
            return reason
        if not entry.is_folder and (entry.is_special or not has_image_suffix(entry.name)):
            return "ignored-file"
        target = tree.target(relative) if entry.is_link and not keep_links else None
        if target is None or not (entry.is_folder or has_image_suffix(target)):
            return None
        parts = target.split("/")
        on_the_way = ("/".join(parts[: depth + 1]) for depth in range(len(parts)))
        return None if any(map(hidden, on_the_way)) else "linked-file"

    for relative, entry in _walk(folder, passed_over, left_out, report):
        if not entry.is_folder:
            yield relative, entry.stamp


def find_folders(
    root: str,
    tail: tuple[str, ...],
    *,
    skip: Callable[[str], bool],
    exclude: Sequence[str] = (),
    left_out: LeftOut = untold,
    report: Report = fail,
) -> Iterator[str]:
    """Folders under ``root`` whose relative path ends in the parts ``tail``, in order of names.

    ``skip`` says which folders are not entered; ``left_out`` is told of those that are hidden or excluded, ``report``
    of those that cannot be listed.
    """
    hidden = _hidden_by(exclude)
    walk = _walk(root, lambda _, relative, __: hidden(relative), left_out, report, lambda relative: not skip(relative))
    for relative, entry in walk:
        if entry.is_folder and tuple(relative.split("/")[-len(tail) :]) == tail:
            yield relative


def _hidden_by(exclude: Sequence[str]) -> Callable[[str], PassedOver | None]:
    """The rule that says of a path why its last name is not taken; None if it may be."""
    patterns = [unicodedata.normalize("NFC", text) for text in exclude]
    groups = [text for text in patterns if "/" not in text], [text.strip("/") for text in patterns if "/" in text]
    names, paths = (
        re.compile("|".join(map(fnmatch.translate, group)) or r"(?!)", re.IGNORECASE).match for group in groups
    )

    def hidden(relative: str) -> PassedOver | None:
        relative = unicodedata.normalize("NFC", relative)
        name = relative.rpartition("/")[2]
        if name.startswith("."):
            return "hidden-file"
        return "excluded-file" if names(name) or paths(relative) else None

    return hidden


def _walk(
    root: str,
    passed_over: Callable[[_Tree, str, _Entry], PassedOver | None],
    left_out: LeftOut,
    report: Report,
    enter: Callable[[str], bool] = lambda relative: True,
) -> Iterator[tuple[str, _Entry]]:
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
            remedy = "check that it is a folder you may read, or leave it out by data.exclude"
            report(DataError(f"{where}: {why}; {remedy}", "missing-file"))
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
        reason = passed_over(tree, relative, entry)
        if reason is not None:
            left_out(reason, relative)
            continue
        yield relative, entry
        if entry.is_folder and enter(relative):
            open_level(relative, level.linked or entry.is_link)
