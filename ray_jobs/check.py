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


def check(config: Config) -> int:
    """Print every problem of data, weights, output and, on a cluster, nodes; 0 if a run can succeed, 1 if it cannot."""
    run = Run(config)
    wrong = 0
    if is_shared():
        connect()
        for line in node_problems(config):
            print(f"{coloured('error  ', 'red', sys.stdout)} {printable(line)}")
            wrong += 1
    try:
        weights = missing_weights(config.model)
    except OSError as error:  # a store that cannot be asked
        weights = f"model.weights = {config.model.weights}: {error.strerror or error}"
    if weights is not None:
        print(f"{coloured('error  ', 'red', sys.stdout)} weights: {printable(weights)}")
        wrong += 1
    try:
        trains = run.trains if weights is None else config.train.enabled is True
    except (DataError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else str(error)
        print(f"{coloured('error  ', 'red', sys.stdout)} data: {printable(reason)}")
        trains = False
        wrong += 1
    problems, counts = check_data(config.data, training=trains)
    shown = {"error": coloured("error  ", "red", sys.stdout), "warning": coloured("warning", "yellow", sys.stdout)}
    for problem in problems:
        examples = f", for example {printable('; '.join(problem.examples))}" if problem.examples else ""
        print(f"{shown[problem.severity]} {problem.kind}: {problem.count:,}{examples}. {problem.remedy}")
        wrong += problem.severity == "error"
    for name, count in counts.items():
        print(f"        {name}: {count:,}")
    print(f"        fine-tuning: {'yes' if trains else 'no'}; output: {run.workspace.folder}")
    print("check: a run would fail" if wrong else "check: ready to run")
    return 1 if wrong else 0
