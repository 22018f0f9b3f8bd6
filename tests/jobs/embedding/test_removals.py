"""How much of a stored gallery may vanish at once; no Ray is started."""

from __future__ import annotations

import pytest

from ray_jobs.embedding.removals import removal_problem
from retrieval_core.config.sections import DataConfig
from retrieval_core.data.shard_plan import Removals

DATA = DataConfig(format="folder", gallery="/mnt/fabrics")


@pytest.mark.parametrize(
    ("before", "gone", "there", "most", "refused"),
    [
        (0, 0, 5, 0.5, False),  # the first run
        (1000, 0, 1000, 0.5, False),
        (1000, 500, 500, 0.5, False),
        (1000, 501, 499, 0.5, True),
        (1000, 1000, 0, 0.5, True),
        (1000, 1000, 0, 1.0, False),
        (1000, 150, 850, 0.1, True),
        (1000, 99, 901, 0.0, False),  # few
        (10, 5, 5, 0.5, False),  # half of a small catalogue, by hand
        (10, 9, 1, 0.5, False),
        (10, 10, 0, 0.5, True),
        (1000, 1000, 1000, 0.5, False),  # moved to another folder
        (1000, 1000, 5000, 0.5, False),  # a trial, then the whole catalogue
        (1000, 600, 700, 0.5, True),  # one of two shares is gone, the other one grew
    ],
)
def test_what_is_believed(before: int, gone: int, there: int, most: float, refused: bool) -> None:
    assert bool(removal_problem(DATA, [Removals(before, gone, there)], most)) == refused


def test_buckets_are_counted_together_and_the_remedy_is_named() -> None:
    buckets = [Removals(600, 600, 0), Removals(900, 634, 266)]
    problem = removal_problem(DATA, buckets, 0.5)
    for words in ("data.gallery = '/mnt/fabrics'", "1,234 of the 1,500 fabrics", "266 are there", "--accept-removals"):
        assert words in problem
    assert "data.root = '/mnt'" in removal_problem(DataConfig(root="/mnt"), buckets, 0.5)
    assert not removal_problem(DATA, [*buckets, Removals(2000, 0, 2000)], 0.5)
