"""Tensors by name: what the files call them, what the modules of transformers do, and whether all of them fit.

Files keep DINOv2's published names (``encoder.layer.0.attention.attention.query.weight``); transformers 5 names its
modules otherwise (``...attention.q_proj.weight``) and holds the two halves of SwiGLU's first matrix apart. Both
namings are read; the published one is written, so that other versions of transformers read our files.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from retrieval_core.model.weight_files import refusal

HEAD = "projection_head."

_ANCHOR = "embeddings.cls_token"  # every DINOv2 has it, and what stands before it is the backbone's prefix
_MASK = "embeddings.mask_token"  # used in pretraining only
_RENAMED = {  # module -> file
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
    ".mlp.down_proj.": ".mlp.weights_out.",
}
_ORIGINAL = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^blocks\.(?:\d+\.)?(\d+)\.", r"encoder.layer.\1."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
        (r"\.mlp\.w12\.", ".mlp.weights_in."),
        (r"\.mlp\.w3\.", ".mlp.weights_out."),
        (r"^norm\.", "layernorm."),
    )
]
_GATE, _UP, _BOTH = ".mlp.gate_proj.", ".mlp.up_proj.", ".mlp.weights_in."
_MAX_LISTED = 10


def split(tensors: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A state dict's backbone and head, whatever it was saved from; without prefixes, in the files' naming.

    The backbone's prefix is what precedes ``embeddings.cls_token``, and the head stands beside it. DataParallel's
    ``module.`` and transformers' ``classifier.`` are dropped. WeightsError if it holds no backbone, or more than one.
    """
    named = from_original_names({name.removeprefix("module."): tensor for name, tensor in tensors.items()})
    anchors = [name for name in named if name == _ANCHOR or name.endswith("." + _ANCHOR)]
    if len(anchors) != 1:
        found = _listed(anchors, "backbones") if anchors else _listed(list(named), "tensors")
        raise refusal(source, f"must hold one DINOv2 (one tensor called {_ANCHOR}, with any prefix); it has {found}")
    prefix = anchors[0].removesuffix(_ANCHOR)
    parent = prefix[: prefix[:-1].rfind(".") + 1]
    head_prefix = parent + HEAD
    backbone: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    for name, tensor in named.items():
        if name.startswith(head_prefix):
            head[name.removeprefix(head_prefix)] = tensor
        elif not name.startswith(parent + "classifier."):
            backbone[name.removeprefix(prefix)] = tensor
    return to_file_names(backbone), head


def from_original_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of DINOv2's own code (``blocks.0.attn.qkv.weight``) to the files' names; others stay.

    Its query, key and value are one tensor, here three views of it. Blocks may be in chunks (``blocks.0.5.``). What its
    training keeps beside the backbone (``dino_head.``, ``ibot_head.``) is dropped.
    """
    anchors = [name for name in tensors if f".{name}".endswith(".cls_token") and not name.endswith(_ANCHOR)]
    prefix = anchors[0].removesuffix("cls_token") if len(anchors) == 1 else None
    if prefix is None or f"{prefix}patch_embed.proj.weight" not in tensors:
        return tensors
    parent = prefix[: prefix[:-1].rfind(".") + 1]
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.startswith((f"{parent}dino_head.", f"{parent}ibot_head.")):
            continue
        own = name.removeprefix(prefix)
        if own != name or not prefix:
            for pattern, new in _ORIGINAL:
                own = pattern.sub(new, own)
        if ".attn.qkv." in own:
            for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[prefix + own.replace(".attn.qkv.", f".attention.attention.{part}.")] = third
        else:
            renamed[(prefix + own) if name.startswith(prefix) else name] = tensor
    return renamed


def to_file_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Module names to the files' names; names that are the files' already stay."""
    renamed: dict[str, Tensor] = {}
    joined: set[str] = set()
    for name, tensor in tensors.items():
        up = name.replace(_GATE, _UP)
        if _GATE in name and up in tensors and tensors[up].shape == tensor.shape:
            renamed[name.replace(_GATE, _BOTH)] = torch.cat([tensor, tensors[up]])
            joined |= {name, up}
    return renamed | {_rename(name, _RENAMED): tensor for name, tensor in tensors.items() if name not in joined}


def to_module_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The files' names to module names. The inverse of ``to_file_names``."""
    back = {file: module for module, file in _RENAMED.items()}
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _BOTH in name:
            for half, part in zip((_GATE, _UP), tensor.chunk(2), strict=True):
                renamed[name.replace(_BOTH, half)] = part.clone()
        else:
            renamed[_rename(name, back)] = tensor
    return renamed


def complete(found: dict[str, Tensor], expected: dict[str, Tensor], source: str, prefix: str = "") -> dict[str, Tensor]:
    """Of the tensors found in files (real or meta) exactly those that the network expects.

    A missing mask token, which inference never reads, is made of zeros; one that is not expected is dropped.
    WeightsError names ``source``, and with ``prefix`` what is missing, unexpected, or of another shape or type.
    """
    tensors = {name: tensor for name, tensor in found.items() if name != _MASK or name in expected}
    if _MASK in expected and _MASK not in tensors:
        tensors[_MASK] = torch.zeros(expected[_MASK].shape)
    wrong = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "not of floating point": [name for name, tensor in tensors.items() if not tensor.is_floating_point()],
        "of another shape": [
            f"{name} is {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ],
    }
    problems = [_listed([prefix + text for text in texts], title) for title, texts in wrong.items() if texts]
    if problems:
        fit = "Tensors and config.json must be those of one model"
        raise refusal(source, f"the weights do not fit: {'; '.join(problems)}. {fit}")
    return {name: tensors[name] for name in expected}


def as_float32(tensors: dict[str, Tensor], source: str, prefix: str = "") -> dict[str, Tensor]:
    """Copies in float32, free of the file they were mapped from; WeightsError naming those with NaN or infinity."""
    copies = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in tensors.items()}
    spoilt = [prefix + name for name, tensor in copies.items() if not bool(torch.isfinite(tensor).all())]
    if spoilt:
        raise refusal(
            source,
            f"NaN or infinity in {_listed(spoilt, 'tensors')}; the training that wrote it diverged or the file is "
            "damaged: use an earlier checkpoint or copy it again",
        )
    return copies


def _listed(names: list[str], title: str) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{len(names)} {title} ({', '.join(names[:_MAX_LISTED])}{more})"


def _rename(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name
