"""Arms: an embedding is made again exactly when what it depends on has changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval_core.config.config import Config, load_config
from retrieval_core.config.sections import ImagesConfig
from retrieval_core.encoding.arms import FROZEN, HISTOGRAM, histogram_arm, model_arm
from retrieval_core.model.embedder import normalise
from retrieval_core.model.weights import save_model
from tests.unit.tiny_split import make_model
from tests.unit.tiny_weights import config as model_config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_model(make_model(), str(folder))
    return folder


def mark(arm, images=None, regions=(1,), overlap=0.25, dtype="float32", vectors=None, turns=(0.0,)):
    return arm.encoder_fingerprint(images or ImagesConfig(), list(regions), overlap, dtype, vectors, turns)


def arm_of(weights, seed=0, **keys):
    return model_arm(FROZEN, model_config(weights, **keys), seed)


def test_what_an_embedding_depends_on_changes_its_fingerprint(weights, tmp_path):
    arm = arm_of(weights)
    other = tmp_path / "other"
    save_model(make_model(seed=1), str(other))
    marks = [
        mark(arm),
        mark(arm, regions=[1, 4]),
        mark(arm, regions=[1, 4], overlap=0.5),
        mark(arm, regions=[1, 4], vectors=1),
        mark(arm, regions=[1, 4], vectors=5),
        mark(arm, turns=(0.0, 18.0)),
        mark(arm, dtype="float16"),
        mark(arm, images=ImagesConfig(alpha="published")),
        mark(arm, images=ImagesConfig(exif="ignore")),
        mark(arm, images=ImagesConfig(resize="published")),
        mark(arm, images=ImagesConfig(jpeg="reduced")),
        mark(arm_of(weights, image_size=42)),
        mark(arm_of(weights, pooling="cls_mean")),
        mark(arm_of(weights, precision="bfloat16")),
        mark(arm_of(weights, init="random")),
        mark(arm_of(weights, init="random", seed=1)),
        mark(arm_of(other)),
        mark(histogram_arm(Config())),
    ]
    assert len(set(marks)) == len(marks)


def test_what_an_embedding_does_not_depend_on_leaves_it_alone(weights, tmp_path):
    arm = arm_of(weights)
    moved = tmp_path / "moved"
    save_model(make_model(), str(moved))
    same = [
        mark(arm_of(weights)),
        mark(arm_of(weights, seed=5)),
        mark(arm_of(moved)),
        mark(arm, overlap=0.5),
        mark(arm, images=ImagesConfig(max_pixels=1000)),
    ]
    assert set(same) == {mark(arm)}


def test_an_arm_encodes_with_its_weights(weights):
    views = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    arm = arm_of(weights)
    assert (arm.name, arm.image_size) == (FROZEN, 28)
    encoder = arm.build(batch_size=2, seed=0)
    found = encoder.encode(views)
    assert found.shape == (3, encoder.dim)
    with torch.no_grad():
        expected = make_model().eval()(normalise(torch.from_numpy(views))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_histogram_needs_no_weights():
    arm = histogram_arm(load_config(None, ["model.image_size=56", "model.weights=/nowhere"]))
    assert (arm.name, arm.model, arm.image_size) == (HISTOGRAM, None, 56)
    views = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3), dtype=np.uint8)
    found = arm.build(batch_size=2, seed=0).encode(views)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
