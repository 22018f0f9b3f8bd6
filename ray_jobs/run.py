"""What every stage of a run is handed: configuration, folder, cluster and the arms."""

from __future__ import annotations

import importlib
import logging
import threading
from functools import cached_property
from typing import Any

from ray_jobs.cluster.connect import Resources, connect
from ray_jobs.embedding.tally import LeftOut, Tally
from retrieval_core.config.config import Config
from retrieval_core.config.sections import ROLES, ModelConfig
from retrieval_core.data.datasets import has_labels, has_training_data
from retrieval_core.data.plan_division import Division, division_of
from retrieval_core.encoding.arms import FINE_TUNED, FROZEN, HISTOGRAM, Arm, histogram_arm, model_arm
from retrieval_core.files import hub, storage
from retrieval_core.run.workspace import RunError, Workspace

log = logging.getLogger("fabric_retrieval")


def pinned(config: Config) -> Config:
    """The configuration with weights on the Hub named by their commit, so that every process and record means the same.

    HubError if neither the Hub nor the cache knows it.
    """
    if not hub.is_address(config.model.weights):
        return config
    weights = hub.pinned(config.model.weights)
    log.info("model.weights: %s", weights)
    return config.model_copy(update={"model": config.model.model_copy(update={"weights": weights})})


class Run:
    """One run: its configuration, its folder and the cluster it computes on."""

    def __init__(
        self, config: Config, *, overwrite: bool = False, only_rejected: bool = False, accept_removals: bool = False
    ) -> None:
        self.config = config
        self.workspace = Workspace(config)
        self.overwrite = overwrite
        self.only_rejected = only_rejected
        self.accept_removals = accept_removals
        self.listed: dict[str, tuple[str, int]] = {}  # this run's listings by role: folder and buckets; arms share them
        self.left_out: dict[str, LeftOut] = {}  # by those listings, by role
        self.tallies: list[Tally] = []  # of the run's own arm, once it is embedded
        self.counts: dict[str, dict[str, int]] = {}  # of this run's embedding stages, with what was reused

    def connect(self) -> None:
        """Connect to Ray, and import in a thread what checks the weights later: both are mostly waiting."""
        module = "transformers.models.dinov2.modeling_dinov2"
        threading.Thread(target=importlib.import_module, args=[module]).start()
        self.resources  # noqa: B018 - the first use connects

    @cached_property
    def resources(self) -> Resources:
        """CPUs and GPUs; the first use connects to Ray."""
        return connect()

    @cached_property
    def _holds_head(self) -> bool:
        from retrieval_core.model.weights import holds_head

        return holds_head(self.config.model)

    @cached_property
    def trains(self) -> bool:
        """Whether this run fine-tunes: as configured, or else if there is training data and no fine-tuned head yet."""
        enabled = self.config.train.enabled
        if enabled is not None:
            return enabled
        return has_training_data(self.config.data) and not self._holds_head

    @cached_property
    def labelled(self) -> bool:
        """Whether the pool can be evaluated."""
        return has_labels(self.config.data)

    @property
    def model(self) -> ModelConfig:
        """The run's own model: what training left, or the weights as given."""
        if not self.trains:
            return self.config.model
        if not storage.exists(self.workspace.path("model", "config.json")):
            raise RunError(
                f"{self.workspace.path('model')}: there is no trained model yet; run `fabric-retrieval train` with the "
                "same configuration, or set train.enabled=false to embed with the weights as they are"
            )
        return self.config.model.model_copy(
            update={"weights": self.workspace.path("model"), "checkpoint": None, "init": "pretrained"}
        )

    @cached_property
    def main(self) -> str:
        """Name of the run's own arm."""
        return FINE_TUNED if self.trains or self._holds_head else FROZEN

    @property
    def head(self) -> str:
        """The projection head of the run's own arm: trained, stored with the weights, or none."""
        if self.trains:
            return "trained"
        return "stored" if self._holds_head else "none"

    def arm_names(self) -> list[str]:
        """The run's own arm, then the baselines that need embeddings (the random one does not)."""
        baselines = self.config.evaluate.baselines if self.labelled else []
        # Without training the weights as given are the run's own arm, whatever its name.
        others = (FROZEN, HISTOGRAM) if self.trains else (HISTOGRAM,)
        return [self.main, *(arm for arm in others if arm in baselines)]

    def arms(self) -> list[Arm]:
        """``arm_names`` with the fingerprints of their weights, all of which must be there."""
        seed = self.config.run.seed
        makers = {
            HISTOGRAM: lambda: histogram_arm(self.config),
            FROZEN: lambda: model_arm(FROZEN, self.config.model, seed),
            self.main: lambda: model_arm(self.main, self.model, seed),
        }
        return [makers[name]() for name in self.arm_names()]

    def suffix(self, arm: str) -> str:
        """What follows the stage in the names of an arm's records: nothing for the run's own arm."""
        return "" if arm == self.main else f".{arm}"

    def done(self, stage: str) -> dict[str, Any]:
        """The record of a stage; RunError if it has not been done."""
        record = self.workspace.record(stage)
        if record is None:
            command = stage.partition(".")[0]
            raise RunError(
                f"{self.workspace.folder}: {stage} has not been done; run `fabric-retrieval {command}` with the same "
                "configuration, or `fabric-retrieval run` for the whole workflow"
            )
        return record

    def records(self) -> list[dict[str, Any]]:
        """Records of the stages that are done, in the order of the workflow."""
        arms = [self.suffix(arm) for arm in self.arm_names()]
        names = ["train", *(f"embed.{role}{arm}" for arm in arms for role in ("gallery", "queries"))]
        names += [*(f"retrieve{arm}" for arm in arms), "evaluate", "report"]
        return [record for name in names if (record := self.workspace.record(name)) is not None]

    def train_rejects(self) -> list[list[str]]:
        """(path, reason, detail) of training images that could not be used."""
        record = self.workspace.record("train") if self.trains else None
        return record["rejects"] if record else []

    def folder(self, arm: str) -> str:
        """Where an arm's store and pool lie."""
        return self.workspace.arm_folder(arm, self.main)

    def store(self, arm: str, role: str) -> str:
        """Folder of an arm's embedding store."""
        return storage.join(self.folder(arm), "embeddings", role)

    def looks_twice(self, arm: str) -> bool:
        """Whether the pool of an arm is ranked anew by all windows: the histogram has none."""
        return self.config.retrieve.rescore > 0 and arm != HISTOGRAM

    def require_windows(self, arm: str) -> None:
        """RunError if a second look is asked for at windows that were not kept."""
        stages = (f"embed.{role}{self.suffix(arm)}" for role in ROLES)
        if self.looks_twice(arm) and not all("windows" in self.done(stage) for stage in stages):
            raise RunError(
                f"retrieve.rescore = {self.config.retrieve.rescore}: {self.store(arm, 'gallery')} was embedded without "
                "windows; run `fabric-retrieval embed` with the same configuration, or set retrieve.rescore=0"
            )

    def division(self, arm: str, role: str) -> Division:
        """How an arm's shard plan is divided into buckets; asks the storage."""
        return division_of(self.workspace.work("plan", arm, role))

    def plan(self, arm: str, role: str) -> str:
        """Folder of the buckets of an arm's shard plan; asks the storage."""
        return self.division(arm, role).folder
