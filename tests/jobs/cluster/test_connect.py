"""Starting Ray: a start that was too slow is tried again, and what waits for results never queues all calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from ray_jobs.cluster import connect

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
        with pytest.raises(Exception, match="timed out" if raised is SLOW else "full"):
            connect._start_ray()
    assert len(outcomes) - len(left) == calls


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
