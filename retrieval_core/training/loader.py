"""Training images: drawn, decoded, cropped, augmented and kept ahead of the optimiser by threads.

Shapes: b = samples of this worker in a step, S = model.image_size. Pixels stay uint8 until they are on the device.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np

from retrieval_core.config.config import Config
from retrieval_core.data.datasets import DataError, Labelled, Record, load_motif_boxes
from retrieval_core.images.resizing import resize
from retrieval_core.images.rgb import ImageRejected, read_image
from retrieval_core.store.embeddings import Box
from retrieval_core.training import augmentation
from retrieval_core.training.activation_cache import ActivationCache, ViewKey
from retrieval_core.training.sampling import Draw, PairSampler, categories_in, crop_window, motif_boxes_of, worker_sizes

MAX_ATTEMPTS = 20


class Batch(NamedTuple):
    """This worker's part of one step: n * b images, queries, then positives, then negatives where the loss has them."""

    step: int
    epoch: int
    views: np.ndarray  # (V, S, S, 3) uint8; V = n * b where there is no cache, else of those that it did not give
    queries: np.ndarray  # (b,) int64, rows in the split
    positives: np.ndarray  # (b,) int64
    held: np.ndarray  # (b, M) int64, ``PairSampler.numbers`` of the motifs that the positives' views show
    keys: tuple[ViewKey, ...] = ()  # (n * b), with a cache only, like the following
    cached: np.ndarray = np.zeros(0, np.bool_)  # (n * b,) which of them it gave
    tokens: np.ndarray = np.zeros(0, np.float32)  # (n * b - V, T, H) of these

    @property
    def images(self) -> int:
        """Views of the step, decoded or not."""
        return len(self.keys) or len(self.views)


