"""A CPU task decodes a shard, an actor encodes and commits it.

Shapes: N images, R views of each, h, w their sides, P patches of a query.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ray_jobs.embedding.actor_time import Spent
from ray_jobs.embedding.plan_store import Store
from retrieval_core.config.config import Config
from retrieval_core.data.records import Record, name_problem
from retrieval_core.data.shard_plan import is_there, read_shard_plan
from retrieval_core.encoding.arms import Arm
from retrieval_core.encoding.views import Cut
from retrieval_core.files import storage
from retrieval_core.files.fence import Question, fenced
from retrieval_core.files.retries import may_pass
from retrieval_core.images.decoding import read_content
from retrieval_core.images.prefetch import read_ahead
from retrieval_core.images.rgb import ImageRejected
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import Reject, write_shard
from retrieval_core.store.windows import windows_file, write_windows

if TYPE_CHECKING:
    from retrieval_core.encoding.encoders import Encoder

OTHERS = 3
"""Images that are tried before a storage is said to fail: one of them may be bad itself."""
STORAGE_FAILS = "storage fails"
"""Takes the place of a reason in what decoding hands on; never committed."""


class StorageFailsError(Exception):
    """An image cannot be read, and that is not the image's fault."""


def decode_shard(batch: pa.Table, stores: Sequence[Store], config: Config) -> pa.Table:
    """Decode the images of one shard; one that cannot be used becomes a reject without pixels. Memory O(shard).

    A storage that fails rejects no image: the last reject then has the reason ``STORAGE_FAILS``, and the shard is left
    for the next run.

    Returns a row with the views' ``pixels`` (R, h, w, 3) uint8, image after image, their h and w as ``sides`` (N, 2)
    int32, ``boxes`` (N, R, 4) int32 and ``shares`` (N, P) float32, each as one binary value.
    """
    began = time.perf_counter()
    shard = {name: batch.column(name)[0].as_py() for name in batch.column_names}
    plan, views = stores[shard["store"]].plan, stores[shard["store"]].views
    rows = (
        read_shard_plan(plan, shard["bucket"], shard["number"]).select(["path", "id", "location", "stamp"]).to_pylist()
    )
    pixels = bytearray()  # grows in place: views kept until the end and then put together would be held twice
    sides: list[tuple[int, ...]] = []
    boxes: list[np.ndarray] = []
    shares: list[np.ndarray] = []
    images: list[list[str]] = []
    rejects: list[list[str]] = []
    problems = [name_problem(Record(row["path"], row["location"])) for row in rows]
    readable = [row["location"] for row, problem in zip(rows, problems, strict=True) if problem is None]
    readings = read_ahead(readable, config.images.max_pixels)
    for row, problem in zip(rows, problems, strict=True):
        if problem is not None:
            rejects.append([row["path"], "unnameable", problem])
            continue
        try:
            cut = views.of(_content(row, next(readings), rows, config.images.max_pixels), config.images)
        except ImageRejected as rejected:
            rejects.append([row["path"], rejected.reason, rejected.detail])
            continue
        except StorageFailsError as error:
            rejects.append([row["path"], STORAGE_FAILS, str(error)])
            break
        pixels += np.ascontiguousarray(cut.pixels).data
        sides.append(cut.pixels.shape[1:3])
        boxes.append(cut.boxes)
        shares += [] if cut.shares is None else [cut.shares]
        images.append([row["path"], row["id"]])
    return pa.table(
        {
            "file": [shard["file"]],
            "store": pa.array([shard["store"]], pa.int64()),
            "images": pa.array([len(rows)], pa.int64()),
            "pixels": _one_binary(np.frombuffer(pixels, np.uint8)),
            "sides": _one_binary(np.array(sides, np.int32)),
            "boxes": _one_binary(np.array(boxes, np.int32)),
            "shares": _one_binary(np.array(shares, np.float32)),
            "embedded": pa.array([images], pa.list_(pa.list_(pa.string()))),
            "rejected": pa.array([rejects], pa.list_(pa.list_(pa.string()))),
            "decoding": pa.array([time.perf_counter() - began], pa.float64()),
        }
    )


def _content(row: Mapping[str, Any], reading: Future[bytes], rows: Sequence[Mapping[str, Any]], most: int) -> bytes:
    """The bytes of an image's file, of at most ``most`` pixels.

    Raises ImageRejected, but StorageFailsError where that would say nothing about the image: since it was listed more
    are gone than it, or its storage fails for others too. What is rejected is not looked at again.
    """
    try:
        return reading.result()
    except ImageRejected as rejected:
        is_gone = rejected.reason == "missing" and is_there(row["stamp"])
        if not is_gone and not may_pass(rejected.__cause__):
            raise
        others = [other for other in rows if is_there(other["stamp"]) and other["location"] != row["location"]]
        read = [_can_be_read(other, most) for other in others[:OTHERS]]
        if is_gone and all(read):
            raise
        if is_gone:
            raise StorageFailsError(f"{row['location']}: is gone since it was listed, and so are others") from None
        if read and not any(read):
            raise StorageFailsError(f"{row['location']}: cannot be read, nor can others ({rejected.detail})") from None
    return read_content(row["location"], most)  # now that the storage answers


