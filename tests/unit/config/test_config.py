"""Configuration: what is accepted, and that every mistake is answered with a key and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval_core.config.config import Config, ConfigError, load_config, parse_config, valid_keys

CONFIGS = sorted((Path(__file__).parents[3] / "ray_jobs" / "configs").glob("*.yaml"))


def written(folder, text, encoding="utf-8"):
    file = folder / "run.yaml"
    file.write_text(text, encoding=encoding)
    return file


def complaint(*overrides, file=None):
    with pytest.raises(ConfigError) as error:
        load_config(file, overrides)
    return str(error.value)


def value_of(config, key):
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def test_there_are_configurations():
    assert "demo.yaml" in {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configurations_that_come_with_the_project_load(path):
    assert isinstance(load_config(path), Config)


def test_valid_keys_are_all_keys_in_order():
    dumped = Config().model_dump()
    assert valid_keys() == [f"{section}.{key}" for section, keys in dumped.items() for key in keys]


def test_defaults_pass_through_their_own_validation():
    assert parse_config(Config().model_dump()) == Config()
    assert load_config() == Config()


# ---- --set


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("run.name=trial", "trial"),
        ("run.name=2024", "2024"),
        ("run.name=12e4", "12e4"),
        ("run.name=2026-99-99", "2026-99-99"),
        ("run.name=true", "true"),
        ("data.root=/data/my fabrics", "/data/my fabrics"),
        ("data.root=a=b", "a=b"),
        ("data.root= spaced ", " spaced "),
        ("data.root='quoted'", "'quoted'"),
        ("data.root=C: #5", "C: #5"),
        ("data.queries=null", None),
        ("data.queries=", None),
        (" data.queries =x", "x"),
        ("run.seed=7", 7),
        ("train.learning_rate=1e-4", 1e-4),
        ("train.learning_rate=1E-4", 1e-4),
        ("train.learning_rate=1.0e-4", 1e-4),
        ("train.learning_rate=.5", 0.5),
        ("train.learning_rate=3", 3.0),
        ("train.max_steps=1e3", 1000),
        ("train.max_steps=null", None),
        ("train.clip_norm=~", None),
        ("train.enabled=false", False),
        ("train.enabled=no", False),
        ("train.loss=triplet", "triplet"),
        ("embed.windows=[1, 4]", [1, 4]),
        ("evaluate.baselines=[]", []),
        ("evaluate.baselines=[random, frozen]", ["random", "frozen"]),
    ],
)
def test_an_override_is_read_as_meant(text, value):
    found = value_of(load_config(None, [text]), text.partition("=")[0].strip())
    assert found == value
    assert type(found) is type(value)


def test_the_last_override_wins_over_the_file(tmp_path):
    file = written(tmp_path, "run: {name: first, seed: 4}\ntrain:\n")
    config = load_config(file, ["run.name=second", "train.epochs=2", "run.name=third"])
    assert (config.run.name, config.run.seed, config.train.epochs) == ("third", 4, 2)


@pytest.mark.parametrize(
    "text", ["run.name", "name=x", "run.name.first=x", "=x", ".name=x", "run.=x", "", "run name=x"]
)
def test_an_override_of_another_form_is_refused_with_an_example(text):
    assert complaint(text) == f"--set {text}: must read section.key=value, for example --set run.name=trial"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("train.epoch=3", "train.epochs"),
        ("train.learning_rte=3", "train.learning_rate"),
        ("trian.epochs=3", "train"),
        ("train.image_size=3", "model.image_size"),
        ("retrieve.topk=3", "retrieve.top_k"),
        ("modle.weights=x", "model"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(text, nearest):
    message = complaint(text)
    assert message.startswith(f"unknown key {text.partition('=')[0] if '.' in nearest else text.partition('.')[0]} ")
    assert message.endswith(f"the nearest valid key is {nearest}")


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("run.name=a/b", "run.name = 'a/b'", "pattern"),
        ("run.name=..", "run.name = '..'", "pattern"),
        ("run.name=null", "run.name = None", "valid string"),
        ("run.seed=-1", "run.seed = -1", "greater than or equal to 0"),
        ("run.seed=4294967296", "run.seed = 4294967296", "less than 4294967296"),
        ("run.seed=0x_", "run.seed = '0x_'", "valid integer"),
        ("run.output_dir=", "run.output_dir = None", "valid string"),
        ("data.format=zip", "data.format = 'zip'", "'published', 'manifest' or 'folder'"),
        ("train.epochs=1.5", "train.epochs = 1.5", "valid integer"),
        ("train.epochs=many", "train.epochs = 'many'", "valid integer"),
        ("train.epochs=true", "train.epochs = True", "must be a number, not true or false"),
        ("train.max_steps=yes", "train.max_steps = True", "must be a number, not true or false"),
        ("train.epochs=[1]", "train.epochs = [1]", "valid integer"),
        ("train.epochs=[", "train.epochs = '['", "valid integer"),
        ("train.enabled=maybe", "train.enabled = 'maybe'", "valid boolean"),
        ("train.learning_rate=.inf", "train.learning_rate = inf", "finite"),
        ("train.learning_rate=.nan", "train.learning_rate = nan", "finite"),
        ("train.learning_rate=1e999", "train.learning_rate = inf", "finite"),
        ("train.crop_end=0", "train.crop_end = 0", "a share above 0 and at most 1"),
        ("train.crop_start=[0.5, 0.2]", "train.crop_start = [0.5, 0.2]", "in ascending order"),
        ("embed.regions=[]", "embed.regions = []", "at least 1 item"),
        ("embed.regions=[4]", "embed = ", "start with 1"),
        ("embed.regions=[1, 4, 4]", "embed = ", "name each grid once"),
        ("embed.windows=[]", "embed.windows = []", "at least 1 item"),
        ("embed.windows=[0]", "embed.windows.0 = 0", "greater than or equal to 1"),
        ("embed.fabric_size=100", "embed.fabric_size = 100", "multiple of 14"),
        ("embed.regions=[1, x]", "embed.regions.1 = 'x'", "valid integer"),
        ("evaluate.ks=[0]", "evaluate = ", "at least 1"),
        ("evaluate.baselines=[best]", "evaluate.baselines.0 = 'best'", "'random', 'histogram' or 'frozen'"),
    ],
)
def test_an_impossible_value_is_named_with_the_reason(text, key, reason):
    message = complaint(text)
    assert message.startswith(key)
    assert reason in message


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["train.augmentation=published"], ["train.augmentation=reprint"]),
        (["model.pooling=cls", "train.crop_end=0.5", "train.crop_start=0.5"], ["train.crop_start"]),
        (["train.augmentation=none", "train.trainable_blocks=all"], ["train.trainable_blocks"]),
        (["train.augmentation=none", "model.init=random"], ["model.init", "train.trainable_blocks=all"]),
    ],
)
def test_activations_are_cached_only_where_they_come_again(keys, named):
    message = complaint("train.cache_activations=true", *keys)
    assert message.startswith("train.cache_activations: ")
    assert all(name in message for name in [*named, "set train."]) and "\n" not in message


def test_jpegs_are_not_reduced_where_single_pixels_are_picked():
    message = complaint("images.jpeg=reduced", "images.resize=published")
    assert message.startswith("images.jpeg = reduced: ") and "set images.resize=antialias" in message


def test_tiles_are_refused_beside_windows():
    message = complaint("embed.regions=[1, 4]")
    assert message.startswith("embed.regions has no use with model.pooling = patches")
    assert "set model.pooling=cls" in message
    assert load_config(None, ["embed.regions=[1, 4]", "model.pooling=cls"])


def test_more_vectors_than_views_are_refused_without_windows():
    message = "embed.vectors = 2 is more than the 1 views that embed.regions gives"
    assert complaint("embed.vectors=2", "model.pooling=cls") == message
    assert load_config(None, ["embed.vectors=2"]).embed.vectors == 2


@pytest.mark.parametrize("pooling", ["cls", "cls_mean", "cls_plus_mean"])
@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (["retrieve.rescore=300"], "retrieve.rescore = 300"),
        (["embed.keep_windows=true"], "embed.keep_windows = true"),
        (["embed.keep_windows=true", "retrieve.rescore=7"], "retrieve.rescore = 7"),
    ],
)
def test_a_second_look_is_refused_without_windows(pooling, keys, named):
    assert complaint(f"model.pooling={pooling}", *keys) == (
        f"{named}: with model.pooling = {pooling} a fabric has no windows; set retrieve.rescore=0 "
        "embed.keep_windows=null, or model.pooling=patches"
    )
    assert load_config(None, ["model.pooling=patches", *keys]).keeps_windows
    without = ["retrieve.rescore=0", "embed.keep_windows=null"]
    assert not load_config(None, [f"model.pooling={pooling}", *keys, *without]).keeps_windows


def test_a_second_look_is_refused_where_windows_are_not_kept():
    assert complaint("retrieve.rescore=300", "embed.keep_windows=false") == (
        "retrieve.rescore = 300 looks at windows that embed.keep_windows = false does not keep; set "
        "embed.keep_windows=null, or retrieve.rescore=0"
    )


@pytest.mark.parametrize("pooling", ["patches", "cls"])
def test_windows_that_are_not_kept_are_no_mistake_without_a_second_look(pooling):
    assert not load_config(None, [f"model.pooling={pooling}", "embed.keep_windows=false"]).keeps_windows


@pytest.mark.parametrize(
    ("keep", "rescore", "keeps"),
    [("null", 0, False), ("null", 1, True), ("true", 0, True), ("true", 300, True), ("false", 0, False)],
)
def test_windows_are_kept_if_asked_for_or_needed(keep, rescore, keeps):
    config = load_config(None, [f"embed.keep_windows={keep}", f"retrieve.rescore={rescore}", "model.pooling=patches"])
    assert config.keeps_windows is keeps


@pytest.mark.parametrize(
    ("key", "value"), [("train.fixed_views", "4"), ("train.locate", "True"), ("embed.query_turns", "[0, 20]")]
)
def test_a_removed_key_is_an_unknown_one(key, value):
    assert complaint(f"{key}={value}").startswith(f"unknown key {key} (value {value}); the nearest valid key")


def test_every_problem_has_its_line():
    lines = complaint("train.epochs=0", "run.nme=x", "retrieve.top_k=0").splitlines()
    assert len(lines) == 3
    assert {line.split(" = ")[0] for line in lines} >= {"train.epochs", "retrieve.top_k"}


def test_of_very_many_problems_some_are_counted():
    with pytest.raises(ConfigError) as error:
        parse_config({"run": {f"key{number}": number for number in range(1051)}})
    lines = str(error.value).splitlines()
    assert len(lines) == 51
    assert lines[-1] == "and 1,001 more like these"


def test_brackets_deeper_than_yaml_can_follow_are_a_wrong_name():
    assert "pattern" in complaint("run.name=" + "[" * 700)


@given(st.text())
@example("train.epochs=" + "9" * 5000)
@example("train.epochs=&a [*a]")
@example("run.seed=0b_")
@example("run.seed=!!int x")
@example("run.seed=\ud800")
def test_any_override_is_taken_or_refused(text):
    try:
        load_config(None, [text])
    except ConfigError as error:
        assert str(error)


@given(st.sampled_from(valid_keys()), st.text("0123456789eE.-_+:xbo[]{}&*!=,~ \n\t'\"#|>%@`naifNItrue", max_size=12))
def test_any_value_is_taken_or_refused(key, raw):
    try:
        config = load_config(None, [f"{key}={raw}"])
    except ConfigError as error:
        assert key.partition(".")[0] in str(error)
    else:
        assert parse_config(config.model_dump()) == config


# ---- the file


def test_a_file_is_read_whatever_editor_wrote_it(tmp_path):
    text = "run:\r\n  name: trial\r\ntrain:\r\n  learning_rate: 1e-4\r\nembed:\r\n"
    file = written(tmp_path, text, encoding="utf-8-sig")
    config = load_config(file)
    assert (config.run.name, config.train.learning_rate) == ("trial", 1e-4)
    assert config.embed == Config().embed


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "run:\ndata:\n", "null\n"])
def test_nothing_means_the_defaults(tmp_path, text):
    assert load_config(written(tmp_path, text)) == Config()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- run\n", "must hold sections (run:, data:, ...), got a list"),
        ("run\n", "must hold sections (run:, data:, ...), got a str"),
        ("3\n", "must hold sections (run:, data:, ...), got a int"),
        ("run: trial\n", "section run must hold keys, got 'trial'"),
        ("run: [name]\n", "section run must hold keys, got ['name']"),
        ("run: {name: a\n", "not valid YAML"),
        ("run:\n\tname: a\n", "not valid YAML"),
        ("run: {name: 2026-99-99}\n", "not valid YAML"),
        ("run: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, reason):
    file = written(tmp_path, text)
    message = complaint(file=file)
    assert message.startswith(f"--config {file}: ")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo: 3\n", "unknown key foo (value 3); the nearest valid key is "),
        ("7: 3\n", "unknown key 7; the nearest valid key is "),
        ("run: {7: 3}\n", "unknown key run.7; the nearest valid key is run."),
        ("train: {epochs: yes}\n", "train.epochs = True: must be a number"),
        ("train: {epoch: 3}\n", "unknown key train.epoch (value 3); the nearest valid key is train.epochs"),
    ],
)
def test_a_wrong_key_of_the_file_is_named(tmp_path, text, message):
    assert complaint(file=written(tmp_path, text)).startswith(message)


def test_an_override_of_a_section_that_is_none(tmp_path):
    file = written(tmp_path, "foo: 3\n")
    assert complaint("foo.bar=1", file=file).startswith("unknown key foo ")


def test_a_missing_file_is_answered_with_what_is_there(tmp_path):
    there = written(tmp_path, "")
    missing = tmp_path / "rum.yaml"
    assert complaint(file=missing) == f"--config {missing}: No such file or directory; there are: {there}"
    nowhere = tmp_path / "no" / "run.yaml"
    assert complaint(file=nowhere) == f"--config {nowhere}: No such file or directory"
    assert complaint(file=tmp_path).startswith(f"--config {tmp_path}: Is a directory")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_bytes(b"\x89PNG\r\n\xff\xfe")
    assert "is not UTF-8 text" in complaint(file=file)
