"""Validation by what counts: the share of relevant fabrics that the pool would hold.

Shapes: Q = validation queries, F = validation fabrics, V = vectors of one, D = embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from retrieval_core.config.config import Config
from retrieval_core.config.sections import Role
from retrieval_core.data.datasets import Labelled, Record
from retrieval_core.encoding.encoders import ModelEncoder
from retrieval_core.encoding.views import Cut, Views, views_of
from retrieval_core.evaluation.metrics import average_precision_at, recall_at
from retrieval_core.images.decoding import read_content
from retrieval_core.images.rgb import ImageRejected
from retrieval_core.model.embedder import FabricEmbedder
from retrieval_core.ranking.topk import block_topk

Gather = Callable[[np.ndarray], list[np.ndarray]]  # this worker's array to those of all, in rank order, of any length

POOL_SHARE = 8  # fabrics per candidate, in small galleries too: a pool of 100 is an eighth of 800 test fabrics


class Validator:
    """Computes pool recall on the validation split, spread over the workers. Memory O((Q + F V) D) a worker."""

    def __init__(self, config: Config, split: Labelled, *, rank: int = 0, workers: int = 1) -> None:
        self.config, self.split, self.rank, self.workers = config, split, rank, workers
        self.depth = max(1, min(config.retrieve.top_k, -(-len(split.fabrics) // POOL_SHARE)))

    def __call__(self, model: FabricEmbedder, device: torch.device, gather: Gather) -> dict[str, float]:
        """``pool_recall`` and ``mAP`` of the model as it is, at the same depth ``k`` (reported too), and ``score``.

        The score selects the best model: the recall, with mAP to tell equals apart. An unreadable query counts as 0.
        """
        # Batches are padded to one size, on which the rounding may depend.
        encoder = ModelEncoder(model, device, self.config.model.precision, self.config.embed.batch_size, compile=False)
        queries_QD = self._embed(encoder, self.split.queries, "queries", gather)[:, 0]
        fabrics_FVD = self._embed(encoder, self.split.fabrics, "gallery", gather)
        usable = np.flatnonzero(np.isfinite(fabrics_FVD).all(axis=(1, 2)))
        answered = np.isfinite(queries_QD).all(axis=1)
        top = block_topk(np.where(answered[:, None], queries_QD, 0), fabrics_FVD[usable], self.depth)
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

    def _embed(self, encoder: ModelEncoder, records: Sequence[Record], role: Role, gather: Gather) -> np.ndarray:
        """(n, V, D) float32 in the order of the records; NaN where an image cannot be read."""
        config = self.config
        windows = config.model.pooling == "patches"
        # Without windows one vector of the whole, also where the run will search tiles: it ranks models as well.
        views = views_of(config, config.model, role) if windows else Views(config.model.image_size)
        own = records[self.rank :: self.workers]
        embeddings = np.full((len(own), views.rows, encoder.dim), np.nan, np.float32)
        with ThreadPoolExecutor(config.train.loader_threads) as pool:
            for start in range(0, len(own), encoder.batch_size):
                cuts = pool.map(lambda record: self._cut(views, record), own[start : start + encoder.batch_size])
                readable = {row: cut for row, cut in enumerate(cuts, start) if cut is not None}
                if readable:
                    embeddings[[*readable]] = views.embed(encoder, [*readable.values()])[0]
        whole = np.empty((len(records), views.rows, encoder.dim), np.float32)
        for rank, part in enumerate(gather(embeddings)):
            whole[rank :: self.workers] = part
        return whole

    def _cut(self, views: Views, record: Record) -> Cut | None:
        try:
            return views.of(read_content(record.location, self.config.images.max_pixels), self.config.images)
        except ImageRejected:
            return None  # costs recall here; the embedding of the searched splits lists what it rejects
