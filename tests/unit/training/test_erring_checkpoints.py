"""Checkpoints on a store that fails: no bad moment costs a newer state, and all workers go on from the same one."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from retrieval_core.files import storage
from retrieval_core.training import checkpoints
from retrieval_core.training.checkpoints import CheckpointError, newest_checkpoint, save_checkpoint, shared_checkpoint
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.loop import Trainer, Worker
from tests.erring_store import BUSY, DENIED, ErringStore, ServerDisconnectedError, erring, plan
from tests.unit.test_workers import free_port
from tests.unit.tiny_split import make_config, make_model, make_split

MINE, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
FOLDER = "erring://run/checkpoints"
LOST = ServerDisconnectedError("Server disconnected\nwithout an answer")
SLOW = TimeoutError(errno.ETIMEDOUT, "timed out")
ABSENT = FileNotFoundError(errno.ENOENT, "No such file or directory")


pytestmark = pytest.mark.usefixtures("erring_store")


def file_of(step, fingerprint=MINE):
    return f"step-{step:08d}-{fingerprint[:16]}.pt"


def save(*steps, keep=9, fingerprint=MINE):
    for step in steps:
        save_checkpoint(FOLDER, step, fingerprint, {"step": step}, keep)


@pytest.mark.parametrize(
    "schedule",
    [{}, {"read": [BUSY]}, {"read": [BUSY, SLOW]}, {"list": [SLOW]}, {"list": [BUSY, BUSY], "read": [SLOW, BUSY]}],
)
def test_a_bad_moment_passes(schedule, caplog):
    save(2, 4)
    plan(**schedule)
    assert newest_checkpoint(FOLDER, MINE) == {"step": 4}
    assert not caplog.records
    assert not any(ErringStore.schedule.values())


@pytest.mark.parametrize(
    ("schedule", "named", "said"),
    [
        ({"read": [BUSY] * 3}, file_of(4), "Input/output error"),
        ({"read": [SLOW] * 3}, file_of(4), "timed out"),
        ({"read": [TimeoutError()] * 3}, file_of(4), "TimeoutError"),
        ({"read": [DENIED]}, file_of(4), "Permission denied"),
        ({"read": [ABSENT]}, file_of(4), "No such file or directory"),
        ({"read": [LOST]}, file_of(4), "ServerDisconnectedError Server disconnected without an answer"),
        ({"list": [BUSY] * 3}, f"{FOLDER}: the training's checkpoints", "Input/output error"),
        ({"list": [DENIED]}, FOLDER, "Permission denied"),
    ],
)
def test_a_store_that_does_not_answer_is_an_error_and_takes_nothing(schedule, named, said):
    save(2, 4)
    plan(**schedule)
    with pytest.raises(CheckpointError) as caught:
        newest_checkpoint(FOLDER, MINE)
    line = str(caught.value)
    assert named in line
    assert said in line
    assert "nothing was changed" in line
    assert line.endswith("give the same command again")
    assert "\n" not in line
    assert storage.list_names(FOLDER) == [file_of(2), file_of(4)]
    assert newest_checkpoint(FOLDER, MINE) == {"step": 4}, "the same command again"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_is_no_damage(monkeypatch, error):
    save(2, 4)

    def load(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.torch, "load", load)
        with pytest.raises(CheckpointError, match="free some memory, make it readable, or delete it"):
            newest_checkpoint(FOLDER, MINE)
    assert newest_checkpoint(FOLDER, MINE) == {"step": 4}


def test_a_damaged_file_is_passed_over_with_a_line_although_the_store_has_bad_moments(caplog):
    save(2, 3, 4)
    storage.write_bytes(f"{FOLDER}/{file_of(4)}", b"torn")
    torch.save([1], ErringStore().open(f"{FOLDER}/{file_of(3)}", "wb"))  # whole, but no checkpoint
    plan(read=[BUSY, None, SLOW, BUSY, None, BUSY])
    assert newest_checkpoint(FOLDER, MINE) == {"step": 2}
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(" is damaged (")[0] for line in lines] == [f"{FOLDER}/{file_of(step)}" for step in (4, 3)]
    assert all(line.endswith("; trying the one before") for line in lines)


def test_checkpoints_of_another_training_are_passed_over_with_a_line(caplog):
    save(4)
    storage.write_bytes(f"{FOLDER}/{file_of(6, OTHER)}", b"whatever it holds")
    assert newest_checkpoint(FOLDER, MINE) == {"step": 4}
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{FOLDER}: passing over 1 checkpoints of another training")


def test_a_store_that_stops_answering_behind_a_damaged_file_is_an_error():
    save(2, 4)
    storage.write_bytes(f"{FOLDER}/{file_of(4)}", b"torn")
    plan(read=[None, BUSY, BUSY, BUSY])
    with pytest.raises(CheckpointError, match=file_of(2)):
        newest_checkpoint(FOLDER, MINE)
    assert storage.list_names(FOLDER) == [file_of(2), file_of(4)]


@pytest.mark.parametrize(
    ("schedule", "left"),
    [
        ({"write": [BUSY]}, [2, 4]),
        ({"write": [LOST]}, [2, 4]),
        ({"list": [BUSY]}, [2, 3, 4]),
        ({"remove": [BUSY]}, [2, 3, 4]),
        ({}, [3]),
    ],
)
def test_nothing_is_removed_before_the_new_one_is_whole(schedule, left):
    save(2, 4)
    plan(**schedule)
    if schedule:
        with pytest.raises((OSError, ServerDisconnectedError)):
            save(3, keep=1)
    else:
        save(3, keep=1)
    plan()
    assert storage.list_names(FOLDER) == [file_of(step) for step in left]
    assert newest_checkpoint(FOLDER, MINE) == {"step": left[-1]}


# ---- two workers


def trainer_of(folder, rank, count):
    config = make_config("train.batch_size=4", "train.trainable_blocks=1", "train.max_steps=6", "train.epochs=9")
    data = TrainingData(config, make_split(folder / f"img-{rank}"), workers=count)
    wrap = DistributedDataParallel if count > 1 else lambda model: model
    return Trainer(config, make_model(), data, Worker(rank, count, wrap=wrap))


def train(trainer, folder, rank):
    """The weights at the end; the first worker keeps the states after steps 2 and 4."""
    for batch in trainer.data.batches(trainer.progress.step, rank):
        trainer.step(batch)
        if rank == 0 and trainer.progress.step in (2, 4):
            save_checkpoint(str(folder), trainer.progress.step, MINE, trainer.state(), 2)
    return torch.cat([parameter.detach().flatten() for parameter in trainer.trained.values()])


def two_workers(rank, port, folder):
    """What a worker finds: steps, bytes and errors, where only the first one's store is in order or fails."""
    found, threads = {}, torch.get_num_threads()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        place = Path(folder)
        own = place / f"checkpoints-{rank}"
        worker = Worker(rank, 2)
        checkpoints._PIECE = 1000
        found["none"] = shared_checkpoint(str(own), MINE, worker)
        found["whole"] = train(trainer_of(place, rank, 2), own, rank)
        if rank == 1:  # what it would read for itself is older
            save_checkpoint(str(own), 2, MINE, {"step": 2}, 2)
        trainer = trainer_of(place, rank, 2)
        state = shared_checkpoint(str(own), MINE, worker)
        trainer.load_state(state)
        found["step"] = trainer.progress.step
        found["resumed"] = train(trainer, own, rank)
        erring()
        save(2, 4)
        for name, errors in {"busy": [BUSY] * 3, "lost": [LOST], "denied": [DENIED]}.items():
            plan(read=errors if rank == 0 else [])
            try:
                found[name] = shared_checkpoint(FOLDER, MINE, worker)
            except CheckpointError as error:
                found[name] = str(error)
        plan(read=[] if rank == 0 else [BUSY] * 9)
        found["other busy"] = shared_checkpoint(FOLDER, MINE, worker)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoints, "_newest", lambda *_: {}[0])  # an error nobody thought of
            try:
                shared_checkpoint(FOLDER, MINE, worker)
            except CheckpointError as error:
                found["unforeseen"] = str(error)
    finally:
        dist.destroy_process_group()
        torch.set_num_threads(threads)
    return found


