"""The web site: links of the repository's pages lead to the same files in it."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.doc_blocks import ROOT

sys.path.insert(0, str(ROOT / "docs"))
from site_links import local_targets, place, rewrite


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README.md", "index.md"),
        ("docs/recall.md", "recall.md"),
        ("docs/images/report.png", "images/report.png"),
        ("CONTRIBUTING.md", "project/CONTRIBUTING.md"),
        ("ray_jobs/configs/demo.yaml", "project/ray_jobs/configs/demo.yaml.md"),
        (".rayignore", "project/rayignore.md"),
    ],
)
def test_place_in_the_site(path: str, expected: str) -> None:
    assert place(path) == expected


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("README.md", "docs/recall.md#training", "recall.md#training"),
        ("README.md", "cluster.yaml", "project/cluster.yaml.md"),
        ("docs/recall.md", "../README.md", "index.md"),
        ("docs/recall.md", "search-page.md", "search-page.md"),
        ("docs/recall.md", "#training", "#training"),
        ("Output/README.md", "../README.md#install", "../../index.md#install"),
        ("README.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("README.md", "nowhere.md", "nowhere.md"),
    ],
)
def test_links_are_written_for_the_site(page: str, link: str, expected: str) -> None:
    text = rewrite(f"See [this]({link}).", page, lambda path: path != "nowhere.md")
    assert text == f"See [this]({expected})."


def test_targets_are_paths_in_the_repository() -> None:
    text = "[a](../cluster.yaml) ![b](images/x.png) [c](https://example.org) [d](#here) [e](recall.md#there)"
    assert list(local_targets(text, "docs/a.md")) == ["cluster.yaml", "docs/images/x.png", "docs/recall.md"]


class _Loaded(HTMLParser):
    """What a page loads by itself: all but links that a reader follows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.found += [value for name, value in attributes if name in {"href", "src"} and value]


def test_the_site_is_built_without_a_complaint_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """Links and anchors are checked by the builder, which stops at a warning."""
    pytest.importorskip("mkdocs")  # of the extra `docs`, which .ci/run installs; `make test` alone does not
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "own-catalogue.html", "troubleshooting.html"} <= {page.name for page in pages}
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text())
        assert [address for address in loaded.found if "://" in address] == [], page.name
