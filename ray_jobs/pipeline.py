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
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from typing import Any

from ray_jobs.cluster.connect import interrupt_ends_ray, is_shared
from ray_jobs.cluster.probe import require_shared_paths
from ray_jobs.embed import embed
from ray_jobs.evaluate import evaluate
from ray_jobs.report import report
from ray_jobs.retrieve import retrieve
from ray_jobs.run import Run
from ray_jobs.train import train
from retrieval_core.files import storage
from retrieval_core.run.lease import Lease
from retrieval_core.run.workspace import POOL_JSON

log = logging.getLogger("fabric_retrieval")

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
        start(run)
        for stage in STAGES.values():
            stage(run)
            write_run_json(run)
        storage.copy(run.workspace.path(POOL_JSON), storage.join(run.workspace.output_dir, POOL_JSON))


def run_stage(run: Run, name: str) -> None:
    """Do one stage; those before it must have been done."""
    with Lease(run.workspace.work("lease.json")), interrupt_ends_ray():
        start(run)
        STAGES[name](run)
        write_run_json(run)


def start(run: Run) -> None:
    """Connect to Ray.

    Raises:
        RunError: on a cluster of which a node does not see the run's folder, its data or its weights.
    """
    run.connect()
    if is_shared():
        require_shared_paths(run.config)


def write_run_json(run: Run) -> None:
    """Write down what was run, with what, and how long it took."""
    records = run.records()
    counts = {}
    for role in ("gallery", "queries"):
        name = f"embed.{role}{run.suffix(run.main)}"
        record = run.workspace.record(name)
        if record is not None:
            counts[role] = run.counts.get(name, record["counts"])
    value = {
        "name": run.config.run.name,
        "arm": run.main,
        "head": run.head,
        "config": run.config.model_dump(),
        "seeds": {"run": run.config.run.seed},
        "versions": versions(),
        "git_commit": _git_commit(),
        "stages": {record["stage"]: record for record in records},
        "counts": counts,
    }
    storage.write_json(run.workspace.path("run.json"), value)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    names = ("fabric-retrieval", "torch", "transformers", "ray", "numpy", "pandas", "pillow", "pyarrow")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _git_commit() -> str | None:
    from pathlib import Path

    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
