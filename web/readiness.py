"""Answers of health pages, kept for a moment: however many ask, a dependency is asked ten times a second at most.

The fronts ask through it for `/readyz` and what else is open to callers without a key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
KEEP_S = 0.1  # short enough to show an outage that a supervisor ends within a second


class Kept(Generic[T]):
    """The latest answer of `ask`. Callers that come while it is asked wait for that one answer.

    Args:
        ask: asks the dependency; has a deadline of its own and does not raise.
        keep_s: greatest age of an answer; None: `KEEP_S`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[T]],
        keep_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._keep_s = keep_s
        self._clock = clock
        self._answer: tuple[T, float] | None = None
        self._asking: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the answer, asked for now or less than `keep_s` ago."""
        keep_s = KEEP_S if self._keep_s is None else self._keep_s
        if self._answer is not None and self._clock() - self._answer[1] < keep_s:
            return self._answer[0]
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._asked())
        # A caller that hangs up does not take the answer away from the others.
        return await asyncio.shield(self._asking)

    async def _asked(self) -> T:
        try:
            answer = await self._ask()
            self._answer = (answer, self._clock())
            return answer
        finally:
            self._asking = None
