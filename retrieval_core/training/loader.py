"""Training images: drawn, decoded, cropped and augmented by threads, ahead of the optimiser.

Shapes: b samples of this worker in a step, h, w sides of a view, P patches of a query. Pixels travel as uint8.
With windows a whole fabric is seen as a square of ``embed.fabric_size``; other images as one of ``model.image_size``.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from retrieval_core.config.config import Config
from retrieval_core.config.sections import PATCH
from retrieval_core.data.datasets import DataError, Labelled, Record
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.images.decoding import read_content
from retrieval_core.images.motif import cut_motif
from retrieval_core.images.patches import windows_of
from retrieval_core.images.resizing import background_of, resize
from retrieval_core.images.rgb import ImageRejected, Picture, decode_rgb
from retrieval_core.store.embeddings import Box
from retrieval_core.training.activation_cache import ActivationCache, Part, ViewKey
from retrieval_core.training.augmentation import Reprint, dyed_and_photographed, published
from retrieval_core.training.sampling import (
    Boxes,
    Draw,
    PairSampler,
    categories_in,
    crop_window,
    motif_boxes_of,
    worker_sizes,
)

MAX_ATTEMPTS = 20  # draws of one sample before its unreadable images end the training
_REPRINTED = 0.25  # share of the fabrics; of half, those that are not turned were found a little less well
STEPS_AHEAD = 3  # steps whose images are being decoded or wait for the optimiser


class Batch(NamedTuple):
    """This worker's part of one step: queries, then positives, then negatives where the loss has them."""

    step: int
    epoch: int
    parts: tuple[Part, ...]
    queries: np.ndarray  # (b,) int64, rows in the split
    positives: np.ndarray  # (b,) int64
    held: np.ndarray  # (b, M) int64, ``PairSampler.numbers`` of the motifs that the positives' views show

    @property
    def images(self) -> int:
        """Images of the step, decoded or not."""
        return len(self.parts) * len(self.queries)


class Schedule:
    """Which positions of which epoch make up a step."""

    def __init__(self, samples: int, config: Config, workers: int, most: int | None = None) -> None:
        """Lay out epochs of ``samples`` usable queries in batches that ``workers`` share now.

        ``most`` is how many workers there were before any was lost (None: as many), so that steps stay the same. An
        epoch's last batch is left out if it has fewer queries. DataError if ``samples`` or ``batch_size`` is below it.
        """
        self.samples, self.batch, self.workers = samples, config.train.batch_size, workers
        most = max(workers, most or workers)
        if self.batch < most:
            raise DataError(
                f"train.batch_size = {self.batch} is fewer than a query for each of train.num_workers = {most}; "
                "raise the one or lower the other"
            )
        self.per_epoch = samples // self.batch + (samples % self.batch >= most)
        if self.per_epoch == 0:
            raise DataError(f"training: {samples} usable queries are fewer than train.num_workers = {most}")
        self.total = self.per_epoch * config.train.epochs
        if config.train.max_steps is not None:
            self.total = min(self.total, config.train.max_steps)

    def positions(self, step: int) -> tuple[int, range]:
        """Epoch of a step (both from 0), and positions of its global batch in the epoch's order."""
        epoch, within = divmod(step, self.per_epoch)
        start = within * self.batch
        return epoch, range(start, min(start + self.batch, self.samples))

    def sizes(self, step: int) -> list[int]:
        """Samples of each worker in a step."""
        return worker_sizes(len(self.positions(step)[1]), self.workers)


