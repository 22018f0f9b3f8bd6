"""Plans of a catalogue that grows, shrinks and changes, by runs that are killed at any write; no Ray is started."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_jobs.embedding import finish_store, plan_store
from ray_jobs.run import Run
from retrieval_core.data import listing
from retrieval_core.data.plan_division import PLAN
from retrieval_core.data.shard_plan import bucket_shards, plan_file, read_shard_plan
from retrieval_core.encoding.arms import histogram_arm
from retrieval_core.files import storage, tables
from retrieval_core.store.embeddings import MANIFEST, Reject, read_manifest, read_vectors, shard_summary, write_shard
from retrieval_core.store.windows import Kept, read_windows, windows_file, windows_folder, write_windows
from tests.jobs.small_data import config

BOUND = 6
DIM = 4
PLACES = ["local", "memory"]


class Killed(BaseException):
    """No process lives on after it."""


class Writes:
    """Counts what is written to and removed from a storage, and kills the process before one of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None  # writes before the kill; None: there is none
        self.done = 0
        self._remove = storage.remove
        write = storage.atomic_write
        patch.setattr(storage, "atomic_write", lambda path: (self._pass(), write(path))[1])
        patch.setattr(storage, "remove", self.remove)

    def _pass(self) -> None:
        if self.left == self.done:
            raise Killed
        self.done += 1

    def remove(self, path: str) -> None:
        """Remove file by file, as a folder does not go at once."""
        if not storage.exists(path):
            return
        for name in [] if Path(path).suffix else storage.list_names(path):
            self.remove(storage.join(path, name))
        self._pass()
        self._remove(path)


