"""The typed run configuration: one YAML file plus ``--set a.b=c``.

Every key (``sections``, ``train_section``) has a type, a default, a sentence and a range. A misspelt key or an
impossible value raises ``ConfigError``, which names the key, the value and the nearest valid key; the command line
turns that into exit code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError, model_validator
from pydantic.fields import FieldInfo

from retrieval_core.config import sections
from retrieval_core.config.sections import Section
from retrieval_core.config.train_section import TrainConfig
from retrieval_core.config.yaml_text import UNREADABLE_YAML, read_text, shown

_MAX_PROBLEMS = 50
_MAX_KEY_LENGTH = 200


class ConfigError(ValueError):
    """The configuration or the command line is wrong; the message names the key and the remedy."""


class Config(Section):
    """The whole configuration of a run."""

    run: sections.RunConfig = sections.RunConfig()
    data: sections.DataConfig = sections.DataConfig()
    images: sections.ImagesConfig = sections.ImagesConfig()
    model: sections.ModelConfig = sections.ModelConfig()
    train: TrainConfig = TrainConfig()
    embed: sections.EmbedConfig = sections.EmbedConfig()
    retrieve: sections.RetrieveConfig = sections.RetrieveConfig()
    evaluate: sections.EvaluateConfig = sections.EvaluateConfig()
    report: sections.ReportConfig = sections.ReportConfig()
    serve: sections.ServeConfig = sections.ServeConfig()
    simulate: sections.SimulateConfig = sections.SimulateConfig()

    @model_validator(mode="after")
    def _frozen_weights_are_worth_keeping(self) -> Config:
        if self.train.cache_activations and self.model.init == "random":
            raise ValueError(
                "train.cache_activations: blocks with random weights (model.init = 'random') must be trained, not "
                "kept; set train.cache_activations=false and train.trainable_blocks=all"
            )
        if self.train.cache_activations and self.train.crops and self.model.pooling != "patches":
            raise ValueError(
                "train.cache_activations: with model.pooling other than patches a part of a fabric is a view that does "
                "not come again; train whole fabrics (train.crop_start=1 train.crop_end=1), or set "
                "train.cache_activations=false"
            )
        return self

    @model_validator(mode="after")
    def _fabrics_have_the_vectors(self) -> Config:
        embed, views = self.embed, sum(grid * grid for grid in self.embed.regions)
        if self.model.pooling == "patches":
            if len(embed.regions) > 1:
                raise ValueError(
                    "embed.regions has no use with model.pooling = patches, whose windows take the place of tiles; "
                    "drop it, or set model.pooling=cls"
                )
        elif embed.vectors is not None and embed.vectors > views:
            raise ValueError(f"embed.vectors = {embed.vectors} is more than the {views} views that embed.regions gives")
        return self

    @model_validator(mode="after")
    def _windows_are_there_for_a_second_look(self) -> Config:
        keep, rescore, pooling = self.embed.keep_windows, self.retrieve.rescore, self.model.pooling
        if (keep or rescore) and pooling != "patches":
            key = f"retrieve.rescore = {rescore}" if rescore else "embed.keep_windows = true"
            raise ValueError(
                f"{key}: with model.pooling = {pooling} a fabric has no windows; set retrieve.rescore=0 "
                "embed.keep_windows=null, or model.pooling=patches"
            )
        if rescore and keep is False:
            raise ValueError(
                f"retrieve.rescore = {rescore} looks at windows that embed.keep_windows = false does not keep; set "
                "embed.keep_windows=null, or retrieve.rescore=0"
            )
        return self

    @property
    def keeps_windows(self) -> bool:
        """Whether embedding keeps all windows of a fabric beside its vectors."""
        return self.retrieve.rescore > 0 if self.embed.keep_windows is None else self.embed.keep_windows

    @property
    def views_come_again(self) -> bool:
        """Whether training shows the frozen blocks the same images in every epoch."""
        train = self.train
        frozen = train.trainable_blocks != "all" and self.model.init != "random"
        return frozen and train.augmentation != "published" and (not train.crops or self.model.pooling == "patches")

    @property
    def cuts_tokens(self) -> bool:
        """Whether a part of a fabric is cut out of the frozen blocks' tokens, and not out of its pixels."""
        return self.views_come_again and self.train.crops

    @model_validator(mode="before")
    @classmethod
    def _null_sections(cls, value: Any) -> Any:
        # `train:` with nothing under it is YAML for null; a person means "all defaults".
        if isinstance(value, dict):
            return {key: ({} if part is None else part) for key, part in value.items()}
        return value


