"""Weights on the Hub give what the same files give in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from retrieval_core.model.weights import (
    embedding_width,
    holds_head,
    load_model,
    missing_weights,
    weights_bytes,
    weights_fingerprint,
)
from tests.hub_server import ask
from tests.unit.tiny_weights import LAST, config, refusal, rewrite, same_bits, tensors_of

HUB = "hf://owner/tiny"


@pytest.mark.parametrize("kind", ["folder", "tuned"])
def test_weights_on_the_hub_are_those_of_a_folder(request, hub_server, kind):
    folder = request.getfixturevalue(kind)
    hub_server.push_folder("owner/tiny", folder)
    there, here = config(HUB), config(folder)
    assert same_bits(load_model(there, 3, with_head=True), load_model(here, 3, with_head=True))
    assert weights_fingerprint(there) == weights_fingerprint(here)
    assert hub_server.downloads() == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("kind", ["folder", "tuned"])
def test_names_and_shapes_are_told_without_fetching_tensors(request, hub_server, kind, tmp_path):
    folder = request.getfixturevalue(kind)
    hub_server.push_folder("owner/tiny", folder)
    there, here = config(HUB), config(folder)
    assert missing_weights(there) is None
    assert holds_head(there) == holds_head(here) == (kind == "tuned")
    assert embedding_width(there, with_head=False) == embedding_width(here, with_head=False)
    assert weights_bytes(there) == weights_bytes(here)
    assert not list(tmp_path.glob("hf/**/model.safetensors"))


def test_what_the_check_finds_wrong_of_a_folder_it_finds_on_the_hub(folder, hub_server):
    tensors = tensors_of(folder)
    del tensors[LAST]
    rewrite(folder, tensors)
    hub_server.push_folder("owner/tiny", folder)
    assert missing_weights(config(HUB)) == refusal(HUB)
    assert LAST in refusal(HUB)


def test_only_shards_are_fetched_where_there_are_shards(folder, hub_server):
    plain = load_model(config(folder), 0, with_head=False)
    tensors = tensors_of(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"the same again")
    files = {name: f"model-{1 + place % 2}.safetensors" for place, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    hub_server.push_folder("owner/tiny", folder)
    assert missing_weights(config(HUB)) is None
    hub_server.asked.clear()
    assert same_bits(load_model(config(HUB), 0, with_head=False), plain)
    assert hub_server.downloads() == ["model-1.safetensors", "model-2.safetensors"]


def test_pickled_tensors_are_fetched_only_where_there_are_no_others(folder, hub_server):
    plain = load_model(config(folder), 0, with_head=False)
    torch.save(tensors_of(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    hub_server.push_folder("owner/tiny", folder)
    assert missing_weights(config(HUB)) is None
    assert hub_server.downloads() == ["config.json"]
    assert same_bits(load_model(config(HUB), 0, with_head=False), plain)


def test_random_weights_need_the_settings_alone(folder, hub_server):
    hub_server.push("owner/tiny", {"config.json": (folder / "config.json").read_bytes()})
    load_model(config(HUB, init="random"), 0, with_head=False)
    assert "has no tensors; looked for model.safetensors" in refusal(HUB)


def test_a_moved_branch_has_another_fingerprint(folder, hub_server):
    first = hub_server.push_folder("owner/tiny", folder)
    before = weights_fingerprint(config(HUB))
    tensors = tensors_of(folder)
    tensors[LAST] += 1
    rewrite(folder, tensors)
    hub_server.push_folder("owner/tiny", folder)
    assert weights_fingerprint(config(f"{HUB}@main")) != before
    assert weights_fingerprint(config(f"{HUB}@{first}")) == before


def test_what_was_fetched_is_read_offline(folder, hub_server, tmp_path, monkeypatch):
    hub_server.push_folder("owner/tiny", folder)
    load_model(config(HUB), 0, with_head=False)
    ask(monkeypatch, hub_server.endpoint, tmp_path / "hf", offline=True)
    hub_server.asked.clear()
    assert missing_weights(config(HUB)) is None
    load_model(config(HUB), 0, with_head=False)
    assert not hub_server.asked


def test_the_hub_s_refusal_is_one_of_weights(hub_server):
    message = refusal("hf://owner/none")
    assert message.startswith("model.weights = hf://owner/none: no such repository")
    assert missing_weights(config("hf://owner/none")) == message


PROGRAM = """
import sys
from retrieval_core.model.weights import weights_fingerprint
from retrieval_core.config.sections import ModelConfig
print(weights_fingerprint(ModelConfig(weights=sys.argv[1])))
"""


def test_a_program_asks_the_hub_of_its_environment(folder, hub_server, tmp_path):
    """As it is, with nothing patched."""
    hub_server.push_folder("owner/tiny", folder)
    environment = hub_server.environment(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, HUB],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.stdout.strip() == weights_fingerprint(config(folder)), done.stderr
    assert list(tmp_path.glob("home/hub/models--owner--tiny/snapshots/*/model.safetensors"))
