"""DINOv2 backbones as transformers builds them, and the last block for the CLS token alone.

Shapes: N images, T tokens of one (CLS, registers, patches), H hidden width, K width of a head of attention.
DINOv2: arXiv:2304.07193; register tokens: arXiv:2309.16588.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retrieval_core.config.config import ConfigError

ARCHITECTURES = ("dinov2", "dinov2_with_registers")  # model_type in config.json
IMAGE_SIZES = range(14, 2049)  # pixels that ``model.image_size`` may be before the patch size is known
_MAX_LAYERS = 1000  # the largest DINOv2 has 40; building far more takes minutes, of names and empty modules alone


def backbone_settings(values: dict[str, Any]) -> Any:
    """The transformers configuration for a config.json of one of ``ARCHITECTURES``; ValueError names a bad value."""
    # transformers' own registry of all families would take 5 s to import.
    from huggingface_hub.errors import StrictDataclassError
    from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
    from transformers.models.dinov2_with_registers.configuration_dinov2_with_registers import Dinov2WithRegistersConfig

    assert values["model_type"] in ARCHITECTURES, values["model_type"]
    family: Any = Dinov2Config if values["model_type"] == "dinov2" else Dinov2WithRegistersConfig
    layers = values.get("num_hidden_layers")
    if isinstance(layers, int) and layers > _MAX_LAYERS:
        raise ValueError(f"num_hidden_layers = {layers}: must be at most {_MAX_LAYERS}")
    # The stored type of the tensors is not the type we compute in.
    kept = {key: value for key, value in values.items() if key not in ("dtype", "torch_dtype", "projection_head")}
    try:
        settings = family.from_dict(kept, attn_implementation="sdpa")
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    square_side(settings.patch_size, "patch_size")
    square_side(settings.image_size, "image_size")
    return settings


def empty_backbone(settings: Any) -> nn.Module:
    """A backbone without storage (meta tensors), to be filled; ValueError if the settings describe no network."""
    with torch.device("meta"):
        return _build_backbone(settings)


def random_backbone(settings: Any, seed: int) -> nn.Module:
    """A backbone drawn from the seed, without any change to global random state. Raises as ``empty_backbone``."""
    with torch.random.fork_rng(devices=[]):  # transformers draws from torch's CPU generator
        # Not torch.manual_seed, which would reseed accelerators. The constant keeps these draws apart from new_head's.
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


def cls_after(block: Any, tokens: Tensor) -> Tensor:
    """``block(tokens)[:, :1]`` up to rounding, without the other tokens, which nothing reads after the last block.

    Of DINOv2 base it saves a twelfth of a forward pass, and nearly half of a training step that begins at the last but
    one block. From tokens (N, T, H), the CLS token first, to (N, 1, H).
    """
    attention = block.attention
    per_head = (attention.num_attention_heads, attention.head_dim)
    seen = block.norm1(tokens)
    query = (attention.q_proj(seen[:, 0]) * attention.scaling).unflatten(1, per_head)
    key_weight, value_weight = (part.weight.unflatten(0, per_head) for part in (attention.k_proj, attention.v_proj))
    scores = scores_of(query, key_weight, seen)
    if attention.k_proj.bias is not None:
        # The same for every token, so it changes nothing; but DDP waits for a gradient of every trained parameter.
        scores = scores + (query * attention.k_proj.bias.view(query.shape[1:])).sum(dim=-1, keepdim=True)
    shares = F.dropout(scores.softmax(dim=-1), attention.attention_dropout, attention.training)
    mixed = values_of(shares, value_weight, seen)
    if attention.v_proj.bias is not None:
        mixed = mixed + shares.sum(dim=-1, keepdim=True) * attention.v_proj.bias.view(query.shape[1:])
    mixed = attention.o_proj(mixed.flatten(1))[:, None]
    cls = tokens[:, :1] + block.drop_path(block.layer_scale1(mixed))
    after: Tensor = cls + block.drop_path(block.layer_scale2(block.mlp(block.norm2(cls))))
    return after


def scores_of(query: Tensor, key_weight: Tensor, seen: Tensor) -> Tensor:
    """Attention scores (N, heads, T) of one query a head, without keys of the tokens: q . (K x) = (K^T q) . x.

    From query (N, heads, K), key_weight (heads, K, H) and seen (N, T, H).
    """
    return torch.einsum("nhd,hdw->nhw", query, key_weight) @ seen.transpose(1, 2)


def values_of(shares: Tensor, value_weight: Tensor, seen: Tensor) -> Tensor:
    """Weighted sum (N, heads, K) of the tokens' values, without these values: sum(p V x) = V sum(p x).

    From shares (N, heads, T), value_weight (heads, K, H) and seen (N, T, H).
    """
    return torch.einsum("nhw,hdw->nhd", shares @ seen, value_weight)


def check_image_size(size: int, patch_size: int) -> None:
    """Unless the side is a multiple of the patch size, raise ConfigError naming the two nearest that are."""
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
