"""The network that makes embeddings: a DINOv2 backbone and a small projection head.

Shapes in this module: N images, S side in pixels, T patch tokens, H hidden width of the backbone, W width of the
pooled features (H or 2H), D width of the embedding.

The published network is the last layer's normalised CLS token -> Linear(768, 768) -> GELU -> Linear(768, 256),
compared by cosine. DINOv2: arXiv:2304.07193; register tokens: arXiv:2309.16588.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval_core.config import ConfigError

Pooling = Literal["cls", "cls_mean", "cls_plus_mean"]
HeadSource = Literal["none", "stored", "new"]

# Mean and standard deviation of ImageNet's training pixels in 0..255, as the published recipe spells them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

ARCHITECTURES = ("dinov2", "dinov2_with_registers")
"""The values of ``model_type`` in config.json that this module can build."""

MOST_LAYERS = 1000
"""What is taken for a network; the largest DINOv2 has 40."""

IMAGE_SIZES = range(14, 2049)
"""What ``model.image_size`` may be before the patch size is known."""


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
        if projection_head is not None and _linear(projection_head, 0).in_features != self.feature_dim:
            raise ValueError(
                f"the head reads {_linear(projection_head, 0).in_features} features, {pooling} pooling of this "
                f"backbone gives {self.feature_dim}"
            )

    @property
    def embedding_dim(self) -> int:
        """D: the head's output width, or W without a head."""
        return self.feature_dim if self.projection_head is None else _linear(self.projection_head, 2).out_features

    def features(self, pixels: Tensor) -> Tensor:
        """Pooled tokens of the layer-normed last layer, before the head.

        Position embeddings are interpolated (bicubic, as transformers does) when S is not the pretrained size.

        Args:
            pixels: (N, 3, S, S) float, normalised as by ``normalise``.

        Returns:
            (N, W) float32, under autocast too. Memory O(N T H) beside the backbone's own.

        Raises:
            ConfigError: if a side is no multiple of the patch size; the convolution would drop the rest unseen.
        """
        for side in pixels.shape[-2:]:
            check_image_size(int(side), self.patch_size)
        return self._pool(self.dinov2(pixel_values=pixels).last_hidden_state)

    def tokens_before(self, block: int, pixels: Tensor) -> Tensor:
        """What enters a block (from 0): (N, *tokens_shape(S)), as ``forward`` takes it up again."""
        backbone: Any = self.dinov2
        tokens: Tensor = backbone.embeddings(pixels)
        for layer in backbone.encoder.layer[:block]:
            tokens = layer(tokens)
        return tokens

    def tokens_shape(self, side: int) -> tuple[int, int]:
        """Tokens and hidden width (H) of one image inside the backbone: CLS, registers, patches."""
        settings: Any = self.dinov2.config
        return self._first_patch + (side // self.patch_size) ** 2, int(settings.hidden_size)

    def _pool(self, tokens: Tensor) -> Tensor:
        cls = tokens[:, 0].float()
        if self.pooling == "cls":
            return cls
        mean = tokens[:, self._first_patch :].float().mean(dim=1)
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
            inputs: (N, 3, S, S) float; with ``first_block`` the tokens that enter it, (N, *tokens_shape(S)).
            first_block: None begins with the pixels. One method does both because DistributedDataParallel sees calls
                of ``forward`` only.

        Returns:
            (N, D) float32, each row of L2 norm 1.
        """
        if first_block is None:
            features = self.features(inputs)
        else:
            backbone: Any = self.dinov2
            for layer in backbone.encoder.layer[first_block:]:
                inputs = layer(inputs)
            features = self._pool(backbone.layernorm(inputs))
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


def new_head(in_dim: int, out_dim: int, seed: int) -> nn.Sequential:
    """An untrained head ``Linear(in, in) -> GELU -> Linear(in, out)``: a function of its arguments only.

    Weights and biases are uniform in +-1/sqrt(fan_in), the distribution of ``nn.Linear``'s own initialisation. They
    come from a generator of their own: no global random state is read or advanced.
    """
    head = empty_head(in_dim, in_dim, out_dim).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for index in (0, 2):
            layer = _linear(head, index)
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
    return head


def identity_head(in_dim: int, out_dim: int, seed: int) -> nn.Sequential:
    """A head ``Linear(in, 2 in) -> GELU -> Linear(2 in, out)`` that starts as a rotation of its input.

    ``GELU(x) - GELU(-x) = x``, so with first weights ``[I; -I]`` and second weights ``[P, -P]`` the head computes
    ``P x``: with ``out >= in`` and orthonormal columns of P every cosine is the input's own, with ``out < in`` it is
    kept approximately (a random orthogonal projection; Johnson-Lindenstrauss). A model therefore starts from what its
    backbone already tells apart, and training can only begin there.
    """
    wide, narrow = max(in_dim, out_dim), min(in_dim, out_dim)
    generator = torch.Generator().manual_seed(seed)
    columns = torch.linalg.qr(torch.randn(wide, narrow, generator=generator, dtype=torch.float64))[0]
    projection = (columns if out_dim >= in_dim else columns.T).float()
    head = empty_head(in_dim, 2 * in_dim, out_dim).to_empty(device="cpu")
    first, second = _linear(head, 0), _linear(head, 2)
    with torch.no_grad():
        first.weight.copy_(torch.cat([torch.eye(in_dim), -torch.eye(in_dim)]))
        second.weight.copy_(torch.cat([projection, -projection], dim=1))
        first.bias.zero_()
        second.bias.zero_()
    return head


def empty_head(in_features: int, hidden_features: int, out_features: int) -> nn.Sequential:
    """A head without storage (meta tensors), to be filled."""
    with torch.device("meta"):
        return nn.Sequential(
            nn.Linear(in_features, hidden_features), nn.GELU(), nn.Linear(hidden_features, out_features)
        )


def head_shape(head: nn.Sequential) -> tuple[int, int, int]:
    """``(in_features, hidden_features, out_features)`` of a head."""
    return _linear(head, 0).in_features, _linear(head, 0).out_features, _linear(head, 2).out_features


def pooled_width(hidden: int, pooling: Pooling) -> int:
    """W: what the head reads."""
    return 2 * hidden if pooling == "cls_mean" else hidden


def backbone_settings(values: dict[str, Any]) -> Any:
    """The transformers configuration object for the content of a config.json.

    Args:
        values: with ``model_type`` one of ``ARCHITECTURES``.

    Raises:
        ValueError: if transformers refuses a value, saying which.
    """
    # 5 s of imports, and only these two families are ever needed.
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
    from transformers.models.dinov2_with_registers.configuration_dinov2_with_registers import Dinov2WithRegistersConfig

    assert values["model_type"] in ARCHITECTURES, values["model_type"]
    family: Any = Dinov2Config if values["model_type"] == "dinov2" else Dinov2WithRegistersConfig
    layers = values.get("num_hidden_layers")
    if isinstance(layers, int) and layers > MOST_LAYERS:  # lists of names and empty modules: minutes
        raise ValueError(f"num_hidden_layers = {layers}: must be at most {MOST_LAYERS}")
    # The stored type of the tensors is not the type we compute in; the attention implementation is set below.
    kept = {key: value for key, value in values.items() if key not in ("dtype", "torch_dtype", "projection_head")}
    try:
        settings = family.from_dict(kept, attn_implementation="sdpa")
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    square_side(settings.patch_size, "patch_size")
    square_side(settings.image_size, "image_size")
    return settings


def empty_backbone(settings: Any) -> nn.Module:
    """A backbone without storage (meta tensors), to be filled: no memory, no random numbers.

    Raises:
        ValueError: if the settings describe no network, e.g. an unknown activation.
    """
    with torch.device("meta"):
        return _build_backbone(settings)


def random_backbone(settings: Any, seed: int) -> nn.Module:
    """A backbone with the architecture's own random initialisation, a function of settings and seed.

    transformers draws from torch's CPU generator; its state is put back, and no device's generator is touched.

    Raises:
        ValueError: as ``empty_backbone``.
    """
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed accelerators. The constant parts these draws from new_head's.
        torch.default_generator.manual_seed(seed ^ 0x9E3779B9)
        return _build_backbone(settings).float()


def _build_backbone(settings: Any) -> nn.Module:
    from transformers.models.dinov2.modeling_dinov2 import Dinov2Model
    from transformers.models.dinov2_with_registers.modeling_dinov2_with_registers import Dinov2WithRegistersModel

    family: Any = Dinov2Model if settings.model_type == "dinov2" else Dinov2WithRegistersModel
    try:
        backbone: nn.Module = family(settings)
    except (KeyError, RuntimeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"these settings describe no network ({type(error).__name__}: {error})") from None
    return backbone


def check_image_size(size: int, patch_size: int) -> None:
    """Raise ConfigError naming the two nearest valid sizes unless the side is a multiple of the patch size."""
    if size > 0 and size % patch_size == 0:
        return
    valid = [side for side in IMAGE_SIZES if side % patch_size == 0]
    near = sorted(sorted(valid, key=lambda side: abs(side - size))[:2])
    raise ConfigError(
        f"model.image_size = {size}: not a multiple of the patch size {patch_size} of these weights; "
        f"the nearest valid values are {' and '.join(map(str, near))}"
    )


def square_side(value: int | list[int] | tuple[int, ...], name: str) -> int:
    """The side of a square given as a number or a pair; ValueError for an oblong."""
    sides = {int(value)} if isinstance(value, int) else {int(side) for side in value}
    if len(sides) != 1 or min(sides) < 1:
        raise ValueError(f"{name} = {value!r}: must be one positive number, squares only")
    return sides.pop()


def _linear(head: nn.Sequential, index: int) -> nn.Linear:
    layer = head[index]
    assert isinstance(layer, nn.Linear), layer
    return layer
