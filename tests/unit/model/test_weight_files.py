"""Files that are missing, torn, dangerous or of something else are refused by name."""

from __future__ import annotations

import json
import os

import pytest
import torch

from retrieval_core.config.config import ConfigError
from retrieval_core.model import weight_files
from retrieval_core.model.weights import load_model, missing_weights
from tests.unit.tiny_weights import (
    PublishedExtractor,
    config,
    refusal,
    save_published,
    tensors_of,
    transformers_model,
)


def test_a_missing_folder_says_what_is_looked_for_and_where_it_goes(tmp_path):
    message = refusal(tmp_path / "absent")
    for part in (str(tmp_path / "absent"), "config.json", "model.safetensors", "Weight_Path/README.md"):
        assert part in message
    assert missing_weights(config(tmp_path / "absent")) == message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    message = refusal(folder)
    assert name in message
    assert missing_weights(config(folder)) == message


def test_another_architecture_is_named_with_those_accepted(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"model_type": "vit"}))
    message = refusal(folder)
    assert "'vit'" in message
    assert "dinov2 and dinov2_with_registers" in message
    assert missing_weights(config(folder)) == message


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": "dinov2", "hidden_size": "wide"}'])
def test_a_wrong_config_is_named(folder, text):
    (folder / "config.json").write_text(text)
    message = refusal(folder)
    assert str(folder / "config.json") in message
    assert missing_weights(config(folder)) == message


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[:-5], "torn"),
        (lambda content: content + b"x", "torn"),
        (lambda content: content[:20], "torn"),
        (lambda content: b"", "not a safetensors file"),
        (lambda content: content[:8] + b"[" + content[9:], "not a safetensors file"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_torn_safetensors_are_told_from_their_size_and_header(folder, damage, reason):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(folder)
    assert str(path) in message
    assert reason in message
    assert missing_weights(config(folder)) == message


def test_missing_shards_are_named(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "2 of 2 shards of model.safetensors.index.json are missing: model-1.safetensors" in refusal(folder)


def test_the_image_size_is_checked_against_the_patch(folder):
    keys = config(folder, image_size=30)
    with pytest.raises(ConfigError, match=r"model\.image_size = 30: .* 28 and 42") as error:
        load_model(keys, 0, with_head=False)
    assert missing_weights(keys) == str(error.value)


def test_the_check_reads_no_tensor(folder, monkeypatch):
    read = []
    monkeypatch.setattr(weight_files, "on_disk", read.append)
    assert missing_weights(config(folder)) is None
    assert not read


class Touches:
    """Unpickled by an unsuspecting reader, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("where", ["checkpoint", "bin"])
def test_a_pickle_that_runs_code_is_refused_and_nothing_is_run(folder, tmp_path, where):
    trace = tmp_path / "trace"
    if where == "checkpoint":
        path = tmp_path / "evil.pth"
        save_published(path, PublishedExtractor(transformers_model()), loss=Touches(trace))
        keys = {"checkpoint": str(path)}
    else:
        path, keys = folder / "pytorch_model.bin", {}
        torch.save(tensors_of(folder) | {"extra": Touches(trace)}, path)
        (folder / "model.safetensors").unlink()
    message = refusal(folder, **keys)
    assert f"{path}: refused: reading it would run code (posix.mkdir)" in message
    assert missing_weights(config(folder, **keys)) == message
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the trap itself works
    assert trace.exists()


def test_a_checkpoint_of_another_kind_says_what_it_holds(folder, tmp_path):
    torch.save({"model_weights": {"a": torch.ones(1)}, "epoch": 1}, tmp_path / "other.pth")
    message = refusal(folder, checkpoint=str(tmp_path / "other.pth"))
    assert "feature_extractor_state_dict" in message
    assert "model_weights, epoch" in message


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04 torn", b"\x80\x02}q"])
def test_a_damaged_checkpoint_is_named(folder, tmp_path, content):
    path = tmp_path / "torn.pth"
    path.write_bytes(content)
    message = refusal(folder, checkpoint=str(path))
    assert f"{path}: not a file of torch.save" in message
    assert missing_weights(config(folder, checkpoint=str(path))) == message


def test_a_torn_copy_of_a_good_checkpoint_is_refused(folder, tmp_path):
    path = tmp_path / "torn.pth"
    save_published(path, PublishedExtractor(transformers_model()))
    path.write_bytes(path.read_bytes()[:-1000])
    assert "torn" in refusal(folder, checkpoint=str(path))


def test_a_missing_checkpoint_is_named(folder, tmp_path):
    path = str(tmp_path / "none.pth")
    assert f"{path}: no such file" in refusal(folder, checkpoint=path)
    assert "none.pth" in str(missing_weights(config(folder, checkpoint=path)))


def test_a_checkpoint_beside_random_initialisation_is_a_contradiction(folder):
    with pytest.raises(ConfigError, match=r"model\.checkpoint = 'a\.pth'"):
        load_model(config(folder, checkpoint="a.pth", init="random"), 0, with_head=False)
