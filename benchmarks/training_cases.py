"""What training benchmarks train on what: networks, pictures, the published recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from retrieval_core.config.config import Config, load_config
from retrieval_core.config.sections import ModelConfig
from retrieval_core.data.datasets import Labelled, Record
from retrieval_core.model.backbone import backbone_settings, random_backbone
from retrieval_core.model.embedder import FabricEmbedder, Pooling
from retrieval_core.model.heads import new_head
from retrieval_core.model.weights import load_model
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Trainer, Worker

TINY = Path(__file__).parents[1] / "Weight_Path" / "dinov2-motif-tiny"
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 518}
MINIATURE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 28}
CACHED = "train.cache_activations=true"


@dataclass(frozen=True)
class Case:
    """A network and what a step shows it."""

    name: str
    size: int
    """Side of the images in pixels."""
    queries: int
    """Of a step; three images each."""
    steps: int
    """Timed together, so that a turn takes long enough to be measured."""
    model: Callable[[], FabricEmbedder]


def shaped(architecture: dict[str, int], pooling: Pooling = "cls") -> FabricEmbedder:
    """A network of this architecture with random weights and the published head."""
    values = {"model_type": "dinov2", "patch_size": 14, **architecture}
    backbone = random_backbone(backbone_settings(values), 0)
    return FabricEmbedder(backbone, new_head(architecture["hidden_size"], 256, 0), pooling)


def tiny(size: int) -> FabricEmbedder:
    """The small network that comes with the project."""
    keys = ModelConfig(weights=str(TINY), pooling="cls", image_size=size, head="published")
    return load_model(keys, 0, with_head=True)


def settings(case: Case, *more: str, workers: int = 1) -> Config:
    """The published recipe on views as they are, without an end."""
    keys = ["train.loss=triplet", "train.augmentation=none", "train.clip_norm=null", "train.epochs=1000000"]
    keys += ["train.schedule=published_cosine", "train.learning_rate=1e-6", "train.head_learning_rate=1e-5"]
    keys += [f"model.image_size={case.size}", f"train.batch_size={case.queries * workers}", "model.precision=float32"]
    keys += ["model.pooling=cls", "train.cache_activations=false"]
    return load_config(None, [*keys, *more])


def make_trainer(case: Case, split: Labelled, *more: str, worker: Worker | None = None) -> Trainer:
    """Ours, by default the only worker."""
    worker = Worker() if worker is None else worker
    config = settings(case, *more, workers=worker.count)
    return Trainer(config, case.model(), TrainingData(config, split, workers=worker.count), worker)


def pictures(case: Case, folder: Path) -> Labelled:
    """Images of noise: twice a step's queries, and two fabrics for each."""
    rng, listed = np.random.default_rng(0), Labelled([], [])
    for number in range(2 * case.queries * 3):
        file = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (case.size, case.size, 3), dtype=np.uint8)).save(file)
        kind = listed.queries if number % 3 == 0 else listed.fabrics
        kind.append(Record(file.name, str(file), (f"motif {number // 3}",)))
    return listed
