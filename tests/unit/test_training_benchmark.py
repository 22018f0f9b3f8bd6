"""The training benchmark measures what it says: equal arithmetic, real caching, medians of paired turns."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import training
from plain_training import PlainLoop, PublishedLoop, ShortLoop
from training_cases import MINIATURE, Case, make_trainer, pictures, settings, shaped

CASE = Case("miniature", 28, 2, 3, lambda: shaped(MINIATURE))


@pytest.fixture(scope="module")
def result():
    return training.measure(training.parse(["--quick", "--repeats", "3"]))


def test_the_result_is_plain_figures(result):
    assert result["ratios"].keys() == {"train_vs_plain", "train_vs_short", "train_cached_vs_plain"}
    assert all(ratio > 0 for ratio in result["ratios"].values())
    base = result["raw"]["base"]
    ways = {"plain", "short", "published", "ours", "storing", "cached"}
    assert base["turns"].keys() == base["images_per_second"].keys() == base["against_plain"].keys() == ways
    assert all(len(turns) == 3 for turns in base["turns"].values())
    assert base["cached_ceiling"] == pytest.approx(7 / 6)
    assert result["raw"]["workers"].keys() == {"1"}
    json.dumps(result, allow_nan=False)


def test_a_ratio_is_the_median_of_the_turns(result):
    turns = result["raw"]["base"]["turns"]
    paired = sorted(cached / plain for cached, plain in zip(turns["cached"], turns["plain"], strict=True))
    assert result["ratios"]["train_cached_vs_plain"] == pytest.approx(paired[1] / (7 / 6))


@pytest.mark.parametrize("loop", [PlainLoop, ShortLoop, PublishedLoop])
def test_the_plain_loops_train_what_ours_does(tmp_path, loop):
    rates = ["train.learning_rate=1e-4", "train.head_learning_rate=1e-3"]
    ours = make_trainer(CASE, pictures(CASE, tmp_path), *rates)
    plain = loop(ours.model.dinov2, ours.model.projection_head, settings(CASE, *rates).train)
    start = copy.deepcopy(list(plain.trained()))
    for batch in ours.data.batches(0, 0):
        views = torch.from_numpy(np.concatenate([part.views for part in batch.parts]))
        assert plain.step(views) == pytest.approx(float(ours.step(batch)), rel=1e-4)
        if batch.step == 4:
            break
    for expected, before, found in zip(plain.trained(), start, ours.trained.values(), strict=True):
        assert not torch.equal(before, expected)
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-3, atol=2e-5)


def test_later_epochs_decode_nothing_and_the_first_one_stores_everything(tmp_path):
    trainer = make_trainer(CASE, pictures(CASE, tmp_path), "train.cache_activations=true")
    stream = training.later_epochs(trainer)
    for _ in range(5):
        batch = next(stream)
        assert all(part.cached.all() and len(part.views) == 0 for part in batch.parts)
    stream.close()
    memory = make_trainer(CASE, pictures(CASE, tmp_path)).data.batches(0, 0)
    for _ in range(2):
        trainer.step(training.first_epoch(trainer, next(memory)))
        assert (trainer.frozen.cache.computed, len(trainer.frozen.cache)) == (6, 6)
    memory.close()


def test_the_clock_of_a_turn_covers_all_its_steps(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(training.time, "process_time", lambda: clock["now"] / 2)

    def takes(seconds):
        return lambda step: clock.update(now=clock["now"] + seconds)

    by_clock, by_cpu = training.take_turns({"plain": takes(2), "ours": takes(1)}, steps=3, repeats=2, images=4)
    assert by_clock == {"plain": [2.0, 2.0], "ours": [4.0, 4.0]}
    assert by_cpu == {"plain": [4.0, 4.0], "ours": [8.0, 8.0]}
    assert training.versus_plain(by_clock) == {"plain": [1.0, 1.0], "ours": [2.0, 2.0]}
