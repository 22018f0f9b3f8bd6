"""A hook of mkdocs: adds README.md and every file outside docs/ that a page links to."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from site_links import PICTURES, local_targets, place, rewrite  # noqa: E402

LANGUAGES = {".yaml": "yaml", ".toml": "toml", ".py": "python", ".json": "json"}
_sources: dict[str, str] = {}
"""Path in the site -> path in the repository."""


def on_files(files: Files, config: Any) -> Files:
    """Add what pages link to, directly or through other pages."""
    waiting = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *(f"docs/{file.src_uri}" for file in files)]
    _sources.clear()
    while waiting:
        path = waiting.pop()
        if place(path) in _sources or not (ROOT / path).is_file():
            continue
        _sources[place(path)] = path
        if path.endswith(".md"):
            waiting += local_targets((ROOT / path).read_text(encoding="utf-8"), path)
        if not path.startswith("docs/"):
            files.append(_generated(path, config))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links to files of the repository lead to their place in the site."""
    source = _sources.get(page.file.src_uri, "")
    if not source.endswith(".md"):
        return markdown
    return rewrite(markdown, source, lambda path: place(path) in _sources)


def _generated(path: str, config: Any) -> File:
    if path.endswith((".md", *PICTURES)):
        return File.generated(config, place(path), abs_src_path=str(ROOT / path))
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".ipynb"):
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        parts = [source if kind == "markdown" else _block("python", source + "\n") for kind, source in cells]
    else:
        parts = [f"# {path}", _block(LANGUAGES.get(Path(path).suffix, "text"), text)]
    return File.generated(config, place(path), content="\n\n".join(parts) + "\n")


def _block(language: str, text: str) -> str:
    return f"````{language}\n{text}````"
