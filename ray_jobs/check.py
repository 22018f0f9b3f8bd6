"""`check`: what is wrong, before any compute is spent."""

from __future__ import annotations

import sys

from ray_jobs.cluster.connect import connect, is_shared
from ray_jobs.cluster.probe import node_problems
from ray_jobs.console.progress import coloured, printable
from ray_jobs.run import Run
from retrieval_core.config.config import Config
from retrieval_core.data.check import check_data
from retrieval_core.data.datasets import DataError
from retrieval_core.model.weights import missing_weights

_COLOURS = {"error": "red", "warning": "yellow"}


def check(config: Config) -> int:
    """Print every problem of data, weights, output and, on a cluster, nodes; 0 if a run can succeed, 1 if it cannot."""
    run = Run(config)
    errors = 0
    if is_shared():
        connect()
        for line in node_problems(config):
            errors += _print("error", printable(line))
    elif (problem := run.workspace.write_problem()) is not None:
        errors += _print("error", f"run.output_dir: {printable(problem)}")
    try:
        weights = missing_weights(config.model)
    except OSError as error:  # a store that cannot be asked
        weights = f"model.weights = {config.model.weights}: {error.strerror or error}"
    if weights is not None:
        errors += _print("error", f"weights: {printable(weights)}")
    try:
        trains = run.trains if weights is None else config.train.enabled is True
    except (DataError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
        errors += _print("error", f"data: {printable(reason)}")
        trains = False
    problems, counts = check_data(config.data, training=trains)
    for found in problems:
        examples = f", for example {printable('; '.join(found.examples))}" if found.examples else ""
        errors += _print(found.severity, f"{found.kind}: {found.count:,}{examples}. {found.remedy}")
    for name, count in counts.items():
        print(f"        {name}: {count:,}")
    print(f"        fine-tuning: {'yes' if trains else 'no'}; output: {run.workspace.folder}")
    print("check: a run would fail" if errors else "check: ready to run")
    return 1 if errors else 0


def _print(severity: str, text: str) -> bool:
    print(coloured(f"{severity:7}", _COLOURS[severity], sys.stdout), text)
    return severity == "error"
