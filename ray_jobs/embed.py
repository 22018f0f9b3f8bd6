"""The embedding stage: every image of catalogue and queries becomes vectors. Its parts are in ``embedding``."""

from __future__ import annotations

from typing import Any

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.embedding.finish_store import REJECTS, finish, write_rejects
from ray_jobs.embedding.graph import EmbeddingGraph
from ray_jobs.embedding.plan_store import Store, list_images, plan_store
from ray_jobs.embedding.tally import Tally, require_embedded
from ray_jobs.run import Run
from retrieval_core.config.sections import ROLES
from retrieval_core.files import storage
from retrieval_core.store.embeddings import MANIFEST


def embed(run: Run) -> None:
    """Embed gallery and queries for every arm, then list what was rejected. The driver holds O(shards).

    Raises:
        NothingEmbeddedError: if nothing of the gallery or of the queries could be embedded.
    """
    list_images(run)
    stores = [plan_store(run, arm, role) for arm in run.arms() for role in ROLES]
    graph = EmbeddingGraph(run, stores)
    for store in stores:
        _embed_store(run, graph, store)
    graph.run_to_end()
    own_stores = {role: run.store(run.main, role) for role in ROLES}
    target = run.workspace.path(REJECTS)
    rejected = next(run_tasks(write_rejects, [(target, run.train_rejects(), own_stores)]))
    run.tallies = [
        Tally(role, run.counts[_stage(run, run.main, role)], rejected[role], run.left_out[role]) for role in ROLES
    ]
    require_embedded(run.tallies, target)


def _stage(run: Run, arm: str, role: str) -> str:
    return f"embed.{role}{run.suffix(arm)}"


def _embed_store(run: Run, graph: EmbeddingGraph, store: Store) -> None:
    def action() -> dict[str, Any]:
        facts = graph.complete(store)
        return {**facts, **store.inputs, "counts": finish(store)}

    stage = _stage(run, store.arm.name, store.role)
    record = run.workspace.stage(stage, store.inputs, [storage.join(store.folder, MANIFEST)], action)
    if record["skipped"]:
        record["counts"]["reused"] = record["counts"]["inputs"]
    run.counts[stage] = record["counts"]
