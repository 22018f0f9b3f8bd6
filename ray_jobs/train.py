"""Fine-tuning on Ray Train: workers, devices, checkpoints, resume.

The loop itself is ``retrieval_core.training.loop.fit``; this file gives it a process group, a place for checkpoints
and a log. A run that was killed goes on from its newest checkpoint, whichever process or worker died; with
``train.min_workers`` on the workers that are left, each with a larger share of the same batches.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from ray_jobs.cluster import gauges
from ray_jobs.cluster.connect import is_shared, run_tasks, watch
from ray_jobs.console.progress import Progress, say
from ray_jobs.run import Run
from retrieval_core.config.config import Config
from retrieval_core.data.datasets import Labelled, labelled_split
from retrieval_core.encoding.arms import FINE_TUNED
from retrieval_core.encoding.encoders import ModelEncoder
from retrieval_core.files import storage
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.model.embedder import FabricEmbedder
from retrieval_core.model.weights import load_model, save_model, weights_fingerprint
from retrieval_core.run.workspace import RunError, Workspace
from retrieval_core.store.embeddings import Box
from retrieval_core.training.checkpoints import newest_checkpoint, save_checkpoint
from retrieval_core.training.loader import TrainingData, needs_pseudo_boxes
from retrieval_core.training.loop import Hooks, Trainer, Worker, fit
from retrieval_core.training.pseudo_boxes import find_pseudo_boxes
from retrieval_core.training.validation import Validator

log = logging.getLogger("fabric_retrieval")

HOW_NOT_WHAT = {"num_workers", "min_workers", "loader_threads", "keep_checkpoints", "checkpoint_every", "max_failures"}
HOW_NOT_WHAT |= {"enabled", "cache_activations", "cache_max_gb"}
"""Keys of the train section that say how to compute, not what: changing them does not start a new training."""


def train(run: Run) -> dict[str, Any] | None:
    """Fine-tune and leave the model in ``model/``; None where the run does not train.

    Memory of the driver and of each worker: O(training labels).
    """
    if not run.trains:
        log.info(
            "train: not asked for; embedding with %s as it is", run.config.model.checkpoint or run.config.model.weights
        )
        return None
    config, workspace = run.config, run.workspace
    split = labelled_split(config.data, "train")
    inputs = {
        "train": config.train.model_dump(exclude=HOW_NOT_WHAT),
        "model": config.model.model_dump(exclude={"weights", "checkpoint"}),
        "images": config.images.model_dump(),
        "top_k": config.retrieve.top_k,
        "seed": config.run.seed,
        "weights": weights_fingerprint(config.model),
        "data": _data_mark(split, labelled_split(config.data, "validation")),
    }
    if run.overwrite:
        storage.remove(workspace.path("checkpoints"))
    return workspace.stage(
        "train",
        inputs,
        [workspace.path("model", "config.json")],
        lambda: _train(run, fingerprint(inputs)),
        overwrite=run.overwrite,
    )


def _data_mark(*splits: Labelled) -> str:
    records = [record for split in splits for record in (*split.queries, *split.fabrics)]
    return fingerprint([(record.path, record.categories, _stamp(record.location)) for record in records])


def _stamp(location: str) -> str:
    try:
        return storage.stamp(location)
    except OSError:
        return "missing"


def _train(run: Run, mark: str) -> dict[str, Any]:
    config = run.config
    workers = config.train.num_workers
    gpus = run.resources.gpus
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
        "mark": mark,
        "workers": workers,
        "threads": max(1, int(run.resources.cpus) // max(1, workers)),
        "attempt": f"{time.time_ns():x}",
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


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """What each training worker runs; every rank returns the outcome.

    A fault of the data or the configuration would come back after every restart, so it is handed to the driver
    instead of being retried; anything else is left to Ray Train, which restarts the workers.
    """
    config = Config.model_validate(settings["config"])
    context = ray.train.get_context()
    problem = Workspace(config).work(f"train-error-{settings['attempt']}.json")
    if storage.exists(problem):
        outcome: dict[str, Any] = storage.read_json(problem)
        return outcome
    try:
        return _fit(config, settings)
    except (ValueError, FloatingPointError) as error:
        if context.get_world_size() == 1:
            return {"error": str(error)}
        storage.write_json(problem, {"error": str(error)})
        raise


def _fit(config: Config, settings: dict[str, Any]) -> dict[str, Any]:
    context = ray.train.get_context()
    rank, count = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(settings["threads"])
    device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    worker = Worker(
        rank,
        count,
        device,
        lambda model: ray.train.torch.prepare_model(model, move_to_device=device),
    )
    split, model = labelled_split(config.data, "train"), load_model(config.model, config.run.seed, with_head=True)
    located = _locate(config, settings["mark"], split, model, worker) if needs_pseudo_boxes(config) else None
    data = TrainingData(config, split, workers=count, most_workers=settings["workers"], located=located)
    trainer = Trainer(config, model, data, worker)
    folder = Workspace(config).path("checkpoints")
    state = newest_checkpoint(folder, settings["mark"])
    if state is not None:
        trainer.load_state(state)
        share = f" with {count} of {settings['workers']} workers" if count < settings["workers"] else ""
        _say(rank, f"going on from step {trainer.progress.step} of {data.schedule.total}{share}")
    hooks = _hooks(config, settings["mark"], rank, count, device)
    watched = watch(config, folder)
    with Progress("train", data.schedule.total, "steps", trainer.progress.step, watch=watched) as progress:
        fit(trainer, replace(hooks, step_done=lambda _: progress.advance()) if rank == 0 else hooks)
    _gather_rejects(trainer, count)
    if rank == 0:
        _leave_model(config, trainer)
    if count > 1:
        dist.barrier()
    history = trainer.progress.history
    return {
        "workers_at_end": count,
        "steps": trainer.progress.step,
        "device": str(device.type),
        "first": _finite(history[0]),
        "best": _finite(max(history, key=lambda row: row["score"])),
        "last": _finite(history[-1]),
        "rejects": [list(value) for _, value in sorted(data.rejects.items())],
    }


def _locate(
    config: Config, mark: str, split: Labelled, model: FabricEmbedder, worker: Worker
) -> dict[str, list[tuple[str, Box]]]:
    """Find the motifs on the training fabrics, each worker on its share; what was found stays for a resumed run."""
    file = Workspace(config).work(f"located-{mark[:16]}.json")
    if storage.exists(file):
        found: dict[str, list[tuple[str, Box]]] = storage.read_json(file)
        return found
    _say(worker.rank, f"looking for the motifs on {len(split.fabrics)} fabrics")
    encoder = ModelEncoder(model, worker.device, config.model.precision, config.embed.batch_size, compile=False)
    share = range(len(split.fabrics))[worker.rank :: worker.count]
    own = find_pseudo_boxes(encoder.encode, config, split, share)
    parts = [own] * worker.count
    if worker.count > 1:
        dist.all_gather_object(parts, own)
    united = {path: boxes for part in parts for path, boxes in sorted(part.items())}
    if worker.rank == 0:
        storage.write_json(file, united)
    return united


def _hooks(config: Config, mark: str, rank: int, count: int, device: torch.device) -> Hooks:
    workspace = Workspace(config)
    folder = workspace.path("checkpoints")
    validator = Validator(config, labelled_split(config.data, "validation"), rank=rank, workers=count)
    board = _tensorboard(workspace) if rank == 0 else None

    def gather(array: np.ndarray) -> list[np.ndarray]:
        if count == 1:
            return [array]
        parts: list[Any] = [None] * count
        dist.all_gather_object(parts, array)
        return parts

    def save(trainer: Trainer) -> None:
        _gather_rejects(trainer, count)
        if rank == 0:
            save_checkpoint(folder, trainer.progress.step, mark, trainer.state(), config.train.keep_checkpoints)

    def epoch_done(trainer: Trainer, row: dict[str, float], best: bool) -> None:
        if rank == 0:
            if best:
                save_model(trainer.model, storage.join(folder, "best"))
            _write_log(workspace, trainer.progress.history)
            if math.isfinite(rate := row["images_per_second"]):
                gauges.TRAIN_RATE.set(rate, gauges.Tags(config.run.name, "train", FINE_TUNED))
            if board is not None:
                for name, value in _finite(row).items():
                    board.add_scalar(f"train/{name}", value, int(row["step"]))
                board.flush()
        _say(
            rank,
            f"epoch {row['epoch']:.0f}: loss {row['loss']:.4f}, validation pool recall@{row['k']:.0f} "
            f"{row['pool_recall']:.4f}, mAP {row['mAP']:.4f}, {row['images_per_second']:.1f} images/s",
        )
        if trainer.frozen is not None and trainer.progress.step:
            _say(rank, trainer.frozen.cache.report())
        ray.train.report(_finite(row))

    return Hooks(save=save, validate=lambda trainer: validator(trainer.model, device, gather), epoch_done=epoch_done)


def _gather_rejects(trainer: Trainer, count: int) -> None:
    if count > 1:
        parts: list[Any] = [None] * count
        dist.all_gather_object(parts, trainer.data.rejects)
        for part in parts:
            trainer.data.rejects.update(part)


def _leave_model(config: Config, trainer: Trainer) -> None:
    """Put the chosen model into ``model/``; config.json last, so that its presence means a whole model."""
    workspace = Workspace(config)
    if config.train.select == "last":
        save_model(trainer.model, workspace.path("model"))
        return
    best = workspace.path("checkpoints", "best")
    storage.remove(workspace.path("model"))
    for name in sorted(storage.list_names(best), key=lambda name: name == "config.json"):
        storage.copy(storage.join(best, name), workspace.path("model", name))


def _write_log(workspace: Workspace, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[-1]))
    writer.writeheader()
    for row in history:
        writer.writerow({name: "" if math.isnan(value) else value for name, value in row.items()})
    storage.write_bytes(workspace.path("train_log.csv"), text.getvalue().encode())


def _tensorboard(workspace: Workspace) -> Any:
    """A TensorBoard writer; only local folders can be appended to."""
    from tensorboardX import SummaryWriter

    folder = storage.local_path(workspace.path("tensorboard"))
    return None if folder is None else SummaryWriter(folder)


def _finite(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if math.isfinite(value)}


def _say(rank: int, text: str) -> None:
    if rank == 0:
        say(f"train: {text}")
