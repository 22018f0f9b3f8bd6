"""Training shared by two processes: the loss, gradients and weights of one process with the same global batch.

Shapes: B queries of a batch, V vectors of a fabric (one without windows), D width of embeddings.
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from retrieval_core.model.clusters import cluster
from retrieval_core.model.embedder import set_trainable
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Trainer, Worker
from retrieval_core.training.losses import gather_rows, info_nce, similarities, triplet_loss
from retrieval_core.training.sampling import worker_sizes
from tests.unit.tiny_split import WINDOWS, make_config, make_model, make_split

BATCHES = (4, 5)  # shared by two as 2 + 2 and 3 + 2
LOSSES = {"triplet": 3, "info_nce": 2}  # images a query
WAYS = {"cls": [], "patches": WINDOWS}  # by pooling
CASES = [(loss, batch, pooling) for loss in LOSSES for batch in BATCHES for pooling in WAYS]
LONGER, CACHED = "train.epochs=8", "train.cache_activations=true"
HOLDS = torch.eye(5, dtype=torch.bool) | (torch.arange(25).reshape(5, 5) % 7 == 2)


def loss_of(name, queries_BD, *fabrics_BVD):
    if name == "triplet":
        return triplet_loss(*((queries_BD[:, None] * fabric).sum(2).amax(1) for fabric in fabrics_BVD), 0.5)
    holds = HOLDS[: len(queries_BD), : len(queries_BD)]
    return sum(info_nce(similarities(queries_BD, fabric), holds, 0.1) for fabric in fabrics_BVD)


def noise(*shape):
    """In float64: what so small a network makes of noise is nearly all the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[1]), dtype=torch.float64)


def embed(network, images, mine, batch, pooling):
    """(B, D) of the own queries, and (B, V, D) of their fabrics, in one pass or, with windows, in one a part."""
    if pooling == "cls":
        queries, *fabrics = torch.split(network(noise(images, batch, 3, 28, 28)[:, mine].flatten(0, 1)), len(mine))
        return [queries, *(part[:, None] for part in fabrics)]
    shares = torch.softmax(noise(1, batch, 1, 4)[0, mine], dim=2)
    windows = torch.eye(4, dtype=torch.float64).repeat_interleave(4, dim=1) / 4
    queries = network(noise(1, batch, 3, 28, 28)[0, mine], shares)[:, 0]
    return [queries, *(network(part, windows) for part in noise(images - 1, batch, 3, 56, 56)[:, mine])]


def gradients(model):
    """All of them in one vector."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def gradients_of(name, batch, pooling, rank, count):
    """(loss, gradients) of one worker's share of a random global batch."""
    model = make_model(pooling=pooling).double()
    set_trainable(model, 1)
    network = DistributedDataParallel(model) if count > 1 else model
    sizes = worker_sizes(batch, count)
    start = sum(sizes[:rank])
    parts = embed(network, LOSSES[name], range(start, start + sizes[rank]), batch, pooling)
    if name == "info_nce" and pooling == "patches":
        parts.append(cluster(parts[1], 3)[0])
    loss = loss_of(name, *(gather_rows(part, sizes, rank) for part in parts))
    loss.backward()
    return loss.item(), gradients(model)


def train(folder, name, batch, pooling, rank, count, *more):
    """(losses, gradients of the last step, trained weights) of a whole small training."""
    keys = [f"train.loss={name}", f"train.batch_size={batch}", "train.trainable_blocks=1", "train.margin=0.5"]
    config = make_config(*keys, *WAYS[pooling], *more)
    data = TrainingData(config, make_split(folder, queries=batch + 4), workers=count)
    wrap = DistributedDataParallel if count > 1 else lambda model: model
    trainer = Trainer(config, make_model(pooling=pooling), data, Worker(rank, count, wrap=wrap))
    losses = [float(trainer.step(part)) for part in data.batches(0, rank)]
    assert len(losses) == data.schedule.total
    weights = torch.cat([parameter.detach().flatten() for parameter in trainer.trained.values()])
    return losses, gradients(trainer.model), weights


def share_of_the_work(rank, port, folder):
    """What one of two workers does, as ray_jobs/train.py sets it up on CPUs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        found = {case: gradients_of(*case, rank, 2) for case in CASES}
        trained = {case: train(Path(folder) / f"img-{rank}", *case, rank, 2) for case in CASES}
        trained |= {
            (loss, pooling, "cached"): train(Path(folder) / f"img-{rank}", loss, 5, pooling, rank, 2, LONGER, CACHED)
            for loss in LOSSES
            for pooling in WAYS
        }
        # Rows of different kinds and lengths come in rank order.
        ids = gather_rows(torch.arange(3 - rank) + 10 * rank, [3, 2], rank).tolist()
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)
    return found, trained, ids


def second_worker(_, port, folder):
    torch.save(share_of_the_work(1, port, folder), f"{folder}/1.pt")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """Results of both ranks; the first is this process, since a process takes seconds to import torch."""
    folder, port = tmp_path_factory.mktemp("workers"), free_port()
    other = mp.spawn(second_worker, (port, str(folder)), nprocs=1, join=False)
    mine = share_of_the_work(0, port, str(folder))
    assert other.join()
    return mine, torch.load(folder / "1.pt")


def same(found, expected):
    return float((found - expected).norm() / expected.norm()) < 1e-9


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [0, 1])
def test_gradients_are_those_of_one_worker(workers, case, rank):
    loss, expected = gradients_of(*case, 0, 1)
    value, found = workers[rank][0][case]
    assert loss > 0.1
    assert value == pytest.approx(loss, rel=1e-9)
    assert same(found, expected)
    assert not same(found * (1 + 1e-8), expected)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_training_is_that_of_one_worker(workers, tmp_path, case, rank):
    losses, _, weights = train(tmp_path, *case, 0, 1)
    found_losses, _, found = workers[rank][1][case]
    assert len(found_losses) == 4
    assert found_losses == pytest.approx(losses, rel=1e-4)
    assert float((found - weights).norm() / weights.norm()) < 1e-4


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("pooling", WAYS)
def test_workers_that_cache_frozen_activations_train_what_one_without_a_cache_does(workers, tmp_path, name, pooling):
    losses, _, weights = train(tmp_path, name, 5, pooling, 0, 1, LONGER)
    assert len(losses) == 16
    for _, trained, _ in workers:
        found_losses, _, found = trained[name, pooling, "cached"]
        assert found_losses == pytest.approx(losses, rel=1e-3)
        assert float((found - weights).norm() / weights.norm()) < 1e-4
    assert torch.equal(workers[0][1][name, pooling, "cached"][2], workers[1][1][name, pooling, "cached"][2])


@pytest.mark.parametrize("case", CASES)
def test_all_workers_have_the_same_model(workers, case):
    (_, first, _), (_, second, _) = workers
    assert first[case][0] == second[case][0]
    assert torch.equal(first[case][1], second[case][1])
    assert torch.equal(first[case][2], second[case][2])


def test_rows_come_in_rank_order(workers):
    assert [ids for _, _, ids in workers] == [[0, 1, 2, 10, 11]] * 2
