"""What each training worker does: the loop of ``retrieval_core.training`` with checkpoints, validation and a log."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from typing import Any, TypeVar

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from ray_jobs.cluster import gauges
from ray_jobs.cluster.connect import watch
from ray_jobs.console.progress import Progress, say
from retrieval_core.config.config import Config
from retrieval_core.data.datasets import Labelled, labelled_split
from retrieval_core.encoding.arms import FINE_TUNED
from retrieval_core.files import storage
from retrieval_core.files.fence import before_writing, fenced
from retrieval_core.model.weights import load_model, save_model
from retrieval_core.run.workspace import RunError, Workspace
from retrieval_core.training.checkpoints import (
    CheckpointError,
    best_folder,
    best_model,
    save_checkpoint,
    shared_checkpoint,
)
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Hooks, Trainer, Worker, fit
from retrieval_core.training.model_card import CARD, model_card
from retrieval_core.training.validation import Validator

T = TypeVar("T")


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train with the settings of ``ray_jobs.train``; every rank returns the outcome.

    A fault of data or configuration would come back after a restart, so the driver gets it. Ray Train retries the rest.
    That includes the loss of the run's folder to another run, which every rank then learns before it begins.
    """
    with fenced(settings.get("may_write")):
        try:
            before_writing()
        except RunError as error:
            return {"error": str(error)}
        return _fit_or_error(settings)


def _fit_or_error(settings: dict[str, Any]) -> dict[str, Any]:
    config = Config.model_validate(settings["config"])
    problem = Workspace(config).work(f"train-error-{settings['attempt']}.json")
    if storage.exists(problem):
        outcome: dict[str, Any] = storage.read_json(problem)
        return outcome
    try:
        return _fit(config, settings)
    except CheckpointError as error:
        return {"error": str(error)}  # every rank has it, and the store may not take a file
    except (ValueError, FloatingPointError) as error:
        if ray.train.get_context().get_world_size() == 1:
            return {"error": str(error)}
        storage.write_json(problem, {"error": str(error)})
        raise


def _fit(config: Config, settings: dict[str, Any]) -> dict[str, Any]:
    context = ray.train.get_context()
    torch.set_num_threads(settings["threads"])
    device = ray.train.torch.get_device() if torch.cuda.is_available() else torch.device("cpu")
    worker = Worker(
        context.get_world_rank(),
        context.get_world_size(),
        device,
        lambda model: ray.train.torch.prepare_model(model, move_to_device=device),
    )
    split, validation = labelled_split(config.data, "train"), labelled_split(config.data, "validation")
    model = load_model(config.model, config.run.seed, with_head=True)
    data = TrainingData(config, split, workers=worker.count, most_workers=settings["workers"])
    trainer = Trainer(config, model, data, worker)
    folder = Workspace(config).path("checkpoints")
    state = shared_checkpoint(folder, settings["training"], worker)
    if state is not None:
        trainer.load_state(state)
        lost = worker.count < settings["workers"]
        share = f" with {worker.count} of {settings['workers']} workers" if lost else ""
        _say(worker, f"going on from step {trainer.progress.step} of {data.schedule.total}{share}")
    hooks = _hooks(config, settings["training"], worker, validation)
    watched = watch(config, folder)
    with Progress("train", data.schedule.total, "steps", trainer.progress.step, watch=watched) as progress:
        fit(trainer, replace(hooks, step_done=lambda _: progress.advance()) if worker.rank == 0 else hooks)
    _share_rejects(trainer)
    history = trainer.progress.history
    if worker.rank == 0:
        card = model_card(config, trainer.model, split, validation, history)
        _leave_model(config, settings["training"], trainer, card)
    if worker.count > 1:
        dist.barrier()
    return {
        "workers_at_end": worker.count,
        "steps": trainer.progress.step,
        "device": str(device.type),
        "first": _finite(history[0]),
        "best": _finite(max(history, key=lambda row: row["score"])),
        "last": _finite(history[-1]),
        "rejects": [list(value) for _, value in sorted(data.rejects.items())],
    }


def _hooks(config: Config, training: str, worker: Worker, validation: Labelled) -> Hooks:
    workspace = Workspace(config)
    folder = workspace.path("checkpoints")
    validator = Validator(config, validation, rank=worker.rank, workers=worker.count)
    board = _tensorboard(workspace) if worker.rank == 0 else None

    def validate(trainer: Trainer) -> dict[str, float]:
        return validator(trainer.model, worker.device, lambda array: _of_all(worker, array))

    def save(trainer: Trainer) -> None:
        _share_rejects(trainer)
        if worker.rank == 0:
            save_checkpoint(folder, trainer.progress.step, training, trainer.state(), config.train.keep_checkpoints)

    def epoch_done(trainer: Trainer, row: dict[str, float], best: bool) -> None:
        if worker.rank == 0:
            if best:
                save_model(trainer.model, best_folder(folder, training))
            _write_log(workspace, trainer.progress.history)
            if math.isfinite(rate := row["images_per_second"]):
                gauges.TRAIN_RATE.set(rate, gauges.Tags(config.run.name, "train", FINE_TUNED))
            if board is not None:
                for name, value in _finite(row).items():
                    board.add_scalar(f"train/{name}", value, int(row["step"]))
                board.flush()
        _say(worker, _epoch_line(row))
        if trainer.frozen is not None and trainer.progress.step:
            _say(worker, trainer.frozen.cache.report())
        ray.train.report(_finite(row))

    return Hooks(save=save, validate=validate, epoch_done=epoch_done)


def _epoch_line(row: dict[str, float]) -> str:
    judged = f"validation pool recall@{row['k']:.0f} {row['pool_recall']:.4f}, mAP {row['mAP']:.4f}"
    if not row["step"]:
        return f"before the first step: {judged}"
    return f"epoch {row['epoch']:.0f}: loss {row['loss']:.4f}, {judged}, {row['images_per_second']:.1f} images/s"


def _of_all(worker: Worker, value: T) -> list[T]:
    """What each worker has of a value, in rank order; all of them must call."""
    if worker.count == 1:
        return [value]
    parts: list[Any] = [None] * worker.count
    dist.all_gather_object(parts, value)
    return parts


def _share_rejects(trainer: Trainer) -> None:
    for part in _of_all(trainer.worker, trainer.data.rejects.copy()):  # as in Trainer.state
        trainer.data.rejects.update(part)


def _leave_model(config: Config, training: str, trainer: Trainer, card: str) -> None:
    """Put the chosen model and its card into ``model/``; config.json last, so that its presence means a whole model."""
    workspace = Workspace(config)
    if config.train.select == "last":
        storage.write_bytes(workspace.path("model", CARD), card.encode())
        save_model(trainer.model, workspace.path("model"))
        return
    best = best_model(workspace.path("checkpoints"), training)
    storage.remove(workspace.path("model"))
    storage.write_bytes(workspace.path("model", CARD), card.encode())
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


def _say(worker: Worker, text: str) -> None:
    if worker.rank == 0:
        say(f"train: {text}")
