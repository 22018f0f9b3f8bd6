"""What binds embedding, from what its actors and tasks spent."""

from __future__ import annotations

import pytest

from ray_jobs.embedding.actor_time import ActorTime, Spent


def time_of(*shards):
    found = ActorTime()
    for images, spent in shards:
        found.add(images, Spent(*spent))
    return found


@pytest.mark.parametrize(
    ("spent", "busy", "bottleneck"),
    [
        ((2.0, 0.2, 3.8, 0.2), 4 / 4.2, "encoding"),
        ((9.0, 4.0, 3.8, 0.2), 0.5, "decoding"),
        ((2.0, 0.0, 1.0, 3.0), 1.0, "writing"),
        ((2.0, 0.3, 3.6, 0.1), 3.7 / 4, "encoding"),
    ],
)
def test_what_an_actor_does_with_its_time_says_what_binds(spent, busy, bottleneck):
    found = time_of((10, [part / 4 for part in spent]), (30, [part * 3 / 4 for part in spent]))
    facts = found.facts(actors=2)
    assert facts == {
        "actors_busy": round(busy, 3),
        "actors_images_per_second": round(80 / (spent[2] + spent[3]), 2),  # 40 images by two
        "decoded_per_second_and_task": round(40 / spent[0], 2),
        "bottleneck": bottleneck,
    }
    said = found.sentence(actors=2)
    assert f"worked {busy:.0%} of the time, {facts['actors_images_per_second']:.1f} images/s" in said
    assert {"encoding": "the network", "decoding": "decoding is", "writing": "writing is"}[bottleneck] in said


def test_nothing_encoded_says_nothing():
    found = time_of((0, (0.5, 0.0, 0.0, 0.0)))
    assert found.facts(actors=3) == {}
    assert found.sentence(actors=3) == "nothing was encoded"
