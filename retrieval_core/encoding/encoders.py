"""What turns views into embeddings: a network on a device, or the colour histogram every network must beat.

Shapes: N views, S side in pixels, D width of the embedding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from retrieval_core.config.sections import PATCH
from retrieval_core.images.part import Part
from retrieval_core.model.clusters import cluster, cluster_motif
from retrieval_core.model.devices import resolve_precision
from retrieval_core.model.embedder import FabricEmbedder, normalise
from retrieval_core.ranking.window_scores import quantised

_TAKEN_AWAY = 0.4
"""Share of its surroundings that is taken away from a part of a fabric, as unit vectors."""
Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]
"""Images of one size, (h, w, 3) uint8 each, in an array or a sequence."""


class Encoder(Protocol):
    """What the embedding stage runs."""

    @property
    def dim(self) -> int:
        """D."""

    def encode(self, views: Images) -> NDArray[np.float32]:
        """Views (N, S, S, 3) to rows of L2 norm 1, (N, D); N may be 0. ValueError for another shape or type."""


class ModelEncoder:
    """A ``FabricEmbedder`` on a device, fed with batches of one fixed size.

    Batches are cut in order and never span two calls; the last one is filled up by repeating its last view. Shapes are
    therefore static, and a result depends on the call's views and ``batch_size`` (at least 1) only. The model is moved
    to ``device`` and put into evaluation mode, in place. ``compile`` fuses it with ``torch.compile``, which takes a
    minute at the first batch of each shape. None does so on CUDA, if Triton finds the C compiler that it needs.
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
        self._network = cast(Callable[[Tensor, Tensor | None], Tensor], compiled)

    @torch.inference_mode()
    def encode(self, views: Images) -> NDArray[np.float32]:
        """Embed views (N, S, S, 3) uint8, S a multiple of the patch size: (N, D) float32, rows of L2 norm 1.

        Memory on the device: one batch's activations and O(N D). ValueError also where an embedding is not finite.
        """
        _check_views(views)
        if not len(views):
            return np.empty((0, self.dim), np.float32)
        # Results stay on the device until the end, so that the host never waits between batches.
        parts = [self._forward(views, start) for start in self._starts(views)]
        return self._on_host(torch.cat(parts)[: len(views)])

    @torch.inference_mode()
    def encode_motifs(self, views: Images, shares_NP: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed each view by the mean of its patches, weighted by the shares (N, P): as ``encode``."""
        _check_views(views)
        if not len(views):
            return np.empty((0, self.dim), np.float32)
        weights = self._padded(shares_NP)[:, None]
        parts = [self._forward(views, start, weights[start : start + self.batch_size]) for start in self._starts(views)]
        return self._on_host(torch.cat(parts)[: len(views), 0])

    @torch.inference_mode()
    def encode_parts(
        self, views: Images, shares_NP: NDArray[np.float32], parts: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """As ``encode_motifs``, and the motif with its ``parts`` in 8 bits: (N, D), (N, 1 + parts, D)."""
        _check_views(views)
        if not len(views):
            return np.empty((0, self.dim), np.float32), np.empty((0, 1 + parts, self.dim), np.int8)
        shares, wholes, pooled = self._padded(shares_NP), [], []
        each_PP = torch.eye(shares.shape[1], device=self.device)
        for start in self._starts(views):
            shares_BP = shares[start : start + self.batch_size]
            weights = torch.cat([shares_BP[:, None], each_PP.expand(self.batch_size, -1, -1)], dim=1)
            found_BXD = self._forward(views, start, weights)
            wholes.append(found_BXD[:, :1])
            pooled.append(torch.cat([wholes[-1], cluster_motif(found_BXD[:, 1:], shares_BP, parts)], dim=1))
        parts_NXD = quantised(torch.cat(pooled)[: len(views)]).cpu().numpy()
        return self._on_host(torch.cat(wholes)[: len(views), 0]), parts_NXD

    @torch.inference_mode()
    def encode_part(self, part: Part, parts: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Embed a part of a fabric, and its ``parts`` clusters, without what surrounds it: (1, D), (1 + parts, D).

        As ``encode_parts`` for one view; what all have in common with the surroundings is taken away by a difference.
        """
        shares_P, around_P = (torch.from_numpy(weights).to(self.device) for weights in part[1:])
        each_PP = torch.eye(len(shares_P), device=self.device)
        found_XD = self._one(part.view, torch.cat([shares_P[None], around_P[None], each_PP]))
        motifs_XD = torch.cat([found_XD[:1], cluster_motif(found_XD[None, 2:], shares_P[None], parts)[0]])
        if part.around.any():
            motifs_XD = F.normalize(motifs_XD - _TAKEN_AWAY * found_XD[1], dim=1)
        return self._on_host(motifs_XD[:1]), quantised(motifs_XD).cpu().numpy()

    @torch.inference_mode()
    def encode_patches(self, view: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed every patch of a view (h, w, 3): (P, D) float32, rows from the top, of L2 norm 1."""
        count = view.shape[0] // PATCH * (view.shape[1] // PATCH)
        return self._on_host(self._one(view, torch.eye(count, device=self.device)))

    def _one(self, view: NDArray[np.uint8], weights_VP: Tensor) -> Tensor:
        """(V, D) of one view."""
        _check_views(view[None])
        return self._forward(view[None], 0, weights_VP.expand(self.batch_size, -1, -1))[0]

    @torch.inference_mode()
    def encode_windows(
        self, views: Images, weights_WP: NDArray[np.float32], vectors: int, *, keep: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8] | None]:
        """Embed the windows of each view (N, h, w, 3), and pool them to ``vectors`` rows of L2 norm 1.

        Returns (N, V, D), and (N, V) the window that is most like each; with ``keep`` also all windows in 8 bits,
        (N, W, D). Memory on the device: one batch's activations and windows, and O(N V D), with ``keep`` O(N W D).
        ValueError where an embedding is not finite.
        """
        _check_views(views)
        if not len(views):
            none = np.empty((0, len(weights_WP), self.dim), np.int8) if keep else None
            return np.empty((0, vectors, self.dim), np.float32), np.empty((0, vectors), np.int64), none
        weights = torch.from_numpy(weights_WP).to(self.device)
        means, nearest, windows = [], [], []
        for start in self._starts(views):
            windows_BWD = self._forward(views, start, weights)
            pooled = cluster(windows_BWD, vectors)
            means.append(pooled[0])
            nearest.append(pooled[1])
            windows += [quantised(windows_BWD)] if keep else []
        found = self._on_host(torch.cat(means)[: len(views)]), torch.cat(nearest)[: len(views)].cpu().numpy()
        return *found, torch.cat(windows)[: len(views)].cpu().numpy() if keep else None

    def _padded(self, shares_NP: NDArray[np.float32]) -> Tensor:
        """Shares on the device, with those of the views that fill up the last batch."""
        padded = np.concatenate([shares_NP, np.repeat(shares_NP[-1:], self.batch_size - 1, axis=0)])
        return torch.from_numpy(padded).to(self.device)

    def _starts(self, views: Images) -> range:
        return range(0, len(views), self.batch_size)

    def _forward(self, views: Images, start: int, weights: Tensor | None = None) -> Tensor:
        """One padded batch, from ``start``: the network's answer on the device."""
        on_cuda = self.device.type == "cuda"
        chunk = views[start : start + self.batch_size]
        batch = torch.empty((self.batch_size, *chunk[0].shape), dtype=torch.uint8, pin_memory=on_cuda)
        filled = batch.numpy()
        for row, view in zip(filled, chunk, strict=False):
            row[:] = view
        filled[len(chunk) :] = chunk[-1]
        pixels = normalise(batch.to(self.device, non_blocking=on_cuda))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self._network(pixels, weights)

    def _on_host(self, embeddings: Tensor) -> NDArray[np.float32]:
        found: NDArray[np.float32] = embeddings.cpu().numpy()
        broken = int((~np.isfinite(found)).any(axis=-1).sum())
        if broken:
            raise ValueError(
                f"{broken} of {found[..., 0].size} embeddings are not finite in {self.dtype}; "
                "try model.precision = float32, then other weights"
            )
        return found


class HistogramEncoder:
    """Joint RGB histogram of 8 x 8 x 8 bins, square root of the shares: D = 512.

    The dot product of two is the Bhattacharyya coefficient of the colour distributions. Sources: Swain and Ballard,
    "Color Indexing", IJCV 7(1), 1991; for the square root (Hellinger kernel) Arandjelovic and Zisserman, "Three things
    everyone should know to improve object retrieval", CVPR 2012.
    """

    dim = 512

    def encode(self, views: Images) -> NDArray[np.float32]:
        """Histograms of views (N, S, S, 3) uint8: (N, 512) float32, rows of L2 norm 1. Memory O(S^2 + N)."""
        _check_views(views)
        histograms = np.empty((len(views), self.dim), np.float32)
        for row, view in zip(histograms, views, strict=True):
            red, green, blue = (view[..., channel].astype(np.intp) >> 5 for channel in range(3))
            counts = np.bincount((red * 64 + green * 8 + blue).ravel(), minlength=self.dim)
            row[:] = np.sqrt(counts / counts.sum())
        return histograms


def _check_views(views: Images) -> None:
    shapes = {view.shape for view in views}
    shape = next(iter(shapes), (1, 1, 3))
    if len(shapes) > 1 or len(shape) != 3 or shape[2] != 3 or 0 in shape or any(v.dtype != np.uint8 for v in views):
        raise ValueError(f"views must be (h, w, 3) uint8 of one size, got {sorted(shapes)[:3]}")


def _has_c_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CC", "gcc"), "gcc", "clang"))
