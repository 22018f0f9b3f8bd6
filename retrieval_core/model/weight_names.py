"""Names of tensors: what the files call them, and what the modules of this version of transformers do.

Files keep DINOv2's published names (``encoder.layer.0.attention.attention.query.weight``); transformers 5 names its
modules otherwise (``...attention.q_proj.weight``) and holds the two halves of SwiGLU's first matrix apart. Both
namings are read; the published one is written, so that other versions of transformers read our files.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from retrieval_core.model.weight_files import WHERE, WeightsError

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
_GATE, _UP, _BOTH = ".mlp.gate_proj.", ".mlp.up_proj.", ".mlp.weights_in."
_SHOWN = 10


class Parts(NamedTuple):
    """A state dict taken apart; names without prefixes, in the files' naming."""

    backbone: dict[str, Tensor]
    head: dict[str, Tensor]


def split(tensors: dict[str, Tensor], source: str) -> Parts:
    """Take a state dict apart, whatever it was saved from.

    ``module.`` of DataParallel is dropped. The backbone's prefix is what precedes ``embeddings.cls_token``; the head
    stands beside the backbone. An image classifier's output layer (``classifier.``), which transformers stores beside
    some backbones, has no use here and is dropped.

    Raises:
        WeightsError: if no backbone, or more than one, is in it.
    """
    named = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    anchors = [name for name in named if name == _ANCHOR or name.endswith("." + _ANCHOR)]
    if len(anchors) != 1:
        found = _listed(anchors or list(named), "tensors" if not anchors else "backbones")
        raise WeightsError(
            f"{source}: must hold one DINOv2 (one tensor called {_ANCHOR}, with any prefix); it has {found}; {WHERE}"
        )
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
    return Parts(to_file_names(backbone), head)


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
    back = {there: here for here, there in _RENAMED.items()}
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _BOTH in name:
            for half, part in zip((_GATE, _UP), tensor.chunk(2), strict=True):
                renamed[name.replace(_BOTH, half)] = part.clone()
        else:
            renamed[_rename(name, back)] = tensor
    return renamed


def complete(found: dict[str, Tensor], expected: dict[str, Tensor], source: str, prefix: str = "") -> dict[str, Tensor]:
    """Check names, shapes and types; give back exactly what is expected.

    A missing mask token, which inference never reads, is made of zeros; one that is not expected is dropped.

    Args:
        found: tensors of the files, real or meta.
        expected: meta tensors of the network.
        source: the files, for the message.
        prefix: put before names in the message.

    Raises:
        WeightsError: naming what is missing, what is unexpected, and shapes that differ.
    """
    tensors = {name: tensor for name, tensor in found.items() if name != _MASK or name in expected}
    if _MASK in expected and _MASK not in tensors:
        tensors[_MASK] = torch.zeros(expected[_MASK].shape)
    problems: list[str] = []
    for title, names in (
        ("missing", [name for name in expected if name not in tensors]),
        ("unexpected", [name for name in tensors if name not in expected]),
        ("not of floating point", [name for name in tensors if not tensors[name].is_floating_point()]),
    ):
        if names:
            problems.append(_listed([prefix + name for name in names], title))
    shapes = [
        f"{prefix}{name} is {tuple(tensors[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    if shapes:
        problems.append(_listed(shapes, "of another shape"))
    if problems:
        raise WeightsError(
            f"{source}: the weights do not fit: {'; '.join(problems)}. Tensors and config.json must be those of one "
            f"model; {WHERE}"
        )
    return {name: tensors[name] for name in expected}


def as_float32(tensors: dict[str, Tensor], source: str, prefix: str = "") -> dict[str, Tensor]:
    """Copies in float32, free of the file they were mapped from.

    Raises:
        WeightsError: naming tensors that hold NaN or infinity.
    """
    copies = {name: tensor.to(torch.float32, copy=True).contiguous() for name, tensor in tensors.items()}
    spoilt = [prefix + name for name, tensor in copies.items() if not bool(torch.isfinite(tensor).all())]
    if spoilt:
        raise WeightsError(
            f"{source}: NaN or infinity in {_listed(spoilt, 'tensors')}; the training that wrote it diverged or "
            f"the file is damaged: use an earlier checkpoint or copy it again; {WHERE}"
        )
    return copies


def _listed(names: list[str], title: str) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} {title} ({', '.join(names[:_SHOWN])}{more})"


def _rename(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        name = name.replace(old, new)
    return name
