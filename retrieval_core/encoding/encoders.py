"""What turns views into embeddings: a network on a device, or the colour histogram every network must beat.

Shapes: N views, S side in pixels, D width of the embedding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval_core.model.devices import resolve_precision
from retrieval_core.model.embedder import FabricEmbedder, normalise


class Encoder(Protocol):
    """What the embedding stage runs."""

    @property
    def dim(self) -> int:
        """D."""

    def encode(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Views (N, S, S, 3) to rows of L2 norm 1, (N, D); N may be 0. ValueError for another shape or type."""


class ModelEncoder:
    """A ``FabricEmbedder`` on a device, fed with batches of one fixed size.

    Batches are cut in order and never span two calls; the last one is filled up by repeating its last view. Shapes are
    therefore static, and a result depends on the call's views and ``batch_size`` (at least 1) only. The model is moved
    to ``device`` and put into evaluation mode, in place. ``compile`` fuses it with ``torch.compile``, which takes a
    minute at the first batch. None does so on CUDA, if Triton finds the C compiler that it needs.
    """

    def __init__(
        self, model: FabricEmbedder, device: torch.device, precision: str, batch_size: int, compile: bool | None = None
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"embed.batch_size = {batch_size}: must be at least 1")
        self.dim = model.embedding_dim
        self.device = device
        self.dtype = resolve_precision(precision, device)
        self.batch_size = batch_size
        model.to(device).eval()
        wanted = (device.type == "cuda" and _has_c_compiler()) if compile is None else compile
        compiled = torch.compile(model, dynamic=False) if wanted else model
        self._network = cast(Callable[[Tensor], Tensor], compiled)

    @torch.inference_mode()
    def encode(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed views (N, S, S, 3) uint8, S a multiple of the patch size: (N, D) float32, rows of L2 norm 1.

        Memory on the device: one batch's activations and O(N D). ValueError also where an embedding is not finite.
        """
        _check_views(views)
        if len(views) == 0:
            return np.empty((0, self.dim), np.float32)
        # Results stay on the device until the end, so that the host never waits between batches.
        starts = range(0, len(views), self.batch_size)
        parts = [self._forward(views[start : start + self.batch_size]) for start in starts]
        embeddings: NDArray[np.float32] = torch.cat(parts)[: len(views)].cpu().numpy()
        broken = int((~np.isfinite(embeddings)).any(axis=1).sum())
        if broken:
            raise ValueError(
                f"{broken} of {len(views)} embeddings are not finite in {self.dtype}; "
                "try model.precision = float32, then other weights"
            )
        return embeddings

    def _forward(self, chunk: NDArray[np.uint8]) -> Tensor:
        """One padded batch on the device: (at most batch_size, S, S, 3) to (batch_size, D)."""
        on_cuda = self.device.type == "cuda"
        batch = torch.empty((self.batch_size, *chunk.shape[1:]), dtype=torch.uint8, pin_memory=on_cuda)
        filled = batch.numpy()
        filled[: len(chunk)] = chunk
        filled[len(chunk) :] = chunk[-1]
        pixels = normalise(batch.to(self.device, non_blocking=on_cuda))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self._network(pixels)


class HistogramEncoder:
    """Joint RGB histogram of 8 x 8 x 8 bins, square root of the shares: D = 512.

    The dot product of two is the Bhattacharyya coefficient of the colour distributions. Sources: Swain and Ballard,
    "Color Indexing", IJCV 7(1), 1991; for the square root (Hellinger kernel) Arandjelovic and Zisserman, "Three things
    everyone should know to improve object retrieval", CVPR 2012.
    """

    dim = 512

    def encode(self, views: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Histograms of views (N, S, S, 3) uint8: (N, 512) float32, rows of L2 norm 1. Memory O(S^2 + N)."""
        _check_views(views)
        histograms = np.empty((len(views), self.dim), np.float32)
        for row, view in zip(histograms, views, strict=True):
            red, green, blue = (view[..., channel].astype(np.intp) >> 5 for channel in range(3))
            counts = np.bincount((red * 64 + green * 8 + blue).ravel(), minlength=self.dim)
            row[:] = np.sqrt(counts / counts.sum())
        return histograms


def _check_views(views: NDArray[Any]) -> None:
    if views.ndim != 4 or views.shape[3] != 3 or views.dtype != np.uint8 or 0 in views.shape[1:]:
        raise ValueError(f"views must be (N, S, S, 3) uint8, got {views.shape} {views.dtype}")


def _has_c_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CC", "gcc"), "gcc", "clang"))
