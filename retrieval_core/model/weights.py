"""Weights in, weights out: from files to a ``FabricEmbedder`` and back.

What is read: a transformers directory of any Dinov2 or Dinov2WithRegisters size, with or without our head, here or on
the Hub, or a ``.pth`` of the published code, of DINOv2's own or of another training. What is written: config.json and
model.safetensors in the same form, so that a fine-tuned model is read like any other, and its backbone by transformers'
``from_pretrained``.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pydantic
from torch import Tensor, nn

from retrieval_core.config.config import ConfigError
from retrieval_core.config.sections import PATCH, ModelConfig
from retrieval_core.files import storage
from retrieval_core.model.backbone import (
    ARCHITECTURES,
    backbone_settings,
    check_image_size,
    empty_backbone,
    random_backbone,
    square_side,
)
from retrieval_core.model.embedder import FabricEmbedder, Pooling, pooled_width
from retrieval_core.model.heads import empty_head, head_shape, identity_head, new_head
from retrieval_core.model.weight_files import (
    CONFIG,
    SINGLE,
    WeightsError,
    config_file,
    content_hash,
    is_readable_in_part,
    read_config,
    read_tensors,
    refusal,
    tensor_files,
)
from retrieval_core.model.weight_names import HEAD, as_float32, complete, split, to_file_names, to_module_names

_STAGES = ("stage_names", "out_features", "out_indices")


class _HeadSettings(pydantic.BaseModel):
    """The ``projection_head`` block of our config.json."""

    in_features: pydantic.PositiveInt
    hidden_features: pydantic.PositiveInt
    out_features: pydantic.PositiveInt
    pooling: Pooling

    def empty(self) -> nn.Sequential:
        return empty_head(self.in_features, self.hidden_features, self.out_features)


class _Found(NamedTuple):
    """Settings, weights that fit them, in the files' naming, and the stored head if there is one."""

    settings: Any
    backbone: dict[str, Tensor]
    head: dict[str, Tensor]
    head_settings: _HeadSettings | None


def load_model(config: ModelConfig, seed: int, *, with_head: bool) -> FabricEmbedder:
    """Read the backbone, and the head if the weights hold one: a float32 model on the CPU in evaluation mode.

    A stored head keeps its own pooling and width, whatever ``config`` says: it has no meaning with others. If none is
    stored, ``with_head`` makes a new one, and ``patches`` pooling leaves out the blocks above ``model.layer``. ``seed``
    is used for a new head, and for the backbone with ``init: random``. No global random state is read or changed.
    Memory: twice the parameters while loading.

    Raises:
        WeightsError: if something is missing, torn, of another model or not finite.
        ConfigError: if ``model.image_size`` does not suit the patch size, or the keys contradict each other.
    """
    found = _find(config, values=True)
    if config.init == "random":
        backbone = random_backbone(found.settings, seed)
    else:
        backbone = empty_backbone(found.settings)
        backbone.load_state_dict(to_module_names(as_float32(found.backbone, _source(config))), assign=True)
    head: nn.Sequential | None = None
    pooling: Pooling = config.pooling
    if found.head_settings is not None:
        head, pooling = found.head_settings.empty(), found.head_settings.pooling
        head.load_state_dict(as_float32(found.head, _source(config), HEAD), assign=True)
    elif with_head:
        make = new_head if config.head == "published" else identity_head
        head = make(pooled_width(found.settings.hidden_size, pooling), config.embedding_dim, seed)
    return FabricEmbedder(backbone, head, pooling).eval()


def missing_weights(config: ModelConfig) -> str | None:
    """What ``load_model`` would refuse, found without reading tensors, or None.

    NaN are seen only when loading. Of a ``.pth`` or ``.bin`` on another store, only the presence is checked.
    """
    try:
        _find(config, values=False)
    except (WeightsError, ConfigError) as error:
        return str(error)
    return None


def holds_head(config: ModelConfig) -> bool:
    """True if ``load_model`` would find a stored head: the weights are fine-tuned.

    Reads names and shapes only, but the whole of a ``.pth`` or ``.bin`` on another store. Raises as ``load_model``.
    """
    found = _find(config, values=False)
    if not found.backbone and config.init != "random":
        found = _find(config, values=True)
    return found.head_settings is not None


