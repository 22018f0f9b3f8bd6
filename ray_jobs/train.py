"""Fine-tuning on Ray Train: what a training depends on, and how many workers share it. Each runs ``train_worker``.

A killed run goes on from its newest checkpoint. With ``train.min_workers`` those that are left share its batches.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import ray.train
import ray.train.torch
import torch

from ray_jobs.cluster.connect import is_shared, run_tasks
from ray_jobs.run import Run
from ray_jobs.train_worker import train_worker
from retrieval_core.config.config import Config
from retrieval_core.config.train_section import EXECUTION_KEYS
from retrieval_core.data.datasets import Labelled, labelled_split
from retrieval_core.files import stamps, storage
from retrieval_core.files.fence import question
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.images.colour_profiles import converts
from retrieval_core.images.patches import windows_of
from retrieval_core.model.weights import weights_fingerprint
from retrieval_core.run.workspace import RunError

log = logging.getLogger("fabric_retrieval")


def train(run: Run) -> dict[str, Any] | None:
    """Fine-tune and leave ``model/``; None where the run does not train. Driver and workers hold O(training labels)."""
    config, workspace = run.config, run.workspace
    if not run.trains:
        log.info("train: not asked for; embedding with %s as it is", config.model.checkpoint or config.model.weights)
        return None
    splits = labelled_split(config.data, "train"), labelled_split(config.data, "validation")
    inputs = _inputs(config, weights_fingerprint(config.model), _data_fingerprint(*splits))
    if run.overwrite:
        storage.remove(workspace.path("checkpoints"))
    outputs = [workspace.path("model", "config.json")]
    return workspace.stage("train", inputs, outputs, lambda: _train(run, fingerprint(inputs)), overwrite=run.overwrite)


def _inputs(config: Config, weights: str, data: str) -> dict[str, Any]:
    # Removed keys, at values that did nothing: hashed as before, so that earlier trainings keep their fingerprint.
    keys = {**config.train.model_dump(exclude=EXECUTION_KEYS), "fixed_views": None, "locate": False}
    patches = config.model.pooling == "patches"
    # What is not asked for is left out, again for the trainings from before there was any.
    images = {*(() if patches else ("query_mask",)), *(() if converts(config.images) else ("profile",))}
    return {
        "train": keys,
        "model": config.model.model_dump(exclude={"weights", "checkpoint", *(() if patches else ("layer",))}),
        "images": config.images.model_dump(exclude=images),
        **({"fabrics": [config.embed.fabric_size, windows_of(config.embed)]} if patches else {}),
        "top_k": config.retrieve.top_k,
        "seed": config.run.seed,
        "weights": weights,
        "data": data,
    }


def _data_fingerprint(*splits: Labelled) -> str:
    records = [record for split in splits for record in (*split.queries, *split.fabrics)]
    return fingerprint([(record.path, record.categories, _stamp(record.location)) for record in records])


def _stamp(location: str) -> str:
    try:
        return stamps.stamp(location)
    except OSError:
        return "missing"


def _train(run: Run, training: str) -> dict[str, Any]:
    """Run the workers of the training with this fingerprint."""
    config, gpus = run.config, run.resources.gpus
    workers = config.train.num_workers
    if workers is None:
        # On this machine alone and without GPUs a worker process would only cost its start.
        workers = gpus or int(is_shared())
    least = config.train.min_workers or workers
    if least > workers:
        raise RunError(
            f"train.min_workers = {least}: the cluster has {gpus} GPUs, and so {workers} training workers; set "
            "train.num_workers, or lower train.min_workers"
        )
    settings = {
        "config": config.model_dump(),
        "training": training,
        "workers": workers,
        "threads": max(1, int(run.resources.cpus) // max(1, workers)),
        "attempt": f"{time.time_ns():x}",
        "may_write": question(),
    }
    # Workers may sit on GPU nodes while this process does not, so a worker is asked which backend fits.
    cuda = bool(gpus) and next(run_tasks(torch.cuda.is_available, [()], num_gpus=1))
    trainer = InterruptibleTrainer(
        train_worker,
        train_loop_config=settings,
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if cuda else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=(least, workers) if least < workers else workers, use_gpu=bool(gpus) and workers > 0
        ),
        run_config=ray.train.RunConfig(
            name=f"train-{settings['attempt']}",
            storage_path=run.workspace.work("ray_train"),
            failure_config=ray.train.FailureConfig(max_failures=config.train.max_failures),
        ),
    )
    try:
        outcome = trainer.fit().return_value
    finally:
        storage.remove(run.workspace.work("ray_train"))
    if "error" in outcome:
        raise RunError(outcome["error"])
    return {"workers": workers, **outcome}


class InterruptibleTrainer(ray.train.torch.TorchTrainer):  # type: ignore[misc]
    """Ray's trainer without its own idea of Ctrl-C, which may end this process with code 0 and outlives training."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass

    def _create_default_callbacks(self) -> list[Any]:
        """Without the cleaner where Ray ends with this process: it would say every few seconds that nobody answers."""
        callbacks: list[Any] = super()._create_default_callbacks()
        if is_shared():
            return callbacks
        return [callback for callback in callbacks if type(callback).__name__ != "PlacementGroupCleanerCallback"]
