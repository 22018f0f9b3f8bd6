"""The training loop: when it validates and saves, resuming bit by bit, and what is learnt."""

from __future__ import annotations

import copy
import itertools
import math
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval_core.data.datasets import DataError, Labelled
from retrieval_core.model.embedder import normalise
from retrieval_core.training.checkpoints import newest_checkpoint, save_checkpoint
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Hooks, Trainer, Worker, fit
from tests.unit.tiny_split import COLOURS, WINDOWS, make_config, make_model, make_split, save

FINGERPRINT = "0123456789abcdef"
WAYS = pytest.mark.parametrize("way", [[], WINDOWS], ids=["whole", "windows"])


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split(tmp_path_factory.mktemp("img"), queries=10, fabrics=12)


def make_trainer(split, *overrides):
    config = make_config("train.trainable_blocks=1", *overrides)
    return Trainer(config, make_model(pooling=config.model.pooling), TrainingData(config, split), Worker())


def hooks(saved=None, scores=(), done=None):
    """Hooks that keep what they are given; validation scores come from a list, then stay."""
    left = list(scores)

    def validate(trainer):
        assert not trainer.model.training
        return {"score": left.pop(0) if left else 0.5}

    return Hooks(
        save=lambda trainer: None if saved is None else saved(trainer),
        validate=validate,
        epoch_done=lambda trainer, row, best: None if done is None else done.append((row, best)),
    )


