"""Validation by what counts: the share of relevant fabrics that the pool would hold.

Shapes: Q = validation queries, F = validation fabrics, D = embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from retrieval_core.config.config import Config
from retrieval_core.data.datasets import Labelled, Record
from retrieval_core.evaluation.metrics import average_precision_at, recall_at
from retrieval_core.images.resizing import resize
from retrieval_core.images.rgb import ImageRejected, read_image
from retrieval_core.model.devices import resolve_precision
from retrieval_core.model.embedder import FabricEmbedder, normalise
from retrieval_core.ranking.topk import block_topk

Gather = Callable[[np.ndarray], list[np.ndarray]]  # this worker's array to those of all, in rank order, of any length

POOL_SHARE = 8  # fabrics per candidate, in small galleries too: a pool of 100 is an eighth of 800 test fabrics


class Validator:
    """Computes pool recall on the validation split, spread over the workers. Memory O((Q + F) D) a worker."""

    def __init__(self, config: Config, split: Labelled, *, rank: int = 0, workers: int = 1) -> None:
        self.config, self.split, self.rank, self.workers = config, split, rank, workers
        self.depth = max(1, min(config.retrieve.top_k, -(-len(split.fabrics) // POOL_SHARE)))

    def __call__(self, model: FabricEmbedder, device: torch.device, gather: Gather) -> dict[str, float]:
        """``pool_recall`` and ``mAP`` of the model as it is, at the same depth ``k`` (reported too), and ``score``.

        The score selects the best model: the recall, with mAP to tell equals apart. An unreadable query counts as 0.
        """
        queries_QD = self._embed(model, device, self.split.queries, gather)
        fabrics_FD = self._embed(model, device, self.split.fabrics, gather)
        usable = np.flatnonzero(np.isfinite(fabrics_FD).all(axis=1))
        answered = np.isfinite(queries_QD).all(axis=1)
        top = block_topk(np.where(answered[:, None], queries_QD, 0), fabrics_FD[usable][:, None], self.depth)
        held = [frozenset(fabric.categories) for fabric in self.split.fabrics]
        recalls, precisions = [], []
        for row, query in enumerate(self.split.queries):
            wanted = frozenset(query.categories)
            relevant = sum(bool(wanted & categories) for categories in held)
            if not relevant:
                continue
            hits = [rank for rank, place in enumerate(top.rows[row], 1) if wanted & held[usable[place]]]
            ranks = np.array(hits if answered[row] else [], dtype=np.int64)
            recalls.append(recall_at(ranks, relevant, self.depth))
            precisions.append(average_precision_at(ranks, relevant, self.depth))
        recall, precision = float(np.mean(recalls or [0.0])), float(np.mean(precisions or [0.0]))
        return {"k": float(self.depth), "pool_recall": recall, "mAP": precision, "score": recall + 1e-3 * precision}

    def _embed(
        self, model: FabricEmbedder, device: torch.device, records: Sequence[Record], gather: Gather
    ) -> np.ndarray:
        """(n, D) float32 in the order of the records; NaN where an image cannot be read."""
        own = records[self.rank :: self.workers]
        embeddings = np.full((len(own), model.embedding_dim), np.nan, np.float32)
        batch = self.config.embed.batch_size
        precision = resolve_precision(self.config.model.precision, device)
        with ThreadPoolExecutor(self.config.train.loader_threads) as pool, torch.inference_mode():
            for start in range(0, len(own), batch):
                loaded = enumerate(pool.map(self._view, own[start : start + batch]), start)
                readable = {row: view for row, view in loaded if view is not None}
                if not readable:
                    continue
                views = [*readable.values()]
                # Always of one size, on which the rounding may depend.
                pixels = np.stack(views + views[-1:] * (batch - len(views)))
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
                    found = model(normalise(torch.from_numpy(pixels).to(device)))
                embeddings[[*readable]] = found[: len(views)].float().cpu().numpy()
        parts = gather(embeddings)
        whole = np.empty((len(records), model.embedding_dim), np.float32)
        for rank, part in enumerate(parts):
            whole[rank :: self.workers] = part
        return whole

    def _view(self, record: Record) -> np.ndarray | None:
        try:
            pixels = read_image(record.location, self.config.images)
        except ImageRejected:
            return None  # costs recall here; the embedding of the searched splits lists what it rejects
        return resize(pixels, self.config.model.image_size, self.config.images.resize)