def second_worker(_, port, folder):
    torch.save(two_workers(1, port, folder), f"{folder}/1.pt")


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What both found; the first is this process."""
    folder, port, piece = tmp_path_factory.mktemp("workers"), free_port(), checkpoints._PIECE
    other = mp.spawn(second_worker, (port, str(folder)), nprocs=1, join=False)
    mine = two_workers(0, port, str(folder))
    checkpoints._PIECE = piece
    assert other.join()
    return mine, torch.load(folder / "1.pt")


def test_both_workers_go_on_from_the_same_step_with_the_same_bytes(workers):
    for found in workers:
        assert found["none"] is None
        assert found["step"] == 4
        assert torch.equal(found["resumed"], found["whole"])
    assert torch.equal(workers[0]["resumed"], workers[1]["resumed"])


@pytest.mark.parametrize(("name", "said"), [("busy", "Input/output"), ("lost", "Server"), ("denied", "Permission")])
def test_both_workers_learn_that_the_first_cannot_read(workers, name, said):
    mine, other = (found[name] for found in workers)
    assert mine == other
    assert said in mine
    assert file_of(4) in mine


def test_both_workers_learn_of_an_error_that_nobody_thought_of(workers):
    assert [found["unforeseen"] for found in workers] == ["0", "0"]


def test_what_another_worker_cannot_read_does_not_matter(workers):
    assert [found["other busy"] for found in workers] == [{"step": 4}] * 2
