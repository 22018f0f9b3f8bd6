"""Where a file of the project is in the web site, and the links between pages rewritten for it.

Pages link by paths in the repository, so that links work where it is read. In the site docs/ is the root, README.md the
start page, and other files are under project/.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

LINK = re.compile(r"(?P<before>!?\[[^\]]*\]\()(?P<target>[^)\s]+)(?P<after>\))")
PICTURES = (".png", ".svg", ".jpg")


def place(path: str) -> str:
    """Path of a file in the site's sources; code and configurations become pages."""
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    shown = path.replace("/.", "/").removeprefix(".")  # the builder leaves out hidden names
    return f"project/{shown}" if path.endswith((".md", *PICTURES)) else f"project/{shown}.md"


def local_targets(text: str, page: str) -> Iterator[str]:
    """Paths in the repository of the files that a page links to."""
    for match in LINK.finditer(text):
        path = match["target"].partition("#")[0]
        if path and "://" not in path:
            yield posixpath.normpath(posixpath.join(posixpath.dirname(page), path))


def rewrite(text: str, page: str, known: Callable[[str], bool]) -> str:
    """Rewrite the links of a page's Markdown; ``page`` is its path in the repository.

    Links to files that are not ``known`` to be in the site are left for the builder to complain about.
    """
    folder = posixpath.dirname(place(page))

    def replaced(match: re.Match[str]) -> str:
        path, hash_sign, anchor = match["target"].partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if not path or "://" in path or not known(target):
            return match[0]
        return match["before"] + posixpath.relpath(place(target), folder or ".") + hash_sign + anchor + match["after"]

    return LINK.sub(replaced, text)
