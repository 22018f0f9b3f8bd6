"""The arms of a run: embedding spaces that are searched and compared on the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from retrieval_core.config.config import Config
from retrieval_core.config.sections import ModelConfig
from retrieval_core.encoding.views import Views
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.images.colour_profiles import converts
from retrieval_core.process import keep_freed_memory

if TYPE_CHECKING:
    from retrieval_core.encoding.encoders import Encoder

RANDOM = "random"
HISTOGRAM = "histogram"
FROZEN = "frozen"
FINE_TUNED = "fine_tuned"


class Arm(NamedTuple):
    """An embedding space: an encoder, and the side of the queries it sees. The colour histogram has no ``model``."""

    name: str
    model: ModelConfig | None
    image_size: int
    weights: str  # the fingerprint of their content

    def build(self, batch_size: int, seed: int) -> Encoder:
        """Load the encoder onto this process's device; on a CPU the process keeps memory that it frees."""
        # Imported here, as tasks that list and decode know arms too, and torch would be most of their start.
        import torch

        from retrieval_core.encoding.encoders import HistogramEncoder, ModelEncoder
        from retrieval_core.model.devices import pick_device, resolve_precision
        from retrieval_core.model.folding import fold
        from retrieval_core.model.weights import load_model

        if self.model is None:
            return HistogramEncoder()
        model, device = load_model(self.model, seed, with_head=False), pick_device()
        if device.type == "cpu":
            keep_freed_memory()
            if resolve_precision(self.model.precision, device) == torch.float32:
                fold(model)
        return ModelEncoder(model, device, self.model.precision, batch_size)


def model_arm(name: str, model: ModelConfig, seed: int) -> Arm:
    """An arm of a network; reads the weights once for their fingerprint."""
    from retrieval_core.model.weights import weights_fingerprint

    weights = weights_fingerprint(model)
    return Arm(name, model, model.image_size, f"{weights}:{seed}" if model.init == "random" else weights)


def histogram_arm(config: Config) -> Arm:
    """The colour histogram baseline, on the whole of the same images as the model."""
    return Arm(HISTOGRAM, None, config.model.image_size, "")


def encoder_fingerprint(arm: Arm, views: Views, config: Config) -> str:
    """What an embedding depends on besides its image; batch and shard size change it within tolerance only."""
    images, described = config.images, views._asdict()
    windows, mask = described.pop("windows"), described.pop("mask")
    patches = {"windows": windows, "mask": mask, "layer": config.model.layer}
    untaken = {"jpeg"} if images.jpeg == "whole" else set()
    untaken |= set() if converts(images) else {"profile"}
    return fingerprint(
        {
            **described,
            "kind": HISTOGRAM if arm.model is None else "model",
            "weights": arm.weights,
            "model": None if arm.model is None else arm.model.model_dump(include={"pooling", "precision", "init"}),
            # A choice that is not made is left out or null, so that stores from before there was one stay valid.
            "images": images.model_dump(exclude={"max_pixels", "query_mask", *untaken}),
            **(patches if windows or mask else {}),
            "overlap": views.overlap if len(views.regions) > 1 else None,
            "dtype": config.embed.storage_dtype,
            "turns": (0.0,),  # of a removed key, hashed as before so that earlier stores stay valid
        }
    )
