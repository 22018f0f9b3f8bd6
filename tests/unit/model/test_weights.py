"""Weights: every way in gives transformers' own features, and what is written is read back to the bit."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers.models.dinov2.modeling_dinov2 import Dinov2Model

from retrieval_core.encoding.encoders import ModelEncoder
from retrieval_core.model.embedder import normalise
from retrieval_core.model.heads import identity_head, new_head
from retrieval_core.model.weights import (
    WeightsError,
    holds_head,
    load_model,
    missing_weights,
    save_model,
    weights_fingerprint,
)
from tests.unit.tiny_weights import (
    LAST,
    PublishedExtractor,
    cls_tokens,
    config,
    images,
    rewrite,
    same_bits,
    save_published,
    tensors_of,
    transformers_model,
)

MOTIF_TINY = Path(__file__).parents[3] / "Weight_Path" / "dinov2-motif-tiny"


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("side", [28, 56])
def test_a_transformers_directory_gives_transformers_features(tmp_path, registers, swiglu, side):
    reference = transformers_model(registers, swiglu)
    reference.save_pretrained(tmp_path)
    model = load_model(config(tmp_path, image_size=side), 0, with_head=False)
    assert (model.projection_head, model.training) == (None, False)
    with torch.no_grad():
        torch.testing.assert_close(model.features(images(side=side)), cls_tokens(reference, images(side=side)))
    assert missing_weights(config(tmp_path, image_size=side)) is None


@pytest.mark.parametrize("prefix", ["dinov2.", "module.dinov2.", "model.backbone."])
def test_prefixes_and_module_names_are_read(folder, prefix):
    reference = transformers_model()
    rewrite(folder, {prefix + name: tensor for name, tensor in reference.state_dict().items()})
    with torch.no_grad():
        features = load_model(config(folder), 0, with_head=False).features(images())
    torch.testing.assert_close(features, cls_tokens(reference, images()))


@pytest.mark.parametrize("pickled", [False, True])
def test_shards_and_pickled_tensors_are_read(folder, pickled):
    tensors = tensors_of(folder)
    (folder / "model.safetensors").unlink()
    if pickled:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        names, half = sorted(tensors), len(tensors) // 2
        shards = {"model-00001-of-00002.safetensors": names[:half], "model-00002-of-00002.safetensors": names[half:]}
        for shard, held in shards.items():
            save_file({name: tensors[name] for name in held}, folder / shard)
        index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert missing_weights(config(folder)) is None
    with torch.no_grad():
        features = load_model(config(folder), 0, with_head=False).features(images())
    torch.testing.assert_close(features, cls_tokens(transformers_model(), images()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_loaded_as_float32(folder, dtype):
    tensors = tensors_of(folder)
    rewrite(folder, {name: tensor.to(dtype) for name, tensor in tensors.items()})
    state = load_model(config(folder), 0, with_head=False).dinov2.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert torch.equal(state["layernorm.weight"], tensors["layernorm.weight"].to(dtype).float())


def test_the_weights_in_the_repository_are_those_transformers_reads():
    reference = Dinov2Model.from_pretrained(MOTIF_TINY, dtype=torch.float32).eval()
    keys = {"image_size": 112, "pooling": "cls_mean", "embedding_dim": 64}
    model = load_model(config(MOTIF_TINY, **keys), 0, with_head=True)
    with torch.no_grad():
        tokens = reference(pixel_values=images(side=112)).last_hidden_state
        expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
        torch.testing.assert_close(model.features(images(side=112)), expected, atol=1e-5, rtol=1e-4)
        assert model(images(side=112)).shape == (3, 64)
    assert missing_weights(config(MOTIF_TINY, **keys)) is None


def test_a_classifier_stored_beside_the_backbone_is_left_out(folder):
    tensors = {f"dinov2.{name}": tensor for name, tensor in tensors_of(folder).items()}
    rewrite(folder, tensors | {"classifier.weight": torch.ones(10, 64), "classifier.bias": torch.ones(10)})
    assert load_model(config(folder), 0, with_head=False).projection_head is None


def test_weights_on_another_store_are_read(folder):
    url = f"memory://{uuid.uuid4().hex}"
    fsspec.filesystem("memory").put(str(folder), url, recursive=True)
    remote = load_model(config(url), 0, with_head=False)
    local = load_model(config(folder), 0, with_head=False)
    assert same_bits(remote, local)
    assert missing_weights(config(url)) is None
    assert weights_fingerprint(config(url)) == weights_fingerprint(config(folder))


def test_the_mask_token_may_be_missing(folder):
    tensors = tensors_of(folder)
    del tensors["embeddings.mask_token"]
    rewrite(folder, tensors)
    assert missing_weights(config(folder)) is None
    with torch.no_grad():
        features = load_model(config(folder), 0, with_head=False).features(images())
    torch.testing.assert_close(features, cls_tokens(transformers_model(), images()))


@pytest.mark.parametrize(("pooling", "width"), [("patches", 32), ("cls", 32), ("cls_mean", 64)])
@pytest.mark.parametrize(("head", "make"), [("published", new_head), ("identity", identity_head)])
def test_a_new_head_comes_from_the_seed_alone(folder, pooling, width, head, make):
    before = torch.get_rng_state()
    model = load_model(config(folder, pooling=pooling, head=head), 11, with_head=True)
    assert torch.equal(before, torch.get_rng_state())
    assert (model.pooling, model.embedding_dim) == (pooling, 8)
    expected = make(width, 8, 11).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.projection_head.state_dict().items())


@pytest.mark.parametrize("with_head", [False, True])
def test_a_stored_head_wins_over_the_configuration(folder, tmp_path, with_head):
    tuned = load_model(config(folder, pooling="cls_mean"), 11, with_head=True)
    save_model(tuned, str(tmp_path / "tuned"))
    model = load_model(config(tmp_path / "tuned", embedding_dim=99, pooling="cls"), 0, with_head=with_head)
    assert (model.pooling, model.embedding_dim) == ("cls_mean", 8)
    assert same_bits(model, tuned)


def test_a_stored_head_is_known_before_it_is_loaded(folder, tuned, tmp_path):
    assert not holds_head(config(folder))
    assert holds_head(config(tuned))
    assert not holds_head(config(tuned, init="random"))
    save_published(tmp_path / "a.pth", PublishedExtractor(transformers_model()))
    url = f"memory://{uuid.uuid4().hex}.pth"
    fsspec.filesystem("memory").put(str(tmp_path / "a.pth"), url)
    for checkpoint in (str(tmp_path / "a.pth"), url):
        assert missing_weights(config(folder, checkpoint=checkpoint)) is None
        assert holds_head(config(folder, checkpoint=checkpoint))
    with pytest.raises(WeightsError, match="no such folder"):
        holds_head(config(tmp_path / "absent"))


def test_random_initialisation_needs_only_the_settings_and_the_seed(folder):
    (folder / "model.safetensors").unlink()
    assert missing_weights(config(folder)) is not None
    assert missing_weights(config(folder, init="random")) is None
    before = torch.get_rng_state()
    model = load_model(config(folder, init="random"), 4, with_head=True)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(77)
    assert same_bits(model, load_model(config(folder, init="random"), 4, with_head=True))
    other = load_model(config(folder, init="random"), 5, with_head=True).state_dict()
    assert not torch.equal(other["dinov2.embeddings.cls_token"], model.state_dict()["dinov2.embeddings.cls_token"])


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_checkpoint_gives_its_own_embeddings(folder, tmp_path, prefix):
    network = PublishedExtractor(transformers_model()).eval()
    path = tmp_path / "dinov2_finetuning2_epoch_100.pth"
    save_published(path, network, prefix)
    (folder / "model.safetensors").unlink()  # only config.json is needed beside a checkpoint
    keys = config(folder, checkpoint=str(path), embedding_dim=99, pooling="cls_mean")
    assert missing_weights(keys) is None
    model = load_model(keys, 0, with_head=True)
    assert (model.pooling, model.embedding_dim) == ("cls", 8)
    views = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network(normalise(torch.from_numpy(views))).numpy()
    result = ModelEncoder(model, torch.device("cpu"), "float32", 2).encode(views)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize("swiglu", [False, True])
def test_a_saved_model_is_read_back_to_the_bit_and_by_transformers(tmp_path, registers, swiglu):
    reference = transformers_model(registers, swiglu)
    reference.save_pretrained(tmp_path / "start")
    model = load_model(config(tmp_path / "start", pooling="cls_mean"), 11, with_head=True)
    save_model(model, str(tmp_path / "saved"))
    assert same_bits(load_model(config(tmp_path / "saved"), 0, with_head=False), model)
    again, report = type(reference).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]
    torch.testing.assert_close(cls_tokens(again.eval(), images()), cls_tokens(reference, images()))
    names = set(tensors_of(tmp_path / "saved"))
    prefix = "dinov2_with_registers." if registers else "dinov2."
    assert prefix + "encoder.layer.0.attention.attention.query.weight" in names
    assert {name for name in names if not name.startswith(prefix)} == {
        f"projection_head.{index}.{kind}" for index in (0, 2) for kind in ("weight", "bias")
    }


def test_the_same_model_is_written_as_the_same_bytes(tuned, tmp_path):
    save_model(load_model(config(tuned), 0, with_head=False), str(tmp_path / "again"))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tuned / name).read_bytes()
    assert sorted(path.name for path in tuned.iterdir()) == ["config.json", "model.safetensors"]


def test_a_model_without_a_head_is_saved_without_one(tuned, folder, tmp_path):
    save_model(load_model(config(folder), 0, with_head=False), str(tmp_path / "bare"))
    assert "projection_head" not in json.loads((tmp_path / "bare" / "config.json").read_text())
    assert load_model(config(tmp_path / "bare"), 0, with_head=False).projection_head is None


def test_a_writer_killed_between_the_files_leaves_no_complete_folder(tuned, folder, monkeypatch):
    bare = load_model(config(folder), 0, with_head=False)
    written = []

    def dies_after_the_first(path, content):
        written.append(Path(path).name)
        raise KeyboardInterrupt

    monkeypatch.setattr("retrieval_core.files.storage.write_bytes", dies_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        save_model(bare, str(tuned))  # over a model with other settings
    assert written == ["model.safetensors"]
    assert not (tuned / "config.json").exists()


def test_a_new_version_of_the_same_model_replaces_the_tensors_in_one_step(tuned, monkeypatch):
    model = load_model(config(tuned), 0, with_head=False)
    with torch.no_grad():
        model.projection_head[2].bias += 1

    def config_stays(path, content):
        assert (tuned / "config.json").exists()

    monkeypatch.setattr("retrieval_core.files.storage.write_bytes", config_stays)
    save_model(model, str(tuned))


def test_a_diverged_model_is_not_saved(tuned, tmp_path):
    model = load_model(config(tuned), 0, with_head=False)
    with torch.no_grad():
        model.projection_head[2].bias[0] = float("nan")
    with pytest.raises(WeightsError, match=r"projection_head\.2\.bias"):
        save_model(model, str(tmp_path / "spoilt"))
    assert not (tmp_path / "spoilt").exists()
    bare = load_model(config(tuned, init="random"), 0, with_head=False)
    with torch.no_grad():
        bare.dinov2.layernorm.bias[0] = float("inf")
    with pytest.raises(WeightsError, match=r"layernorm\.bias"):
        save_model(bare, str(tuned))
    assert same_bits(load_model(config(tuned), 0, with_head=False).dinov2, model.dinov2)


def test_a_model_is_saved_to_another_store(tuned):
    model = load_model(config(tuned), 0, with_head=False)
    url = f"memory://{uuid.uuid4().hex}/model"
    save_model(model, url)
    assert same_bits(load_model(config(url), 0, with_head=False), model)


def test_the_fingerprint_follows_content_only(folder, tmp_path):
    first = weights_fingerprint(config(folder))
    shutil.copytree(folder, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "model.safetensors", (0, 0))
    assert weights_fingerprint(config(tmp_path / "copy")) == first
    tensors = tensors_of(folder)
    tensors[LAST][0] += 1
    rewrite(folder, tensors)
    changed = weights_fingerprint(config(folder))
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert len({first, changed, weights_fingerprint(config(folder))}) == 3


def test_the_fingerprint_covers_what_is_read(folder, tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    before = weights_fingerprint(config(folder, checkpoint=str(path)))
    random = weights_fingerprint(config(folder, init="random"))
    rewrite(folder, {})
    assert weights_fingerprint(config(folder, checkpoint=str(path))) == before
    assert weights_fingerprint(config(folder, init="random")) == random
    path.write_bytes(b"two")
    assert weights_fingerprint(config(folder, checkpoint=str(path))) != before


def test_the_fingerprint_of_missing_weights_is_refused(tmp_path, folder):
    with pytest.raises(WeightsError, match="no such folder"):
        weights_fingerprint(config(tmp_path / "absent"))
    with pytest.raises(WeightsError, match=r"none\.pth"):
        weights_fingerprint(config(folder, checkpoint=str(tmp_path / "none.pth")))
