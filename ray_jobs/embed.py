"""The embedding stage: every image of catalogue and queries becomes vectors. Its parts are in ``embedding``."""

from __future__ import annotations

from typing import Any

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.embedding.finish_store import REJECTS, finish, write_rejects
from ray_jobs.embedding.graph import EmbeddingGraph
from ray_jobs.embedding.plan_store import Store, list_images, plan_store
from ray_jobs.run import Run
from retrieval_core.config.sections import ROLES
from retrieval_core.files import storage
from retrieval_core.store.embeddings import MANIFEST


def embed(run: Run) -> None:
    """Embed gallery and queries for every arm, then list what was rejected. The driver holds O(shards)."""
    list_images(run)
    stores = [plan_store(run, arm, role) for arm in run.arms() for role in ROLES]
    graph = EmbeddingGraph(run, stores)
    for store in stores:
        _embed_store(run, graph, store)
    graph.run_to_end()
    own_stores = {role: run.store(run.main, role) for role in ROLES}
    next(run_tasks(write_rejects, [(run.workspace.path(REJECTS), run.train_rejects(), own_stores)]))


def _embed_store(run: Run, graph: EmbeddingGraph, store: Store) -> None:
    def action() -> dict[str, Any]:
        facts = graph.complete(store)
        return {**facts, **store.inputs, "counts": finish(store)}

    stage = f"embed.{store.role}{run.suffix(store.arm.name)}"
    record = run.workspace.stage(stage, store.inputs, [storage.join(store.folder, MANIFEST)], action)
    if record["skipped"]:
        record["counts"]["reused"] = record["counts"]["inputs"]
    run.counts[stage] = record["counts"]