def weights_of(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


# ---- the loop


def test_the_loop_validates_saves_and_logs_when_it_should(split):
    done, steps = [], []
    trainer = make_trainer(split, "train.epochs=2", "train.checkpoint_every=2")
    fit(trainer, hooks(lambda trainer: steps.append(trainer.progress.step), [0.2, 0.4, 0.3], done))
    assert steps == [0, 2, 3, 4, 6]
    assert [(row["epoch"], row["step"], best) for row, best in done] == [(0, 0, True), (1, 3, True), (2, 6, False)]
    assert trainer.progress.best == 0.4
    assert [row["score"] for row in trainer.progress.history] == [0.2, 0.4, 0.3]
    assert math.isnan(done[0][0]["loss"])
    assert trainer.model.training


def test_the_logged_loss_is_the_mean_of_the_epoch(split):
    done = []
    fit(make_trainer(split), hooks(done=done))
    trainer = make_trainer(split)
    losses = [float(trainer.step(batch)) for batch in trainer.data.batches(0, 0)]
    assert [row["loss"] for row, _ in done[1:]] == pytest.approx([np.mean(losses[:3]), np.mean(losses[3:])], rel=1e-6)


@pytest.mark.parametrize(("steps", "rows"), [(1, [0, 1]), (3, [0, 3]), (4, [0, 3, 4]), (99, [0, 3, 6])])
def test_max_steps_ends_the_training_with_a_row(split, steps, rows):
    done = []
    trainer = make_trainer(split, f"train.max_steps={steps}")
    fit(trainer, hooks(done=done))
    assert [row["step"] for row, _ in done] == rows
    assert trainer.progress.step == rows[-1]


def test_the_random_state_of_the_surroundings_does_not_matter(split):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the state that must not matter
        trainer = make_trainer(split, "train.augmentation=reprint", "train.max_steps=2")
        fit(trainer, hooks())
        found.append(weights_of(trainer.model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@WAYS
def test_only_what_is_to_be_trained_changes(split, way):
    trainer = make_trainer(split, "train.learning_rate=1e-2", "train.max_steps=3", *way)
    before = weights_of(trainer.model)
    fit(trainer, hooks())
    # Means of patches are taken before the layer norm.
    trained = ("dinov2.encoder.layer.1.", "projection_head.", *([] if way else ["dinov2.layernorm."]))
    for name, tensor in weights_of(trainer.model).items():
        assert torch.equal(tensor, before[name]) != name.startswith(trained), name


# ---- resuming


def outcome(trainer):
    """All that a finished training leaves, but for how long it took."""
    progress = trainer.progress
    rows = [{key: value for key, value in row.items() if key != "images_per_second"} for row in progress.history]
    moments = trainer.optimiser.state_dict()["state"]
    return weights_of(trainer.model), moments, progress.step, progress.best, rows, trainer.data.rejects


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@pytest.mark.parametrize("loss", ["info_nce", "triplet"])
@WAYS
def test_a_training_resumed_at_any_step_ends_with_the_same_bytes(tmp_path, loss, way):
    split = make_split(tmp_path / "img", queries=10, fabrics=12)
    (tmp_path / "img" / "q2.png").write_bytes(b"torn")
    keys = [f"train.loss={loss}", "train.augmentation=reprint", "train.checkpoint_every=1", "train.crop_start=0.7"]
    keys += ["train.learning_rate=1e-3", "train.head_learning_rate=1e-2", "train.max_steps=5", *way]
    scores = [0.1, 0.3, 0.2]
    folders = []

    def keep(trainer):
        folders.append(str(tmp_path / f"after-{trainer.progress.step}"))
        save_checkpoint(folders[-1], trainer.progress.step, FINGERPRINT, trainer.state(), 1)

    whole = make_trainer(split, *keys)
    fit(whole, hooks(keep, scores))
    expected = outcome(whole)
    assert len(folders) == 6
    assert len(expected[5]) == 1
    for step, folder in enumerate(folders):
        state = newest_checkpoint(folder, FINGERPRINT)
        resumed = make_trainer(split, *keys)
        resumed.load_state(state)
        assert resumed.progress.step == step
        fit(resumed, hooks(scores=scores[len(state["progress"]["history"]) :]))
        found = outcome(resumed)
        for one, other in zip(found, expected, strict=True):
            assert equal(one, other), f"resumed after step {step}"


def test_a_checkpoint_carries_what_the_optimiser_learnt(split, tmp_path):
    """The comparison above could fail: weights alone do not make a resumed training."""
    keys = ["train.learning_rate=1e-3", "train.max_steps=4"]
    whole = make_trainer(split, *keys)
    states = []
    fit(whole, hooks(lambda trainer: states.append(copy.deepcopy(trainer.state()))))
    half = next(state for state in states if state["progress"]["step"] == 3)
    resumed = make_trainer(split, *keys)
    resumed.load_state(half | {"optimiser": make_trainer(split, *keys).optimiser.state_dict()})
    fit(resumed, hooks())
    assert not equal(weights_of(resumed.model), weights_of(whole.model))


def test_a_checkpoint_holds_no_frozen_weights(split):
    trainer = make_trainer(split)
    names = set(trainer.state()["model"])
    assert names == set(trainer.trained)
    assert not any(name.startswith("dinov2.embeddings.") for name in names)


# ---- what goes wrong


def test_a_loss_that_is_no_number_is_named(split):
    trainer = make_trainer(split)
    with torch.no_grad():
        trainer.model.projection_head[2].bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 0; lower train\.learning_rate"):
        fit(trainer, hooks())


def test_unreadable_images_do_not_stop_a_training(tmp_path):
    split = make_split(tmp_path / "img", queries=10, fabrics=12)
    (tmp_path / "img" / "f3.png").write_bytes(b"torn")
    trainer = make_trainer(split, "train.epochs=4")
    fit(trainer, hooks())
    assert [row[0] for row in trainer.state()["rejects"].values()] == ["img/f3.png"]


def test_a_state_is_taken_while_threads_reject_images(split):
    trainer, stop, before = make_trainer(split), threading.Event(), sys.getswitchinterval()
    rejects = trainer.data.rejects
    rejects |= {f"old-{number}": ("path", "truncated", "detail") for number in range(20_000)}  # long to go through

    def reject(thread):
        for number in itertools.count():
            rejects[f"{thread}-{number}"] = ("path", "truncated", "detail")
            if stop.wait(1e-4):
                return

    threads = [threading.Thread(target=reject, args=(thread,)) for thread in range(2)]
    sys.setswitchinterval(1e-4)
    try:
        for thread in threads:
            thread.start()
        sizes = [len(trainer.state()["rejects"]) for _ in range(30)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
    assert sizes == sorted(sizes)
    assert 20_000 < sizes[-1] <= len(rejects)


def test_a_training_without_a_readable_image_stops(tmp_path):
    split = make_split(tmp_path / "img")
    for record in split.fabrics:
        (tmp_path / "img" / record.path.removeprefix("img/")).write_bytes(b"torn")
    with pytest.raises(DataError, match="unreadable"):
        fit(make_trainer(split), hooks())


# ---- what is learnt


def recall_at_one(model, split):
    """Share of queries whose nearest fabric holds the motif, by the plain definition."""
    model.eval()
    with torch.no_grad():

        def embed(records):
            pixels = [np.asarray(Image.open(record.location).resize((28, 28))) for record in records]
            return model(normalise(torch.from_numpy(np.stack(pixels))))

        nearest = (embed(split.queries) @ embed(split.fabrics).T).argmax(dim=1)
    pairs = zip(split.queries, nearest.tolist(), strict=True)
    return np.mean([bool(set(query.categories) & set(split.fabrics[row].categories)) for query, row in pairs])


def test_an_easy_problem_is_learnt(tmp_path):
    """Queries and fabrics of one colour each: the loss falls to what masking leaves, and every query finds its own."""
    listed = Labelled([], [])
    for number, (name, colour) in enumerate(list(COLOURS.items()) * 2):
        pixels = np.full((28, 28, 3), colour, np.uint8)
        listed.queries.append(save(tmp_path / f"q{number}.png", pixels, name))
        listed.fabrics.append(save(tmp_path / f"f{number}.png", pixels[:, ::-1] // 2, name))
    keys = ["train.learning_rate=1e-3", "train.head_learning_rate=1e-2", "train.batch_size=8", "train.epochs=25"]
    trainer = make_trainer(listed, *keys, "train.loss=info_nce", "train.warmup_steps=3")
    done = []
    fit(trainer, hooks(done=done))
    losses = [row["loss"] for row, _ in done[1:]]
    assert losses[-1] < 0.2 * losses[0]
    assert losses[-1] < 0.2
    assert recall_at_one(trainer.model, listed) == 1.0
