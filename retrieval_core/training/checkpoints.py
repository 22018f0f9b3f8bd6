"""Training checkpoints: one file each, whole or absent, loaded without unpickling code.

A name holds the step and the training's fingerprint: ``checkpoints/step-00000120-0123456789abcdef.pt``.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping
from typing import Any

import torch

from retrieval_core.files import storage

log = logging.getLogger("fabric_retrieval")
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.pt")


def save_checkpoint(folder: str, step: int, fingerprint: str, state: Mapping[str, Any], keep: int) -> None:
    """Write a checkpoint and remove all but the newest ``keep`` (at least 1) of this training up to it.

    Later ones are removed too: they could not be read when this training was taken up again. ``step`` counts the
    optimiser steps done, ``fingerprint`` has at least 16 hexadecimal digits, and ``state`` holds tensors and plain
    values. Memory: the state once more.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    storage.write_bytes(storage.join(folder, f"step-{step:08d}-{fingerprint[:16]}.pt"), buffer.getvalue())
    own = [name for found, name in _checkpoints(folder, fingerprint) if found <= step]
    for name in storage.list_names(folder):
        if _NAME.fullmatch(name) and name not in own[-keep:]:
            storage.remove(storage.join(folder, name))


def newest_checkpoint(folder: str, fingerprint: str) -> dict[str, Any] | None:
    """The newest readable checkpoint of this training, or None."""
    for _, name in reversed(_checkpoints(folder, fingerprint)):
        path = storage.join(folder, name)
        try:
            state: dict[str, Any] = torch.load(io.BytesIO(storage.read_bytes(path)), weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file; an older checkpoint may be whole
            log.warning("%s cannot be read (%s); trying the one before", path, type(error).__name__)
            continue
        return state
    return None


def _checkpoints(folder: str, fingerprint: str) -> list[tuple[int, str]]:
    found = [(match, name) for name in storage.list_names(folder) if (match := _NAME.fullmatch(name))]
    return sorted((int(match[1]), name) for match, name in found if match[2] == fingerprint[:16])
