"""The card of a model: what the Hub reads of it, what it may not hold, and that its examples work."""

from __future__ import annotations

import pytest
import yaml
from huggingface_hub import ModelCard

from retrieval_core.config.config import parse_config
from retrieval_core.model.weights import load_model, save_model, weights_fingerprint
from retrieval_core.training.model_card import CARD, model_card
from tests.doc_blocks import arguments, blocks_of, commands_of
from tests.unit.tiny_split import WINDOWS, make_config, make_model, make_split
from tests.unit.tiny_weights import config as weights_at

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HISTORY = [
    {"epoch": 0.0, "step": 0.0, "k": 3.0, "pool_recall": 0.25, "mAP": 0.125, "score": 0.25, "images_per_second": 0.0},
    {"epoch": 1.0, "step": 4.0, "k": 3.0, "pool_recall": 0.75, "mAP": 0.5, "score": 0.75, "images_per_second": 9.0},
    {"epoch": 2.0, "step": 8.0, "k": 3.0, "pool_recall": 0.5, "mAP": 0.375, "score": 0.5, "images_per_second": 8.0},
]


def card_of(tmp_path, *overrides, history=HISTORY):
    config = make_config("run.name=trial", "data.root=/mnt/disk 7/looms", *overrides)
    split = make_split(tmp_path / "split")
    return model_card(config, make_model(pooling=config.model.pooling), split, split, history)


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_the_hub_reads_its_head(tmp_path):
    data = ModelCard(card_of(tmp_path, f"model.weights=hf://facebook/dinov2-base@{COMMIT}")).data
    assert (data.library_name, data.base_model, data.license) == ("transformers", "facebook/dinov2-base", None)
    assert data.tags == ["dinov2", "image-retrieval", "fabric-retrieval"]


@pytest.mark.parametrize(
    ("keys", "start"),
    [
        (["model.weights=/home/ada/dinov2-large"], "start: `dinov2-large`"),
        (["model.weights=hf://a/b", "model.checkpoint=/mnt/x/epoch_100.pth"], "start: `epoch_100.pth`"),
        (["model.weights=hf://a/b", "model.init=random"], "start: random weights"),
    ],
)
def test_a_start_that_is_not_on_the_hub_is_named_in_words(tmp_path, keys, start):
    card = card_of(tmp_path, *keys)
    assert start in card
    assert "base_model" not in front_matter(card)


def test_it_says_what_was_trained_on_and_what_came_of_it(tmp_path):
    card = card_of(tmp_path, f"model.weights=hf://facebook/dinov2-base@{COMMIT}")
    assert f"revision {COMMIT}" in card
    assert (
        "`looms`, 8 queries of 4 categories on 8 fabrics; validated with 8 queries of 4 categories on 8 fabrics" in card
    )
    assert "8 steps" in card
    assert "| validation | pool recall@3 | mAP@3 |" in card
    assert "| before the first step | 0.2500 | 0.1250 |" in card
    assert "| this model, epoch 1 | 0.7500 | 0.5000 |" in card
    assert "| this model, epoch 2 | 0.5000 | 0.3750 |" in card_of(tmp_path, "train.select=last")
    assert "of widths\n32 -> 32 -> 8, whose input is the CLS token;" in card


def test_machine_and_speed_leave_no_trace(tmp_path):
    card = card_of(tmp_path, "model.weights=/home/ada/w")
    assert not any(trace in card for trace in ("/mnt", "/home", str(tmp_path)))
    slower = [row | {"images_per_second": 1.0} for row in HISTORY]
    other = card_of(tmp_path, "model.weights=/srv/w", "train.num_workers=3", "run.output_dir=/srv/out", history=slower)
    assert other == card


@pytest.mark.parametrize("keys", [[], [*WINDOWS, "model.weights=hf://a/b"]])
def test_its_recipe_is_a_configuration(tmp_path, keys):
    (tmp_path / CARD).write_text(card_of(tmp_path, *keys))
    (block,) = (block for block in blocks_of(tmp_path / CARD) if block.language == "yaml")
    wanted, found = make_config(*keys), parse_config(yaml.safe_load(block.text))
    assert found.train == wanted.train
    assert found.model == wanted.model.model_copy(update={"weights": found.model.weights})
    assert (found.images, found.embed) == (wanted.images, wanted.embed)


@pytest.mark.parametrize("pooling", ["cls", "patches"])
def test_its_examples_load_the_model(tmp_path, pooling):
    keys = WINDOWS if pooling == "patches" else []
    model = make_model(pooling=pooling)
    save_model(model, str(tmp_path / "model"))
    before = weights_fingerprint(weights_at(tmp_path / "model"))
    (tmp_path / "model" / CARD).write_text(card_of(tmp_path, *keys))
    assert weights_fingerprint(weights_at(tmp_path / "model")) == before
    shell, code = (b for b in blocks_of(tmp_path / "model" / CARD) if b.language != "yaml")
    (command,) = commands_of(shell)
    overrides = [word.replace("FOLDER", str(tmp_path / "model")) for word in arguments(command, shell)[2::2]]
    assert load_model(make_config(*keys, *overrides).model, 0, with_head=False).projection_head is not None
    names = {}
    exec(code.text.replace("FOLDER", str(tmp_path / "model")), names)
    assert names["backbone"].config.hidden_size == 32
