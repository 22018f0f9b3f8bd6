"""What a process asks before it writes: whether it still may. Who has lost a run's folder stops at its next write.

``storage`` asks before each file appears or goes. A process has one question at a time, or none; a task carries that of
the process that sends it (``carried``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
Question = Callable[[], None]
"""Raises an error if the process may not write any more."""

_asked: list[Question] = []


@contextmanager
def fenced(question: Question | None) -> Iterator[None]:
    """Ask before each write of this process, in all its threads, while this holds; None changes nothing."""
    if question is None:
        yield
        return
    _asked.append(question)
    try:
        yield
    finally:
        _asked.remove(question)


def question() -> Question | None:
    """What this process asks now."""
    return _asked[-1] if _asked else None


def before_writing() -> None:
    """Raise what the question raises."""
    if _asked:
        _asked[-1]()


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """The function as a task for other processes, where its writes are asked about as those of this process are."""
    asked = question()
    if asked is None:
        return function

    @functools.wraps(function)
    def call(*words: object) -> T:
        with fenced(asked):
            return function(*words)

    return call
