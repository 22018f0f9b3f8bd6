"""Every command block of the pages is run, or says why not: see ``tests.doc_blocks``.

In the pages /data and /shared stand for the reader's own folders; here they are folders with small data sets. Commands
that compute are in ``tests/jobs/test_documented_runs.py``, Python blocks in ``test_ecosystem.py``.
"""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest

from ray_jobs.__main__ import main
from retrieval_core.config.config import load_config
from retrieval_core.model.embedder import FabricEmbedder
from retrieval_core.model.heads import new_head
from retrieval_core.model.weights import save_model
from tests.doc_blocks import COMMANDS, ROOT, Block, arguments, blocks_of, commands_of, computes, pages, runnable_blocks
from tests.jobs.small_data import write_catalogue, write_png
from tests.unit.tiny_weights import transformers_model

DATA_LANGUAGES = {"csv", "dockerfile", "json", "text", "yaml"}
BLOCKS = runnable_blocks()
QUICK = [pytest.param(block, id=block.name) for block in BLOCKS if not computes(block)]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the pages assume: configurations, weights, data sets of every format, a trained model."""
    place = tmp_path_factory.mktemp("pages")
    (place / "ray_jobs").symlink_to(ROOT / "ray_jobs")
    for folder in ("dinov2-motif-small", "dinov2-motif-tiny", "dinov2-pytorch-base-v1"):
        transformers_model().save_pretrained(place / "Weight_Path" / folder)
    transformers_model().save_pretrained(place / "shared/dinov2-pytorch-base-v1")
    model = FabricEmbedder(transformers_model(), new_head(32, 8, 0), "patches")
    save_model(model, str(place / "Output/demo/model"))
    names = ["data/SimulatedPrintedFabrics-17k", "data/RealPrintedFabrics-13k", "shared/fabrics", "Output/demo-data"]
    for name in names:
        write_catalogue(place / name, training=3)
    for index in range(3):
        write_png(place / f"data/fabrics/f{index}.png", 5, index)
        write_png(place / f"data/motifs/m{index}.png", 6, index)
    for split in ("", "train-", "val-"):
        queries = [["query_path", "category"], *([f"motifs/m{i}.png", f"{split}motif {i}"] for i in range(3))]
        fabrics = [["image_path", "categories"], *([f"fabrics/f{i}.png", f"{split}motif {i}"] for i in range(3))]
        for name, rows in (("queries", queries), ("fabrics", fabrics)):
            with (place / f"data/{split}{name}.csv").open("w", newline="") as file:
                csv.writer(file).writerows(rows)
    return place


@pytest.mark.parametrize("block", QUICK)
def test_a_command_block_runs(
    block: Block, sandbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(sandbox)
    for command in commands_of(block):
        if command[0] == "make":
            done = subprocess.run(["make", "-n", *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            continue
        words = arguments(command, block)
        assert words is not None, f"{block.name}: {command[0]} is not run by this test; mark the block `<!-- not run"
        placed = [re.sub(r"(^|=)/(data|shared)\b", rf"\g<1>{sandbox}/\2", word) for word in words]
        assert main(placed) == 0, (command, capsys.readouterr())


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in pages()])
def test_a_block_is_of_a_known_kind(page: Path) -> None:
    """No command hides behind another language."""
    for block in blocks_of(page):
        assert block.language in COMMANDS | DATA_LANGUAGES | {"python"}, block.name
        if block.language == "python":
            assert page.name == "ecosystem.md", f"{block.name}: only the blocks of docs/ecosystem.md are run"


def test_commands_that_compute_are_few_and_known() -> None:
    """Each takes seconds of the default tests: mark a new one `dry run` unless it is worth that."""
    heavy = {block.page.name for block in BLOCKS if computes(block)}
    assert heavy == {"README.md", "commands.md", "published-data.md"}


def test_configurations_in_the_pages_are_valid(tmp_path: Path) -> None:
    blocks = [block for page in pages() for block in blocks_of(page) if block.language == "yaml"]
    assert blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block.text)
        load_config(str(file), [])


def test_blocks_and_notes_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    parts = ["# Title", "    make a \\\n        --b\n\n    make c  # why", "- item\n    continued"]
    parts += ["<!-- not run: no cluster -->", "    ray up", "text", "    make d", "```json\n{}\n```"]
    parts += ["<!-- dry run: slow -->", "```sh\nmake e\n```"]
    page.write_text("\n\n".join(parts))
    found = list(blocks_of(page))
    assert [(block.language, block.kind, block.note) for block in found] == [
        ("", "", ""),
        ("", "not run", "no cluster"),
        ("", "", ""),
        ("json", "", ""),
        ("sh", "dry run", "slow"),
    ]
    assert commands_of(found[0]) == [["make", "a", "--b"], ["make", "c"]]
    assert [commands_of(found[place]) for place in (1, 2, 4)] == [[["ray", "up"]], [["make", "d"]], [["make", "e"]]]
