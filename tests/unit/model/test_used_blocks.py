"""Weights with windows: the blocks that are used, and heads that read patches or do not."""

from __future__ import annotations

import json

import pytest
import torch

from retrieval_core.config.config import ConfigError
from retrieval_core.model.weights import holds_head, load_model, missing_weights, save_model
from tests.unit.tiny_weights import (
    PublishedExtractor,
    config,
    images,
    same_bits,
    save_published,
    tensors_of,
    transformers_model,
)


@pytest.mark.parametrize("registers", [False, True])
@pytest.mark.parametrize(("layer", "blocks"), [(None, 1), (1, 1), (2, 2)])
def test_patches_are_those_behind_the_layer(tmp_path, registers, layer, blocks):
    reference, pixels = transformers_model(registers), images(side=42)
    reference.save_pretrained(tmp_path)
    model = load_model(config(tmp_path, pooling="patches", layer=layer), 0, with_head=False)
    assert len(model.dinov2.encoder.layer) == model.dinov2.config.num_hidden_layers == blocks
    with torch.no_grad():
        tokens = reference(pixel_values=pixels, output_hidden_states=True).hidden_states[blocks][:, -9:]
        torch.testing.assert_close(model.features(pixels, torch.full((1, 9), 1 / 9))[:, 0], tokens.mean(dim=1))


@pytest.mark.parametrize(("depth", "blocks"), [(1, 1), (2, 1), (3, 2), (12, 7), (24, 14)])
def test_seven_of_twelve_blocks_are_used(tmp_path, depth, blocks):
    values = transformers_model().config.to_dict() | {"num_hidden_layers": depth}
    del values["stage_names"], values["out_features"], values["out_indices"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    for pooling, expected in (("patches", blocks), ("cls", depth)):
        model = load_model(config(tmp_path, init="random", pooling=pooling), 0, with_head=True)
        assert len(model.dinov2.encoder.layer) == expected


def test_a_layer_beyond_the_last_is_refused(folder):
    for keys in ({}, {"init": "random"}):
        wrong = config(folder, pooling="patches", layer=3, **keys)
        with pytest.raises(ConfigError) as error:
            load_model(wrong, 0, with_head=False)
        assert str(error.value) == missing_weights(wrong) == "model.layer = 3: this backbone has 2 blocks; use 1..2"
    assert missing_weights(config(folder, layer=3)) is None  # all blocks are used


def test_patches_of_another_size_are_refused(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"patch_size": 16}))
    with pytest.raises(ConfigError, match="needs patches of 14 pixels, these weights have 16"):
        load_model(config(folder, init="random", image_size=32, pooling="patches"), 0, with_head=False)


@pytest.mark.parametrize("registers", [False, True])
def test_a_saved_model_has_the_used_blocks_only(tmp_path, registers):
    reference = transformers_model(registers)
    reference.save_pretrained(tmp_path / "start")
    model = load_model(config(tmp_path / "start", pooling="patches"), 11, with_head=True)
    save_model(model, str(tmp_path / "saved"))
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["num_hidden_layers"] == 1
    assert {name.split("layer.")[1][0] for name in tensors_of(tmp_path / "saved") if "encoder.layer." in name} == {"0"}
    for layer in (None, 1, 2):  # a stored head goes with the blocks it was trained on
        assert same_bits(
            load_model(config(tmp_path / "saved", pooling="patches", layer=layer), 0, with_head=True), model
        )
    again, report = type(reference).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"]
    assert len(again.encoder.layer) == 1


@pytest.mark.parametrize(
    ("stored", "asked"), [("cls_plus_mean", "patches"), ("patches", "cls"), ("patches", "cls_mean")]
)
def test_a_stored_head_of_windows_is_no_head_of_wholes(folder, tmp_path, stored, asked):
    save_model(load_model(config(folder, pooling=stored), 11, with_head=True), str(tmp_path / "tuned"))
    wrong = config(tmp_path / "tuned", pooling=asked)
    for refuses in (holds_head, lambda keys: load_model(keys, 0, with_head=False)):
        with pytest.raises(ConfigError) as error:
            refuses(wrong)
        assert str(error.value) == missing_weights(wrong)
    source = f"model.weights = {tmp_path / 'tuned'}"
    assert str(error.value).startswith(f"model.pooling = {asked}: the head stored in {source} reads {stored}; set ")
    assert f"set model.pooling={stored}, and model.image_size" in str(error.value)
    assert holds_head(config(tmp_path / "tuned", pooling=stored))


def test_a_published_head_reads_no_windows(folder, tmp_path):
    save_published(tmp_path / "a.pth", PublishedExtractor(transformers_model()))
    with pytest.raises(ConfigError, match=r"model\.pooling = patches: the head stored in .*a\.pth .* reads cls; set"):
        load_model(config(folder, checkpoint=str(tmp_path / "a.pth"), pooling="patches"), 0, with_head=True)
