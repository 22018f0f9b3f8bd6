"""What the frozen blocks make of a training view, computed once and read back in later epochs.

Shapes: N views of a step, V of them decoded, T tokens and H hidden width of the backbone, S image side.

With L blocks of which the last k train, a step costs L + 2k passes through a block, a backward pass counting as two: 16
with the published 12 and 2. What enters the first trained block does not change while the others are trained, so for a
view that comes again the frozen ones can be left out, and 3k = 6 passes remain.
"""

from __future__ import annotations

import logging
import os
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval_core.model.embedder import FabricEmbedder, normalise

log = logging.getLogger("fabric_retrieval")


class ViewKey(NamedTuple):
    """A view that comes again: one of ``train.fixed_views`` of an image, or the image as it is."""

    kind: Literal["query", "fabric"]
    row: int
    """Of the image in the split."""
    motif: tuple[str, ...]
    """Categories that a crop was drawn around; empty where it was drawn anywhere, or the view is the whole image."""
    number: int
    """Of the view, from 0."""

    def stream(self, seed: int) -> np.random.Generator:
        """The view's own random stream. Five numbers: those of ``PairSampler`` have at most four."""
        motif = zlib.crc32("\0".join(self.motif).encode())
        return np.random.default_rng([seed, ("query", "fabric").index(self.kind), self.row, self.number, motif + 1])


class Stored(NamedTuple):
    """A view as the cache gives it back."""

    tokens: NDArray[np.float32]  # (T, H)
    held: NDArray[np.int64]  # (M,) ``PairSampler.numbers`` of what it shows


class ActivationCache:
    """Tokens of views in a file of this process, which ends with the process however that ends.

    T x H x 4 bytes a view: 790 kB for DINOv2 base at 224 px (257 x 768). Disk O(views T H) up to the limit, memory
    O(views M) for the index; nothing is evicted, since every view of an epoch is as likely as any other to come again.

    The file lies where Python's ``tempfile`` puts files (TMPDIR). It is read and written by position, not mapped into
    memory: a full disk is then an error that can be handled instead of a signal that kills the process.

    One thread puts, any thread gets.
    """

    def __init__(self, shape: tuple[int, int], limit: int) -> None:
        """Open an empty cache.

        Args:
            shape: (T, H).
            limit: bytes on disk at most.
        """
        self.shape = shape
        self.view_bytes = shape[0] * shape[1] * np.dtype(np.float32).itemsize
        self.limit = limit
        self.room = limit // self.view_bytes
        """Views that fit; what comes later is computed each time it is needed."""
        self.read = self.computed = 0
        """Views that steps took from the cache, and that they computed, since ``report``."""
        self._places: dict[ViewKey, int] = {}
        self._held: dict[ViewKey, NDArray[np.int64]] = {}
        self._file = tempfile.TemporaryFile(prefix="activations-", buffering=0)  # noqa: SIM115 - closed with this object

    def __len__(self) -> int:
        return len(self._places)

    def get(self, key: ViewKey) -> Stored | None:
        """A copy of what was put, or None."""
        place = self._places.get(key)
        if place is None:
            return None
        tokens = np.empty(self.shape, np.float32)
        if os.preadv(self._file.fileno(), [tokens.data], place * self.view_bytes) != self.view_bytes:
            raise OSError(
                f"the activation cache in {tempfile.gettempdir()} cannot be read; train.cache_activations=false"
            )
        return Stored(tokens, self._held[key])

    def note(self, key: ViewKey, held: NDArray[np.int64]) -> None:
        """Remember what a view shows: whoever decodes it knows, and ``put`` follows in another thread."""
        if len(self._places) < self.room:
            self._held[key] = held

    def put(self, key: ViewKey, tokens: NDArray[np.float32]) -> None:
        """Keep a view's tokens (T, H), unless they are there or the cache is full."""
        if key in self._places or key not in self._held or len(self._places) >= self.room:
            return
        place = len(self._places)
        try:
            content = np.ascontiguousarray(tokens, np.float32).data
            written = os.pwrite(self._file.fileno(), content, place * self.view_bytes)
        except OSError as error:
            written = 0
            log.warning("train: the activation cache stops growing: %s: %s", tempfile.gettempdir(), error.strerror)
        if written < self.view_bytes:
            self.room = len(self._places)
            return
        self._places[key] = place

    def report(self) -> str:
        """How large it is and what it was good for since the last report."""
        share = self.read / max(1, self.read + self.computed)
        self.read = self.computed = 0
        full = ", full" if len(self) >= self.room else ""
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
        """Take up the frozen part of a model on its device; ``blocks`` of its blocks, from the first, are frozen."""
        self.model, self.blocks, self.cache = model, blocks, cache
        self._device, self._autocast = device, autocast

    def tokens(
        self,
        keys: Sequence[ViewKey],
        cached: NDArray[np.bool_],
        tokens: NDArray[np.float32],
        views: NDArray[np.uint8],
    ) -> Tensor:
        """Put a step's views together.

        Args:
            keys: of the N views.
            cached: (N,) whether the loader found a view in the cache.
            tokens: (N - V, T, H) of those, in order.
            views: (V, S, S, 3) of the others, in order.

        Returns:
            (N, T, H) float32 on the device.
        """
        self.cache.read += len(tokens)
        whole = tokens
        if len(views):
            whole = np.empty((len(keys), *self.cache.shape), np.float32)
            whole[cached] = tokens
            whole[~cached] = self._decoded([key for key, there in zip(keys, cached, strict=True) if not there], views)
        found = torch.from_numpy(whole)
        return found.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else found

    def _decoded(self, keys: Sequence[ViewKey], views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(V, T, H) of decoded views: each distinct one computed once, or read if it was put since it was decoded."""
        places = {key: place for place, key in enumerate(keys)}
        rows = {key: stored.tokens for key in places if (stored := self.cache.get(key)) is not None}
        new = [key for key in places if key not in rows]
        # On a CPU one by one: how a view is rounded must not depend on what it is batched with, or a resumed run,
        # which stores them anew in other company, would not end with the same bytes.
        size = 1 if self._device.type == "cpu" else max(1, len(new))
        for start in range(0, len(new), size):
            chunk = new[start : start + size]
            for key, row in zip(chunk, self._forward(views[[places[key] for key in chunk]]), strict=True):
                rows[key] = row
                self.cache.put(key, row)
        self.cache.read += len(places) - len(new)
        self.cache.computed += len(new)
        return np.stack([rows[key] for key in keys])

    @torch.no_grad()
    def _forward(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        with self._autocast():
            tokens = self.model.tokens_before(self.blocks, normalise(torch.from_numpy(views).to(self._device)))
        found: NDArray[np.float32] = tokens.float().cpu().numpy()
        return found