class TrainingData:
    """Loads what the sampler draws. Memory O(labels + a few batches)."""

    def __init__(self, config: Config, split: Labelled, *, workers: int = 1, most_workers: int | None = None) -> None:
        """Index the training split, for workers as ``Schedule`` counts them."""
        self.config = config
        self.sampler = PairSampler(split, config.run.seed, config.train.labels)
        self.schedule = Schedule(len(self.sampler.usable), config, workers, most_workers)
        self.rejects: dict[str, tuple[str, str, str]] = {}  # location -> (path, reason, detail) of unreadable images
        self.cache: ActivationCache | None = None  # set by the trainer, if there is one
        self.windows = windows_of(config.embed) if config.model.pooling == "patches" else None
        self._shares: dict[ViewKey, np.ndarray] = {}  # of queries whose tokens are in the cache
        self._sizes: dict[int, tuple[int, int]] = {}  # width and height of fabrics that were read
        self._boxes: Boxes = load_motif_boxes(config.data) if config.train.crops else {}

    def batches(self, first_step: int, rank: int) -> Iterator[Batch]:
        """This worker's batches from ``first_step`` on, decoded ahead by ``train.loader_threads`` threads."""
        with ThreadPoolExecutor(self.config.train.loader_threads, thread_name_prefix="decode") as pool:
            waiting: deque[tuple[int, int, list[Future[_Sample]]]] = deque()
            upcoming = iter(range(first_step, self.schedule.total))
            try:
                while True:
                    while len(waiting) < STEPS_AHEAD and (step := next(upcoming, None)) is not None:
                        waiting.append(self._submit(pool, step, rank))
                    if not waiting:
                        return
                    step, epoch, futures = waiting.popleft()
                    yield self._assemble(step, epoch, [future.result() for future in futures])
            finally:
                for _, _, futures in waiting:
                    for future in futures:
                        future.cancel()

    def _submit(self, pool: ThreadPoolExecutor, step: int, rank: int) -> tuple[int, int, list[Future[_Sample]]]:
        epoch, positions = self.schedule.positions(step)
        sizes = self.schedule.sizes(step)
        start = sum(sizes[:rank])
        order = self.sampler.epoch_order(epoch)
        own = positions[start : start + sizes[rank]]
        return step, epoch, [pool.submit(self._load, step, epoch, p, int(order[p])) for p in own]

    def _load(self, step: int, epoch: int, position: int, query: int) -> _Sample:
        last = ""
        for attempt in range(MAX_ATTEMPTS):
            draw = self.sampler.draw(epoch, position, query, attempt)
            try:
                return self._sample(draw, step)
            except _UnreadableError as problem:
                last = str(problem)
        raise DataError(
            f"training: {MAX_ATTEMPTS} draws in a row met an unreadable image, the last one {last}; "
            f"see `fabric-retrieval check`"
        )

    def _sample(self, draw: Draw, step: int) -> _Sample:
        fabrics = [draw.positive, draw.negative] if self.config.train.loss == "triplet" else [draw.positive]
        views = [self._query(draw), *(self._fabric(row, draw, step) for row in fabrics)]
        return _Sample(draw, views, self.sampler.numbers(views[1].categories))

    def _query(self, draw: Draw) -> _View:
        record, key = self.sampler.split.queries[draw.query], ViewKey("query", draw.query)
        tokens, categories = self._kept(key), set(record.categories)
        if tokens is not None:
            return _View(key, categories, tokens=tokens, shares=self._shares.get(key))
        picture = self._read(record)
        if self.windows is not None:
            pixels, shares = self._motif(picture, draw.rng)
            if self.cache is not None:
                self._shares[key] = shares
            return _View(key, categories, pixels=pixels, shares=shares)
        pixels = resize(np.array(picture.rgb), self.config.model.image_size, self.config.images.resize)
        return _View(key, categories, pixels=self._augmented(pixels, draw.rng))

    def _fabric(self, row: int, draw: Draw, step: int) -> _View:
        config, rng = self.config, draw.rng
        fabric, query = self.sampler.split.fabrics[row], self.sampler.split.queries[draw.query]
        picture = None if row in self._sizes else self._read(fabric)
        if picture is not None:
            self._sizes[row] = picture.rgb.size
        reprint, boxes = self._reprint(row, query, rng)
        key = ViewKey("fabric", row, reprint is not None)
        tokens, cut, categories = self._kept(key), None, set(fabric.categories)
        share, side = self._share_and_side(rng, step)
        if config.cuts_tokens:
            cut, window = self._cut(row, motif_boxes_of(fabric, query, boxes), side // PATCH, rng)
            side = config.embed.fabric_size
            if share < 1:
                categories = categories_in(window, fabric, query, boxes)
        if reprint is not None and share >= 1:
            categories = categories_in((0, 0, *self._sizes[row]), fabric, query, boxes)
        if tokens is not None:
            return _View(key, categories, tokens=tokens, cut=cut)
        image = (picture or self._read(fabric)).rgb
        pixels = np.array(image if reprint is None else reprint.pixels(image))
        if share < 1 and cut is None:
            x0, y0, x1, y1 = window = crop_window(*image.size, share, motif_boxes_of(fabric, query, boxes), rng)
            pixels, categories = pixels[y0:y1, x0:x1], categories_in(window, fabric, query, boxes)
        pixels = resize(np.ascontiguousarray(pixels), side, config.images.resize)
        if reprint is not None:
            pixels = dyed_and_photographed(pixels, np.random.default_rng([config.run.seed, row, 1]))
        return _View(key, categories, pixels=self._augmented(pixels, rng), cut=cut)

    def _reprint(self, row: int, query: Record, rng: np.random.Generator) -> tuple[Reprint | None, Boxes]:
        """How a fabric is printed again, None for as it is; and the motif boxes, its own as they then are."""
        if self.config.train.augmentation != "reprint" or rng.random() < 1 - _REPRINTED:
            return None, self._boxes
        fabric = self.sampler.split.fabrics[row]
        reprint = Reprint.drawn(np.random.default_rng([self.config.run.seed, row]))
        boxes = {fabric.path: reprint.boxes(self._boxes.get(fabric.path, ()), *self._sizes[row])}
        if motif_boxes_of(fabric, query, self._boxes) and not motif_boxes_of(fabric, query, boxes):
            return None, self._boxes  # it would not show the motif
        return reprint, boxes

    def _cut(self, row: int, hold: Sequence[Box], side: int, rng: np.random.Generator) -> tuple[np.ndarray, Box]:
        """A square of ``side`` x ``side`` of a fabric's patches, (p,) int64, and where it lies in pixels.

        It holds one of the boxes, if there are any.
        """
        patches = self.config.embed.fabric_size // PATCH
        scale = np.array(self._sizes[row] * 2) / patches  # pixels a patch
        inner = [np.array(box) / scale for box in hold]
        boxes = [(*np.floor(box[:2]).astype(int), *np.ceil(box[2:]).astype(int)) for box in inner]
        window = crop_window(patches, patches, side / patches, boxes, rng)
        x0, y0, x1, y1 = window
        left, top, right, bottom = np.rint(window * scale).astype(int).tolist()
        return np.arange(patches**2).reshape(patches, patches)[y0:y1, x0:x1].ravel(), (left, top, right, bottom)

    def _kept(self, key: ViewKey) -> np.ndarray | None:
        return None if self.cache is None else self.cache.get(key)

    def _share_and_side(self, rng: np.random.Generator, step: int) -> tuple[float, int]:
        """The share of a fabric's side that is seen, and the side of its view in pixels."""
        if self.windows is None:
            return self._crop_share(rng, step), self.config.model.image_size
        # A part keeps its scale, so it costs less than the whole. All parts of a step are of one size.
        share = self._crop_share(np.random.default_rng([self.config.run.seed, step]), step)
        return share, max(1, round(share * self.config.embed.fabric_size / PATCH)) * PATCH

    def _motif(self, picture: Picture, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A query's motif and the shares of its patches; where it is augmented, the motif is looked for afterwards."""
        size, mask = self.config.model.image_size, self.config.images.query_mask
        if self.config.train.augmentation != "published":
            return cut_motif(picture.rgb, picture.alpha, size, mask)
        square = ImageOps.pad(picture.rgb, (2 * size, 2 * size), color=background_of(np.asarray(picture.rgb)))
        view = published(np.asarray(square), rng)
        return cut_motif(Image.fromarray(view), None, size, mask)

    def _read(self, record: Record) -> Picture:
        try:
            return decode_rgb(read_content(record.location, self.config.images.max_pixels), self.config.images)
        except ImageRejected as rejected:
            self.rejects[record.location] = (record.path, rejected.reason, rejected.detail)
            raise _UnreadableError(f"{record.path}: {rejected.reason}") from rejected

    def _crop_share(self, rng: np.random.Generator, step: int) -> float:
        """Drawn from the step's range so that a halving is as likely anywhere in it (log-uniform)."""
        progress = step / max(1, self.schedule.total - 1)
        ends = zip(self.config.train.crop_start, self.config.train.crop_end, strict=True)
        low, high = (start + (end - start) * progress for start, end in ends)
        return low if low == high else math.exp(rng.uniform(math.log(low), math.log(high)))

    def _augmented(self, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return published(view, rng) if self.config.train.augmentation == "published" else view

    def _assemble(self, step: int, epoch: int, samples: Sequence[_Sample]) -> Batch:
        return Batch(
            step=step,
            epoch=epoch,
            parts=tuple(map(_part, zip(*(sample.views for sample in samples), strict=True))),
            queries=np.array([sample.draw.query for sample in samples], dtype=np.int64),
            positives=np.array([sample.draw.positive for sample in samples], dtype=np.int64),
            held=np.stack([sample.held for sample in samples]),
        )


def _part(views: Sequence[_View]) -> Part:
    decoded = [view.pixels for view in views if view.pixels is not None]
    tokens = [view.tokens for view in views if view.tokens is not None]
    shares = [view.shares for view in views if view.shares is not None]
    cuts = [view.cut for view in views if view.cut is not None]
    return Part(
        views=np.stack(decoded) if decoded else np.empty(0, np.uint8),
        keys=tuple(view.key for view in views),
        cached=np.array([view.tokens is not None for view in views]),
        tokens=np.stack(tokens) if tokens else np.empty(0, np.float32),
        shares=np.stack(shares) if shares else None,
        cuts=np.stack(cuts) if cuts else None,
    )


class _UnreadableError(Exception):
    """Path of an image, and why it cannot be read."""


class _View(NamedTuple):
    """An image as a step takes it: pixels, or the tokens that the cache has of it."""

    key: ViewKey
    categories: set[str]
    pixels: np.ndarray | None = None
    tokens: np.ndarray | None = None
    shares: np.ndarray | None = None
    cut: np.ndarray | None = None


class _Sample(NamedTuple):
    draw: Draw
    views: list[_View]
    held: np.ndarray
