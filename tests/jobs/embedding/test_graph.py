"""All stores share one graph; shards that finish early count for their own store. No Ray is started."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from ray.exceptions import WorkerCrashedError

from ray_jobs.cluster.connect import Resources
from ray_jobs.console.progress import Watch
from ray_jobs.embedding import graph
from retrieval_core.config.config import load_config
from retrieval_core.files import storage
from retrieval_core.run.workspace import RunError

IMAGES = 4


def store(role: str, shards: int) -> Any:
    views = SimpleNamespace(per_image=1, image_size=28)
    arm = SimpleNamespace(name="frozen")
    return SimpleNamespace(
        role=role, folder=f"/{role}", arm=arm, views=views, todo=[SimpleNamespace(images=IMAGES)] * shards
    )


def row(place: int, problem: str = "") -> dict[str, Any]:
    seconds = {"decoding": 1.0, "waiting": 0.0, "encoding": 1.0, "writing": 0.0}
    return {"store": place, "images": IMAGES, "rejected": 1, "problem": problem, **seconds}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    monkeypatch.setattr(graph, "nodes", lambda: [Resources(2.0, 0)])
    monkeypatch.setattr(graph, "watch", lambda *_: Watch(0, str))
    monkeypatch.setattr(graph, "gauges", SimpleNamespace(**{name: _Sink() for name in GAUGES}, Tags=lambda *_: None))
    yield []


GAUGES = ("EMBEDDED", "REJECTED", "IMAGES_PER_SECOND", "ACTORS_BUSY")


class _Sink:
    def add(self, *_: Any) -> None: ...

    set = add


def started(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], asked: list[int]) -> graph.EmbeddingGraph:
    def iter_rows() -> Iterator[dict[str, Any]]:
        for value in rows:
            asked.append(value["store"])
            yield value

    monkeypatch.setattr(graph.EmbeddingGraph, "_dataset", lambda _: SimpleNamespace(iter_rows=iter_rows))
    run: Any = SimpleNamespace(config=load_config(None, []), resources=Resources(2.0, 0))
    return graph.EmbeddingGraph(run, [store("gallery", 3), store("queries", 1)])


def test_a_store_takes_results_until_it_is_complete(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    found = started(monkeypatch, [row(0), row(1), row(0), row(0)], asked)
    assert asked == []
    facts = found.complete(found.stores[0])
    assert asked == [0, 1, 0, 0]
    assert (facts["encoded"], found.finished["/queries"]) == (16, 4)
    assert found.complete(found.stores[1])["encoded"] == 0
    found.run_to_end()
    assert found.time.images == 4 * (IMAGES - 1)


def test_what_no_store_waited_for_runs_to_the_end(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    found = started(monkeypatch, [row(0), row(1), row(0), row(0)], asked)
    found.complete(found.stores[1])
    assert asked == [0, 1]
    found.run_to_end()
    assert asked == [0, 1, 0, 0]


@pytest.mark.parametrize("last", ["complete", "run_to_end"])
def test_a_shard_that_could_not_be_written_ends_it(
    monkeypatch: pytest.MonkeyPatch, asked: list[int], last: str
) -> None:
    found = started(monkeypatch, [row(0), row(0, "/gallery/x: No space left on device"), row(0)], asked)
    with pytest.raises(RunError, match=r"/gallery/x: No space left on device; see to that"):
        found.complete(found.stores[0]) if last == "complete" else found.run_to_end()
    assert asked == [0, 0]


def test_shards_that_kill_every_worker_are_named(monkeypatch: pytest.MonkeyPatch, asked: list[int]) -> None:
    def iter_rows() -> Iterator[dict[str, Any]]:
        yield row(0)
        raise WorkerCrashedError

    embedding = started(monkeypatch, [], asked)
    embedding.stores[0].todo[:] = [
        SimpleNamespace(images=IMAGES, file_name=f"{n}.parquet", bucket=0, number=n) for n in range(5)
    ]
    embedding.stores[0].plan = embedding.stores[1].plan = "/plan"
    embedding.stores[1].todo[:] = []
    monkeypatch.setattr(graph.EmbeddingGraph, "_dataset", lambda _: SimpleNamespace(iter_rows=iter_rows))
    monkeypatch.setattr(storage, "list_names", lambda _: ["0.parquet"])
    monkeypatch.setattr(graph, "read_shard_plan", lambda _, __, number: pa.table({"path": [f"f{number}.png", "z.png"]}))
    with pytest.raises(RunError, match=r"1\.parquet \(from f1\.png on\) or 2.* or 3.* or one after it has killed its"):
        embedding.complete(embedding.stores[0])
