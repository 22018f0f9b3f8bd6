"""Training shared by processes of one thread each, as Ray Train sets them up on CPUs."""

from __future__ import annotations

import socket
import time
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
from training_cases import Case, make_trainer, pictures

from retrieval_core.training.loop import Worker


def images_per_second(case: Case, workers: int, folder: str) -> float:
    """Rate of all workers together; one trains in this process, more in processes of their own."""
    if workers == 1:
        return _work(0, 1, 0, case, folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_report, (workers, port, case, folder), nprocs=workers)
    return float(Path(folder, f"rate-{port}").read_text())


def _report(rank: int, workers: int, port: int, case: Case, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    try:
        rate = _work(rank, workers, port, case, folder)
        if rank == 0:
            Path(folder, f"rate-{port}").write_text(str(rate))
    finally:
        dist.destroy_process_group()


def _work(rank: int, workers: int, port: int, case: Case, folder: str) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        own = Path(folder, f"{port}-{rank}")
        own.mkdir(exist_ok=True)
        wrap = DistributedDataParallel if workers > 1 else lambda model: model
        trainer = make_trainer(case, pictures(case, own), worker=Worker(rank, workers, wrap=wrap))
        stream = trainer.data.batches(0, rank)
        batches = list(islice(stream, case.steps + 1))
        stream.close()
        trainer.step(batches[0])
        if workers > 1:
            dist.barrier()
        began = time.perf_counter()
        for batch in batches[1:]:
            trainer.step(batch)
        if workers > 1:
            dist.barrier()
        return case.steps * 3 * case.queries * workers / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
