"""Training checkpoints: the newest readable one of this training, and nothing that runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from retrieval_core.files import storage
from retrieval_core.training.checkpoints import best_folder, best_model, newest_checkpoint, save_checkpoint

MINE, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4


def state(step):
    return {"step": step, "model": {"w": torch.full((3,), float(step))}, "history": [{"loss": 0.5}], "rejects": {}}


def save(folder, *steps, fingerprint=MINE, keep=9):
    """The files of the checkpoints."""
    for step in steps:
        save_checkpoint(str(folder), step, fingerprint, state(step), keep)
    return [folder / f"step-{step:08d}-{fingerprint[:16]}.pt" for step in steps]


def newest_step(folder, fingerprint=MINE):
    found = newest_checkpoint(str(folder), fingerprint)
    return None if found is None else found["step"]


@pytest.mark.parametrize("where", ["checkpoints", "memory://run/checkpoints"])
def test_the_newest_comes_back_as_it_was(tmp_path, where):
    folder = where if "://" in where else str(tmp_path / where)
    assert newest_checkpoint(folder, MINE) is None
    for step in (9, 10, 2_000):
        save_checkpoint(folder, step, MINE, state(step), 2)
    found = newest_checkpoint(folder, MINE)
    assert found.keys() == state(0).keys()
    assert found["step"] == 2_000
    assert torch.equal(found["model"]["w"], torch.full((3,), 2000.0))
    assert found["history"] == [{"loss": 0.5}]
    assert storage.list_names(folder) == [f"step-{step:08d}-{MINE[:16]}.pt" for step in (10, 2_000)]


def test_an_optimiser_passes_through(tmp_path):
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimiser.step()
    save_checkpoint(str(tmp_path), 1, MINE, {"optimiser": optimiser.state_dict()}, 1)
    again = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=0.5)
    again.load_state_dict(newest_checkpoint(str(tmp_path), MINE)["optimiser"])
    assert again.param_groups[0]["lr"] == 0.1
    assert torch.equal(again.state_dict()["state"][0]["exp_avg"], optimiser.state_dict()["state"][0]["exp_avg"])


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda c: b"PK"])
def test_a_torn_file_falls_back_to_the_one_before(tmp_path, caplog, damage):
    caplog.set_level("WARNING", "fabric_retrieval")
    _, last = save(tmp_path, 1, 2)
    last.write_bytes(damage(last.read_bytes()))
    assert newest_step(tmp_path) == 1
    assert str(last) in caplog.text


def test_only_torn_files_are_none(tmp_path):
    for path in save(tmp_path, 1, 2):
        path.write_bytes(b"torn")
    assert newest_step(tmp_path) is None


def test_a_training_that_went_on_before_a_torn_file_keeps_what_it_saves(tmp_path):
    _, torn = save(tmp_path, 10, 20)
    torn.write_bytes(b"torn")
    save(tmp_path, 15, keep=1)
    assert newest_step(tmp_path) == 15


def test_another_training_is_ignored(tmp_path):
    save(tmp_path, 5, fingerprint=OTHER)
    assert newest_step(tmp_path) is None
    assert newest_step(tmp_path, OTHER) == 5


def test_no_more_than_asked_for_are_kept_and_nothing_else_is_touched(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "step-1.pt").write_bytes(b"mine")
    for step in range(1, 6):
        save(tmp_path, step, keep=3)
    kept = [f"step-{step:08d}-{MINE[:16]}.pt" for step in (3, 4, 5)]
    assert storage.list_names(str(tmp_path)) == sorted(["best", "step-1.pt", *kept])


def test_what_a_killed_writer_left_goes_with_the_next_checkpoint(tmp_path):
    save(tmp_path, 1)
    (tmp_path / ".step-00000002-0123456789abcdef.pt.4711-0a1b2c3d.tmp").write_bytes(b"half")
    assert newest_step(tmp_path) == 1
    save(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:08d}-{MINE[:16]}.pt" for step in (1, 2)]


def write_best(place, whole=True):
    for name in ["model.safetensors", *(["config.json"] if whole else [])]:
        storage.write_bytes(storage.join(str(place), name), str(place).encode())
    return str(place)


@pytest.mark.parametrize("where", ["checkpoints", "memory://best/checkpoints"])
def test_the_best_model_is_that_of_the_same_training(tmp_path, where):
    """The other training was stopped after its best model and before its checkpoint; then the old one goes on."""
    folder = where if "://" in where else str(tmp_path / where)
    mine = write_best(best_folder(folder, MINE))
    save_checkpoint(folder, 3, MINE, state(3), 2)
    other = write_best(best_folder(folder, OTHER))
    assert best_model(folder, MINE) == mine
    assert best_model(folder, OTHER) == other
    assert newest_step(folder) == 3
    save_checkpoint(folder, 4, MINE, state(4), 2)
    assert storage.list_names(mine) == ["config.json", "model.safetensors"]
    assert not storage.exists(other)


def test_a_best_model_of_an_earlier_version_is_used_until_there_is_a_better_one(tmp_path):
    old = write_best(tmp_path / "best")
    save(tmp_path, 5)
    write_best(best_folder(str(tmp_path), MINE), whole=False)
    save(tmp_path, 6)
    assert best_model(str(tmp_path), MINE) == old
    mine = write_best(best_folder(str(tmp_path), MINE))
    assert best_model(str(tmp_path), MINE) == mine
    save(tmp_path, 7)
    assert not (tmp_path / "best").exists()


def test_the_best_model_of_another_training_is_none(tmp_path):
    write_best(best_folder(str(tmp_path), OTHER))
    with pytest.raises(ValueError, match="the best model of this training is no longer there; train again"):
        best_model(str(tmp_path), MINE)


class Malicious:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("write", "run"),
    [
        (torch.save, lambda path: torch.load(path, weights_only=False)),
        (lambda value, path: path.write_bytes(pickle.dumps(value)), lambda path: pickle.loads(path.read_bytes())),
    ],
)
def test_a_pickle_that_runs_code_is_not_run(tmp_path, write, run):
    save(tmp_path, 1)
    trap, file = tmp_path / "it-ran", tmp_path / f"step-00000002-{MINE[:16]}.pt"
    write({"step": Malicious(trap)}, file)
    assert newest_step(tmp_path) == 1
    assert not trap.exists()
    run(file)
    assert trap.exists(), "the file would have run its code"
