"""`check` and `--dry-run`: what is wrong, and what would be done, before any compute is spent."""

from __future__ import annotations

from ray_jobs.run import Run
from retrieval_core import storage
from retrieval_core.config import Config
from retrieval_core.data_check import check_data
from retrieval_core.datasets import DataError
from retrieval_core.weights import missing_weights


def check(config: Config) -> int:
    """Print every problem of data, weights and output; 0 if a run can succeed, 1 if it cannot."""
    run = Run(config)
    wrong = 0
    weights = missing_weights(config.model)
    if weights is not None:
        print(f"error   weights: {weights}")
        wrong += 1
    try:
        trains = run.trains if weights is None else config.train.enabled is True
    except (DataError, OSError) as error:
        print(f"error   data: {error}")
        trains = False
        wrong += 1
    problems, counts = check_data(config.data, training=trains)
    for problem in problems:
        examples = f", for example {'; '.join(problem.examples)}" if problem.examples else ""
        print(f"{problem.severity:7} {problem.kind}: {problem.count:,}{examples}. {problem.remedy}")
        wrong += problem.severity == "error"
    for name, count in counts.items():
        print(f"        {name}: {count:,}")
    print(f"        fine-tuning: {'yes' if trains else 'no'}; output: {run.workspace.folder}")
    print("check: a run would fail" if wrong else "check: ready to run")
    return 1 if wrong else 0


def print_plan(run: Run, command: str) -> int:
    """Say what a command would do, stage by stage."""
    config = run.config
    stages = ["train", "embed", "retrieve", "evaluate", "report"] if command == "run" else [command]
    notes = {
        "train": f"{config.train.epochs} epochs of batches of {config.train.batch_size}"
        if run.trains
        else "not asked for",
        "embed": f"arms {', '.join(run.arm_names())}; batches of {config.embed.batch_size}, "
        f"shards of {config.embed.shard_size}",
        "retrieve": f"top {config.retrieve.top_k} for every query",
        "evaluate": f"at {config.evaluate.ks}" if run.labelled else "no labels, nothing to judge",
        "report": storage.join(run.workspace.folder, "report.html"),
    }
    print(f"{command} in {run.workspace.folder}")
    for stage in stages:
        before = "recorded as done; skipped if nothing changed" if _recorded(run, stage) else "to do"
        print(f"  {stage:9} {before}: {notes[stage]}")
    return 0


def _recorded(run: Run, stage: str) -> bool:
    names = {"embed": ["embed.gallery", "embed.queries"]}.get(stage, [stage])
    return all(run.workspace.record(name) is not None for name in names)
