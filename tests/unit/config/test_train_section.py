"""The section of training: ranges of crops, and keys that must fit each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from retrieval_core.config.train_section import TrainConfig


@given(st.floats(-0.5, 1.5), st.floats(-0.5, 1.5))
def test_a_range_is_two_shares_in_ascending_order(low, high):
    if 0 < low <= high <= 1:
        assert TrainConfig(crop_start=[low, high]).crop_start == (low, high)
    else:
        with pytest.raises(ValidationError, match="a share above 0 and at most 1"):
            TrainConfig(crop_start=[low, high])


def test_one_number_is_a_range_of_one_size():
    assert TrainConfig(crop_end=0.25).crop_end == (0.25, 0.25)
    assert TrainConfig(crop_end=1).crop_end == (1.0, 1.0)


@pytest.mark.parametrize("value", [True, None, "half", [0.5], [0.1, 0.2, 0.3]])
def test_anything_else_is_no_range(value):
    with pytest.raises(ValidationError, match="crop_end"):
        TrainConfig(crop_end=value)


@pytest.mark.parametrize(
    ("keys", "crops"),
    [({}, False), ({"crop_start": 0.5}, True), ({"crop_end": [0.9, 1.0]}, True), ({"crop_start": 1}, False)],
)
def test_training_crops_if_any_side_is_shorter_than_the_fabric(keys, crops):
    assert TrainConfig(**keys).crops is crops


def test_at_least_as_many_workers_start_as_must_be_left():
    assert TrainConfig(num_workers=2, min_workers=2).min_workers == 2
    assert TrainConfig(min_workers=3).num_workers is None
    with pytest.raises(ValidationError, match=r"train\.min_workers = 3 is more than train\.num_workers = 2; "):
        TrainConfig(num_workers=2, min_workers=3)


@pytest.mark.parametrize("blocks", [0, 12, "all"])
def test_blocks_are_counted_or_all(blocks):
    assert TrainConfig(trainable_blocks=blocks).trainable_blocks == blocks


@pytest.mark.parametrize("blocks", [-1, 1.5, "some", None])
def test_other_blocks_are_refused(blocks):
    with pytest.raises(ValidationError, match="trainable_blocks"):
        TrainConfig(trainable_blocks=blocks)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"augmentation": "published"}, "train.augmentation"),
        ({"augmentation": "none", "trainable_blocks": "all"}, "train.trainable_blocks"),
    ],
)
def test_activations_are_cached_only_if_views_come_again(keys, named):
    with pytest.raises(ValidationError) as error:
        TrainConfig(cache_activations=True, **keys)
    message = error.value.errors()[0]["msg"]
    assert "train.cache_activations: " in message and named in message
    assert TrainConfig(cache_activations=True, augmentation="none").cache_activations
