"""The activation cache: the same training with and without it, nothing computed twice, bounded, and safe to lose."""

from __future__ import annotations

import contextlib
import copy
import errno
import os

import numpy as np
import pytest
import torch

from retrieval_core.model.embedder import normalise, set_trainable
from retrieval_core.training import loader
from retrieval_core.training.activation_cache import ActivationCache, FrozenBlocks, Part, ViewKey
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Hooks, Trainer, Worker, fit
from tests.unit.tiny_split import WINDOWS, make_config, make_model, make_split

SHAPE = (3, 4)
BYTES = 3 * 4 * 4
QUERY_BYTES, FABRIC_BYTES = 5 * 32 * 4, 17 * 32 * 4
"""Tokens of the tiny model: CLS and 2 x 2 patches of a view without windows and of a query, 4 x 4 of a fabric."""
PARTS = [*WINDOWS, "train.augmentation=reprint", "train.crop_start=0.5", "train.crop_end=[0.5, 1]"]
WAYS = pytest.mark.parametrize("way", [[], WINDOWS, PARTS], ids=["whole", "windows", "parts"])
CACHED, PLAIN = "train.cache_activations=true", "train.cache_activations=false"
RATES = ["train.learning_rate=1e-3", "train.head_learning_rate=5e-3", "train.warmup_steps=2"]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split(tmp_path_factory.mktemp("img"), queries=10, fabrics=12)


def make_trainer(split, *overrides):
    config = make_config("train.trainable_blocks=1", "train.margin=0.5", *RATES, *overrides)
    return Trainer(config, make_model(pooling=config.model.pooling), TrainingData(config, split), Worker())


def hooks(save=lambda trainer: None):
    return Hooks(save=save, validate=lambda trainer: {"score": 0.5}, epoch_done=lambda trainer, row, best: None)


def trained(trainer, save=lambda trainer: None):
    fit(trainer, hooks(save))
    return torch.cat([parameter.detach().flatten() for parameter in trainer.trained.values()])


def distance(found, expected):
    return float((found - expected).norm() / expected.norm())


# ---- the same training