class Schedule:
    """Which positions of which epoch make up a step."""

    def __init__(self, samples: int, config: Config, workers: int, most: int | None = None) -> None:
        """Lay the steps out.

        Args:
            samples: usable queries in an epoch.
            config: ``train.batch_size``, ``train.epochs`` and ``train.max_steps`` count.
            workers: that share a batch.
            most: workers that ever will, so that a step stays the same one when some are lost; a last, smaller batch
                with fewer queries than these is left out.
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
        """Epoch and positions in its order of the global batch of a step (from 0)."""
        epoch, within = divmod(step, self.per_epoch)
        start = within * self.batch
        return epoch, range(start, min(start + self.batch, self.samples))

    def sizes(self, step: int) -> list[int]:
        """Samples of each worker in a step."""
        return worker_sizes(len(self.positions(step)[1]), self.workers)


Located = Sequence[tuple[str, Box]]
"""(category, box) of what is printed on a fabric."""


def needs_pseudo_boxes(config: Config) -> bool:
    """Whether training is to look for the motifs first: it crops, was asked to, and the data set does not say."""
    return config.train.locate and config.train.crops and not load_motif_boxes(config.data)


class TrainingData:
    """Loads what the sampler draws. Memory O(labels + a few batches)."""

    def __init__(
        self,
        config: Config,
        split: Labelled,
        *,
        workers: int = 1,
        most_workers: int | None = None,
        located: Mapping[str, Located] | None = None,
    ) -> None:
        """Take up a split.

        Args:
            config: of the run.
            split: of training.
            workers: how many share a batch.
            most_workers: how many ever will; as many if None.
            located: where the model found motifs (``find_pseudo_boxes``), for crops where the data set does not say.
                They say where a motif is, never where it is not: such a crop counts as showing all that its fabric
                holds.
        """
        self.config = config
        self.sampler = PairSampler(split, config.run.seed, config.train.labels)
        self.schedule = Schedule(len(self.sampler.usable), config, workers, most_workers)
        self.rejects: dict[str, tuple[str, str, str]] = {}
        """location -> (path, reason, detail) of images that could not be used."""
        self.cache: ActivationCache | None = None
        """Where views that come again need not be decoded: the trainer's, which knows the network."""
        self._boxes = load_motif_boxes(config.data) if config.train.crops else {}
        self._located = located or {}
        drawn = config.train.augmentation
        self._varies = {"query": drawn != "none", "fabric": drawn in ("published", "print") or config.train.crops}

    def batches(self, first_step: int, rank: int) -> Iterator[Batch]:
        """This worker's batches from ``first_step`` on, decoded ahead by ``train.loader_threads`` threads."""
        with ThreadPoolExecutor(self.config.train.loader_threads, thread_name_prefix="decode") as pool:
            waiting: deque[tuple[int, int, list[Future[_Sample]]]] = deque()
            upcoming = iter(range(first_step, self.schedule.total))
            try:
                while True:
                    while len(waiting) < 3 and (step := next(upcoming, None)) is not None:
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
        mine = positions[start : start + sizes[rank]]
        return step, epoch, [pool.submit(self._load, step, epoch, p, int(order[p])) for p in mine]

    def _load(self, step: int, epoch: int, position: int, query: int) -> _Sample:
        last = ""
        for attempt in range(MAX_ATTEMPTS):
            draw = self.sampler.draw(epoch, position, query, attempt)
            try:
                return self._sample(draw, step)
            except _UnusableError as problem:
                last = f"{problem.record.path}: {problem.reason}"
                self.rejects[problem.record.location] = (problem.record.path, problem.reason, problem.detail)
        raise DataError(
            f"training: {MAX_ATTEMPTS} draws in a row met an unreadable image, the last one {last}; "
            f"see `fabric-retrieval check`"
        )

    def _sample(self, draw: Draw, step: int) -> _Sample:
        fabrics = [draw.positive, draw.negative] if self.config.train.loss == "triplet" else [draw.positive]
        views = [self._view(draw, "query", draw.query, step)]
        views += [self._view(draw, "fabric", row, step) for row in fabrics]
        return _Sample(draw, views)

    def _view(self, draw: Draw, kind: Literal["query", "fabric"], row: int, step: int) -> _View:
        """A view of an image: from the cache if it is there, and then nothing is decoded."""
        split, rng = self.sampler.split, draw.rng
        query = split.queries[draw.query]
        image = query if kind == "query" else split.fabrics[row]
        key = self._key(kind, row, image, query, rng)
        if key is not None:
            stored = None if self.cache is None else self.cache.get(key)
            if stored is not None:
                return _View(key, stored.held, tokens=stored.tokens)
            query, rng = query._replace(categories=key.motif), key.stream(self.config.run.seed)
        if kind == "query":
            pixels, categories = self._whole(image), set[str]()
        else:
            pixels, categories = self._crop(image, query, rng, step)
        held = self.sampler.numbers(categories)
        if key is not None and self.cache is not None:
            self.cache.note(key, held)
        return _View(key, held, pixels=self._augment(pixels, rng, query=kind == "query"))

    def _key(
        self, kind: Literal["query", "fabric"], row: int, image: Record, query: Record, rng: np.random.Generator
    ) -> ViewKey | None:
        """Which of the views that come again it is; None where this sample has a view of its own."""
        fixed = self.config.train.fixed_views
        if not self._varies[kind]:
            return ViewKey(kind, row, (), 0)
        if fixed is None:
            return None
        around = kind == "fabric" and self.config.train.crops
        motif = tuple(name for name in image.categories if name in query.categories) if around else ()
        return ViewKey(kind, row, motif, int(rng.integers(fixed)))

    def _read(self, record: Record) -> np.ndarray:
        try:
            return read_image(record.location, self.config.images)
        except ImageRejected as rejected:
            raise _UnusableError(record, rejected.reason, rejected.detail) from rejected

    def _whole(self, record: Record) -> np.ndarray:
        return resize(self._read(record), self.config.model.image_size, self.config.images.resize)

    def _crop(self, fabric: Record, query: Record, rng: np.random.Generator, step: int) -> tuple[np.ndarray, set[str]]:
        """A view of the fabric with the query's motif in it, and the categories that the view shows."""
        pixels, categories = self._read(fabric), set(fabric.categories)
        share = self._crop_share(rng, step)
        if share < 1:
            height, width = pixels.shape[:2]
            boxes = motif_boxes_of(fabric, query, self._boxes) or motif_boxes_of(fabric, query, self._located)
            window = crop_window(width, height, share, boxes, rng)
            categories = categories_in(window, fabric, query, self._boxes)
            x0, y0, x1, y1 = window
            pixels = np.ascontiguousarray(pixels[y0:y1, x0:x1])
        return resize(pixels, self.config.model.image_size, self.config.images.resize), categories

    def _crop_share(self, rng: np.random.Generator, step: int) -> float:
        """Drawn from the step's range so that a halving is as likely anywhere in it (log-uniform)."""
        progress = step / max(1, self.schedule.total - 1)
        ends = zip(self.config.train.crop_start, self.config.train.crop_end, strict=True)
        low, high = (start + (end - start) * progress for start, end in ends)
        return low if low == high else math.exp(rng.uniform(math.log(low), math.log(high)))

    def _assemble(self, step: int, epoch: int, samples: Sequence[_Sample]) -> Batch:
        views = [view for group in zip(*(sample.views for sample in samples), strict=True) for view in group]
        decoded = [view.pixels for view in views if view.pixels is not None]
        side = self.config.model.image_size
        batch = Batch(
            step=step,
            epoch=epoch,
            views=np.stack(decoded) if decoded else np.empty((0, side, side, 3), np.uint8),
            queries=np.array([sample.draw.query for sample in samples], dtype=np.int64),
            positives=np.array([sample.draw.positive for sample in samples], dtype=np.int64),
            held=np.stack([sample.views[1].held for sample in samples]),
        )
        if self.cache is None:
            return batch
        stored = [view.tokens for view in views if view.tokens is not None]
        return batch._replace(
            keys=tuple(view.key for view in views if view.key is not None),
            cached=np.array([view.tokens is not None for view in views]),
            tokens=np.stack(stored) if stored else np.empty((0, *self.cache.shape), np.float32),
        )

    def _augment(self, view: np.ndarray, rng: np.random.Generator, *, query: bool) -> np.ndarray:
        if self.config.train.augmentation == "none":
            return view
        if self.config.train.augmentation == "published":
            return augmentation.published(view, rng)
        if self.config.train.augmentation == "query":
            return augmentation.query_only(view, rng) if query else view
        return augmentation.print_query(view, rng) if query else augmentation.print_fabric(view, rng)


class _UnusableError(Exception):
    def __init__(self, record: Record, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.record, self.reason, self.detail = record, reason, detail


class _View(NamedTuple):
    key: ViewKey | None
    held: np.ndarray
    pixels: np.ndarray | None = None
    tokens: np.ndarray | None = None


class _Sample(NamedTuple):
    draw: Draw
    views: list[_View]
