"""A bounded number of calls runs or waits; a further one is refused, and so is one that takes too long."""

from __future__ import annotations

import asyncio
import threading

import pytest

from retrieval_core.serving.guard import Refused
from retrieval_core.serving.workers import Workers


def test_calls_beyond_the_waiting_ones_are_refused() -> None:
    async def ask() -> None:
        workers, held = Workers(threads=1, waiting=1, timeout=30), threading.Event()
        calls = [asyncio.create_task(workers.run(lambda: held.wait(30))) for _ in range(5)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        held.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[:2] == [True, True]
        assert [answer.code for answer in answers[2:] if isinstance(answer, Refused)] == ["busy"] * 3
        assert await workers.run(lambda: 7) == 7  # there is room again

    asyncio.run(ask())


def test_a_call_that_timed_out_counts_until_it_ends() -> None:
    async def ask() -> None:
        workers, held = Workers(threads=1, waiting=0, timeout=0.05), threading.Event()
        for code in ("took_too_long", "busy"):
            with pytest.raises(Refused) as refusal:
                await workers.run(lambda: held.wait(30))
            assert (refusal.value.code, refusal.value.status) == (code, 503)
        held.set()

    asyncio.run(ask())


def test_an_error_of_the_call_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Workers(1, 0, 30).run(lambda: 1 // 0))
