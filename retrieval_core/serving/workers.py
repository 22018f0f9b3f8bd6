"""Threads for work that would block the event loop, and a bound on how much of it may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from retrieval_core.serving.guard import Refused

T = TypeVar("T")


class Workers:
    """A few threads, and a bounded number of calls that wait for one.

    At most ``waiting`` calls may wait beside the ``threads`` that run; a caller is refused after ``timeout`` seconds. A
    call that timed out occupies its thread, and counts, until it ends: asking again does not pile up work.
    """

    def __init__(self, threads: int, waiting: int, timeout: float) -> None:
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="serve")
        self._limit = threads + waiting
        self._pending = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Call it in a thread. Only for the thread of the event loop.

        Raises Refused: 503 ``busy`` where too many calls wait, 503 ``took_too_long`` after ``timeout`` seconds.
        """
        if self._pending >= self._limit:
            raise Refused(503, "busy", "too many searches at once; try again in a moment")
        self._pending += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, call)
        future.add_done_callback(self._ended)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self._timeout)
        except TimeoutError:
            raise Refused(503, "took_too_long", f"no answer within {self._timeout:g} seconds (serve.timeout)") from None

    def _ended(self, future: asyncio.Future[T]) -> None:
        self._pending -= 1
        if not future.cancelled():
            future.exception()  # marks it as retrieved: asyncio logs one that nobody looked at
