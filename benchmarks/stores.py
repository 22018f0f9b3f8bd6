"""Embedding stores of random unit vectors, as the embedding stage leaves them, to time later stages on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from ray_jobs.run import Run
from retrieval_core.config.config import load_config
from retrieval_core.config.sections import Role
from retrieval_core.data.shard_plan import plan_file
from retrieval_core.files import storage, tables
from retrieval_core.store.embeddings import write_manifest, write_shard

SHARD = 1024
WEIGHTS = Path(__file__).resolve().parent.parent / "Weight_Path" / "dinov2-motif-tiny"


def unit_vectors(count: int, dim: int, seed: int) -> np.ndarray:
    """(count, dim) float32, uniform on the sphere."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def run_of(folder: Path, fabrics: int, queries: int, dim: int, *settings: str) -> Run:
    """A run in ``folder`` that has embedded ``fabrics`` and ``queries`` images in ``dim`` dimensions."""
    config = load_config(
        None,
        [
            f"run.output_dir={folder}",
            f"run.name=g{fabrics}-q{queries}-d{dim}",
            f"data.root={folder}",
            "data.format=folder",
            "data.gallery=fabrics",
            "data.queries=queries",
            f"model.weights={WEIGHTS}",
            "model.pooling=cls",
            "train.enabled=false",
            *settings,
        ],
    )
    run = Run(config)
    _write_store(run, "gallery", fabrics, dim)
    _write_store(run, "queries", queries, dim)
    return run


def _write_store(run: Run, role: Role, count: int, dim: int) -> None:
    if run.workspace.record(f"embed.{role}"):
        return
    folder, entries = run.store(run.main, role), []
    for number, start in enumerate(range(0, count, SHARD)):
        images = [(f"{role}/{row:09d}.jpg", f"{row:09d}") for row in range(start, min(count, start + SHARD))]
        vectors, name = unit_vectors(len(images), dim, start + (role == "queries")), f"00000-{number:06d}.parquet"
        write_shard(storage.join(folder, name), images, np.zeros((len(images), 1, 4), np.int32), vectors, [])
        entries.append({"file": name, "images": len(images), "rows": len(images), "rejected": 0})
    write_manifest(folder, f"{role} {count}", entries, {"regions": 1})
    if role == "queries":
        rows = np.arange(count)
        plan = {"path": [f"{role}/{row:09d}.jpg" for row in rows], "shard": rows // SHARD, "position": rows}
        tables.write_table(plan_file(run.plan(run.main, role), 0), pa.table(plan))
    done = {"shards": f"{role} {count}", "order": f"{count}"}
    run.workspace.stage(f"embed.{role}", done, [], lambda: done)
