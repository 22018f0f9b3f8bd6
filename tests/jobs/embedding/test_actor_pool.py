"""The embedding actors leave room to decode on every node, however they come to lie and whichever nodes are lost."""

from __future__ import annotations

import pytest

from ray_jobs.cluster.connect import Resources
from ray_jobs.embedding.actor_pool import pool_sizing

MANY = 10_000


@pytest.mark.parametrize("cpus", [[1], [2], [3], [4], [16], [64], [1, 1, 1], [2, 2], [4, 4, 4], [16, 2, 64]])
@pytest.mark.parametrize("share", [0.5, 1, 4])
@pytest.mark.parametrize("views", [1, 64, 1024])
def test_actors_that_fill_a_node_let_it_decode(cpus: list[int], share: float, views: int) -> None:
    nodes = [Resources(float(count), 0) for count in cpus]
    wanted = max(1, int(sum(cpus) * share))
    sizing = pool_sizing(Resources(float(sum(cpus)), 0), wanted, MANY, views, nodes)
    assert sizing.actors == wanted
    assert 0 < sizing.decode_cpus < sizing.actor_cpus  # Ray Data would fuse equal ones
    for node in nodes:
        fitting = int(node.cpus / sizing.actor_cpus)
        assert fitting * sizing.actor_cpus + sizing.decode_cpus <= node.cpus + 1e-9
        assert fitting >= int(node.cpus * wanted / sum(cpus))


@pytest.mark.parametrize("gpus", [1, 4])
def test_a_full_gpu_node_decodes_without_the_others(gpus: int) -> None:
    nodes = [Resources(1.0, 0), Resources(4.0, gpus), Resources(64.0, 0)]
    sizing = pool_sizing(Resources(69.0, gpus), None, MANY, 1024, nodes)
    assert (sizing.actors, sizing.actor_gpus) == (gpus, 1)
    assert 0 < sizing.decode_cpus <= 4.0 - gpus * sizing.actor_cpus
    assert sizing.room // 2 >= (69.0 - gpus * sizing.actor_cpus) // sizing.decode_cpus + 2 * gpus


def test_a_gpu_node_without_cpus_has_an_actor_all_the_same() -> None:
    sizing = pool_sizing(Resources(8.0, 1), None, MANY, 1024, [Resources(0.0, 1), Resources(8.0, 0)])
    assert (sizing.actors, sizing.actor_gpus, sizing.actor_cpus) == (1, 1, 0.0)
    assert sizing.room >= 8


def test_one_machine_decodes_for_every_actor() -> None:
    for cpus in (2, 4, 16, 64):
        for views in (1, 32, 256, 1024, 100_000):
            sizing = pool_sizing(Resources(float(cpus), 0), None, MANY, views)
            assert sizing.actors == cpus
            assert sizing.decoders is not None
            fitting = int((cpus - sizing.actors * sizing.actor_cpus) / sizing.decode_cpus + 1e-9)
            assert fitting >= sizing.decoders >= cpus
            assert sizing.room // 2 >= sizing.decoders + 2 * sizing.actors


def test_more_decode_at_a_time_where_shards_are_small_but_not_without_end() -> None:
    decoders = [pool_sizing(Resources(2.0, 0), None, MANY, views).decoders for views in (1, 16, 32, 64, 1024)]
    assert decoders == [4, 4, 3, 2, 2]
    assert pool_sizing(Resources(64.0, 0), None, MANY, 1024).decoders == 65
