"""Names and shapes of tensors: what is read under other names, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from transformers.models.dinov2.modeling_dinov2 import Dinov2Config, Dinov2Model

from retrieval_core.model.weight_names import to_file_names, to_module_names
from retrieval_core.model.weights import load_model, missing_weights
from tests.unit.tiny_weights import (
    LAST,
    TINY,
    config,
    in_published_names,
    refusal,
    rewrite,
    same_bits,
    tensors_of,
    transformers_model,
)


def test_missing_keys_are_counted_and_the_first_ten_listed(folder):
    tensors = tensors_of(folder)
    gone = [name for name in sorted(tensors) if name.startswith("encoder.layer.1.")]
    rewrite(folder, {name: tensor for name, tensor in tensors.items() if name not in gone})
    message = refusal(folder)
    assert f"{len(gone)} missing (" in message
    assert f"and {len(gone) - 10} more" in message
    assert sum(name in message for name in gone) == 10
    assert missing_weights(config(folder)) == message


def test_unexpected_keys_shapes_and_types_are_listed_together(folder):
    tensors = tensors_of(folder)
    tensors["encoder.layer.9.norm1.weight"] = torch.ones(32)
    tensors["layernorm.bias"] = torch.ones(33)
    tensors["layernorm.weight"] = torch.ones(32, dtype=torch.int32)
    rewrite(folder, tensors)
    message = refusal(folder)
    assert "1 unexpected (encoder.layer.9.norm1.weight)" in message
    assert "layernorm.bias is (33,), expected (32,)" in message
    assert "1 not of floating point (layernorm.weight)" in message
    assert missing_weights(config(folder)) == message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensors_that_are_not_finite_are_named(folder, value):
    tensors = tensors_of(folder)
    tensors[LAST][3] = value
    rewrite(folder, tensors)
    assert f"NaN or infinity in 1 tensors ({LAST})" in refusal(folder)


def in_original_names(state):
    """As DINOv2's own code names and joins them."""
    joined = {}
    for block in range(2):
        for kind in ("weight", "bias"):
            parts = [f"encoder.layer.{block}.attention.attention.{part}.{kind}" for part in ("query", "key", "value")]
            joined[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat([state.pop(part) for part in parts])
    swaps = [
        ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
        ("embeddings.position_embeddings", "pos_embed"),
        ("embeddings.", ""),
        ("encoder.layer.", "blocks."),
        ("attention.output.dense", "attn.proj"),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
        ("mlp.weights_in", "mlp.w12"),
        ("mlp.weights_out", "mlp.w3"),
        ("layernorm.", "norm."),
    ]
    for name, tensor in state.items():
        for old, new in swaps:
            name = name.replace(old, new)  # noqa: PLW2901
        joined[name] = tensor
    return joined


@pytest.mark.parametrize(("registers", "swiglu"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("form", ["plain", "chunks", "teacher"])
def test_the_names_of_dinov2s_own_code_are_read(tmp_path, registers, swiglu, form):
    transformers_model(registers, swiglu).save_pretrained(tmp_path / "w")
    keys = config(tmp_path / "w")
    plain = load_model(keys, 0, with_head=False)
    state = in_original_names(to_file_names(tensors_of(tmp_path / "w")))
    assert {"cls_token", "pos_embed", "blocks.1.attn.qkv.weight", "blocks.1.ls2.gamma", "norm.bias"} <= set(state)
    if form == "chunks":
        state = {name.replace("blocks.", "blocks.0."): tensor for name, tensor in state.items()}
    elif form == "teacher":
        state = {"teacher": {f"backbone.{name}": tensor for name, tensor in state.items()}}
        state["teacher"] |= {"dino_head.mlp.0.weight": torch.ones(2), "ibot_head.last_layer.weight": torch.ones(2)}
    torch.save(state, tmp_path / "dinov2_vits14_pretrain.pth")
    keys = config(tmp_path / "w", checkpoint=str(tmp_path / "dinov2_vits14_pretrain.pth"))
    assert missing_weights(keys) is None
    assert same_bits(load_model(keys, 0, with_head=False), plain)


def test_a_tensor_that_lacks_under_dinov2s_own_names_is_missing(folder, tmp_path):
    state = in_original_names(tensors_of(folder))
    del state["blocks.0.attn.qkv.bias"]
    torch.save(state | {"blocks.7.norm1.weight": torch.ones(2)}, tmp_path / "a.pth")
    message = refusal(folder, checkpoint=str(tmp_path / "a.pth"))
    assert "3 missing (encoder.layer.0.attention.attention.query.bias" in message
    assert "1 unexpected (encoder.layer.7.norm1.weight)" in message


def test_a_file_of_something_else_shows_what_it_has(folder):
    rewrite(folder, {"conv1.weight": torch.ones(3)})
    message = refusal(folder)
    assert "embeddings.cls_token" in message
    assert "1 tensors (conv1.weight)" in message


def test_two_backbones_in_one_file_are_not_chosen_between(folder):
    tensors = tensors_of(folder)
    rewrite(folder, {f"{who}.{name}": t.clone() for name, t in tensors.items() for who in ("student", "teacher")})
    assert "2 backbones (student.embeddings.cls_token, teacher.embeddings.cls_token)" in refusal(folder)


def test_half_a_head_is_refused(tuned):
    tensors = tensors_of(tuned)
    del tensors["projection_head.2.bias"]
    rewrite(tuned, tensors)
    assert "1 missing (projection_head.2.bias)" in refusal(tuned)


def test_a_promised_head_that_is_not_there_is_refused(tuned):
    rewrite(tuned, {name: tensor for name, tensor in tensors_of(tuned).items() if name.startswith("dinov2.")})
    assert "4 missing (projection_head.0.weight" in refusal(tuned)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"pooling": "max"}, "pooling"), ({"in_features": 7}, "in_features = 7"), (None, "projection")],
)
def test_a_head_block_that_contradicts_itself_is_refused(tuned, change, reason):
    values = json.loads((tuned / "config.json").read_text())
    values["projection_head"] = "a head" if change is None else values["projection_head"] | change
    (tuned / "config.json").write_text(json.dumps(values))
    assert reason in refusal(tuned)


