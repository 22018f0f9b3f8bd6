"""An embedding actor that cannot write a shard encodes no further one; no Ray is started."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ray_jobs.embedding import shard_work
from retrieval_core.config.config import load_config
from retrieval_core.encoding.views import Embedded


def shard(name: str) -> pa.Table:
    """What decoding hands on of a shard in which no image could be read."""
    texts = pa.list_(pa.list_(pa.string()))
    types = {"pixels": np.uint8, "sides": np.int32, "boxes": np.int32, "shares": np.float32}
    empty = {part: shard_work._one_binary(np.zeros(0, dtype)) for part, dtype in types.items()}
    numbers = {"store": [0], "images": [0], "decoding": [0.5]}
    rows = {"embedded": pa.array([[]], texts), "rejected": pa.array([[]], texts)}
    return pa.table({"file": [name], **numbers, **empty, **rows})


def test_no_shard_is_encoded_after_one_that_could_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def full(path: str, *_: Any) -> None:
        tried.append(path)
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(shard_work, "write_shard", full)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    nothing = Embedded(np.zeros((0, 1, 3), np.float32), np.zeros((0, 1, 4), np.int32))
    views = SimpleNamespace(per_image=1, embed_all=lambda *_, **__: nothing)
    stores: list[Any] = [SimpleNamespace(folder="/store", arm=None, views=views, keeps_windows=False)]
    actor = shard_work.ShardEncoder(stores, load_config(None, []), 1)
    monkeypatch.setattr(actor, "_encoder_of", lambda _: SimpleNamespace(dim=3))
    found = [actor(shard(name)).to_pylist()[0]["problem"] for name in ("a.parquet", "b.parquet")]
    assert found == ["/store/a.parquet: No space left on device"] * 2
    assert tried == ["/store/a.parquet"]
