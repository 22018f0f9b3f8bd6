"""Weights of one's own: teach a network of DINOv2's shape to tell simulated motifs apart.

For users without the published weights: name ``backbone/`` as ``model.weights``. An interrupted part goes on.
"""

from __future__ import annotations

import logging
from typing import Any

from ray_jobs.cluster.connect import interrupt_ends_ray
from ray_jobs.run import Run
from ray_jobs.simulate import simulate
from ray_jobs.train import train
from retrieval_core.config.config import ConfigError
from retrieval_core.files import storage
from retrieval_core.model.weights import load_model, save_model
from retrieval_core.run.lease import Lease

log = logging.getLogger("fabric_retrieval")


def pretrain(run: Run) -> dict[str, Any]:
    """Draw the data, train from random weights, and leave ``backbone/``; returns the record of the export."""
    config = run.config
    if config.model.init != "random" or config.train.enabled is False:
        raise ConfigError(
            f"model.init = {config.model.init!r}, train.enabled = {config.train.enabled}: pretraining starts from "
            "random weights; use ray_jobs/configs/pretrain.yaml, or model.init=random and train.enabled=true"
        )
    with Lease(run.workspace.work("lease.json")), interrupt_ends_ray():
        simulate(config)
        trained = train(run)
        assert trained is not None
        inputs, outputs = {"train": trained["fingerprint"]}, [run.workspace.path("backbone", "config.json")]
        return run.workspace.stage("pretrain", inputs, outputs, lambda: _export(run, trained), overwrite=run.overwrite)


def _export(run: Run, trained: dict[str, Any]) -> dict[str, Any]:
    model = load_model(run.model, run.config.run.seed, with_head=False)
    model.projection_head = None
    folder = run.workspace.path("backbone")
    save_model(model, folder)
    storage.write_bytes(storage.join(folder, "README.md"), card(run, trained).encode())
    log.info("pretrain: the backbone is in %s; name it as model.weights", folder)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def card(run: Run, trained: dict[str, Any]) -> str:
    """The README of the backbone: what it is, what made it, its recall on motifs not shown in training."""
    config, first, best = run.config, trained["first"], trained["best"]
    views = trained["steps"] * config.train.batch_size * 2
    return f"""# {config.run.name}

A network of DINOv2's architecture, trained from random weights to tell simulated motifs apart: a motif
on a plain ground against a patch of printed cloth that holds it, symmetric InfoNCE over the batch. All
pictures were drawn by `fabric-retrieval simulate`; no other art was used. Backbone only, no projection
head.

- command: `fabric-retrieval pretrain`, seed {config.run.seed}; the configuration is in `run.json`
- data: {config.simulate.train_motifs} motifs, {config.simulate.train_fabrics} fabrics
- {trained["steps"]} steps, about {views:,} images of {config.model.image_size} px, \
{trained["seconds"] / 60:.0f} minutes on {trained["device"]}
- pooling when frozen: {config.model.pooling}
- validation (motifs not shown in training), pool recall@{best["k"]:.0f} with one vector a fabric: \
{first["pool_recall"]:.3f} before, {best["pool_recall"]:.3f} after
"""
