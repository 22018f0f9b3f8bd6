"""The frozen blocks' output for a training view, computed once and read back in later epochs.

Shapes: N views of a step, V of them decoded, T tokens and H hidden width of the backbone, S image side.
Only whole images without augmentation come again. The configuration refuses the cache for other views.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import compress
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval_core.model.embedder import FabricEmbedder, normalise

log = logging.getLogger("fabric_retrieval")


class ViewKey(NamedTuple):
    """An image of the training split, seen whole and as it is, by its row among the split's queries or fabrics."""

    kind: Literal["query", "fabric"]
    row: int


class ActivationCache:
    """Tokens of views in a temporary file (in TMPDIR), which is gone when the process ends, however that happens.

    A view takes 4 T H bytes: 790 kB for DINOv2 base at 224 px (257 x 768). Disk O(views T H) up to the limit, memory
    O(views) for the index. Nothing is evicted: all views of an epoch are equally likely to come again. The file is not
    mapped into memory, where a full disk would be a signal that kills the process. One thread puts, any thread gets.
    """

    def __init__(self, shape: tuple[int, int], limit: int) -> None:
        """Open an empty cache for tokens of ``shape`` (T, H), with at most ``limit`` bytes on disk."""
        self.shape, self.limit = shape, limit
        self.view_bytes = shape[0] * shape[1] * np.dtype(np.float32).itemsize
        self.capacity = limit // self.view_bytes  # further views are computed each time they are needed
        self.read = self.computed = 0
        """Views that steps took from the cache, and that they computed, since ``report``."""
        self._places: dict[ViewKey, int] = {}
        self._file = tempfile.TemporaryFile(prefix="activations-", buffering=0)  # noqa: SIM115 - closed with this object

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: ViewKey) -> NDArray[np.float32] | None:
        """A copy of a view's tokens (T, H), or None."""
        place = self._places.get(key)
        if place is None:
            return None
        tokens = np.empty(self.shape, np.float32)
        if os.preadv(self._file.fileno(), [tokens.data], place * self.view_bytes) != self.view_bytes:
            raise OSError(
                f"the activation cache in {tempfile.gettempdir()} cannot be read; train.cache_activations=false"
            )
        return tokens

    def put(self, key: ViewKey, tokens: NDArray[np.float32]) -> None:
        """Keep a view's tokens (T, H), unless they are there or the cache is full."""
        if key in self._places or len(self) >= self.capacity:
            return
        place = len(self)
        try:
            content = np.ascontiguousarray(tokens, np.float32).data
            written = os.pwrite(self._file.fileno(), content, place * self.view_bytes)
        except OSError as error:
            written = 0
            log.warning("train: the activation cache stops growing: %s: %s", tempfile.gettempdir(), error.strerror)
        if written < self.view_bytes:
            self.capacity = len(self)
            return
        self._places[key] = place

    def report(self) -> str:
        """A line on its size, and on the share of views read from it since the last line."""
        share = self.read / max(1, self.read + self.computed)
        self.read = self.computed = 0
        full = ", full" if len(self) >= self.capacity else ""
        return (
            f"activation cache: {len(self):,} views, {len(self) * self.view_bytes / 1e9:.2f} GB of at most "
            f"{self.limit / 1e9:.2f}{full}; {share:.0%} of the views since the last line were read from it"
        )


class FrozenBlocks:
    """The tokens that enter the first trained block, from the cache or computed without a graph and put there."""

    def __init__(
        self,
        model: FabricEmbedder,
        blocks: int,
        cache: ActivationCache,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        """Take a model on its device, of which the first ``blocks`` blocks are frozen."""
        self.model, self.blocks, self.cache = model, blocks, cache
        self._device, self._autocast = device, autocast

    def tokens(
        self,
        keys: Sequence[ViewKey],
        cached: NDArray[np.bool_],
        tokens: NDArray[np.float32],
        views: NDArray[np.uint8],
    ) -> NDArray[np.float32]:
        """Tokens (N, T, H) of a step's views; each distinct view that the cache lacks is computed once and put there.

        ``cached`` (N,) says which views the loader found in the cache. ``tokens`` (N - V, T, H) are theirs, and
        ``views`` (V, S, S, 3) the pixels of the others, both in the order of ``keys``.
        """
        self.cache.read += len(tokens)
        if not len(views):
            return tokens
        rows = dict(zip(compress(keys, cached), tokens, strict=True))
        decoded = dict(zip(compress(keys, ~cached), views, strict=True))
        # A step since then may have put what the loader had to decode.
        found_now = {key: row for key in decoded if (row := self.cache.get(key)) is not None}
        rows |= found_now
        new = [key for key in decoded if key not in found_now]
        # On a CPU one by one: how a view is rounded must not depend on what it is batched with, or a resumed run,
        # which stores them anew in other company, would not end with the same bytes.
        size = 1 if self._device.type == "cpu" else max(1, len(new))
        for start in range(0, len(new), size):
            chunk = new[start : start + size]
            for key, row in zip(chunk, self._forward(np.stack([decoded[key] for key in chunk])), strict=True):
                rows[key] = row
                self.cache.put(key, row)
        self.cache.read += len(found_now)
        self.cache.computed += len(new)
        return np.stack([rows[key] for key in keys])

    @torch.no_grad()
    def _forward(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._autocast():
            tokens = self.model.tokens_before(self.blocks, normalise(torch.from_numpy(views).to(self._device)))
        found: NDArray[np.float32] = tokens.float().cpu().numpy()
        return found
