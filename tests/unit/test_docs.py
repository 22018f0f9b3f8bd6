"""What the pages say is true: links lead somewhere, named code, commands and keys exist, configuration.md is fresh."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from ray_jobs.console.command_line import build_parser
from retrieval_core.config.config import Config, load_config, valid_keys
from tests.doc_blocks import ROOT, pages

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
TOKEN = re.compile(r"`([^`\n]+)`")
CODE_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+\.py)\)")
EXAMPLE = re.compile(r"\s+(?:[A-Z_]+=\S+ )?(?:fabric-retrieval|make|ray job submit|python -m ray_jobs) ")
SUFFIXES = {"py", "json", "html", "yaml", "safetensors", "trec"}
DOCUMENTS = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages()]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def stale_names(page: Path) -> list[str]:
    """Names in links to code that are neither the file's name nor defined in it."""
    stale = []
    for text, path in CODE_LINK.findall(page.read_text()):
        nodes = ast.walk(ast.parse((page.parent / path).read_text()))
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        stale += [name for name in TOKEN.findall(text) if name not in defined and not path.endswith(f"/{name}")]
    return stale


def commands(page: Path) -> Iterator[list[str]]:
    """Words after the program's name, of every example of our command line and of make."""
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", page.read_text(), re.M)
    text = "\n".join(blocks).replace("\\\n", " ")
    for line in filter(EXAMPLE.match, text.splitlines()):
        words = shlex.split(line, comments=True)
        for start in (["fabric-retrieval"], ["python", "-m", "ray_jobs"], ["make"]):
            for place in range(len(words)):
                if words[place : place + len(start)] == start:
                    yield [start[-1], *words[place + len(start) :]]


def documentation_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_configuration_page_is_up_to_date() -> None:
    script = documentation_script()
    assert (ROOT / "docs" / "configuration.md").read_text() == script.configuration_page(), "run `make docs`"


def test_configuration_page_has_every_key() -> None:
    page: str = documentation_script().configuration_page()
    assert [key for key in valid_keys() if page.count(f"\n| `{key}` |") != 1] == []


@pytest.mark.parametrize("page", DOCUMENTS)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []
    assert stale_names(page) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading, here\n[a](#a-heading-here) [b](#elsewhere) [c](page.md) [d](none.md) [e](https://x)\n"
    )
    assert broken_links(page) == ["#elsewhere", "none.md"]


def test_a_stale_name_is_seen(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("def read(): ...\n")
    page = tmp_path / "page.md"
    page.write_text("[`read`, `write`](./code.py) [`code.py`](./code.py) [`old.py`](./code.py) [words](./code.py)\n")
    assert stale_names(page) == ["write", "old.py"]


@pytest.mark.parametrize("page", DOCUMENTS)
def test_commands_are_as_documented(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for program, *words in commands(page):
        if program == "make":
            assert {word for word in words if "=" not in word} <= targets, words
        elif words != ["..."]:
            options = build_parser().parse_args(words)
            load_config(options.config, options.overrides)


def test_commands_are_found() -> None:
    found = list(commands(ROOT / "README.md"))
    assert ["make", "demo"] in found
    assert {words[1] for words in found if words[0] != "make"} >= {"run", "simulate"}


@pytest.mark.parametrize("page", DOCUMENTS)
def test_keys_that_are_named_exist(page: Path) -> None:
    for text in TOKEN.findall(page.read_text()):
        for word in text.replace("--set ", "").split():
            section, dot, key = word.partition("=")[0].partition(".")
            if dot and section in Config.model_fields and re.fullmatch("[a-z_]+", key):
                known = f"{section}.{key}" in valid_keys() or key in SUFFIXES
                assert known, f"{page.name} names {word}, which is no key of the configuration"
