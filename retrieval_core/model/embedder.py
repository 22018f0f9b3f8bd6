"""The network that makes embeddings: a DINOv2 backbone and a small projection head.

Shapes in this module: N images, S side in pixels, T patch tokens, H hidden width of the backbone, W width of the
pooled features (H or 2H), D width of the embedding.

The published network is the last layer's normalised CLS token -> Linear(768, 768) -> GELU -> Linear(768, 256),
compared by cosine. DINOv2: arXiv:2304.07193; register tokens: arXiv:2309.16588.
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

Pooling = Literal["cls", "cls_mean", "cls_plus_mean"]
HeadSource = Literal["none", "stored", "new"]

# Mean and standard deviation of ImageNet's training pixels in 0..255, as the published recipe spells them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class FabricEmbedder(nn.Module):
    """Backbone, pooling and head; the embedding is L2-normalised and compared by dot product.

    Attributes:
        dinov2: a transformers ``Dinov2Model`` or ``Dinov2WithRegistersModel``.
        projection_head: ``Sequential(Linear(W, hidden), GELU(), Linear(hidden, D))``, or None: the embedding is then
            the normalised pooled token itself.
        pooling: ``cls``, or ``cls_mean`` (CLS and the mean of the patch tokens side by side, W = 2H), or
            ``cls_plus_mean`` (their sum, W = H).
        head_source: ``none``, ``stored`` (it came with the weights) or ``new`` (drawn from the seed).
    """

    def __init__(
        self, dinov2: nn.Module, projection_head: nn.Sequential | None, pooling: Pooling, head_source: HeadSource
    ) -> None:
        super().__init__()
        assert (projection_head is None) == (head_source == "none"), head_source
        self.dinov2 = dinov2
        self.projection_head = projection_head
        self.pooling: Pooling = pooling
        self.head_source: HeadSource = head_source
        settings: Any = dinov2.config
        self.patch_size = square_side(settings.patch_size, "patch_size")
        # Register tokens stand between the CLS token and the patches; they hold no place in the image.
        self._first_patch = 1 + int(getattr(settings, "num_register_tokens", 0))
        self.feature_dim = pooled_width(int(settings.hidden_size), pooling)
        if projection_head is not None and head_shape(projection_head)[0] != self.feature_dim:
            raise ValueError(
                f"the head reads {head_shape(projection_head)[0]} features, {pooling} pooling of this "
                f"backbone gives {self.feature_dim}"
            )

    @property
    def embedding_dim(self) -> int:
        """D: the head's output width, or W without a head."""
        return self.feature_dim if self.projection_head is None else head_shape(self.projection_head)[2]

    def features(self, pixels: Tensor) -> Tensor:
        """Pooled tokens of the layer-normed last layer, before the head.

        Position embeddings are interpolated (bicubic, as transformers does) when S is not the pretrained size.

        Args:
            pixels: (N, 3, S, S) float, normalised as by ``normalise``.

        Returns:
            (N, W) float32, under autocast too; float64 of a float64 network. Memory O(N T H) beside the backbone's own.

        Raises:
            ConfigError: if a side is no multiple of the patch size; the convolution would drop the rest unseen.
        """
        for side in pixels.shape[-2:]:
            check_image_size(int(side), self.patch_size)
        backbone: Any = self.dinov2
        return self._features_from(0, backbone.embeddings(pixels))

    def tokens_before(self, block: int, pixels: Tensor) -> Tensor:
        """What enters a block (from 0): (N, *tokens_shape(S, block)), as ``forward`` takes it up again."""
        backbone: Any = self.dinov2
        return self._through(slice(block), backbone.embeddings(pixels))

    def tokens_shape(self, side: int, block: int) -> tuple[int, int]:
        """Tokens and hidden width (H) of one image where it enters a block: CLS, registers, patches."""
        settings: Any = self.dinov2.config
        if self.pooling == "cls" and block == settings.num_hidden_layers:
            return 1, int(settings.hidden_size)
        return self._first_patch + (side // self.patch_size) ** 2, int(settings.hidden_size)

    def _features_from(self, block: int, tokens: Tensor) -> Tensor:
        """(N, W) of what enters a block."""
        backbone: Any = self.dinov2
        return self._pool(backbone.layernorm(self._through(slice(block, None), tokens)))

    def _through(self, blocks: slice, tokens: Tensor) -> Tensor:
        """What some successive blocks make of tokens; the last block makes those that are pooled."""
        backbone: Any = self.dinov2
        layers = backbone.encoder.layer
        for layer in layers[blocks]:
            if self.pooling == "cls" and layer is layers[-1]:
                tokens = layer.cls_after(tokens) if isinstance(layer, FoldedBlock) else cls_after(layer, tokens)
            else:
                tokens = layer(tokens)
        return tokens

    def _pool(self, tokens: Tensor) -> Tensor:
        wide = torch.promote_types(tokens.dtype, torch.float32)
        cls = tokens[:, 0].to(wide)
        if self.pooling == "cls":
            return cls
        mean = tokens[:, self._first_patch :].to(wide).mean(dim=1)
        return cls + mean if self.pooling == "cls_plus_mean" else torch.cat([cls, mean], dim=1)

    def train(self, mode: bool = True) -> FabricEmbedder:
        """As of any module, but frozen parts stay in evaluation mode: dropout there would only be noise.

        What enters the first trained block is then a function of the image alone.
        """
        super().train(mode)
        backbone: Any = self.dinov2
        for part in (backbone.embeddings, *backbone.encoder.layer):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def forward(self, inputs: Tensor, first_block: int | None = None) -> Tensor:
        """Embeddings of normalised images, or of what ``tokens_before`` made of them.

        Args:
            inputs: (N, 3, S, S) float; with ``first_block`` the tokens that enter it, as of ``tokens_before``.
            first_block: None begins with the pixels. One method does both because DistributedDataParallel sees calls
                of ``forward`` only.

        Returns:
            (N, D) float32, each row of L2 norm 1.
        """
        features = self.features(inputs) if first_block is None else self._features_from(first_block, inputs)
        # The head costs nothing beside the backbone, so reduced precision would only cost accuracy here.
        with torch.autocast(device_type=features.device.type, enabled=False):
            if self.projection_head is not None:
                features = self.projection_head(features)
            return F.normalize(features, dim=-1)


def normalise(views: Tensor) -> Tensor:
    """Pixels as the backbone was pretrained on them, computed on the device that holds the views.

    Args:
        views: (N, S, S, 3) uint8 RGB.

    Returns:
        (N, 3, S, S) float32: ``(x / 255 - mean / 255) / (std / 255)`` per channel.
    """
    # Asynchronous copies: a plain one would wait for everything that is queued on the device.
    mean = (torch.tensor(IMAGENET_MEAN) / 255).to(views.device, non_blocking=True)[:, None, None]
    std = (torch.tensor(IMAGENET_STD) / 255).to(views.device, non_blocking=True)[:, None, None]
    # One copy that also moves the channels, and the rest in place: on a CPU, memory is what this takes.
    pixels = views.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return pixels.div_(255).sub_(mean).div_(std)


def set_trainable(model: FabricEmbedder, blocks: int | Literal["all"]) -> None:
    """Freeze all but the last ``blocks`` transformer blocks, the final layer norm and the head.

    The published recipe is ``blocks=2``. ``all`` freezes nothing but the mask token, which no image passes: what a
    network with random weights needs. Calling again with another number undoes the first call.

    Raises:
        ConfigError: if the backbone has fewer blocks.
    """
    layers = list(model.dinov2.encoder.layer)  # type: ignore[union-attr, arg-type]
    if blocks == "all":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.endswith("mask_token"))
        return
    if not 0 <= blocks <= len(layers):
        raise ConfigError(
            f"train.trainable_blocks = {blocks}: this backbone has {len(layers)} blocks; use 0..{len(layers)}"
        )
    model.requires_grad_(False)
    trained: list[Any] = [*layers[len(layers) - blocks :], model.dinov2.layernorm]
    if model.projection_head is not None:
        trained.append(model.projection_head)
    for module in trained:
        module.requires_grad_(True)


def pooled_width(hidden: int, pooling: Pooling) -> int:
    """W: what the head reads."""
    return 2 * hidden if pooling == "cls_mean" else hidden