def valid_keys() -> list[str]:
    """All dotted keys of the configuration, in order of appearance."""
    return list(_fields())


def _fields() -> dict[str, FieldInfo]:
    return {
        f"{section}.{key}": field
        for section, part in Config.model_fields.items()
        for key, field in cast(type[Section], part.annotation).model_fields.items()
    }


def load_config(file: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply ``a.b=c`` overrides, last one wins.

    Args:
        file: a YAML file; None starts from the defaults.
        overrides: ``section.key=value`` texts; values are read as YAML.

    Raises:
        ConfigError: for an unreadable file, an unknown key or an impossible value.
    """
    values: dict[str, Any] = {} if file is None else _read_yaml(Path(file))
    for text in overrides:
        _apply_override(values, text)
    return parse_config(values)


def parse_config(values: dict[str, Any]) -> Config:
    """Validate plain nested values.

    Raises:
        ConfigError: listing the problems, one a line.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        lines = [_explain(problem) for problem in problems[:_MAX_PROBLEMS]]
        if len(problems) > _MAX_PROBLEMS:
            lines.append(f"and {len(problems) - _MAX_PROBLEMS:,} more like these")
        raise ConfigError("\n".join(lines)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        nearby = ", ".join(sorted(str(p) for p in path.parent.glob("*.yaml"))) if path.parent.is_dir() else ""
        hint = f"; there are: {nearby}" if nearby else ""
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"--config {path}: {reason}{hint}") from None
    try:
        values = yaml.safe_load(text)
    except UNREADABLE_YAML as error:
        raise ConfigError(f"--config {path}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: must hold sections (run:, data:, ...), got a {type(values).__name__}")
    for key, part in values.items():
        if key in Config.model_fields and part is not None and not isinstance(part, dict):
            raise ConfigError(f"--config {path}: section {key} must hold keys, got {shown(part)}")
    return values


def _apply_override(values: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) != 2 or not all(parts):
        raise ConfigError(f"--set {text}: must read section.key=value, for example --set run.name=trial")
    section = values.get(parts[0])
    if not isinstance(section, dict):  # absent or null; anything else in the place of a section is an unknown key
        section = values[parts[0]] = {}
    field = _fields().get(key.strip())
    section[parts[1]] = _read_value(raw, is_text=field is not None and field.annotation in (str, str | None))


def _read_value(raw: str, *, is_text: bool) -> Any:
    try:
        value = yaml.safe_load(raw)
    except UNREADABLE_YAML:
        return raw
    if value is None:
        return None
    if is_text:
        return raw  # YAML strips and unescapes, but a path is meant as typed, and a name may look like a number
    if not isinstance(value, str):
        return value
    try:
        return float(raw) if "e" in raw.lower() else raw  # YAML 1.1 reads 1e-4 as text
    except ValueError:
        return raw


def _explain(problem: Any) -> str:
    location = ".".join(str(part) for part in problem["loc"])[:_MAX_KEY_LENGTH]
    if problem["type"] == "invalid_key":  # `7: 3` in YAML
        return f"unknown key {location}; {_nearest(location)}"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {location} (value {shown(problem['input'])}); {_nearest(location)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not location or message.startswith(("train.", "images.")):  # about several keys, which it names
        return message
    return f"{location} = {shown(problem['input'])}: {message[0].lower() + message[1:]}"


def _nearest(key: str) -> str:
    """Names the key of the same name in another section, or else the one that is spelt most alike."""
    known = valid_keys() if "." in key else list(Config.model_fields)
    leaf = key.rpartition(".")[2]
    same_leaf = [name for name in known if name.rpartition(".")[2] == leaf]
    similar = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    return f"the nearest valid key is {(same_leaf or similar)[0]}"
