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
    same_bits,
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


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x80\x02}q"])
def test_a_damaged_checkpoint_is_named(folder, tmp_path, content):
    path = tmp_path / "torn.pth"
    path.write_bytes(content)
    message = refusal(folder, checkpoint=str(path))
    assert f"{path}: not a file of torch.save" in message
    assert missing_weights(config(folder, checkpoint=str(path))) == message


OTHERS = {
    b"<html>404</html>": "is a web page, not the weights; servers send one in place of a file",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "is a Git LFS pointer, not the weights; run",
    b"\x1f\x8b\x08\0": "is a gzip file, not the weights; unpack it: gunzip -k {path}",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive, not the weights; unpack it: 7z x {path}",
}


@pytest.mark.parametrize("content", OTHERS)
@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "pytorch_model.bin", "other.pth", "other.safetensors"]
)
def test_a_file_of_another_format_is_named(folder, name, content):
    path, keys = folder / name, {}
    if name.startswith("other"):
        keys = {"checkpoint": str(path)}
    elif name == "pytorch_model.bin":
        (folder / "model.safetensors").unlink()
    path.write_bytes(content)
    message = refusal(folder, **keys)
    assert f"{path}: {OTHERS[content].format(path=path)}" in message
    assert missing_weights(config(folder, **keys)) == message


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_of_a_folder_names_the_folder(folder, name):
    message = refusal(folder / name)
    assert (
        f"is a file, and a folder with config.json beside the tensors is wanted: set model.weights={folder};" in message
    )


def test_a_file_where_a_folder_is_wanted_is_named(folder, tmp_path):
    torch.save({}, tmp_path / "a.pth")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    assert f"set model.checkpoint={tmp_path}/a.pth, and model.weights to the folder" in refusal(tmp_path / "a.pth")
    assert f"it is a ZIP archive: unpack it: unzip {tmp_path}/a.zip" in refusal(tmp_path / "a.zip")
    assert f"is a folder, and a file is wanted; set model.weights={folder}" in refusal(folder, checkpoint=str(folder))
    assert missing_weights(config(folder, checkpoint=str(folder))) == refusal(folder, checkpoint=str(folder))


def test_a_folder_with_a_checkpoint_says_how_it_is_read(folder):
    (folder / "model.safetensors").rename(folder / "dinov2.pth")
    message = refusal(folder)
    assert (
        f"found config.json, dinov2.pth. To read dinov2.pth, also set model.checkpoint={folder}/dinov2.pth" in message
    )


def test_a_relative_folder_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"no such folder in {tmp_path}, where relative paths start; give the whole path" in refusal("Weight_Path/x")


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "teacher", "module"])
@pytest.mark.parametrize("prefix", ["", "model.", "module.model.dinov2."])
def test_a_state_dict_is_found_where_trainings_keep_it(folder, tmp_path, key, prefix):
    state = {prefix + name: tensor for name, tensor in tensors_of(folder).items()}
    torch.save({key: state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}}, tmp_path / "last.ckpt")
    keys = config(folder, checkpoint=str(tmp_path / "last.ckpt"))
    assert missing_weights(keys) is None
    assert same_bits(load_model(keys, 0, with_head=False), load_model(config(folder), 0, with_head=False))


def test_shards_of_torch_save_are_read(folder):
    plain = load_model(config(folder), 0, with_head=False)
    tensors = tensors_of(folder)
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {name: f"pytorch_model-0000{1 + index % 2}-of-00002.bin" for index, name in enumerate(names)}
    for file in set(files.values()):
        torch.save({name: tensors[name] for name in names if files[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert missing_weights(config(folder)) is None
    assert same_bits(load_model(config(folder), 0, with_head=False), plain)
    (folder / files[names[0]]).unlink()
    assert "1 of 2 shards of pytorch_model.bin.index.json are missing: pytorch_model-00001" in refusal(folder)


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
