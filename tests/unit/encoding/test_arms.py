"""Arms: embeddings are computed again exactly when something that they depend on has changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retrieval_core.config.config import Config, load_config
from retrieval_core.config.sections import EmbedConfig, ImagesConfig, ModelConfig
from retrieval_core.encoding.arms import FROZEN, HISTOGRAM, Arm, encoder_fingerprint, histogram_arm, model_arm
from retrieval_core.encoding.views import Views, views_of
from retrieval_core.images import colour_profiles
from retrieval_core.model.embedder import normalise
from retrieval_core.model.weights import save_model
from tests.unit.tiny_split import make_model
from tests.unit.tiny_weights import config as model_config


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_model(make_model(), str(folder))
    return folder


def fingerprint(arm, images=None, regions=(1,), overlap=0.25, dtype="float32", vectors=None):
    config = Config(images=images or ImagesConfig(), embed=EmbedConfig(storage_dtype=dtype))
    return encoder_fingerprint(arm, Views(arm.image_size, tuple(regions), overlap, vectors), config)


def arm_of(weights, seed=0, **keys):
    return model_arm(FROZEN, model_config(weights, **keys), seed)


def test_what_an_embedding_depends_on_changes_its_fingerprint(weights, tmp_path):
    arm = arm_of(weights)
    other = tmp_path / "other"
    save_model(make_model(seed=1), str(other))
    found = [
        fingerprint(arm),
        fingerprint(arm, regions=[1, 4]),
        fingerprint(arm, regions=[1, 4], overlap=0.5),
        fingerprint(arm, regions=[1, 4], vectors=1),
        fingerprint(arm, regions=[1, 4], vectors=5),
        fingerprint(arm, dtype="float16"),
        fingerprint(arm, images=ImagesConfig(alpha="published")),
        fingerprint(arm, images=ImagesConfig(exif="ignore")),
        fingerprint(arm, images=ImagesConfig(profile="ignore")),
        fingerprint(arm, images=ImagesConfig(resize="published")),
        fingerprint(arm, images=ImagesConfig(jpeg="reduced")),
        fingerprint(arm_of(weights, image_size=42)),
        fingerprint(arm_of(weights, pooling="cls_mean")),
        fingerprint(arm_of(weights, precision="bfloat16")),
        fingerprint(arm_of(weights, init="random")),
        fingerprint(arm_of(weights, init="random", seed=1)),
        fingerprint(arm_of(other)),
        fingerprint(histogram_arm(Config())),
    ]
    assert len(set(found)) == len(found)


def test_what_an_embedding_does_not_depend_on_leaves_it_alone(weights, tmp_path):
    arm = arm_of(weights)
    moved = tmp_path / "moved"
    save_model(make_model(), str(moved))
    same = [
        fingerprint(arm_of(weights)),
        fingerprint(arm_of(weights, seed=5)),
        fingerprint(arm_of(moved)),
        fingerprint(arm, overlap=0.5),
        fingerprint(arm, images=ImagesConfig(max_pixels=1000)),
    ]
    assert set(same) == {fingerprint(arm)}


def of_windows(role, images=None, model=None, **embed):
    """The fingerprint of a store with windows."""
    config = Config(
        images=ImagesConfig(**images or {}),
        model=ModelConfig(**{"image_size": 28} | (model or {})),
        embed=EmbedConfig(**{"fabric_size": 112, "vectors": 3} | embed),
    )
    arm = Arm(FROZEN, config.model, config.model.image_size, "content of the weights")
    return encoder_fingerprint(arm, views_of(config, config.model, role), config)


FABRIC_KEYS = [{"windows": [3]}, {"windows": [2, 3]}, {"window_stride": 1}, {"vectors": 4}, {"fabric_size": 126}]
QUERY_KEYS = [{"images": {"query_mask": mask}} for mask in ("alpha", "none")] + [{"model": {"image_size": 42}}]
LAYER = {"model": {"layer": 5}}


def test_windows_change_the_fingerprint_of_what_they_make():
    changes = {"gallery": [{}, LAYER, *FABRIC_KEYS], "queries": [{}, LAYER, *QUERY_KEYS]}
    found = [of_windows(role, **keys) for role, every in changes.items() for keys in every]
    assert len(set(found)) == len(found)
    assert {of_windows("queries", **keys) for keys in FABRIC_KEYS} == {of_windows("queries")}
    assert {of_windows("gallery", **keys) for keys in QUERY_KEYS} == {of_windows("gallery")}


@pytest.mark.parametrize("role", ["gallery", "queries"])
def test_keys_of_windows_change_nothing_without_them(role):
    plain = {"model": {"pooling": "cls"}, "vectors": None}
    every = [{**plain, **keys} for keys in FABRIC_KEYS if "vectors" not in keys]
    every += [{**plain, "images": {"query_mask": "none"}}, {**plain, "model": {"pooling": "cls", "layer": 5}}]
    assert {of_windows(role, **keys) for keys in every} == {of_windows(role, **plain)}


def test_stores_of_earlier_versions_stay_valid():
    """Another fingerprint for the same pixels makes every user's vectors be computed again.

    Those stores ignored profiles; with ``convert`` theirs would be among vectors of other colours.
    """
    model = ModelConfig(pooling="cls", image_size=224)
    plain = Config(model=model, images=ImagesConfig(profile="ignore"))
    arm = Arm(FROZEN, model, 224, "content of the weights")
    expected = "c1168e0c965e818b084217490b1452029a81d8b3be0c31649d43ae4d282b8f65"
    assert encoder_fingerprint(arm, views_of(plain, model, "gallery"), plain) == expected
    keys = EmbedConfig(regions=[1, 3], vectors=4)
    chosen = Config(model=model, images=ImagesConfig(jpeg="reduced", profile="ignore"), embed=keys)
    found = {
        role: encoder_fingerprint(histogram_arm(chosen), views_of(chosen, None, role), chosen)
        for role in ("gallery", "queries")
    }
    assert found == {
        "gallery": "5756fedea6cfb850f3f8bef9cef5bf32d4d8d7d51e9eae648d4c23b68168b8df",
        "queries": "55b1fffaac481ec006bfd3e301ec5185162ad212342e53adbe17ff1da98d4b88",
    }


def test_without_littlecms_vectors_are_those_of_ignored_profiles(weights, monkeypatch):
    arm = arm_of(weights)
    ignoring = fingerprint(arm, images=ImagesConfig(profile="ignore"))
    assert fingerprint(arm) != ignoring
    monkeypatch.setattr(colour_profiles, "_has_littlecms", lambda: False)
    assert fingerprint(arm) == ignoring


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
