"""The device of this process, and the precision that it computes in."""

from __future__ import annotations

import torch


def pick_device() -> torch.device:
    """The CUDA device of this process if it has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The number type of the forward pass for ``model.precision``; ValueError for an unknown one.

    ``auto`` is bfloat16 on CUDA devices that compute in it, else float32: a CPU without bfloat16 instructions emulates
    them, some thirty times slower than float32.
    """
    if precision == "auto":
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if fast else torch.float32
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision not in types:
        raise ValueError(f"model.precision = {precision!r}: must be auto, float32 or bfloat16")
    return types[precision]