def test_a_head_without_its_block_is_told_from_its_shapes(tuned):
    values = json.loads((tuned / "config.json").read_text())
    del values["projection_head"]
    (tuned / "config.json").write_text(json.dumps(values))
    model = load_model(config(tuned, pooling="cls_mean"), 0, with_head=True)
    assert (model.pooling, model.embedding_dim) == ("cls", 8)
    tensors = tensors_of(tuned)
    rewrite(tuned, tensors | {"projection_head.0.weight": torch.ones(32, 50)})
    assert "reads 50 features, but this backbone gives 32 (cls) or 64 (cls_mean)" in refusal(tuned)
    rewrite(tuned, tensors | {"projection_head.0.weight": torch.ones(32)})
    assert "the head must be" in refusal(tuned)


def test_a_checkpoint_of_another_size_shows_its_shapes(folder, tmp_path):
    big = Dinov2Model(Dinov2Config(**(TINY | {"image_size": 56})))
    torch.save({"feature_extractor_state_dict": in_published_names(big.state_dict())}, tmp_path / "big.pth")
    message = refusal(folder, checkpoint=str(tmp_path / "big.pth"))
    assert "embeddings.position_embeddings is (1, 17, 32), expected (1, 5, 32)" in message
    assert str(folder / "config.json") in message


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("registers", [False, True])
def test_the_two_namings_are_inverse_to_each_other(registers, swiglu):
    state = transformers_model(registers, swiglu).state_dict()
    named = to_file_names(dict(reversed(state.items())))
    assert to_file_names(named).keys() == named.keys()
    back = to_module_names(named)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_half_of_a_swiglu_matrix_is_refused(tmp_path):
    model = transformers_model(swiglu=True)
    model.save_pretrained(tmp_path)
    state = model.state_dict()
    del state["encoder.layer.0.mlp.up_proj.weight"]
    rewrite(tmp_path, state)
    message = refusal(tmp_path)
    assert "1 missing (encoder.layer.0.mlp.weights_in.weight)" in message
    assert "1 unexpected (encoder.layer.0.mlp.gate_proj.weight)" in message
