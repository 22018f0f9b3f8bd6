"""Training with windows: the loss by its definition, crops that keep their scale, and what is learnt.

Shapes: D width of embeddings, W windows of a fabric, V vectors that a run would store of it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from retrieval_core.data.datasets import Labelled
from retrieval_core.model.clusters import cluster
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Hooks, Trainer, Worker, fit
from retrieval_core.training.validation import Validator
from tests.unit.plain_windows import cut_patches_of, embedding_of, mean_by, patches_of
from tests.unit.tiny_split import COLOURS, WINDOWS, make_config, make_model, make_split, save

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split(tmp_path_factory.mktemp("img"), queries=10, fabrics=12)


def make_trainer(split, *overrides):
    config = make_config("train.trainable_blocks=1", *WINDOWS, *overrides)
    return Trainer(config, make_model(pooling="patches"), TrainingData(config, split), Worker())


# ---- the loss


def motifs_of(model, part):
    """(D,) of each query."""
    pairs = zip(part.views, part.shares, strict=True)
    return [embedding_of(model, mean_by(shares, patches_of(model, view).flatten(0, 1))) for view, shares in pairs]


def windows_of(model, view, cut):
    """(W, D) of the windows of a square fabric: 2 x 2 patches from every patch on, or the one patch that there is."""
    patches = patches_of(model, view) if cut is None else cut_patches_of(model, view, cut.tolist())
    side = min(2, len(patches))
    starts = range(len(patches) - side + 1)
    means = [patches[y : y + side, x : x + side].mean(dim=(0, 1)) for y in starts for x in starts]
    return torch.stack([embedding_of(model, mean) for mean in means])


def seen_of(part):
    """View and cut of each fabric."""
    return zip(part.views, [None] * len(part.views) if part.cuts is None else part.cuts, strict=True)


def similarity(query, fabric):
    """The highest cosine of a query and one of a fabric's vectors."""
    return max(float(query @ vector) for vector in fabric)


def naive_info_nce(queries, fabrics, holds, temperature):
    """Double loop over the definition."""
    count = len(queries)
    scores = [[similarity(query, fabric) / temperature for fabric in fabrics] for query in queries]
    total = 0.0
    for i in range(count):
        row = [scores[i][j] for j in range(count) if j == i or not holds[i][j]]
        column = [scores[j][i] for j in range(count) if j == i or not holds[j][i]]
        total += sum(math.log(sum(map(math.exp, rivals))) - scores[i][i] for rivals in (row, column))
    return total / (2 * count)


@torch.no_grad()
def naive_loss(trainer, batch, vectors):
    """Of a batch, image by image; ``vectors`` are what is stored of such views."""
    model, train, split = trainer.model, trainer.config.train, trainer.data.sampler.split
    queries = motifs_of(model, batch.parts[0])
    fabrics = [[windows_of(model, *seen) for seen in seen_of(part)] for part in batch.parts[1:]]
    if train.loss == "triplet":
        near, far = ([similarity(*pair) for pair in zip(queries, part, strict=True)] for part in fabrics)
        return np.mean([max(0.0, train.margin - p + n) for p, n in zip(near, far, strict=True)])
    wanted = [set(split.queries[row].categories) for row in batch.queries]
    holds = [[bool(names & set(split.fabrics[row].categories)) for row in batch.positives] for names in wanted]
    stored = [cluster(windows[None], vectors)[0][0] for windows in fabrics[0]]
    losses = [naive_info_nce(queries, each, holds, train.temperature) for each in (fabrics[0], stored)]
    return sum(losses) / 2


@pytest.mark.parametrize("loss", ["info_nce", "triplet"])
@pytest.mark.parametrize(("share", "windows", "vectors"), [(1.0, 9, 3), (0.75, 4, 2), (0.5, 1, 1), (0.2, 1, 1)])
@pytest.mark.parametrize("way", ["pixels", "tokens"])
def test_the_loss_is_that_of_a_plain_loop(split, loss, share, windows, vectors, way):
    """Of 4 x 4 patches of a whole fabric parts have 3 x 3, 2 x 2 and 1; of fewer windows fewer vectors are stored."""
    keys = ["embed.window_stride=1", f"train.loss={loss}", "train.learning_rate=1e-3", "train.margin=0.5"]
    keys += [f"train.trainable_blocks={1 if way == 'tokens' else 'all'}", "train.cache_activations=false"]
    trainer = make_trainer(split, *keys, f"train.crop_start={share}", f"train.crop_end={share}")
    for batch in trainer.data.batches(0, 0):
        part = batch.parts[1]
        assert (part.cuts is not None) == (way == "tokens" and share < 1)
        assert len(windows_of(trainer.model, *next(seen_of(part)))) == windows
        expected = naive_loss(trainer, batch, vectors)
        assert expected > 0.1
        assert float(trainer.step(batch)) == pytest.approx(expected, rel=1e-4)


