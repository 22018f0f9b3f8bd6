"""Starting Ray: a start that was too slow is tried again, and what waits for results never queues all calls."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from ray_jobs.cluster import connect
from retrieval_core.files import storage
from retrieval_core.files.fence import fenced
from retrieval_core.run.holder import as_bytes, this_process
from retrieval_core.run.lease import LOOK_SECONDS, Claim, LeaseLostError
from retrieval_core.run.workspace import RunError

SLOW = Exception("The current node timed out during startup. This could happen because ...")


@pytest.mark.parametrize(
    ("outcomes", "calls", "raised"),
    [
        ([None], 1, None),
        ([SLOW, None], 2, None),
        ([SLOW] * 5, connect.STARTS, SLOW),
        ([OSError("full"), None], 1, OSError),
    ],
)
def test_only_a_slow_start_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[Exception | None], calls: int, raised: object
) -> None:
    left = list(outcomes)

    def init(**_: object) -> None:
        if (error := left.pop(0)) is not None:
            raise error

    monkeypatch.setattr(ray, "init", init)
    if raised is None:
        connect._start_ray()
    else:
        with pytest.raises(
            RunError, match="Ray does not start here: " + ("The .* timed" if raised is SLOW else "full;")
        ):
            connect._start_ray()
    assert len(outcomes) - len(left) == calls


def test_what_ray_says_of_other_versions_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.9.1\n")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(connect, "address_problem", lambda _: None)
    with pytest.raises(
        RunError, match=r"RAY_ADDRESS = head:6379: Version mismatch: .* Ray: 2\.9\.0 Python: 3\.9\.1; Ray's"
    ):
        connect._join_ray("head:6379")


def test_calls_are_taken_as_tasks_finish(ray_cluster: None) -> None:
    taken = []

    def calls() -> Iterator[tuple[int]]:
        for number in range(40):
            taken.append(number)
            yield (number,)

    results = connect.run_tasks(lambda number: number * number, calls())
    first = next(results)
    assert len(taken) <= 2 * connect.IN_FLIGHT_PER_CPU
    assert sorted([first, *results]) == [number * number for number in range(40)]


def test_what_a_task_raises_reaches_the_caller(ray_cluster: None) -> None:
    def fail() -> None:
        raise ValueError("no such fabric")

    with pytest.raises(ValueError, match="no such fabric"):
        next(connect.run_tasks(fail, [()]))


def test_a_task_asks_before_it_writes_what_its_sender_asks(ray_cluster: None, tmp_path: Path) -> None:
    lease, file = tmp_path / "work" / "lease.json", tmp_path / "file"

    def write(content: bytes) -> None:
        storage.write_bytes(str(file), content)

    claim = Claim(str(lease), "mine")
    storage.write_bytes(str(lease), as_bytes(this_process("mine", "now", None)))
    with fenced(claim):
        assert list(connect.run_tasks(write, [(b"mine",)])) == [None]
    storage.write_bytes(str(lease), as_bytes(this_process("other", "now", None)))
    time.sleep(LOOK_SECONDS)
    # Also as the task of a process that has not looked yet.
    with pytest.raises(LeaseLostError, match="took this folder over"), fenced(claim):
        list(connect.run_tasks(write, [(b"too late",)] * 2))
    assert file.read_bytes() == b"mine"


def _die(after: int) -> None:
    os.kill(os.getpid(), after)


def test_a_task_that_kills_every_worker_ends(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "DEATHS", 2)
    with pytest.raises(RunError, match="a task of die has killed its worker again and again"):
        list(connect.run_tasks(_die, [(signal.SIGKILL,)]))
