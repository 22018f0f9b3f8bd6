"""The network that makes embeddings: a DINOv2 backbone and a small projection head.

The published head reads the last layer's normalised CLS token: Linear(768, 768) -> GELU -> Linear(768, 256).
Shapes: N images, S side in pixels, T tokens of one, P patches of one, H hidden width, W pooled width (H or 2H), V
pooled vectors of an image, D embedding width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval_core.config.config import ConfigError
from retrieval_core.model.backbone import check_image_size, cls_after, square_side
from retrieval_core.model.folding import FoldedBlock
from retrieval_core.model.heads import head_shape

Pooling = Literal["patches", "cls", "cls_mean", "cls_plus_mean"]

# Mean and standard deviation of ImageNet's training pixels in 0..255, as the published recipe spells them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class FabricEmbedder(nn.Module):
    """Backbone, pooling and head; the embedding is L2-normalised and compared by dot product.

    The backbone is a transformers ``Dinov2Model`` or ``Dinov2WithRegistersModel``, the head ``Linear(W, hidden) -> GELU
    -> Linear(hidden, D)``. Without a head the embedding is the normalised pooled token itself. ``cls_mean`` puts CLS
    and the mean of the patch tokens side by side (W = 2H), ``cls_plus_mean`` adds them (W = H).
    """

    def __init__(self, dinov2: nn.Module, projection_head: nn.Sequential | None, pooling: Pooling) -> None:
        super().__init__()
        self.dinov2: Any = dinov2  # transformers does not tell its types
        self.projection_head = projection_head
        self.pooling: Pooling = pooling
        settings: Any = dinov2.config
        self.patch_size = square_side(settings.patch_size, "patch_size")
        # Register tokens stand between the CLS token and the patches; they hold no place in the image.
        self.first_patch = 1 + int(getattr(settings, "num_register_tokens", 0))
        self.feature_dim = pooled_width(int(settings.hidden_size), pooling)
        reads = self.feature_dim if projection_head is None else head_shape(projection_head)[0]
        if reads != self.feature_dim:
            gives = f"{pooling} pooling of this backbone gives {self.feature_dim}"
            raise ValueError(f"the head reads {reads} features, {gives}")

    @property
    def embedding_dim(self) -> int:
        """D: the head's output width, or W without a head."""
        return self.feature_dim if self.projection_head is None else head_shape(self.projection_head)[2]

    def features(self, pixels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Pooled tokens of the last layer, before the head, of pixels (N, 3, S, S) from ``normalise``.

        Returns (N, W) float32, under autocast too; float64 of a float64 network. With ``patches`` pooling (N, V, W),
        for ``weights`` (V, P) that are the same for each image, or (N, V, P). Position embeddings are interpolated
        (bicubic, as transformers does) when S is not the pretrained size. ConfigError if a side is no multiple of the
        patch size: the convolution would silently drop the rest. Memory O(N T H) beside the backbone's own.
        """
        for side in pixels.shape[-2:]:
            check_image_size(int(side), self.patch_size)
        return self._features_from(0, self.dinov2.embeddings(pixels), weights)

    def tokens_before(self, block: int, pixels: Tensor) -> Tensor:
        """What enters a block (from 0): (N, T, H), for ``forward`` to go on from; T = 1 behind the last one of cls."""
        return self._through(slice(block), self.dinov2.embeddings(pixels))

    def _features_from(self, block: int, tokens: Tensor, weights: Tensor | None) -> Tensor:
        tokens = self._through(slice(block, None), tokens)
        # The layer norm was made for the last block's tokens: behind an earlier one it costs a tenth of the recall.
        return self._pool(tokens if self.pooling == "patches" else self.dinov2.layernorm(tokens), weights)

    def _through(self, blocks: slice, tokens: Tensor) -> Tensor:
        """Pass tokens through successive blocks; the last block makes only the tokens that are pooled."""
        layers = self.dinov2.encoder.layer
        for layer in layers[blocks]:
            if self.pooling == "cls" and layer is layers[-1]:
                tokens = layer.cls_after(tokens) if isinstance(layer, FoldedBlock) else cls_after(layer, tokens)
            else:
                tokens = layer(tokens)
        return tokens

    def _pool(self, tokens: Tensor, weights: Tensor | None) -> Tensor:
        wide = torch.promote_types(tokens.dtype, torch.float32)
        if self.pooling == "patches":
            assert weights is not None
            with torch.autocast(device_type=tokens.device.type, enabled=False):
                return weights.to(wide) @ tokens[:, self.first_patch :].to(wide)
        cls = tokens[:, 0].to(wide)
        if self.pooling == "cls":
            return cls
        mean = tokens[:, self.first_patch :].to(wide).mean(dim=1)
        return cls + mean if self.pooling == "cls_plus_mean" else torch.cat([cls, mean], dim=1)

    def train(self, mode: bool = True) -> FabricEmbedder:
        """As for any module, but frozen parts stay in evaluation mode: dropout there would only be noise.

        What enters the first trained block is then a function of the image alone.
        """
        super().train(mode)
        for part in (self.dinov2.embeddings, *self.dinov2.encoder.layer):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def forward(self, inputs: Tensor, weights: Tensor | None = None, first_block: int | None = None) -> Tensor:
        """Embeddings (N, D) float32, rows of L2 norm 1, of normalised images (N, 3, S, S); (N, V, D) for patches.

        ``weights`` are those of ``features``. With ``first_block`` the inputs are the tokens that enter it, from
        ``tokens_before``. One method does both because DistributedDataParallel sees only calls of ``forward``.
        """
        if first_block is None:
            features = self.features(inputs, weights)
        else:
            features = self._features_from(first_block, inputs, weights)
        # The head takes no time beside the backbone, so reduced precision would only cost accuracy.
        with torch.autocast(device_type=features.device.type, enabled=False):
            if self.projection_head is not None:
                features = self.projection_head(features)
            return F.normalize(features, dim=-1)


def normalise(views: Tensor) -> Tensor:
    """Pixels as the backbone was pretrained on them, computed on the device that holds the views.

    From (N, S, S, 3) uint8 to (N, 3, S, S) float32: ``(x / 255 - mean / 255) / (std / 255)`` per channel.
    """
    # Asynchronous copies: a plain one would wait for all work that is queued on the device.
    mean = (torch.tensor(IMAGENET_MEAN) / 255).to(views.device, non_blocking=True)[:, None, None]
    std = (torch.tensor(IMAGENET_STD) / 255).to(views.device, non_blocking=True)[:, None, None]
    # One copy that also moves the channels, and the rest in place: on a CPU, memory bounds the speed of this.
    pixels = views.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean).div_(std)


def set_trainable(model: FabricEmbedder, blocks: int | Literal["all"]) -> None:
    """Freeze all but the last ``blocks`` transformer blocks, the final layer norm and the head.

    The published recipe is ``blocks=2``. ``all``, for networks with random weights, freezes only what no image passes:
    the mask token, and with ``patches`` pooling the layer norm. Undoes an earlier call; ConfigError if the backbone has
    fewer blocks.
    """
    layers = list(model.dinov2.encoder.layer)
    norm = None if model.pooling == "patches" else model.dinov2.layernorm
    if blocks == "all":
        model.requires_grad_(True)
        unused = [model.dinov2.embeddings.mask_token, *(model.dinov2.layernorm.parameters() if norm is None else ())]
        for parameter in unused:
            if parameter is not None:
                parameter.requires_grad_(False)
        return
    count = len(layers)
    if not 0 <= blocks <= count:
        raise ConfigError(f"train.trainable_blocks = {blocks}: this backbone has {count} blocks; use 0..{count}")
    model.requires_grad_(False)
    for module in (*layers[count - blocks :], norm, model.projection_head):
        if module is not None:
            module.requires_grad_(True)


def pooled_width(hidden: int, pooling: Pooling) -> int:
    """W: what the head reads."""
    return 2 * hidden if pooling == "cls_mean" else hidden
