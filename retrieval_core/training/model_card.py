"""The README.md of a fine-tuned model, in the form of the Hugging Face Hub: what it is, what made it, how it loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from retrieval_core.config.config import Config
from retrieval_core.config.sections import DataConfig
from retrieval_core.config.train_section import EXECUTION_KEYS
from retrieval_core.data.datasets import Labelled
from retrieval_core.files import hub
from retrieval_core.model.embedder import FabricEmbedder
from retrieval_core.model.heads import head_shape

CARD = "README.md"
_MODEL_KEYS = {"weights", "checkpoint"}  # where it was read; its start is named in words
_WINDOW_KEYS = {"fabric_size", "windows", "window_stride", "vectors"}


def model_card(
    config: Config, model: FabricEmbedder, train: Labelled, validation: Labelled, history: Sequence[Mapping[str, float]]
) -> str:
    """The card of a model that training leaves; the same for the same training, wherever it ran.

    ``history`` are the rows of train_log.csv. No date, duration or path of a machine is in it, and no licence, which
    training does not know.
    """
    assert model.projection_head is not None, "training makes a head"
    settings: Any = model.dinov2.config
    sizes = " -> ".join(map(str, head_shape(model.projection_head)))
    kept = history[-1] if config.train.select == "last" else max(history, key=lambda row: row["score"])
    return f"""{_front_matter(config)}
# {config.run.name}

A DINOv2 that was fine-tuned to find a motif on printed fabrics: {settings.num_hidden_layers} blocks of width \
{settings.hidden_size}, patches of {settings.patch_size} px,
and a projection head to {model.embedding_dim} numbers, which are compared by cosine.

## Training

- start: {_start(config)}
- data: {_data_name(config.data)}{_counts(train)}; validated with {_counts(validation)}
- {history[-1]["step"]:.0f} steps

| validation | pool recall@{kept["k"]:.0f} | mAP@{kept["k"]:.0f} |
|---|---|---|
{_figures("before the first step", history[0])}
{_figures(f"this model, epoch {kept['epoch']:.0f}", kept)}

No licence is stated: those of the start and of the pictures apply. The keys that shaped it:

```yaml
{_recipe(config)}```

## Use

FOLDER is this folder. With fabric-retrieval, beside the data of a run (on the Hub: `hf://OWNER/NAME`):

    fabric-retrieval run --set model.weights=FOLDER --set model.pooling={model.pooling} \
--set model.image_size={config.model.image_size}{_size_of_fabrics(config)}

With transformers, the backbone alone (on the Hub: `OWNER/NAME`):

```python
from transformers import {type(model.dinov2).__name__}

backbone = {type(model.dinov2).__name__}.from_pretrained("FOLDER")
```

That reports the tensors `projection_head.*` as unexpected. They are the head, Linear -> GELU -> Linear of widths
{sizes}, whose input is {_INPUTS[model.pooling]}; its output is divided by its length.
`projection_head` in config.json has the widths and the pooling.
"""


_INPUTS = {
    "patches": "a mean of patch tokens without the backbone's final layer norm",
    "cls": "the CLS token",
    "cls_mean": "the CLS token beside the mean patch token",
    "cls_plus_mean": "the sum of the CLS token and the mean patch token",
}


def _front_matter(config: Config) -> str:
    values: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "image-feature-extraction",
        "tags": ["dinov2", "image-retrieval", "fabric-retrieval"],
    }
    if _starts_on_the_hub(config):
        values |= {"base_model": hub.parse(config.model.weights)[0], "base_model_relation": "finetune"}
    return f"---\n{yaml.safe_dump(values, sort_keys=False)}---\n"


def _starts_on_the_hub(config: Config) -> bool:
    model = config.model
    return model.init == "pretrained" and model.checkpoint is None and hub.is_address(model.weights)


def _start(config: Config) -> str:
    model = config.model
    if model.init == "random":
        return "random weights"
    if _starts_on_the_hub(config):
        repo, revision = hub.parse(model.weights)
        return f"[{repo}](https://huggingface.co/{repo}), revision {revision}"
    return f"`{_last(model.checkpoint or model.weights)}`"


def _data_name(data: DataConfig) -> str:
    name = _last(data.root or data.train_gallery or "")
    return f"`{name}`, " if name.strip(".") else ""


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _counts(split: Labelled) -> str:
    categories = {category for query in split.queries for category in query.categories}
    return f"{len(split.queries):,} queries of {len(categories):,} categories on {len(split.fabrics):,} fabrics"


def _figures(name: str, row: Mapping[str, float]) -> str:
    return f"| {name} | {row['pool_recall']:.4f} | {row['mAP']:.4f} |"


def _recipe(config: Config) -> str:
    values = config.model_dump(
        mode="json",
        include={
            "run": {"seed"},
            "images": True,
            "model": True,
            "train": True,
            **({"embed": _WINDOW_KEYS} if config.model.pooling == "patches" else {}),
        },
        exclude={"images": {"max_pixels"}, "model": _MODEL_KEYS, "train": EXECUTION_KEYS},
    )
    return yaml.safe_dump(values, sort_keys=False)


def _size_of_fabrics(config: Config) -> str:
    return f" --set embed.fabric_size={config.embed.fabric_size}" if config.model.pooling == "patches" else ""
