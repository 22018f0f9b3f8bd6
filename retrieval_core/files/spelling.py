"""What is meant by a path at which nothing is: the file whose name differs in its spelling only."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from urllib.parse import unquote

from retrieval_core.files import storage


def other_spelling(path: str) -> str | None:
    """Says as what a local file is there; None where nothing like it is found, or the path is of another store.

    Tried are back-slashes for slashes, letters written as ``%20``, ``~`` for the home folder, the other case,
    composed letters (NFC) for decomposed ones (NFD), and blanks around a name. Lists the folders on the way whose
    names differ: O(their entries).
    """
    local = storage.local_path(path)
    if local is None:
        return None
    slashes = local.replace("\\", "/")
    home = str(Path("~", slashes.rpartition("/~/")[2]).expanduser()) if "/~/" in slashes else slashes
    for text in dict.fromkeys([local, slashes, unquote(local), unquote(slashes), home]):
        found = _nearest(os.path.abspath(text))  # noqa: PTH100 - links are kept
        if found == local:
            return "is a link that leads nowhere"
        if found is not None:
            accents = unicodedata.normalize("NFC", found) == unicodedata.normalize("NFC", local)
            return f"is there as {found}" + (", its letters composed otherwise: NFC or NFD" if accents else "")
    return "back-slashes are no separators here: write /" if "\\" in local else None


def _nearest(path: str) -> str | None:
    place = "/"
    for name in path.strip("/").split("/"):
        if not os.path.lexists(os.path.join(place, name)):  # noqa: PTH118
            try:
                like = [entry for entry in os.listdir(place) if spelling_key(entry) == spelling_key(name)]  # noqa: PTH208
            except OSError:
                return None
            if not like:
                return None
            name = min(like)  # noqa: PLW2901
        place = os.path.join(place, name)  # noqa: PTH118
    return place


def spelling_key(name: str) -> str:
    """What names share that differ in case, in how their letters are composed, or in blanks around them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold()).strip()
