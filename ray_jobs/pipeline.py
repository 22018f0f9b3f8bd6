"""The whole workflow on one screen.

    train      fine-tune DINOv2 on Ray Train                 -> model/, checkpoints/
    embed      map the catalogue and the queries, Ray Data   -> embeddings/, rejects.parquet
    retrieve   blockwise top-k, merged as a tree             -> candidate_pool.parquet, first_retrieval_results.json
    evaluate   metrics of the pool and of the baselines      -> metrics.json, per_query.csv, recall_by_depth.csv
    report     a page to look at                             -> report.html

Each stage takes what earlier ones left in the run's folder, skips what is done, goes on where it was interrupted, and
records what its result was computed from. Any stage can be run alone with the same configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ray_jobs.cluster.connect import interrupt_ends_ray, is_shared
from ray_jobs.cluster.probe import require_shared_paths
from ray_jobs.console.progress import say
from ray_jobs.embed import embed
from ray_jobs.embedding.finish_store import REJECTS
from ray_jobs.embedding.tally import NothingEmbeddedError
from ray_jobs.evaluate import evaluate
from ray_jobs.report import report
from ray_jobs.retrieve import retrieve
from ray_jobs.run import Run
from ray_jobs.run_json import write_run_json
from ray_jobs.train import train
from retrieval_core.files import storage
from retrieval_core.run.lease import Lease
from retrieval_core.run.workspace import POOL_JSON

STAGES: dict[str, Callable[[Run], Any]] = {
    "train": train,
    "embed": embed,
    "retrieve": retrieve,
    "evaluate": evaluate,
    "report": report,
}


def run_workflow(run: Run) -> None:
    """Do every stage that is not done, and put the pool where the re-ranking stage looks for the latest one."""
    with Lease(run.workspace.work("lease.json")), interrupt_ends_ray():
        connect(run)
        for name in STAGES:
            _do(run, name)
        storage.copy(run.workspace.path(POOL_JSON), storage.join(run.workspace.output_dir, POOL_JSON))
        _say_what_became_of_the_images(run)


def run_stage(run: Run, name: str) -> None:
    """Do one stage; those before it must have been done."""
    with Lease(run.workspace.work("lease.json")), interrupt_ends_ray():
        connect(run)
        _do(run, name)
        _say_what_became_of_the_images(run)


def _do(run: Run, name: str) -> None:
    """Do a stage and write ``run.json``, which says so if there is nothing to go on with."""
    try:
        STAGES[name](run)
    except NothingEmbeddedError as error:
        write_run_json(run, str(error))
        raise
    write_run_json(run)


def _say_what_became_of_the_images(run: Run) -> None:
    for tally in run.tallies:
        say(tally.line(), logging.WARNING if tally.rejected.total else logging.INFO)
    if any(tally.rejected.total for tally in run.tallies):
        say(f"{run.workspace.path(REJECTS)} lists what was rejected, and why")


def connect(run: Run) -> None:
    """Connect to Ray.

    Raises:
        RunError: on a cluster of which a node does not see the run's folder, its data or its weights.
    """
    run.connect()
    if is_shared():
        require_shared_paths(run.config)