# ---- crops


@pytest.mark.parametrize("blocks", ["1", "all"])
@pytest.mark.parametrize("loss", ["info_nce", "triplet"])
def test_a_part_of_a_fabric_keeps_its_scale(split, loss, blocks):
    """All parts of a step are of one size, whichever worker has them, in whole patches of the whole's size."""
    keys = ["train.crop_start=[0.2, 1.0]", "train.crop_end=[0.2, 1.0]", "train.epochs=8", f"train.loss={loss}"]
    config = make_config(*WINDOWS, *keys, f"train.trainable_blocks={blocks}")
    workers = [list(TrainingData(config, split, workers=2).batches(0, rank)) for rank in range(2)]
    alone = list(TrainingData(config, split).batches(0, 0))
    sides = set()
    for step in zip(alone, *workers, strict=True):
        parts = [part for batch in step for part in batch.parts[1:]]
        (side,) = {
            length
            for part in parts
            for length in (part.views.shape[1:3] if part.cuts is None else [14 * math.isqrt(part.cuts.shape[1])])
        }
        sides.add(side)
        assert {batch.parts[0].views.shape[1:] for batch in step} == {(28, 28, 3)}
        for kind, part in enumerate(step[0].parts):
            np.testing.assert_array_equal(np.concatenate([batch.parts[kind].views for batch in step[1:]]), part.views)
            if kind and part.cuts is not None:
                np.testing.assert_array_equal(np.concatenate([batch.parts[kind].cuts for batch in step[1:]]), part.cuts)
    assert (alone[0].parts[1].cuts is None) == (blocks == "all")
    assert len(sides) > 1 and sides <= {14, 28, 42, 56}


# ---- what is learnt


def of_motifs_in_corners(folder):
    """Queries of one colour on white; fabrics of black cloth with that colour in a quarter of them."""
    listed = Labelled([], [])
    for number, (name, colour) in enumerate(list(COLOURS.items()) * 2):
        motif, cloth = np.full((40, 40, 3), 255, np.uint8), np.zeros((56, 56, 3), np.uint8)
        motif[10:30, 10:30] = colour
        y, x = 28 * (number % 2), 28 * (number // 2 % 2)
        cloth[y : y + 28, x : x + 28] = colour
        listed.queries.append(save(folder / f"q{number}.png", motif, name))
        listed.fabrics.append(save(folder / f"f{number}.png", cloth, name))
    return listed


@pytest.mark.parametrize("loss", ["info_nce", "triplet"])
def test_an_easy_problem_is_learnt(tmp_path, loss):
    listed = of_motifs_in_corners(tmp_path)
    keys = ["train.learning_rate=1e-3", "train.head_learning_rate=1e-2", "train.batch_size=8", "train.epochs=25"]
    trainer = make_trainer(listed, *keys, f"train.loss={loss}", "train.margin=0.5", "train.warmup_steps=3")
    validator, rows = Validator(trainer.config, listed), []
    fit(
        trainer,
        Hooks(
            save=lambda trainer: None,
            validate=lambda trainer: validator(trainer.model, CPU, lambda array: [array]),
            epoch_done=lambda trainer, row, best: rows.append(row),
        ),
    )
    losses = [row["loss"] for row in rows[1:]]
    assert losses[-1] < 0.2 * losses[0]
    assert rows[-1]["pool_recall"] == 0.5  # one place in the pool for the two fabrics that each query wants
    assert rows[-1]["mAP"] == 1.0


def test_a_step_lowers_the_loss_of_its_batch(tmp_path):
    trainer = make_trainer(of_motifs_in_corners(tmp_path), "train.batch_size=8", "train.warmup_steps=0")
    batch = next(trainer.data.batches(0, 0))
    losses = [float(trainer.step(batch)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
