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

    A call that is given up still occupies its thread until it ends, and counts until then: nobody can pile up work by
    asking again.

    Args:
        threads: calls at a time.
        waiting: calls that may wait.
        timeout: seconds after which a caller is told that it took too long.
    """

    def __init__(self, threads: int, waiting: int, timeout: float) -> None:
        self.timeout = timeout
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="serve")
        self._room = threads + waiting
        self._held = 0

    async def run(self, call: Callable[[], T]) -> T:
        """Call it in a thread; the event loop's own thread only.

        Raises:
            Refused: 503 ``busy`` where too many calls wait, 503 ``took_too_long`` after ``timeout`` seconds.
        """
        if self._held >= self._room:
            raise Refused(503, "busy", "too many searches at once; try again in a moment")
        self._held += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, call)
        future.add_done_callback(self._release)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.timeout)
        except TimeoutError:
            raise Refused(503, "took_too_long", f"no answer within {self.timeout:g} seconds (serve.timeout)") from None

    def _release(self, future: asyncio.Future[T]) -> None:
        self._held -= 1
        if not future.cancelled():
            future.exception()  # looked at, or asyncio would report one of a call that was given up
