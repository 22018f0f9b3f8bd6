"""The sections of the configuration: types, ranges, and keys that must fit each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from retrieval_core.config.config import Config, ConfigError, load_config
from retrieval_core.config.sections import (
    DataConfig,
    EmbedConfig,
    EvaluateConfig,
    ImagesConfig,
    ModelConfig,
    RetrieveConfig,
    RunConfig,
    ServeConfig,
)

PASSWORD_URL = "s3://AKIAEXAMPLE:c2VjcmV0@bucket/data"


def bounds(field):
    """(key, limit, step) of a field's ``ge``, ``le``, ``gt`` and ``lt``."""
    return [
        (name, getattr(limit, name), step)
        for limit in field.metadata
        for name, step in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0))
        if getattr(limit, name, None) is not None
    ]


LIMITS = [
    pytest.param(part.annotation, key, limit + step, id=f"{section}.{key} {name}")
    for section, part in Config.model_fields.items()
    for key, field in part.annotation.model_fields.items()
    for name, limit, step in bounds(field)
]


def test_there_are_limits():
    assert len(LIMITS) > 50


@pytest.mark.parametrize(("section", "key", "beyond"), LIMITS)
def test_a_number_beyond_its_limit_is_refused(section, key, beyond):
    with pytest.raises(ValidationError, match=key):
        section(**{key: beyond})


@pytest.mark.parametrize("part", Config.model_fields)
def test_every_key_has_a_sentence(part):
    section = Config.model_fields[part].annotation
    assert section.__doc__.strip().endswith(".")
    for key, field in section.model_fields.items():
        assert field.description and field.description.endswith("."), f"{part}.{key}"


@pytest.mark.parametrize("part", Config.model_fields)
def test_a_section_is_immutable_and_closed(part):
    section = Config.model_fields[part].annotation
    key = next(iter(section.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(section(), key, getattr(section(), key))
    with pytest.raises(ValidationError, match="extra_forbidden"):
        section(no_such_key=1)


@pytest.mark.parametrize(
    ("section", "key"),
    [(RunConfig, "seed"), (RunConfig, "stuck_minutes"), (EmbedConfig, "vectors"), (ServeConfig, "timeout")],
)
def test_true_is_no_number(section, key):
    with pytest.raises(ValidationError, match="must be a number, not true or false"):
        section(**{key: True})


def test_true_is_a_switch_where_there_is_one():
    assert EvaluateConfig(trec=False).trec is False


@pytest.mark.parametrize(
    ("section", "key"),
    [(DataConfig, "root"), (DataConfig, "queries"), (RunConfig, "output_dir"), (ModelConfig, "weights")],
)
def test_a_url_with_a_password_is_refused(section, key):
    with pytest.raises(ValidationError, match="must not hold a password"):
        section(**{key: PASSWORD_URL})
    assert getattr(section(**{key: "s3://bucket/data"}), key) == "s3://bucket/data"


@pytest.mark.parametrize("name", ["run", "2024", "a.b_c-d", "A"])
def test_a_run_name_is_a_folder_name(name):
    assert RunConfig(name=name).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "_a", "a/b", "a b", "a\n"])
def test_other_run_names_are_refused(name):
    with pytest.raises(ValidationError, match="pattern"):
        RunConfig(name=name)


def test_infinity_is_no_number_of_minutes():
    with pytest.raises(ValidationError, match="finite"):
        RunConfig(stuck_minutes=float("inf"))


def test_jpegs_are_not_reduced_where_single_pixels_are_picked():
    with pytest.raises(ValidationError, match=r"images\.jpeg = reduced: .*set images\.resize=antialias"):
        ImagesConfig(jpeg="reduced", resize="published")
    assert ImagesConfig(jpeg="reduced").resize == "antialias"


@given(st.lists(st.integers(-1, 6), max_size=4))
def test_regions_start_with_the_whole_and_name_each_grid_once(regions):
    if regions[:1] == [1] and all(grid >= 1 and regions.count(grid) == 1 for grid in regions):
        assert EmbedConfig(regions=regions).regions == regions
    else:
        with pytest.raises(ValidationError, match="regions"):
            EmbedConfig(regions=regions)


@pytest.mark.parametrize(("regions", "views"), [([1], 1), ([1, 2], 5), ([1, 4], 17), ([1, 2, 4], 21)])
def test_no_more_vectors_are_kept_than_there_are_views(regions, views):
    keys, model = {"regions": regions, "vectors": views}, ModelConfig(pooling="cls")
    assert Config(model=model, embed=EmbedConfig(**keys)).embed.vectors == views
    with pytest.raises(ValidationError, match=rf"embed\.vectors = {views + 1} is more than the {views} views"):
        Config(model=model, embed=EmbedConfig(**keys | {"vectors": views + 1}))


def test_depths_are_at_least_one():
    assert EvaluateConfig(ks=[1, 7]).ks == [1, 7]
    for ks in ([], [0], [10, -1]):
        with pytest.raises(ValidationError, match="ks"):
            EvaluateConfig(ks=ks)


@pytest.mark.parametrize(("top_k", "rescore", "depth"), [(100, 0, 100), (100, 99, 100), (100, 300, 300), (1, 2, 2)])
def test_a_first_look_finds_what_the_pool_or_the_second_look_needs(top_k, rescore, depth):
    assert RetrieveConfig(top_k=top_k, rescore=rescore).depth == depth


def test_a_path_that_starts_at_home_is_whole(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    given = {
        "data": {"root": "~/cloth", "gallery": "~", "queries": "a/~/b"},
        "model": {"weights": "~/w", "checkpoint": "~ada~/x"},
    }
    config = Config.model_validate(given)
    assert (config.data.root, config.data.gallery, config.data.queries) == ("/home/ada/cloth", "/home/ada", "a/~/b")
    assert (config.model.weights, config.model.checkpoint) == ("/home/ada/w", "~ada~/x")


def test_weights_on_the_hub_have_an_address():
    assert ModelConfig(weights="hf://facebook/dinov2-base@main").weights == "hf://facebook/dinov2-base@main"
    with pytest.raises(ConfigError, match=r"^model\.weights = 'hf://dinov2': must read hf://owner/name or"):
        load_config(None, ["model.weights=hf://dinov2"])