@pytest.fixture
def one_thread():
    """On more threads products are rounded in other ways, and AdamW's first steps, which divide by the gradient's own
    size, make 1e-4 of the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rounds_alike(model):
    """Whether this processor gives a view the same bits alone and in a batch; with AVX-512 it does not."""
    for side in (28, 56):
        views = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 3, side, side), np.float32))
        with torch.no_grad():
            together = model.tokens_before(1, views)
            if not all(torch.equal(model.tokens_before(1, views[:few]), together[:few]) for few in range(1, 6)):
                return False
    return True


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("loss", ["triplet", "info_nce"])
@WAYS
def test_a_training_with_the_cache_is_the_one_without(split, loss, way):
    keys = [f"train.loss={loss}", "train.epochs=7", *way]
    plain, cached = make_trainer(split, *keys, PLAIN), make_trainer(split, *keys, CACHED)
    expected, found = trained(plain), trained(cached)
    assert cached.progress.step == plain.progress.step == 21
    assert len(cached.data.cache) > 18
    start = make_trainer(split, *keys)
    moved = distance(torch.cat([p.detach().flatten() for p in start.trained.values()]), expected)
    assert moved > 1e-2
    assert distance(found, expected) < (1e-5 if rounds_alike(start.model) else moved / 100)
    for one, other in zip(cached.progress.history[1:], plain.progress.history[1:], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


@WAYS
def test_batches_with_and_without_the_cache_show_the_same(split, way):
    plain, cached = make_trainer(split, PLAIN, *way), make_trainer(split, CACHED, *way)
    for one, other in zip(plain.data.batches(0, 0), cached.data.batches(0, 0), strict=True):
        for part, of_other in zip(one.parts, other.parts, strict=True):
            np.testing.assert_array_equal(part.views, of_other.views)  # nothing was put, so all is decoded
        np.testing.assert_array_equal(one.held, other.held)
    fit(cached, hooks())
    for one, other in zip(plain.data.batches(0, 0), cached.data.batches(0, 0), strict=True):
        assert all(len(part.views) == 0 for part in other.parts)
        np.testing.assert_array_equal(one.held, other.held)
        for part, of_other in zip(one.parts, other.parts, strict=True):
            assert part.keys == of_other.keys
            np.testing.assert_array_equal(part.shares, of_other.shares)
        assert [part.shares is not None for part in other.parts] == [bool(way), False]


@pytest.mark.parametrize("loss", ["triplet", "info_nce"])
@WAYS
def test_a_training_resumed_at_any_epoch_ends_with_the_same_bytes(tmp_path, loss, way):
    split = make_split(tmp_path / "img", queries=10, fabrics=12)
    (tmp_path / "img" / "q2.png").write_bytes(b"torn")
    keys = [CACHED, f"train.loss={loss}", "train.epochs=4", "train.checkpoint_every=2", *way]
    states = []
    expected = trained(make_trainer(split, *keys), lambda trainer: states.append(copy.deepcopy(trainer.state())))
    assert len({state["progress"]["step"] for state in states}) > 5
    for state in states:
        resumed = make_trainer(split, *keys)
        resumed.load_state(state)
        assert torch.equal(trained(resumed), expected), state["progress"]["step"]


@pytest.mark.parametrize("capacity", [0, 1, 9])
def test_a_full_cache_costs_time_and_changes_nothing(split, capacity):
    expected = trained(make_trainer(split, CACHED))
    small = make_trainer(split, CACHED, f"train.cache_max_gb={(capacity * QUERY_BYTES + 1) / 1e9}")
    assert torch.equal(trained(small), expected)
    assert len(small.data.cache) == capacity


@pytest.mark.parametrize(("limit", "views"), [(1, 0), (QUERY_BYTES, 1), (4 * QUERY_BYTES + 3 * FABRIC_BYTES, 7)])
def test_a_full_cache_changes_nothing_with_windows_either(split, limit, views):
    expected = trained(make_trainer(split, CACHED, *WINDOWS))
    small = make_trainer(split, CACHED, *WINDOWS, f"train.cache_max_gb={(limit + 1) / 1e9}")
    assert torch.equal(trained(small), expected)
    assert small.data.cache.full and small.data.cache.size <= limit + 1
    assert len(small.data.cache) == views


# ---- nothing twice


@WAYS
def test_a_view_goes_through_the_frozen_blocks_once(split, monkeypatch, way):
    trainer = make_trainer(split, CACHED, "train.epochs=9", *way)
    seen = []
    whole = trainer.model.tokens_before

    def counted(block, pixels):
        assert not torch.is_grad_enabled()
        seen.extend(row.numpy().tobytes() for row in pixels)
        return whole(block, pixels)

    monkeypatch.setattr(trainer.model, "tokens_before", counted)
    monkeypatch.setattr(trainer.model, "features", lambda *inputs: pytest.fail("the whole network was called"))
    fit(trainer, hooks())
    assert len(seen) == len(set(seen)) == len(trainer.data.cache) < trainer.data.schedule.total * 4


@WAYS
def test_a_cached_view_is_not_decoded(split, monkeypatch, way):
    decoded = []
    read = loader.read_content

    def counted(location, max_pixels):
        decoded.append(location)
        return read(location, max_pixels)

    monkeypatch.setattr(loader, "read_content", counted)
    trainer = make_trainer(split, CACHED, "train.epochs=30", "train.loss=triplet", *way)
    after = []
    fit(trainer, hooks(lambda trainer: after.append(len(decoded))))
    views = len(trainer.data.cache)
    assert views == 10 + 12 * (2 if way == PARTS else 1)  # fabrics also reprinted
    # Three batches are decoded ahead of the step that stores them.
    assert views <= len(decoded) <= views + 3 * 12
    assert after[-1] == after[-10]
    assert trainer.frozen.cache.computed == views


@WAYS
def test_a_batch_says_what_it_holds(split, way):
    trainer = make_trainer(split, CACHED, "train.epochs=40", *way)
    for batch in trainer.data.batches(0, 0):
        trainer.step(batch)
        assert batch.images == sum(len(part.cached) for part in batch.parts) == 2 * len(batch.queries)
        for part in batch.parts:
            assert len(part.views) == (~part.cached).sum() and len(part.tokens) == part.cached.sum()
        queries, positives = batch.parts
        assert [(key.kind, key.row) for key in queries.keys] == [("query", row) for row in batch.queries]
        assert [(key.kind, key.row) for key in positives.keys] == [("fabric", row) for row in batch.positives]
    assert all(part.cached.all() for part in batch.parts)


def test_tokens_come_in_the_order_of_the_keys_wherever_they_are_from():
    """Of seven views the loader had two, the cache got one since, and one is there twice."""
    model, cache = make_model(), ActivationCache(10**6)
    frozen = FrozenBlocks(model, 1, cache, torch.device("cpu"), contextlib.nullcontext)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (6, 28, 28, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = [model.tokens_before(1, normalise(torch.from_numpy(view[None])))[0].numpy() for view in pixels]
    rows = [3, 0, 5, 0, 2, 1, 4]
    known = np.array([row in (3, 2) for row in rows])
    cache.put(ViewKey("fabric", 5), expected[5])
    part = Part(
        views=np.stack([pixels[row] for row, here in zip(rows, known, strict=True) if not here]),
        keys=tuple(ViewKey("fabric", row) for row in rows),
        cached=known,
        tokens=np.stack([expected[3], expected[2]]),
    )
    np.testing.assert_array_equal(frozen.tokens(part), np.stack([expected[row] for row in rows]))
    assert (cache.read, cache.computed, len(cache)) == (3, 3, 4)


# ---- the network cut in two


@pytest.mark.parametrize("pooling", ["cls", "cls_mean", "cls_plus_mean"])
@pytest.mark.parametrize("block", [0, 1, 2])
def test_both_parts_are_the_whole_network(pooling, block):
    model = make_model()
    model.pooling, model.projection_head = pooling, None
    pixels = normalise(torch.randint(0, 256, (3, 28, 28, 3), dtype=torch.uint8))
    tokens = model.tokens_before(block, pixels)
    assert tokens.shape[1:] == ((1, 32) if pooling == "cls" and block == 2 else (5, 32))
    assert torch.equal(model(tokens, first_block=block), model(pixels))


@pytest.mark.parametrize("block", [0, 1, 2])
def test_both_parts_are_the_whole_network_with_windows(block):
    model = make_model(pooling="patches")
    pixels = normalise(torch.randint(0, 256, (3, 56, 28, 3), dtype=torch.uint8))
    weights = torch.rand(5, 8)
    tokens = model.tokens_before(block, pixels)
    assert tokens.shape[1:] == (9, 32)
    assert torch.equal(model(tokens, weights, block), model(pixels, weights))


def test_frozen_parts_are_not_disturbed_by_dropout():
    model = make_model()
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.5
    set_trainable(model, 1)
    assert model.train().training
    layers = model.dinov2.encoder.layer
    assert [model.dinov2.embeddings.training, layers[0].training, layers[1].training] == [False, False, True]
    set_trainable(model, "all")
    model.train()
    assert all(part.training for part in model.modules())


# ---- the file


def put(cache, row):
    key = ViewKey("fabric", row)
    cache.put(key, np.full(SHAPE, row, np.float32))
    return key


def test_what_was_put_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    cache = ActivationCache(10 * BYTES)
    keys = [put(cache, row) for row in range(5)]
    put(cache, 2)
    assert len(cache) == 5
    for row, key in enumerate(keys):
        tokens = cache.get(key)
        assert tokens.dtype == np.float32 and tokens.shape == SHAPE
        assert (tokens == row).all()
    assert cache.get(ViewKey("fabric", 9)) is cache.get(ViewKey("query", 0)) is None
    assert list(tmp_path.iterdir()) == []  # nothing is left behind whatever happens to the process


def test_tokens_of_many_shapes_lie_in_one_file():
    cache = ActivationCache(10**6)
    rng = np.random.default_rng(0)
    shapes = [(5, 4), (17, 4), (5, 4), (1, 4), (9, 4)]
    expected = {ViewKey("fabric", row): rng.random(shape, np.float32) for row, shape in enumerate(shapes)}
    for key, tokens in expected.items():
        cache.put(key, tokens)
    for key, tokens in expected.items():
        np.testing.assert_array_equal(cache.get(key), tokens)
    assert cache.size == os.fstat(cache._file.fileno()).st_size == 4 * 4 * (5 + 17 + 5 + 1 + 9)


def test_the_limit_is_kept():
    cache = ActivationCache(3 * BYTES + 1)
    keys = [put(cache, row) for row in range(5)]
    assert [cache.get(key) is not None for key in keys] == [True, True, True, False, False]
    assert os.fstat(cache._file.fileno()).st_size == 3 * BYTES
    assert "3 views, 0.00 GB" in cache.report() and "full" in cache.report()


def test_a_full_disk_ends_the_growth_with_a_line(monkeypatch, caplog):
    cache = ActivationCache(9 * BYTES)
    kept = put(cache, 0)

    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    lost = [put(cache, row) for row in (1, 2)]
    assert cache.get(kept) is not None and all(cache.get(key) is None for key in lost)
    assert sum("No space left" in record.getMessage() for record in caplog.records) == 1


def test_a_short_write_is_not_taken_for_a_view(monkeypatch):
    cache = ActivationCache(9 * BYTES)
    monkeypatch.setattr(os, "pwrite", lambda *arguments: BYTES - 1)
    assert cache.get(put(cache, 0)) is None


def test_the_report_says_how_much_was_read(split):
    trainer = make_trainer(split, CACHED, "train.epochs=3")
    fit(trainer, hooks())
    cache = trainer.frozen.cache
    read, computed = cache.read, cache.computed
    assert computed == len(cache)
    text = cache.report()
    assert f"{len(cache)} views" in text and f"{read / (read + computed):.0%} of the views" in text
    assert cache.size == len(cache) * QUERY_BYTES
    assert "0% of the views" in cache.report()