class World:
    """A gallery of tiny files and the run folder that its runs share; encoding is a hash of path and stamp."""

    def __init__(self, place: Path, weights: Path, out: Path | str, patch: pytest.MonkeyPatch) -> None:
        self.gallery, self.clock = place / "gallery", 0
        self.gallery.mkdir(parents=True)
        keys = {"run__output_dir": str(out), "data__format": "folder", "data__gallery": self.gallery}
        self.config = config(place, weights, place, embed__shard_size=3, **keys)
        self.encoded: list[str] = []  # images of committed shards, each time they are encoded
        self.writes = Writes(patch)
        for module in (plan_store, finish_store):
            patch.setattr(module, "run_tasks", self._run_tasks)
        patch.setattr(listing, "BUCKET_ROWS", BOUND)

    @staticmethod
    def _run_tasks(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        # The last first, as tasks end in any order.
        return (function(*call) for call in reversed(list(calls)) if "queries" not in call)

    def put(self, *numbers: int) -> None:
        """Write images, new or changed ones."""
        for number in numbers:
            self.clock += 1
            file = self.gallery / f"{number}.png"
            file.write_bytes(b"x")
            os.utime(file, ns=(self.clock * 10**9, self.clock * 10**9))

    def delete(self, *numbers: int) -> None:
        """Remove images that are there."""
        for number in numbers:
            (self.gallery / f"{number}.png").unlink(missing_ok=True)

    def run(self, kill: int | None = None) -> Run | None:
        """Plan, encode and finish the gallery; None if the process is killed before that many writes were done."""
        self.writes.left, self.writes.done = kill, 0
        run = Run(self.config, accept_removals=True)
        try:
            plan_store.list_images(run)
            store = plan_store.plan_store(run, histogram_arm(self.config), "gallery")
            for shard in store.todo:
                self._encode(store, shard)
            record = {**store.inputs, "counts": finish_store.finish(store)}
            run.workspace.stage("embed.gallery.histogram", store.inputs, [], lambda: record)
        except Killed:
            return None
        finally:
            self.writes.left = None
        return run

    def _encode(self, store: plan_store.Store, shard: plan_store.Shard) -> None:
        rows = read_shard_plan(store.plan, shard.bucket, shard.number).to_pylist()
        assert len(rows) == shard.images
        good = [row for row in rows if not refused(row["path"])]
        rejects = [Reject(row["path"], "odd", row["stamp"]) for row in rows if refused(row["path"])]
        vectors = np.array([vector(row["path"], row["stamp"]) for row in good], np.float32).reshape(-1, DIM)
        images, boxes = [(row["path"], row["id"]) for row in good], np.zeros((len(good), 1, 4), np.int32)
        file = storage.join(store.folder, shard.file_name)
        write_windows(
            windows_file(file), [row["path"] for row in good], [windows_for(vector_D) for vector_D in vectors], DIM
        )
        write_shard(file, images, boxes, vectors, rejects)
        self.encoded += [f"{row['path']} {row['stamp']}" for row in rows]

    def listed(self) -> dict[str, str]:
        """Path -> stamp of what lies in the gallery."""
        files = [self.gallery / name for name in storage.list_names(str(self.gallery))]
        return {str(file): f"{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files}

    def check(self, run: Run) -> None:
        """The store and the plan are those of the gallery, and no bucket's mean is beyond the bound."""
        listed, store = self.listed(), run.store("histogram", "gallery")
        entries = read_manifest(store)["shards"]
        files = [(storage.join(store, entry["file"]), 0, entry["rows"]) for entry in entries]
        found = read_vectors(files, 1)
        names = found.paths.to_pylist()
        assert names == sorted((path for path in listed if not refused(path)), key=str.encode)
        for path, vector_1D in zip(names, found.embeddings_FRD, strict=True):
            np.testing.assert_array_equal(vector_1D[0], vector(path, listed[path]))
        rejects = [reject for file, *_ in files for reject in shard_summary(file)[1]]
        assert sorted((reject.path, reject.detail) for reject in rejects) == sorted(
            (path, stamp) for path, stamp in listed.items() if refused(path)
        )
        assert set(storage.list_names(store)) == {MANIFEST, *(entry["file"] for entry in entries)}
        assert set(storage.list_names(windows_folder(store))) == {entry["file"] for entry in entries}
        for file, _, rows in files:
            shard = tables.read_table(file)
            windows = read_windows(windows_file(file), np.arange(rows))
            for vector_D, own in zip(shard.column("embedding").to_pylist(), windows, strict=True):
                np.testing.assert_array_equal(own.windows, windows_for(np.array(vector_D)).windows)
        division = run.division("histogram", "gallery")
        assert len(listed) <= division.buckets * BOUND
        assert run.done("embed.gallery.histogram")["buckets"] == division.buckets
        plans = [tables.read_table(plan_file(division.folder, bucket)) for bucket in range(division.buckets)]
        assert sorted(path for plan in plans for path in plan.column("path").to_pylist()) == sorted(listed)
        for bucket, plan in enumerate(plans):
            names = bucket_shards([entry["file"] for entry in entries], bucket)
            inside = read_vectors([(storage.join(store, name), 0, 99) for name in names], 1).paths.to_pylist()
            assert {path for path in plan.column("path").to_pylist() if not refused(path)} == set(inside)
        kept = {PLAN, division.name} if division.name else {PLAN, *storage.list_names(division.folder)}
        assert set(storage.list_names(division.plan)) == kept
        assert storage.list_names(division.folder)[: len(plans)] == [
            f"bucket-{bucket:05d}.parquet" for bucket in range(len(plans))
        ]

    def encoded_twice(self) -> set[str]:
        """Images, as they are now, that were encoded again after they had been committed."""
        return {image for image in self.encoded if self.encoded.count(image) > 1}


def refused(path: str) -> bool:
    """Every fifth image cannot be used."""
    return int(Path(path).stem) % 5 == 3


def vector(path: str, stamp: str) -> np.ndarray:
    """What encoding an image gives."""
    digest = hashlib.sha256(f"{path} {stamp}".encode()).digest()
    return np.frombuffer(digest, np.uint8)[:DIM].astype(np.float32)


def windows_for(vector_D: np.ndarray) -> Kept:
    """One to three windows of an image that is encoded to this vector."""
    count = 1 + int(vector_D[0]) % 3
    return Kept(np.tile((vector_D - 128).astype(np.int8), (count, 1)), np.zeros((count, 4), np.int32))


@pytest.fixture
def world(
    request: pytest.FixtureRequest, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], World]:
    """Makes worlds on the storage that the parameter names."""

    def make() -> World:
        place = tmp_path / uuid4().hex
        out = f"memory://{place.name}" if request.param == "memory" else place / "out"
        monkeypatch.undo()
        return World(place, weights, out, monkeypatch)

    return make


@pytest.mark.parametrize("world", PLACES, indirect=True)
def test_growth_that_is_killed_at_any_write_encodes_nothing_again(world: Callable[[], World]) -> None:
    kill, finished = 0, None
    while finished is None:
        found = world()
        found.put(*range(6))
        first = found.run()
        assert first is not None and first.division("histogram", "gallery").buckets == 1
        found.put(*range(6, 20))
        finished = found.run(kill)
        # Other stages read the plan by what the record says; without one they do not.
        record = first.workspace.record("embed.gallery.histogram")
        assert record is None or record["buckets"] == first.division("histogram", "gallery").buckets
        again = found.run()
        assert again is not None and again.division("histogram", "gallery").buckets == 4
        found.check(again)
        assert found.encoded_twice() == set()
        kill += 1
    assert kill > 30, "the kills ended before the run did"


NUMBERS = st.integers(0, 40)
EDIT = st.tuples(st.sampled_from(["put", "delete"]), st.lists(NUMBERS, max_size=12))
ROUND = st.tuples(st.lists(EDIT, max_size=2), st.none() | st.integers(0, 60))


@pytest.mark.parametrize("world", PLACES, indirect=True)
@settings(max_examples=20)
@given(rounds=st.lists(ROUND, min_size=1, max_size=5))
def test_any_history_encodes_each_image_once(world: Callable[[], World], rounds: list[Any]) -> None:
    found = world()
    for edits, kill in [*rounds, ([], None)]:
        for action, numbers in edits:
            {"put": found.put, "delete": found.delete}[action](*numbers)
        if not found.listed():
            found.put(0)
        finished = found.run(kill)
        if finished is not None:
            found.check(finished)
        assert found.encoded_twice() == set()


def as_by_the_version_before(run: Run) -> None:
    """Make a run folder what the version before left: bucket files alone, and the listing where theirs lay."""
    work = Path(run.workspace.work())
    (work / "plan" / "histogram" / "gallery" / PLAN).unlink()
    (ours,) = (work / "listing" / "gallery").iterdir()
    for file in ours.iterdir():
        file.rename(ours.parent / file.name)
    ours.rmdir()


@pytest.mark.parametrize("world", PLACES[:1], indirect=True)
@pytest.mark.parametrize(
    ("first", "then", "buckets"),
    [(5, 5, 1), (5, 20, 4), (20, 20, 4), (20, 3, 4), (20, 24, 4), (20, 25, 8), (20, 41, 8)],
)
@pytest.mark.parametrize("stray", [0, 8], ids=["", "killed while it listed"])
def test_a_folder_of_the_version_before_goes_on(
    world: Callable[[], World], first: int, then: int, buckets: int, stray: int
) -> None:
    found = world()
    found.put(*range(first))
    run = found.run()
    assert run is not None
    as_by_the_version_before(run)
    for number in range(stray):
        (Path(run.workspace.work("listing", "gallery")) / f"listing-{number:05d}.parquet").write_bytes(b"")
    found.put(*range(first, then))
    found.delete(*range(then, first))
    again = found.run()
    assert again is not None and again.division("histogram", "gallery").buckets == buckets
    found.check(again)
    assert found.encoded_twice() == set()
    assert storage.list_names(again.workspace.work("listing", "gallery")) == [Path(again.listed["gallery"][0]).name]


@pytest.mark.parametrize("world", PLACES[:1], indirect=True)
@pytest.mark.parametrize("lost", ["work/listing", f"work/plan/histogram/gallery/{PLAN}"])
@pytest.mark.parametrize("grown", [0, 30])
def test_files_that_were_lost_cost_no_encoding(world: Callable[[], World], lost: str, grown: int) -> None:
    found = world()
    found.put(*range(5))
    found.run()
    found.put(*range(5, 20))
    run = found.run()
    assert run is not None and run.division("histogram", "gallery").name
    path = Path(run.workspace.path(lost))
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.write_bytes(path.read_bytes()[:9])
    found.put(*range(20, 20 + grown))
    again = found.run()
    assert again is not None
    found.check(again)
    assert found.encoded_twice() == set()


@pytest.mark.parametrize("world", PLACES[:1], indirect=True)
def test_a_torn_shard_alone_is_encoded_again_when_its_plan_is_divided(world: Callable[[], World]) -> None:
    found = world()
    found.put(*range(6))
    run = found.run()
    assert run is not None
    store = Path(run.store("histogram", "gallery"))
    torn, *_ = sorted(store.glob("*.parquet"))
    inside = set(tables.read_table(str(torn), columns=["path"]).column("path").to_pylist())
    inside |= {reject.path for reject in shard_summary(str(torn))[1]}
    os.truncate(torn, torn.stat().st_size // 2)
    found.put(*range(6, 13))
    again = found.run()
    assert again is not None and again.division("histogram", "gallery").buckets == 3
    found.check(again)
    assert {image.split()[0] for image in found.encoded_twice()} == inside
