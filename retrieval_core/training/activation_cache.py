"""The frozen blocks' output for a training view, computed once and read back in later epochs.

Shapes: b views of a part of a step, V of them decoded, h, w their sides, T tokens and H hidden width of the backbone.
Only whole images come again, as they are or reprinted; a part of a fabric is cut out of the tokens of the whole. The
configuration refuses the cache for other views.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import compress
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retrieval_core.model.embedder import FabricEmbedder, normalise

log = logging.getLogger("fabric_retrieval")


class ViewKey(NamedTuple):
    """An image of the training split, seen whole, by its row among the split's queries or fabrics."""

    kind: Literal["query", "fabric"]
    row: int
    reprinted: bool = False


class Part(NamedTuple):
    """The queries, the positives or the negatives of this worker's part of a step: b images of one size."""

    views: np.ndarray  # (V, h, w, 3) uint8, the images that are not in the cache
    keys: tuple[ViewKey, ...]  # (b)
    cached: np.ndarray  # (b,) whether an image was in the activation cache, if there is one
    tokens: np.ndarray  # (b - V, T, H) of those that were
    shares: np.ndarray | None = None  # (b, P) float32, of each patch in a query's motif, for windows
    cuts: np.ndarray | None = None  # (b, p) int64, the patches of each fabric that are seen; None is all


class ActivationCache:
    """Tokens of views in a temporary file (in TMPDIR), which is gone when the process ends, however that happens.

    A view takes 4 T H bytes: 886 kB for DINOv2 small at 336 px (577 x 384). Disk O(views T H) up to the limit, memory
    O(views) for the index. Nothing is evicted: all views of an epoch are equally likely to come again. The file is not
    mapped into memory, where a full disk would be a signal that kills the process. One thread puts, any thread gets.
    """

    def __init__(self, limit: int) -> None:
        """Open an empty cache with at most ``limit`` bytes on disk; further views are computed when they are needed."""
        self.limit, self.size, self.full = limit, 0, False
        self.read = self.computed = 0
        """Views that steps took from the cache, and that they computed, since ``report``."""
        self._places: dict[ViewKey, tuple[int, tuple[int, ...]]] = {}  # first byte, and shape
        self._file = tempfile.TemporaryFile(prefix="activations-", buffering=0)  # noqa: SIM115 - closed with this object

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: ViewKey) -> NDArray[np.float32] | None:
        """A copy of a view's tokens (T, H), or None."""
        if key not in self._places:
            return None
        place, shape = self._places[key]
        tokens = np.empty(shape, np.float32)
        if os.preadv(self._file.fileno(), [tokens.data], place) != tokens.nbytes:
            raise OSError(
                f"the activation cache in {tempfile.gettempdir()} cannot be read; train.cache_activations=false"
            )
        return tokens

    def put(self, key: ViewKey, tokens: NDArray[np.float32]) -> None:
        """Keep a view's tokens (T, H), unless they are there or the cache is full."""
        content = np.ascontiguousarray(tokens, np.float32)
        if key in self._places or self.full:
            return
        if self.size + content.nbytes > self.limit:
            self.full = True
            return
        try:
            written = os.pwrite(self._file.fileno(), content.data, self.size)
        except OSError as error:
            written = 0
            log.warning("train: the activation cache stops growing: %s: %s", tempfile.gettempdir(), error.strerror)
        if written < content.nbytes:
            self.full = True
            return
        self._places[key] = self.size, content.shape
        self.size += content.nbytes

    def report(self) -> str:
        """A line on its size, and on the share of views read from it since the last line."""
        share = self.read / max(1, self.read + self.computed)
        self.read = self.computed = 0
        return (
            f"activation cache: {len(self):,} views, {self.size / 1e9:.2f} GB of at most {self.limit / 1e9:.2f}"
            f"{', full' if self.full else ''}; {share:.0%} of the views since the last line were read from it"
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

    def tokens(self, part: Part) -> NDArray[np.float32]:
        """Tokens (b, T, H) of a part's views, of the patches that are seen.

        Each distinct view that the cache lacks is computed once and put there.
        """
        self.cache.read += len(part.tokens)
        if not len(part.views):
            return self._cut(part.tokens, part.cuts)
        rows = dict(zip(compress(part.keys, part.cached), part.tokens, strict=True))
        decoded = dict(zip(compress(part.keys, ~part.cached), part.views, strict=True))
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
        return self._cut(np.stack([rows[key] for key in part.keys]), part.cuts)

    def _cut(self, tokens: NDArray[np.float32], cuts: NDArray[np.int64] | None) -> NDArray[np.float32]:
        if cuts is None:
            return tokens
        first = self.model.first_patch
        seen = np.take_along_axis(tokens[:, first:], cuts[:, :, None], axis=1)
        return np.concatenate([tokens[:, :first], seen], axis=1)

    @torch.no_grad()
    def _forward(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._autocast():
            tokens = self.model.tokens_before(self.blocks, normalise(torch.from_numpy(views).to(self._device)))
        found: NDArray[np.float32] = tokens.float().cpu().numpy()
        return found