def _can_be_read(row: Mapping[str, Any], most: int) -> bool:
    try:
        read_content(row["location"], most)
    except ImageRejected as rejected:
        return rejected.reason not in {"missing", "unreadable"}
    return True


def _one_binary(array: np.ndarray) -> pa.Array:
    """An array as a single binary value, without a copy."""
    offsets = np.array([0, array.nbytes], np.int64)
    return pa.Array.from_buffers(
        pa.large_binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(array))]
    )


class ShardEncoder:
    """The embedding actor: encodes and commits shard after shard, with one model in memory."""

    def __init__(
        self, stores: Sequence[Store], config: Config, threads: int, may_write: Question | None = None
    ) -> None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        import torch

        torch.set_num_threads(threads)
        self.stores, self.config, self.may_write = stores, config, may_write
        self._arm: Arm | None = None
        self._encoder: Encoder | None = None
        self._unwritable = ""  # why a shard could not be read or written; those that wait would be encoded in vain
        self._ended: float | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode and commit a shard; returns file, store, numbers of images and rejects, the problem, and ``Spent``."""
        waiting = 0.0 if self._ended is None else time.perf_counter() - self._ended
        row = batch.slice(0, 1)
        images, rejected, encoding, writing = (0, 0, 0.0, 0.0) if self._unwritable else self._commit(row)
        self._ended = time.perf_counter()
        spent = Spent(row.column("decoding")[0].as_py(), waiting, encoding, writing)
        return pa.table(
            {
                "file": row.column("file"),
                "store": row.column("store"),
                "images": pa.array([images], pa.int64()),
                "rejected": pa.array([rejected], pa.int64()),
                # Not raised: Ray Data would say that a function failed, and nothing about the disk.
                "problem": [self._unwritable],
                **{name: pa.array([seconds], pa.float64()) for name, seconds in spent._asdict().items()},
            }
        )

    def _commit(self, row: pa.Table) -> tuple[int, int, float, float]:
        """Returns the numbers of images and rejects, and the seconds of encoding and of writing."""
        store = self.stores[row.column("store")[0].as_py()]
        images = [(path, name) for path, name in row.column("embedded")[0].as_py()]
        rejects = [Reject(*reject) for reject in row.column("rejected")[0].as_py()]
        if rejects and rejects[-1].reason == STORAGE_FAILS:
            self._unwritable = rejects[-1].detail
            return 0, 0, 0.0, 0.0
        encoder = self._encoder_of(store.arm)
        began = time.perf_counter()
        found = store.views.embed_all(encoder, _cuts(row, store.views.per_image), keep=store.keeps_windows)
        encoded = time.perf_counter()
        file, dtype = row.column("file")[0].as_py(), self.config.embed.storage_dtype
        path = storage.join(store.folder, file)
        try:
            with fenced(self.may_write):
                if found.kept is not None:  # first: the shard commits both
                    write_windows(windows_file(path), [name for name, _ in images], found.kept, encoder.dim)
                write_shard(path, images, found.boxes, found.vectors.reshape(-1, encoder.dim), rejects, dtype)
        except OSError as error:
            self._unwritable = f"{path}: {error.strerror or error}"
        except RunError as error:  # another run has taken the folder over
            self._unwritable = str(error)
        return len(images) + len(rejects), len(rejects), encoded - began, time.perf_counter() - encoded

    def _encoder_of(self, arm: Arm) -> Encoder:
        """The arm's encoder. Stores come arm by arm, so an actor changes its model a few times at most."""
        if self._encoder is None or self._arm != arm:
            self._encoder = None  # before the next one takes its memory
            self._arm, self._encoder = arm, arm.build(self.config.embed.batch_size, self.config.run.seed)
        return self._encoder


def _cuts(row: pa.Table, views: int) -> list[Cut]:
    """What ``decode_shard`` cut, without a copy of the pixels."""
    pixels = _array(row.column("pixels"), np.uint8)
    sides = _array(row.column("sides"), np.int32).reshape(-1, 2)
    boxes = _array(row.column("boxes"), np.int32).reshape(len(sides), views, 4)
    shares = _array(row.column("shares"), np.float32)
    shares = shares.reshape(len(sides), len(shares) // max(1, len(sides)))
    cuts, start = [], 0
    for (high, wide), image_boxes, image_shares in zip(sides.tolist(), boxes, shares, strict=True):
        stop = start + views * high * wide * 3
        view = pixels[start:stop].reshape(views, high, wide, 3)
        cuts.append(Cut(view, image_boxes, image_shares if image_shares.size else None))
        start = stop
    return cuts


def _array(column: pa.ChunkedArray, dtype: type) -> np.ndarray:
    return np.frombuffer(column.chunk(0)[0].as_buffer(), dtype)
