"""docs/ecosystem.md is so: its own blocks are run, in a folder that looks like that of a finished run.

They run in a process of their own: nothing else should have to live with a dozen native libraries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from retrieval_core.model.embedder import FabricEmbedder
from retrieval_core.model.heads import new_head
from retrieval_core.model.weights import save_model
from retrieval_core.store.embeddings import write_manifest, write_shard
from tests.doc_blocks import ROOT, blocks_of
from tests.unit.tiny_weights import images, transformers_model
from tests.unit.trec_files import write_trec_files

FABRICS, REGIONS, DIM = 12, 2, 8
CHECKS = """
import json
import numpy, torch
print(json.dumps({
    "pandas": numpy.stack(frame["embedding"]).tolist(),
    "polars": fabrics_polars["embedding"].to_list(),
    "pyarrow": table["embedding"].to_pylist(),
    "columns": [list(frame.columns), fabrics_polars.columns],
    "duckdb": best,
    "faiss": [scores.tolist(), rows.tolist()],
    "lancedb": [[row["path"], 1 - row["_distance"]] for row in nearest],
    "pool": len(first_ten),
    "ranx": {name: float(value) for name, value in figures.items()},
    "model": embed(torch.load("pixels.pt")).tolist(),
}))
"""


def unit_rows(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_store(folder: Path, count: int, regions: int, seed: int) -> np.ndarray:
    """A store of two shards; returns its vectors (count * regions, DIM)."""
    vectors, half, shards = unit_rows(count * regions, seed), count // 2, []
    boxes = np.tile(np.array([0, 0, 32, 32], np.int32), (half, regions, 1))
    for number in range(2):
        names = [
            (f"my fabrics/f{index:03d}.png", f"f{index:03d}") for index in range(number * half, number * half + half)
        ]
        part = vectors[number * half * regions :][: half * regions]
        write_shard(str(folder / f"{number:05d}.parquet"), names, boxes, part, [])
        shards.append({"file": f"{number:05d}.parquet", "images": half, "rows": half * regions, "rejected": 0})
    write_manifest(str(folder), "mark", shards, {})
    return vectors


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's blocks left in their variables, and what should be in them."""
    place = tmp_path_factory.mktemp("ecosystem")
    demo = place / "Output" / "demo"
    gallery = write_store(demo / "embeddings" / "gallery", FABRICS, REGIONS, 1)
    queries = write_store(demo / "embeddings" / "queries", 4, 1, 2)
    model = FabricEmbedder(transformers_model(), new_head(32, DIM, 5), "cls_plus_mean").eval()
    save_model(model, str(demo / "model"))
    torch.save(images(), place / "pixels.pt")
    with torch.no_grad():
        expected = model(images())
    figures = write_trec_files(demo, place)
    blocks = [block.text for block in blocks_of(ROOT / "docs" / "ecosystem.md") if block.language == "python"]
    code = "\n".join(blocks).replace("fabrics = pl.read", "fabrics_polars = pl.read") + CHECKS
    # Compiling ranx's loops would take longer than all the rest; as plain Python they give the same.
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert run.returncode == 0, run.stderr
    values: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return {**values, "gallery": gallery, "queries": queries, "expected": expected.numpy(), "ours": figures}


@pytest.mark.parametrize("reader", ["pandas", "polars", "pyarrow"])
def test_the_store_is_read_whole(found: dict[str, Any], reader: str) -> None:
    np.testing.assert_array_equal(np.array(found[reader], np.float32), found["gallery"])


def test_the_columns_have_their_names(found: dict[str, Any]) -> None:
    assert found["columns"] == [["path", "id", "region", "box", "embedding"]] * 2


def test_duckdb_ranks_fabrics_by_their_best_region(found: dict[str, Any]) -> None:
    scores = (found["gallery"] @ found["queries"][0]).reshape(FABRICS, REGIONS).max(axis=1)
    order = np.argsort(-scores)[:10]
    assert [row[0] for row in found["duckdb"]] == [f"my fabrics/f{index:03d}.png" for index in order]
    np.testing.assert_allclose([row[1] for row in found["duckdb"]], scores[order], atol=1e-6)


def test_faiss_ranks_vectors(found: dict[str, Any]) -> None:
    expected = found["queries"] @ found["gallery"].T
    scores, rows = found["faiss"]
    np.testing.assert_array_equal(rows, np.argsort(-expected, axis=1)[:, :10])
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :10], atol=1e-6)


def test_lancedb_ranks_vectors(found: dict[str, Any]) -> None:
    scores = found["gallery"] @ found["gallery"][0]
    order = np.argsort(-scores)[:10]
    assert [row[0] for row in found["lancedb"]] == [f"my fabrics/f{row // REGIONS:03d}.png" for row in order]
    np.testing.assert_allclose([row[1] for row in found["lancedb"]], scores[order], atol=1e-6)


def test_the_pool_is_a_table(found: dict[str, Any]) -> None:
    assert found["pool"] == 39 * 10


def test_ranx_finds_our_figures(found: dict[str, Any]) -> None:
    assert len(found["ranx"]) == 3
    for name, value in found["ranx"].items():
        assert value == pytest.approx(found["ours"][name.replace("map", "mAP_trec")], abs=1e-6), name


def test_transformers_alone_gives_our_embeddings(found: dict[str, Any]) -> None:
    np.testing.assert_allclose(found["model"], found["expected"], atol=1e-6)
