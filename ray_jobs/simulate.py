"""Drawing the simulated data set in Ray tasks; the bytes do not depend on how many there are."""

from __future__ import annotations

import logging
import time

from ray_jobs.cluster.connect import connect, run_tasks
from ray_jobs.console.progress import Progress
from retrieval_core.config.config import Config, ConfigError
from retrieval_core.simulation.dataset import is_complete, plan_dataset, write_lists, write_range

log = logging.getLogger("fabric_retrieval")
ITEMS_PER_TASK = 40


def simulate(config: Config) -> int:
    """Write the data set that ``simulate.*`` and ``run.seed`` describe, unless it is complete."""
    folder = config.simulate.output or config.data.root
    if not folder:
        raise ConfigError(
            "simulate.output = None: say where to write, for example --set simulate.output=Output/fabrics"
        )
    if is_complete(folder, config.simulate, config.run.seed):
        log.info("simulate: %s is complete", folder)
        return 0
    connect()
    began = time.perf_counter()
    plan = plan_dataset(config.simulate, config.run.seed)
    total = plan.items
    starts = range(0, total, ITEMS_PER_TASK)
    calls = ((plan, folder, start, min(total, start + ITEMS_PER_TASK)) for start in starts)
    boxes = []
    with Progress("simulate", total, "images") as progress:
        for rows in run_tasks(write_range, calls):
            boxes += rows
            progress.advance(min(ITEMS_PER_TASK, total - progress.done))
    write_lists(plan, folder, boxes)
    log.info("simulate: %d images in %.1f s in %s", total, time.perf_counter() - began, folder)
    return 0
