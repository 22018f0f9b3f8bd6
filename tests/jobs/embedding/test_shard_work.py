"""What a decode task hands to an actor is what the views say; no Ray is started."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ray_jobs.embedding import shard_work
from retrieval_core.config.config import Config
from retrieval_core.config.sections import ROLES, Role
from retrieval_core.data.listing import write_listing
from retrieval_core.data.records import Record
from retrieval_core.data.shard_plan import plan_bucket, write_plan
from retrieval_core.encoding.views import Views, views_of
from retrieval_core.files import retries
from retrieval_core.images import decoding
from tests.jobs.small_data import config

WAYS: dict[str, dict[str, Any]] = {
    "cls": {"embed__regions": [1, 2]},
    "patches": {"model__pooling": "patches", "embed__fabric_size": 84, "embed__vectors": 3},
}
SHAPES = [(32, 32), (96, 32), (32, 96), (32, 44), (33, 31)]


def images(folder: Path, *, readable: bool) -> list[Path]:
    """Noise of several proportions, every other one with a hole, and a torn file; or torn files only."""
    rng, files = np.random.default_rng(0), []
    for number, (high, wide) in enumerate(SHAPES):
        files.append(folder / f"{number}.png")
        pixels = rng.integers(0, 256, (high, wide, 4 - number % 2), dtype=np.uint8)
        pixels[..., 3:] = 255
        pixels[: high // 2, : wide // 2, 3:] = 0
        Image.fromarray(pixels).save(files[-1])
        if not readable or number == 3:
            files[-1].write_bytes(b"torn")
    return files


def decoded(files: list[Path], folder: Path, views: Views, settings: Config) -> pa.Table:
    """The one shard of all files."""
    listing, plan = str(folder / "listing"), str(folder / "plan")
    write_listing((Record(file.name, str(file), (), ()) for file in files), listing, 1)
    table, summary, _ = plan_bucket(listing, plan, 0, images_per_shard=99, encoder="", keep_order=True)
    write_plan(plan, 0, table)
    (shard,) = summary.shards
    stores: list[Any] = [SimpleNamespace(plan=plan, views=views)]
    row = {"store": [0], "bucket": [0], "number": [shard.number], "file": [shard.file_name]}
    return shard_work.decode_shard(pa.table(row), stores, settings)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("role", ROLES)
def test_an_actor_gets_the_views_of_every_readable_image(weights: Path, tmp_path: Path, way: str, role: Role) -> None:
    settings = config(tmp_path, weights, tmp_path / "out", **WAYS[way])
    views = views_of(settings, settings.model, role)
    files = images(tmp_path, readable=True)
    row = decoded(files, tmp_path, views, settings)
    assert [name for name, _ in row.column("embedded")[0].as_py()] == ["0.png", "1.png", "2.png", "4.png"]
    assert [reject[:2] for reject in row.column("rejected")[0].as_py()] == [["3.png", "not_an_image"]]
    found = shard_work._cuts(row, views.per_image)
    expected = [views.of(file.read_bytes(), settings.images) for file in files if file.name != "3.png"]
    for cut, of_views in zip(found, expected, strict=True):
        np.testing.assert_array_equal(cut.pixels, of_views.pixels)
        np.testing.assert_array_equal(cut.boxes, of_views.boxes)
        assert (cut.shares is None) == (of_views.shares is None) == (way == "cls" or role == "gallery")
        if cut.shares is not None:
            np.testing.assert_array_equal(cut.shares, of_views.shares)
    shapes = {cut.pixels.shape[1:3] for cut in found}
    assert shapes == {(84, 84), (140, 42), (42, 140)} if (way, role) == ("patches", "gallery") else {(28, 28)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("role", ROLES)
def test_a_shard_without_a_readable_image_is_one_of_rejects(
    weights: Path, tmp_path: Path, way: str, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, weights, tmp_path / "out", **WAYS[way])
    views = views_of(settings, settings.model, role)
    row = decoded(images(tmp_path, readable=False), tmp_path, views, settings)
    assert shard_work._cuts(row, views.per_image) == []
    written: list[Any] = []
    monkeypatch.setattr(shard_work, "write_shard", lambda *values: written.append(values))
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stores: list[Any] = [SimpleNamespace(folder="/store", arm=None, views=views, keeps_windows=False)]
    actor = shard_work.ShardEncoder(stores, settings, 1)
    monkeypatch.setattr(actor, "_encoder_of", lambda _: _of_nothing())
    (done,) = actor(row).to_pylist()
    assert (done["images"], done["rejected"], done["problem"]) == (5, 5, "")
    ((_, kept, boxes, embeddings, rejects, _),) = written
    assert kept == [] and len(rejects) == 5
    assert boxes.shape == (0, views.rows, 4) and embeddings.shape == (0, 16)


def _of_nothing() -> Any:
    """An encoder that is given no image."""

    def encode(images: list[np.ndarray], *_: Any) -> np.ndarray:
        assert len(images) == 0
        return np.zeros((0, 16), np.float32)

    return SimpleNamespace(dim=16, encode=encode, encode_motifs=encode)


# ---- storage that fails while it is read


def failing(monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int], OSError | None]) -> None:
    """``fails(name, times)`` is what the read of a file raises that was read ``times`` times before."""
    read, times = decoding._read_up_to, Counter[str]()

    def read_or_fail(location: str, limit: int) -> bytes | None:
        name = Path(location).name
        times[name] += 1
        if (error := fails(name, times[name] - 1)) is not None:
            raise error
        return read(location, limit)

    monkeypatch.setattr(decoding, "_read_up_to", read_or_fail)
    monkeypatch.setattr(retries, "_WAITS", (0.0, 0.0))


BUSY, STALE = OSError(errno.EIO, "Input/output error"), OSError(errno.ESTALE, "Stale file handle")
DENIED, GONE = PermissionError(errno.EACCES, "Permission denied"), FileNotFoundError(errno.ENOENT, "No such file")
FAILS = shard_work.STORAGE_FAILS
ALL = ["0.png", "1.png", "2.png", "4.png"]  # the other one is torn
OUTAGES: dict[str, tuple[Callable[[str, int], OSError | None], list[str], str]] = {
    "one bad file": (lambda name, _: BUSY if name == "1.png" else None, ["0.png", "2.png", "4.png"], "unreadable"),
    "one forbidden file": (
        lambda name, _: DENIED if name == "1.png" else None,
        ["0.png", "2.png", "4.png"],
        "unreadable",
    ),
    "two bad files": (lambda name, _: STALE if name in "0.png 1.png" else None, ["2.png", "4.png"], "unreadable"),
    "a moment": (lambda _, times: BUSY if times < 2 else None, ALL, ""),
    "longer than the retries of one": (lambda name, times: BUSY if name == "1.png" and times < 5 else None, ALL, ""),
    "nothing answers": (lambda *_: BUSY, [], FAILS),
    "nothing answers any more": (
        lambda name, times: STALE if name > "0.png" or times else None,
        ["0.png"],
        FAILS,
    ),
    "one is gone": (lambda name, _: GONE if name == "2.png" else None, ["0.png", "1.png", "4.png"], "missing"),
    "half are gone": (lambda name, _: GONE if name in "2.png 4.png" else None, ["0.png", "1.png"], FAILS),
    "all are gone": (lambda *_: GONE, [], FAILS),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_storage_that_fails_rejects_no_image(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    """A bad file is rejected, in whatever company; if others fail as well, the shard is left for the next run."""
    fails, embedded, reason = OUTAGES[outage]
    settings = config(tmp_path, weights, tmp_path / "out")
    files = images(tmp_path, readable=True)
    failing(monkeypatch, fails)
    row = decoded(files, tmp_path, views_of(settings, settings.model, "gallery"), settings)
    rejects = row.column("rejected")[0].as_py()
    assert [name for name, _ in row.column("embedded")[0].as_py()] == embedded
    assert reason in {*[each[1] for each in rejects], ""}
    assert (rejects[-1][1] == FAILS if rejects else False) == (reason == FAILS)


def test_an_image_that_was_not_there_when_it_was_listed_is_missing(weights: Path, tmp_path: Path) -> None:
    settings = config(tmp_path, weights, tmp_path / "out")
    files = [*images(tmp_path, readable=True), tmp_path / "never.png"]
    row = decoded(files, tmp_path, views_of(settings, settings.model, "gallery"), settings)
    assert [each[:2] for each in row.column("rejected")[0].as_py()][1:] == [["never.png", "missing"]]


def test_a_shard_whose_storage_failed_is_not_committed(weights: Path, tmp_path: Path, monkeypatch: Any) -> None:
    settings = config(tmp_path, weights, tmp_path / "out")
    views = views_of(settings, settings.model, "gallery")
    failing(monkeypatch, lambda *_: BUSY)
    row = decoded(images(tmp_path, readable=True), tmp_path, views, settings)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stores: list[Any] = [SimpleNamespace(folder=str(tmp_path / "store"), arm=None, views=views, keeps_windows=False)]
    (done,) = shard_work.ShardEncoder(stores, settings, 1)(row).to_pylist()
    assert done["problem"].startswith(f"{tmp_path}/0.png: cannot be read, nor can others (")
    assert (done["images"], done["rejected"]) == (0, 0)
    assert not (tmp_path / "store").exists()
