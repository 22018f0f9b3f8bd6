"""What a decode task hands to an actor is what the views say; no Ray is started."""

from __future__ import annotations

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
    stores: list[Any] = [SimpleNamespace(folder="/store", arm=None, views=views)]
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