def embedding_width(config: ModelConfig, *, with_head: bool) -> int:
    """Embedding width of what ``load_model`` would make, told from names and shapes only. Raises as it does."""
    settings, stored = _read_settings(config)
    if stored is None or config.init == "random":
        stored = _find(config, values=False).head_settings
    if stored is not None:
        return stored.out_features
    return config.embedding_dim if with_head else pooled_width(settings.hidden_size, config.pooling)


def weights_bytes(config: ModelConfig) -> int | None:
    """Size of the model as it is written, float32; None where only loading the weights would tell."""
    files = _tensor_files(config, values=False)
    tensors = [tensor for path in files for tensor in read_tensors(path, values=False).values()]
    return sum(4 * tensor.numel() for tensor in tensors) or None


def weights_fingerprint(config: ModelConfig) -> str:
    """SHA-256 (hex) over the content of config.json and of every file of tensors that ``load_model`` would read.

    Names, folders and times do not count. Reads every byte once, O(1) memory; WeightsError if a file is missing.
    """
    read_config(config.weights)  # for its message when the folder is missing
    return content_hash([config_file(config.weights), *_tensor_files(config)])


def save_model(model: FabricEmbedder, folder: str) -> None:
    """Write config.json and model.safetensors (float32) that ``load_model`` reads back to the same bits.

    Names of tensors begin with ``projection_head.``, or with ``dinov2.`` or ``dinov2_with_registers.``, where
    transformers looks for this backbone. Each file appears whole, config.json last: a folder with one is complete. The
    same model gives the same bytes. Memory O(parameters). WeightsError if a parameter is not finite, before any write.
    """
    from safetensors.torch import save

    backbone = model.dinov2
    tensors = {f"{backbone.base_model_prefix}.{name}": t for name, t in to_file_names(backbone.state_dict()).items()}
    settings = json.loads(backbone.config.to_json_string())
    settings |= {"architectures": [type(backbone).__name__], "dtype": "float32"}
    settings.pop("projection_head", None)
    if model.projection_head is not None:
        tensors |= {HEAD + name: tensor for name, tensor in model.projection_head.state_dict().items()}
        widths = zip(("in_features", "hidden_features", "out_features"), head_shape(model.projection_head), strict=True)
        settings["projection_head"] = dict(widths) | {"pooling": model.pooling}
    text = (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode()
    on_cpu = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    content = save(as_float32(on_cpu, folder), {"format": "pt"})
    config_path = storage.join(folder, CONFIG)
    if storage.exists(config_path) and storage.read_bytes(config_path) != text:
        storage.remove(config_path)  # new tensors never stand beside the settings of another model
    storage.write_bytes(storage.join(folder, SINGLE), content)
    storage.write_bytes(config_path, text)


def _read_settings(config: ModelConfig) -> tuple[Any, _HeadSettings | None]:
    """The backbone's settings and the head that config.json promises, both checked."""
    if config.init == "random" and config.checkpoint is not None:
        raise ConfigError(
            f"model.checkpoint = {config.checkpoint!r}: has no use with model.init = random; drop one of the two"
        )
    values = read_config(config.weights)
    path = storage.join(config.weights, CONFIG)
    if values.get("model_type") not in ARCHITECTURES:
        usable = f"those that can be used are {' and '.join(ARCHITECTURES)}"
        raise refusal(path, f"model_type is {values.get('model_type')!r}; {usable}")
    try:
        settings = backbone_settings(values)
        empty_backbone(settings)
        head = _promised_head(values.get("projection_head"), settings.hidden_size)
    except ValueError as error:
        raise WeightsError(
            f"{path}: {' '.join(str(error).split())}; put back the one that came with the weights"
        ) from None
    check_image_size(config.image_size, square_side(settings.patch_size, "patch_size"))
    # Settings of a checkpoint come from another folder: its head, if any, is not this one.
    return settings, head if config.checkpoint is None else None


def _promised_head(block: Any, hidden_size: int) -> _HeadSettings | None:
    if block is None:
        return None
    try:
        head = _HeadSettings.model_validate(block)
    except pydantic.ValidationError as error:
        problems = [".".join(map(str, ("projection_head", *p["loc"]))) + ": " + p["msg"] for p in error.errors()]
        raise ValueError("; ".join(problems)) from None
    width = pooled_width(hidden_size, head.pooling)
    if head.in_features != width:
        pooled = f"{head.pooling} pooling of hidden_size {hidden_size} gives {width}"
        raise ValueError(f"projection_head.in_features = {head.in_features}: {pooled}")
    return head


def _cut(settings: Any, config: ModelConfig) -> Any:
    """The settings of the blocks that are used. By default 7 of 12: the middle knows forms, the end whole scenes."""
    depth, patch_size = int(settings.num_hidden_layers), square_side(settings.patch_size, "patch_size")
    if config.pooling != "patches":
        return settings
    if patch_size != PATCH:
        raise ConfigError(f"model.pooling = patches: needs patches of {PATCH} pixels, these weights have {patch_size}")
    layer = max(1, round(depth * 7 / 12)) if config.layer is None else config.layer
    if layer > depth:
        raise ConfigError(f"model.layer = {layer}: this backbone has {depth} blocks; use 1..{depth}")
    # The names of the stages go: they are those of all blocks.
    values = {key: value for key, value in settings.to_dict().items() if key not in _STAGES}
    return backbone_settings(values | {"num_hidden_layers": layer})


def _tensor_files(config: ModelConfig, *, values: bool = True) -> list[str]:
    if config.init == "random":
        return []
    return [config.checkpoint] if config.checkpoint is not None else tensor_files(config.weights, values=values)


def _source(config: ModelConfig) -> str:
    if config.checkpoint is None:
        return f"model.weights = {config.weights}"
    return f"model.checkpoint = {config.checkpoint} (with {storage.join(config.weights, CONFIG)})"


def _find(config: ModelConfig, *, values: bool) -> _Found:
    """Read the files (meta tensors unless ``values``) and check them against the network.

    No tensors are found with ``init: random``, and without ``values`` in files that could only be read whole.
    """
    settings, promised = _read_settings(config)
    if config.init == "random":
        return _Found(_cut(settings, config), {}, {}, None)
    source, paths = _source(config), _tensor_files(config, values=values)
    tensors: dict[str, Tensor] = {}
    for path in paths:
        if path == config.checkpoint and not values and not storage.exists(path):
            raise refusal(source, f"no such file as {path}")
        tensors |= read_tensors(path, values=values)
    if not values and not any(map(is_readable_in_part, paths)):
        return _Found(settings, {}, {}, promised)
    backbone, head = split(tensors, source)
    if not head and promised is None:
        whole, settings = settings.num_hidden_layers, _cut(settings, config)
        unused = tuple(f"encoder.layer.{block}." for block in range(settings.num_hidden_layers, whole))
        backbone = {name: tensor for name, tensor in backbone.items() if not name.startswith(unused)}
    backbone = complete(backbone, to_file_names(empty_backbone(settings).state_dict()), source)
    if not head and promised is None:
        return _Found(settings, backbone, {}, None)
    head_settings = promised or _head_from_shapes(head, settings.hidden_size, source)
    if (head_settings.pooling == "patches") != (config.pooling == "patches"):
        raise ConfigError(
            f"model.pooling = {config.pooling}: the head stored in {source} reads {head_settings.pooling}; set "
            f"model.pooling={head_settings.pooling}, and model.image_size to what it was trained with"
        )
    head = complete(head, head_settings.empty().state_dict(), source, HEAD)
    return _Found(settings, backbone, head, head_settings)


def _head_from_shapes(head: dict[str, Tensor], hidden_size: int, source: str) -> _HeadSettings:
    """What a head without a block in config.json must be, told from its two matrices."""
    shapes = [tuple(head[name].shape) if name in head else () for name in ("0.weight", "2.weight")]
    if any(len(shape) != 2 for shape in shapes):
        found = ", ".join(HEAD + name for name in sorted(head)[:10])
        raise refusal(source, f"the head must be {HEAD}0 and {HEAD}2 with weight and bias; found {found}")
    (hidden_features, in_features), (out_features, _) = shapes
    poolings: tuple[Pooling, ...] = ("cls", "cls_mean")  # a head on the sum is ours, and says so in config.json
    for pooling in poolings:
        if in_features == pooled_width(hidden_size, pooling):
            return _HeadSettings(
                in_features=in_features, hidden_features=hidden_features, out_features=out_features, pooling=pooling
            )
    gives = f"this backbone gives {hidden_size} (cls) or {2 * hidden_size} (cls_mean)"
    raise refusal(source, f"the head reads {in_features} features, but {gives}")
